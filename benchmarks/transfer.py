"""What identity-init and the transfer of weights are worth: fine-tuning of a trained yolov8n with attention in it.

    python benchmarks/transfer.py identity --weights base.pt --data path/to/bccd --out measured
    python benchmarks/transfer.py stock --weights base.pt --data path/to/bccd --out measured
    python benchmarks/transfer.py plot --out measured

`identity` trains each layer at each place, with and without identity-init; `stock` trains yolov8n-gam after our
transfer and after Ultralytics' own. Each finished run is appended to OUT/transfer.csv; the same command goes on after a
cut.
Further settings of Ultralytics' are given as key=value. `plot` draws what there is and prints the table.
"""

import argparse
import contextlib
import csv
import itertools
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import yaml
from ultralytics import YOLO
from ultralytics.nn import tasks

import yolo_attn
from yolo_attn.cli.arguments import settings
from yolo_attn.engine import api as run
from yolo_attn.model.insertion import insert
from yolo_attn.model.names import read_model

BASE = "yolov8n.yaml"
LAYERS = ("SimAM", "NAM", "GAM", "CBAM")
PLACES = ("neck", "backbone", "blocks")
COLOURS = {"SimAM": "#0072B2", "NAM": "#009E73", "GAM": "#D55E00", "CBAM": "#CC79A7", "none": "#000000"}
COLUMNS = ("layer", "place", "load", "identity_init", "seed", "epoch", "AP", "AP50")


class Start(NamedTuple):
    """One run: what is put where, and how it gets its weights."""

    layer: str
    place: str
    load: str
    identity_init: str
    seed: str


def described(layer: str, place: str, classes: int) -> dict[str, Any]:
    """The base with a layer at a place, as users insert it."""
    text, scale = read_model(BASE)
    if layer != "none":
        text = insert(text, BASE, layer, place, scale=scale).text
    return {**yaml.safe_load(text), "nc": classes}


def measure(start: Start, args: argparse.Namespace, further: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Validate right after loading, then train; a CSV row for each epoch, that before the first being 0."""
    trained = YOLO(args.weights).model
    name = "-".join(part for part in start if part != "none").lower()
    cfg = args.out / "yamls" / f"yolov8n-{name}.yaml"
    cfg.parent.mkdir(parents=True, exist_ok=True)
    cfg.write_text(yaml.safe_dump(described(start.layer, start.place, len(trained.names))))
    project = args.out.absolute() / "runs"
    shutil.rmtree(project / name, ignore_errors=True)
    given = {**further, "data": args.data, "plots": False}
    with _stock() if start.load == "stock" else contextlib.nullcontext():
        model = YOLO(cfg).load(args.weights)
        model.model.names = trained.names
        if start.identity_init == "yes":
            pictures = Path(args.data, "images", "train")
            yolo_attn.identity_init(model, pictures, args.imgsz)
        found = model.val(**given, project=str(project), name=f"{name}-0", exist_ok=True)
        first = {"epoch": 0, "AP": found.coco.metrics["AP"], "AP50": found.coco.metrics["AP50"]}
        seed = {"seed": int(start.seed), "epochs": args.epochs, "name": name, "patience": args.epochs}
        trainer = run.train(
            run.Training(
                cfg=str(cfg),
                settings={**given, **seed},
                project=str(project),
                weights=args.weights,
                identity_init=start.identity_init == "yes",
            )
        )
    yield {**start._asdict(), **first}
    with trainer.csv.open() as file:
        for row in csv.DictReader(file):
            numbers = {key.strip(): value for key, value in row.items()}
            scores = {"AP": numbers["metrics/COCO_AP"], "AP50": numbers["metrics/COCO_AP50"]}
            yield {**start._asdict(), "epoch": int(numbers["epoch"]), **scores}
    shutil.rmtree(trainer.save_dir / "weights")


@contextlib.contextmanager
def _stock() -> Iterator[None]:
    """Ultralytics' own transfer, by keys; what we refuse of it is let through."""
    own = vars(tasks.BaseModel.load)["__wrapped__"]
    with patch.object(tasks.BaseModel, "load", own), patch.object(run, "check_transfer"):
        yield


def starts(study: str, seeds: list[str]) -> list[Start]:
    """The runs of a study."""
    plain = [Start("none", "none", "ours", "no", seed) for seed in seeds]
    if study == "stock":
        ways = (("ours", "yes"), ("stock", "no"))
        return plain + [Start("GAM", "neck", load, init, seed) for seed in seeds for load, init in ways]
    every = itertools.product(seeds, PLACES, LAYERS, ("yes", "no"))
    return plain + [Start(layer, place, "ours", init, seed) for seed, place, layer, init in every]


def read(file: Path) -> dict[Start, dict[int, tuple[float, float]]]:
    """AP and AP50 of each epoch of each run in the CSV."""
    found: dict[Start, dict[int, tuple[float, float]]] = {}
    if file.exists():
        with file.open() as stream:
            for row in csv.DictReader(stream):
                curve = found.setdefault(Start(*(row[field] for field in Start._fields)), {})
                curve[int(row["epoch"])] = (float(row["AP"]), float(row["AP50"]))
    return found


def append(file: Path, rows: list[dict[str, Any]]) -> None:
    """Append the rows of a finished run."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        if not stream.tell():
            writer.writeheader()
        writer.writerows(rows)


def table(curves: dict[Start, dict[int, tuple[float, float]]]) -> str:
    """COCO AP / AP50 right after inserting and after 1, 3 and 10 epochs, of each run, as Markdown."""
    shown = (0, 1, 3, 10)
    lines = ["| layer | place | load | identity-init | seed | " + " | ".join(f"epoch {e}" for e in shown) + " |"]
    lines.append("|---|---|---|---|---|" + "---|" * len(shown))
    for start, curve in curves.items():
        scores = ["{:.3f} / {:.3f}".format(*curve[epoch]) if epoch in curve else "" for epoch in shown]
        lines.append("| " + " | ".join([*start, *scores]) + " |")
    return "\n".join(lines)


def plot(folder: Path) -> None:
    """Draw identity-init.png and transfer.png from the CSV, as far as it has their runs."""
    import matplotlib.pyplot as plt

    curves = read(folder / "transfer.csv")
    print(table(curves))
    other = {"yes": "no", "no": "yes"}
    paired = {  # as many seeds with as without, and the base for the spread
        start: curve
        for start, curve in curves.items()
        if start.layer == "none" or start._replace(identity_init=other[start.identity_init]) in curves
    }
    figure, axes = plt.subplots(1, len(PLACES), figsize=(12, 4), sharey=True, layout="constrained")
    for axis, place in zip(axes, PLACES, strict=True):
        for layer, init in itertools.product(LAYERS, ("yes", "no")):
            style = {"color": COLOURS[layer], "linestyle": "-" if init == "yes" else "--", "marker": "."}
            _line(
                axis, paired, (layer, place, "ours", init), label=f"{layer}{'' if init == 'yes' else ', off'}", **style
            )
        _line(axis, paired, ("none", "none", "ours", "no"), label="no attention", color=COLOURS["none"], linestyle=":")
        axis.set(title=place, xlabel="epoch (0: right after inserting)")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("COCO AP")
    axes[-1].legend(title="identity-init", fontsize=8)
    figure.savefig(folder / "identity-init.png", dpi=120)

    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    ways = {
        ("GAM", "neck", "ours", "yes"): ("our transfer", "#0072B2"),
        ("GAM", "neck", "stock", "no"): ("stock load", "#D55E00"),
    }
    for way, (label, colour) in ways.items():
        _line(axis, curves, way, label=label, color=colour, marker=".")
    axis.set(title="yolov8n-gam from a trained yolov8n", xlabel="epoch (0: right after loading)", ylabel="COCO AP")
    axis.grid(alpha=0.3)
    axis.legend(title="mean; band: least to greatest of the seeds", fontsize=8)
    figure.savefig(folder / "transfer.png", dpi=120)


def _line(axis: Any, curves: dict[Start, dict[int, tuple[float, float]]], way: tuple[str, ...], **style: Any) -> None:
    runs = [curve for start, curve in curves.items() if start[:4] == way]
    epochs = sorted(set.intersection(*(set(curve) for curve in runs))) if runs else []
    if not epochs:
        return
    at = [[curve[epoch][0] for curve in runs] for epoch in epochs]
    axis.plot(epochs, [statistics.mean(values) for values in at], **style)
    if len(runs) > 1:
        axis.fill_between(epochs, list(map(min, at)), list(map(max, at)), color=style["color"], alpha=0.2, linewidth=0)


def main() -> None:
    """Read the arguments; measure what is not in the CSV yet, or plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=("identity", "stock", "plot"))
    parser.add_argument("--out", type=Path, default=Path("measured"), help="folder; default: measured")
    parser.add_argument("--weights", help="checkpoint of a plain yolov8n, trained on the data")
    parser.add_argument("--data", help="COCO-format folder with images/train")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--imgsz", type=int, default=192)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seeds", nargs="+", help="default: 0; stock: 0 1 2")
    args, further = parser.parse_known_args()
    if args.study == "plot":
        plot(args.out)
        return
    if not (args.weights and args.data):
        parser.error("--weights and --data are needed")
    given = settings(argparse.Namespace(imgsz=args.imgsz, batch=args.batch, device=args.device), further)
    file = args.out / "transfer.csv"
    for start in starts(args.study, args.seeds or (["0", "1", "2"] if args.study == "stock" else ["0"])):
        if max(read(file).get(start, {0: ()})) < args.epochs:
            append(file, list(measure(start, args, given)))


if __name__ == "__main__":
    main()
