"""A checkpoint's attention over pictures: drawn, and measured."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ultralytics.utils import TQDM
from ultralytics.utils.files import increment_path

from yolo_attn.engine.preflight.checks import check_settings, load_weights
from yolo_attn.engine.validation.validator import versions
from yolo_attn.errors import UserError
from yolo_attn.files import check_apart, check_output_folder, plain_stem, whole_files, write_json, write_text
from yolo_attn.gates.meter import spread
from yolo_attn.gates.statistics import DEAD, GateStatistics, percent
from yolo_attn.gates.watch import attention_layers
from yolo_attn.maps.figures import draw_gate, draw_statistics, save_picture
from yolo_attn.maps.look import Look, Looker
from yolo_attn.maps.page import Section, write_page
from yolo_attn.maps.source import find_pictures, read_picture
from yolo_attn.reading import LARGEST_RECORD, read_plain
from yolo_attn.tables import aligned

FOLDER = Path("runs/attention-maps")
"""Where pictures go unless a folder is given; numbered like Ultralytics' run folders."""

PAGE, NUMBERS, PLOT = "index.html", "gates.json", "gates.png"

OURS = re.compile(rf"\d{{3,}}-.*\.png|{'|'.join(map(re.escape, (PAGE, NUMBERS, PLOT)))}", re.IGNORECASE)
"""Names of files that a run writes."""

HEADING = ("layer", "mean", "min", "max", "deviation", "across channels", "pictures", "positions", "verdict")


@dataclass(frozen=True)
class Maps:
    """What was drawn and measured.

    Attributes:
        folder: Where it lies.
        measured: How many pictures the statistics are of.
        drawn: How many pictures were drawn.
        found: Statistics of each gate by what its layer is called.
    """

    folder: Path
    measured: int
    drawn: int
    found: dict[str, GateStatistics]

    def lines(self) -> list[str]:
        """The statistics as lines of a table."""
        return aligned(_table(self.found))


def attention_maps(
    weights: str,
    sources: Sequence[Path],
    output: Path | None = None,
    base: str | None = None,
    settings: dict[str, Any] | None = None,
    drawn: int = 8,
    limit: int = 256,
    trust: bool = False,
    force: bool = False,
) -> Maps:
    """Draw what the attention of a checkpoint does to pictures, and measure its gates on them.

    Pictures pass one at a time; what is kept of them all are running statistics.

    Args:
        weights: The checkpoint.
        sources: Pictures, folders with pictures anywhere below, and patterns such as `*.png`.
        output: Folder for PNGs, index.html and gates.json; None takes a new one under runs/.
        base: A checkpoint of the same task whose detections are drawn beside.
        settings: Ultralytics' settings `imgsz`, `device` and `conf`. `imgsz` defaults to the checkpoint's.
        drawn: How many pictures are drawn, evenly spread.
        limit: How many pictures the gates are measured on, evenly spread.
        trust: Whether checkpoints are read as Ultralytics does, which runs what they name.
        force: Whether `output` may hold files already; those of an earlier run are written over, no others.

    Raises:
        UserError: If a checkpoint cannot be used or has no attention, there is no picture, or the folder is not one to
            write in.
    """
    lookers = _lookers(weights, base, settings or {}, trust)
    files = find_pictures(sources)
    folder = output or increment_path(FOLDER.absolute())
    homes = {file.parent: file for file in files}
    check_apart(folder, "--output", [*filter(Path.is_dir, sources), *homes.values()])
    check_output_folder(folder, "--output", force)
    earlier = _written(folder)
    chosen = [files[i] for i in spread(len(files), limit)]
    readable = _readable(chosen)
    first = next(readable, None)
    if first is None:
        raise UserError(f"--source: of {len(chosen):,} pictures none can be read, the first is {chosen[0]}")
    found, due = lookers[weights].found, spread(len(chosen), drawn)
    measured: list[Path] = []
    sections: list[Section] = []
    with whole_files(folder) as scratch:
        for number, file, pixels in chain([first], readable):
            measured.append(file)
            if len(sections) == len(due) or number < due[len(sections)]:
                lookers[weights].measure(pixels)
            else:
                looks = {name: looker.look(pixels) for name, looker in lookers.items()}
                stem = f"{len(sections) + 1:03d}-{plain_stem(file.name)}"
                sections.append(_drawn(stem, str(file), looks, scratch))
        draw_statistics(found, scratch / PLOT)
        size, number, left = lookers[weights].size, len(measured), [*map(str, dict.fromkeys(chosen).keys() - measured)]
        looked = {"weights": weights, "base": base, "source": [*map(str, sources)], "imgsz": size, "pictures": number}
        written = sorted({PAGE, NUMBERS, *earlier, *(file.name for file in scratch.iterdir())})
        write_json(scratch / NUMBERS, {**looked, **_numbers(lookers[weights]), "files": written})
        facts = [f"weights: {weights}", *([f"base: {base}"] if base else []), *(f"pictures: {s}" for s in sources)]
        facts.append(f"gates measured on {number:,} of {len(files):,} pictures at {size} px")
        facts += [f"left out, not to be read: {file}" for file in left]
        page = write_page(f"Attention of {Path(weights).name}", facts, _table(found), PLOT, sections)
        write_text(scratch / PAGE, page)
    return Maps(folder, number, len(sections), found)


def _written(folder: Path) -> set[str]:
    """Names of the files that earlier runs wrote into a folder, as its gates.json has them.

    Raises:
        UserError: If it holds a file of somebody else's under a name such as this command gives.
    """
    try:
        names = {*map(str, json.loads(read_plain(folder / NUMBERS, LARGEST_RECORD))["files"])}
    except (UserError, OSError, ValueError, TypeError, KeyError):  # there is none, or it is not ours
        names = set()
    for file in sorted(folder.glob("*")):
        if OURS.fullmatch(file.name) and file.name not in names:
            raise UserError(
                f"--output {folder}: {file.name} is not of an earlier attention-maps, so it is not written over; "
                "choose another folder"
            )
    return names


def _lookers(weights: str, base: str | None, given: dict[str, Any], trust: bool) -> dict[str, Looker]:
    """What looks at the pictures, the checkpoint first, by the files' names."""
    model, checkpoint, task = load_weights(weights, trust=trust)
    if not attention_layers(model):
        raise UserError(f"--weights {weights}: it has no attention layer, so there is no gate to look at")
    models = {weights: (model, task)}
    if base:
        other, _, kind = load_weights(base, "--base", task.name, trust)
        models[base] = (other, kind)
    for name, (network, _) in models.items():
        channels = network.yaml.get("channels", 3)
        if channels != 3:
            raise UserError(f"{name}: it takes pictures of {channels} channels, expected 3")
    trained = (checkpoint.get("train_args") or {}).get("imgsz")
    settings = {"imgsz": trained or 640, **given, "model": weights, "task": task.name}
    args = vars(check_settings(settings))
    return {name: Looker(network, kind.predictor, args) for name, (network, kind) in models.items()}


def _readable(files: Sequence[Path]) -> Iterator[tuple[int, Path, NDArray[np.uint8]]]:
    """Number, file and pixels of the pictures that can be read."""
    for number, file in enumerate(TQDM(files, desc="pictures")):
        pixels = read_picture(file)
        if pixels is not None:
            yield number, file, pixels


def _drawn(stem: str, title: str, looks: Mapping[str, Look], folder: Path) -> Section:
    """Write a picture's PNGs, and return what the page shows of it; the first look's gates are drawn."""
    detections, gates = [], []
    for kind, (name, look) in zip(("detections", "base"), looks.items(), strict=False):
        detections.append((f"{stem}-{kind}.png", f"{kind}: {name}"))
        save_picture(look.detections, folder / detections[-1][0])
    look = next(iter(looks.values()))
    for label, (picture, view) in look.gates.items():
        gates.append(f"{stem}-{label.replace(' ', '-')}.png")
        draw_gate(picture, view, label, folder / gates[-1])
    return Section(title, detections, gates)


def _table(found: Mapping[str, GateStatistics]) -> list[list[str]]:
    """Statistics as cells, the heading first."""
    return [list(HEADING), *(_row(label, gate) for label, gate in found.items())]


def _row(label: str, gate: GateStatistics) -> list[str]:
    if not gate.values:
        return [label, *["-"] * (len(HEADING) - 2), "no finite gate"]
    numbers = [f"{value:.3f}" for value in (gate.mean, gate.low, gate.high)]
    parts = [f"{100 * share:.0f} %" if math.isfinite(share) else "-" for share in gate.shares.values()]
    return [label, *numbers, percent(gate.deviation), *parts, "dead" if gate.dead else "alive"]


def _numbers(looker: Looker) -> dict[str, Any]:
    """What gates.json holds of the gates."""
    layers = [{"layer": label, "gain": looker.gains[label], **gate.as_json()} for label, gate in looker.found.items()]
    return {"dead_below": DEAD, "layers": layers, "versions": versions()}
