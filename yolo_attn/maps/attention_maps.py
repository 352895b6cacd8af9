"""A checkpoint's attention over images: drawn, and measured."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray
from ultralytics.utils import TQDM
from ultralytics.utils.files import increment_path

from yolo_attn.bounded_reading import LARGEST_RECORD, read_plain
from yolo_attn.engine.preflight.checks import check_settings, load_weights
from yolo_attn.engine.validation.validator import versions
from yolo_attn.errors import UserError
from yolo_attn.files import check_apart, check_output_folder, handed_on, plain_stem, whole_files, write_json, write_text
from yolo_attn.gates.meter import spread
from yolo_attn.gates.statistics import DEAD, GateStatistics, percent
from yolo_attn.gates.watch import attention_layers
from yolo_attn.maps.figures import MOST, draw_classes, draw_gate, draw_over, draw_statistics, percentage, save_image
from yolo_attn.maps.images import find_images, read_image
from yolo_attn.maps.truth import class_folders, class_of, draw_truth, labels_of, rows_of
from yolo_attn.maps.views import ImageView, Viewer
from yolo_attn.tables import aligned

FOLDER = Path("runs/attention-maps")
"""The default output folder; numbered like Ultralytics' run folders."""

PAGE, NUMBERS, PLOT = "index.html", "gates.json", "gates.png"

OURS = re.compile(rf"\d{{3,}}-.*\.png|{'|'.join(map(re.escape, (PAGE, NUMBERS, PLOT)))}", re.IGNORECASE)
"""Names of files that a run writes."""

HEADING = ["layer", "mean", "min", "max", "deviation", "across channels", "pictures", "positions", "verdict"]


@dataclass(frozen=True)
class Maps:
    """How many images were drawn and measured, and the statistics found of each gate, by its layer."""

    folder: Path
    measured: int
    drawn: int
    found: dict[str, GateStatistics]

    def lines(self) -> list[str]:
        """Return the statistics as lines of a table."""
        return aligned(_table(self.found))


def draw_maps(
    weights: str,
    sources: Sequence[Path],
    output: Path | None = None,
    base: str | None = None,
    settings: dict[str, Any] | None = None,
    drawn: int = 8,
    limit: int = 256,
    trust: bool = False,
    force: bool = False,
    data: str | None = None,
    split: str = "val",
) -> Maps:
    """Draw what the attention of a checkpoint does to images, and measure its gates on them.

    Images pass one at a time; only running statistics are kept of all of them.

    Args:
        weights: The checkpoint.
        sources: Images, folders with images anywhere below, and patterns such as `*.png`.
        output: Folder for PNGs, index.html and gates.json; None for a new one under runs/.
        base: A checkpoint of the same task whose detections or classes are drawn beside.
        settings: Ultralytics' settings `imgsz`, `device` and `conf`. `imgsz` defaults to the checkpoint's.
        drawn: How many images are drawn, evenly spread.
        limit: How many images the gates are measured on, evenly spread.
        trust: Whether checkpoints are read as Ultralytics reads them, which runs what they name.
        data: COCO-format data, or the data of a classifier, whose images are taken in place of `sources`, and whose
            ground truth is shown beside.
        split: Its split.
        force: Whether `output` may hold files already; only those of an earlier run are overwritten.

    Raises:
        UserError: If a checkpoint cannot be used or has no attention, there is no image, or the folder cannot be used.
    """
    viewers, task, names = _viewers(weights, base, settings or {}, trust)
    classifies = task == "classify"
    labels = labels_of(data, split, task, names) if data and not classifies else None
    rows = rows_of(labels) if labels is not None else {}
    if data and classifies:
        sources = [class_folders(data, split)]
    files = list(rows) or find_images(sources, "--data" if data else "--source")
    folder = output or increment_path(FOLDER.absolute())
    homes = {file.parent: file for file in files}
    roots = [*sources, *([Path(data)] if data and classifies else [])]
    check_apart(folder, "--output", [*filter(Path.is_dir, roots), *homes.values()])
    check_output_folder(folder, "--output", force)
    earlier = _written(folder)
    chosen = [files[i] for i in spread(len(files), limit)]
    readable = _readable(chosen)
    first = next(readable, None)
    if first is None:
        raise UserError(f"--source: none of {len(chosen):,} images can be read, the first is {chosen[0]}")
    viewer, due = viewers[weights], spread(len(chosen), drawn)
    measured: list[Path] = []
    sections: list[dict[str, Any]] = []
    with whole_files(folder) as scratch:
        for number, file, pixels in chain([first], readable):
            measured.append(file)
            if len(sections) == len(due) or number < due[len(sections)]:
                viewer.measure(pixels)
            else:
                views = {name: each.view(pixels) for name, each in viewers.items()}
                stem = f"{len(sections) + 1:03d}-{plain_stem(file.name)}"
                actual = class_of(file, sources, names) if classifies else None
                known = {"picture" if actual is None else f"picture, class {actual}": pixels}
                if labels is not None:
                    label = {**labels[rows[file]], "oriented": task == "obb"}
                    known["ground truth"] = draw_truth(pixels, label, names)
                beside = _draw_known(stem, known, scratch) + _draw_found(stem, views, actual, scratch)
                over, gates = _draw_gates(stem, views[weights], scratch)
                sections.append({"title": _title(file, sources), "beside": beside + over, "gates": gates})
        draw_statistics(viewer.found, scratch / PLOT)
        facts: dict[str, Any] = {"weights": handed_on(weights, folder), "base": base and handed_on(base, folder)}
        facts["source"] = [source.name for source in sources] if data is None else [f"{Path(data).name}, {split}"]
        facts |= {"imgsz": viewer.size, "pictures": len(measured)}
        layers = [{"layer": label, "gain": viewer.gains[label], **g.as_json()} for label, g in viewer.found.items()]
        written = sorted({PAGE, NUMBERS, *earlier, *(file.name for file in scratch.iterdir())})
        numbers = {**facts, "dead_below": DEAD, "layers": layers, "versions": versions(), "files": written}
        write_json(scratch / NUMBERS, numbers)
        facts |= {"name": Path(weights).name, "found": len(files), "dead": percent(DEAD), "plot": PLOT}
        facts["classifies"] = classifies
        facts |= {"table": _table(viewer.found), "sections": sections}
        facts["skipped"] = sorted(_title(file, sources) for file in dict.fromkeys(chosen).keys() - measured)
        templates = Environment(
            loader=FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        write_text(scratch / PAGE, templates.get_template(PAGE).render(facts))
    return Maps(folder, len(measured), len(sections), viewer.found)


def _title(file: Path, sources: Sequence[Path]) -> str:
    """Return what the page calls an image: its place in the folder that was given, else its name."""
    return handed_on(file, next((source for source in sources if file.is_relative_to(source)), file.parent))


def _written(folder: Path) -> set[str]:
    """Return the names of files that earlier runs wrote into a folder, which has no others under such names."""
    try:
        names = {*map(str, json.loads(read_plain(folder / NUMBERS, LARGEST_RECORD))["files"])}
    except (UserError, OSError, ValueError, TypeError, KeyError):  # there is none, or it is not ours
        names = set()
    for file in sorted(folder.glob("*")):
        if OURS.fullmatch(file.name) and file.name not in names:
            reason = f"{file.name} is not of an earlier attention-maps, so it is not overwritten"
            raise UserError(f"--output {folder}: {reason}; choose another folder")
    return names


def _viewers(
    weights: str, base: str | None, given: dict[str, Any], trust: bool
) -> tuple[dict[str, Viewer], str, dict[int, str]]:
    """Return the models that view images by their checkpoints' names, `weights` first, their task, and its classes."""
    model, checkpoint, task = load_weights(weights, trust=trust)
    if not attention_layers(model):
        raise UserError(f"--weights {weights}: it has no attention layer, so there is no gate to draw")
    models = {weights: (model, task)}
    if base:
        other, _, kind = load_weights(base, "--base", task.name, trust)
        models[base] = (other, kind)
    for name, (network, _) in models.items():
        channels = network.yaml.get("channels", 3)
        if channels != 3:
            raise UserError(f"{name}: it takes images of {channels} channels, expected 3")
    trained = (checkpoint.get("train_args") or {}).get("imgsz")
    args = vars(check_settings({"imgsz": trained or 640, **given, "model": weights, "task": task.name}))
    viewers = {name: Viewer(network, kind.predictor, args) for name, (network, kind) in models.items()}
    return viewers, task.name, dict(model.names)


def _readable(files: Sequence[Path]) -> Iterator[tuple[int, Path, NDArray[np.uint8]]]:
    """Yield number, file and pixels of the images that can be read."""
    for number, file in enumerate(TQDM(files, desc="images")):
        pixels = read_image(file)
        if pixels is not None:
            yield number, file, pixels


Captioned = list[tuple[str, str]]
"""Names of PNGs, each with its caption."""


def _draw_known(stem: str, known: Mapping[str, NDArray[np.uint8]], folder: Path) -> Captioned:
    """Write what is known of an image, by captions that begin with its kind."""
    written = []
    for caption, pixels in known.items():
        written.append((f"{stem}-{caption.partition(',')[0].replace(' ', '-')}.png", caption))
        save_image(pixels, folder / written[-1][0])
    return written


def _draw_found(stem: str, views: Mapping[str, ImageView], actual: str | None, folder: Path) -> Captioned:
    """Write what models find in an image, whose class may be known."""
    written = []
    for n, (name, (result, _)) in enumerate(views.items()):
        probabilities: Any = result.probs
        kind = "base" if n else "detections" if probabilities is None else "prediction"
        file, caption = f"{stem}-{kind}.png", f"{kind}: {Path(name).name}"
        if probabilities is None:
            save_image(result.plot(), folder / file)
        else:
            order = probabilities.data.argsort(descending=True, stable=True)[:MOST].tolist()
            found = [(result.names[number], float(probabilities.data[number])) for number in order]
            draw_classes(found, actual, folder / file)
            right = "" if actual is None else ", right" if found[0][0] == actual else ", wrong"
            caption += f", {found[0][0]} {percentage(found[0][1])}{right}"
        written.append((file, caption))
    return written


def _draw_gates(stem: str, view: ImageView, folder: Path) -> tuple[Captioned, list[str]]:
    """Write the gates of an image; return those over the image, and those in full."""
    over, gates = [], []
    for label, (grey, gate) in view[1].items():
        over.append((f"{stem}-{label.replace(' ', '-')}-over.png", f"{label}: mean gate over the image"))
        draw_over(grey, gate.mean, folder / over[-1][0])
        gates.append(f"{stem}-{label.replace(' ', '-')}.png")
        draw_gate(grey, gate, label, folder / gates[-1])
    return over, gates


def _table(found: Mapping[str, GateStatistics]) -> list[list[str]]:
    """Return statistics as cells, the heading first."""
    rows = [HEADING]
    for label, gate in found.items():
        cells = ["-"] * (len(HEADING) - 2) + ["no finite gate"]
        if gate.values:
            numbers = [f"{value:.3f}" for value in (gate.mean, gate.low, gate.high)]
            parts = [f"{100 * share:.0f} %" if math.isfinite(share) else "-" for share in gate.shares.values()]
            cells = [*numbers, percent(gate.deviation), *parts, "dead" if gate.dead else "alive"]
        rows.append([label, *cells])
    return rows
