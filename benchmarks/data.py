"""What the package's data path costs: time and memory, beside Ultralytics' own txt labels and pycocotools.

    python benchmarks/generate.py path/to/folder
    python benchmarks/data.py path/to/folder --out measured/data.json
    python benchmarks/data.py path/to/folder --measures index evaluation --repeats 5
    python benchmarks/data.py --smoke

index       `read_index` with an empty cache ("first") and with the one that it left ("second")
dataset     `describe` (train and val), `look_through` and `build_dataset`, and Ultralytics' dataset of txt labels
            without reading its YAML, each with an empty cache and with the one that it left
workers     memory of dataloader workers after their first and after many batches, without augmentation
throughput  pictures a second with Ultralytics' default augmentation at 640 pixels, both data sets in turn in one run
growth      the index at a quarter, half and the whole of the boxes, and the line through them at 30 million boxes (a
            growth that is all laid to the boxes, which there are 35 times COCO's; the images only 17 times)
evaluation  from a validator's arrays to the 12 numbers, ours and pycocotools, in turn

Every measure runs in fresh processes. Seconds leave imports out; a peak is the whole process's resident memory, and
"imported" what it was before. Files are in the system's page cache, save perhaps the first time; the generated pictures
are few enough to stay there. The printed medians have four digits, the JSON has every value.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import probes
from generate import Split, generate, write_json
from machine import machine
from probes import MB, START_METHOD, TRAIN, Cost

PACKAGES = ("torch", "ultralytics", "numpy", "msgspec", "hotcoco", "pycocotools")
LARGE = 30_000_000
SMOKE = {"repeats": 1, "workers": 2, "batches": 2, "rounds": 2, "round_batches": 2, "detections": 5}


class Row(NamedTuple):
    """What was measured in one case, once for each repeat."""

    measure: str
    case: str
    unit: str
    values: list[float]


class Bench(NamedTuple):
    """What is measured on: the generated set, an own cache, a folder for what is written meanwhile."""

    folder: Path
    cache: Path
    scratch: Path
    args: argparse.Namespace

    def fresh(self, function: Callable[..., Any], *args: Any) -> Any:
        """The function's result in a process of its own, which uses this bench's cache."""
        os.environ["YOLO_ATTN_CACHE"] = str(self.cache)
        with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver" if self.args.smoke else "spawn")) as pool:
            return pool.submit(function, *args).result()

    def forget(self) -> None:
        """Empty our cache and Ultralytics'."""
        shutil.rmtree(self.cache, ignore_errors=True)
        self.cache.mkdir()
        for file in (self.folder / "txt" / "labels").glob("*.cache"):
            file.unlink()


def rows(measure: str, case: str, costs: list[Cost]) -> Iterator[Row]:
    """The rows of a case's repeats."""
    yield Row(measure, case, "s", [cost.seconds for cost in costs])
    yield Row(measure, f"{case}, peak", "MB", [cost.peak for cost in costs])
    yield Row(measure, f"{case}, imported", "MB", [cost.imported for cost in costs])


def measure_index(bench: Bench) -> Iterator[Row]:
    """First and second reading of the JSON, for boxes and for masks."""
    for task in ("detect", "segment"):
        costs: dict[str, list[Cost]] = {"first": [], "second": []}
        for _ in range(bench.args.repeats):
            bench.forget()
            for found in costs.values():
                found.append(bench.fresh(probes.read, bench.folder / TRAIN, task))
        for when, found in costs.items():
            yield from rows("index", f"{task}, {when}", found)
        yield Row("index", f"{task}, cache", "MB", [_size(bench.cache)])


def measure_dataset(bench: Bench) -> Iterator[Row]:
    """First and second building of the data set, ours and txt in turn."""
    costs: dict[tuple[str, str], list[Cost]] = {(k, w): [] for w in ("first", "second") for k in ("ours", "txt")}
    for _ in range(bench.args.repeats):
        bench.forget()
        for (kind, _), found in costs.items():
            found.append(bench.fresh(probes.start, kind, bench.folder))
    for (kind, when), found in costs.items():
        yield from rows("dataset", f"{kind}, {when}", found)


def measure_workers(bench: Bench) -> Iterator[Row]:
    """Memory of the workers."""
    for kind in ("ours", "txt"):
        found = bench.fresh(probes.memory, kind, bench.folder, bench.args.workers, bench.args.batches, 64)
        for case, value in found.items():
            yield Row("workers", f"{kind}, {bench.args.workers} workers, {case}", "MB", [value])


def measure_throughput(bench: Bench) -> Iterator[Row]:
    """Pictures a second, and the ratio of each round."""
    found = bench.fresh(probes.speed, bench.folder, bench.args.rounds, bench.args.round_batches)
    for kind, values in found.items():
        yield Row("throughput", kind, "images/s", values)
    yield Row("throughput", "ours / txt", "", [a / b for a, b in zip(found["ours"], found["txt"], strict=True)])


def measure_growth(bench: Bench) -> Iterator[Row]:
    """The index at three sizes, and the least-squares line through them at LARGE."""
    whole, _ = (Split(**split) for split in json.loads((bench.folder / "splits.json").read_text()))
    file, boxes = bench.scratch / "grown.json", []
    grown: dict[tuple[str, str], list[float]] = {("time", "s"): [], ("peak", "MB"): [], ("cache", "MB"): []}
    for part in (4, 2, 1):
        split = Split(**{**whole.__dict__, "images": whole.images // part, "boxes": whole.boxes // part})
        bench.fresh(write_json, split, file)
        boxes.append(split.boxes)
        costs = []
        for _ in range(bench.args.repeats):
            bench.forget()
            costs.append(bench.fresh(probes.read, file, "detect"))
        values = ([cost.seconds for cost in costs], [cost.peak for cost in costs], [_size(bench.cache)])
        yield Row("growth", f"{split.boxes} boxes, JSON", "MB", [file.stat().st_size / MB])
        for (what, unit), repeats in zip(grown, values, strict=True):
            grown[what, unit].append(statistics.median(repeats))
            yield Row("growth", f"{split.boxes} boxes, {what}", unit, repeats)
    file.unlink()
    for (what, unit), medians in grown.items():
        slope, base = np.polyfit(boxes, medians, 1).tolist()
        yield Row("growth", f"{what}, of the line for each million boxes", unit, [1e6 * slope])
        yield Row("growth", f"{what}, on the line at {LARGE} boxes", unit, [base + slope * LARGE])


def measure_evaluation(bench: Bench) -> Iterator[Row]:
    """The 12 numbers, ours and pycocotools in turn; raises where they differ."""
    bench.fresh(probes.detect, bench.folder, bench.args.detections, bench.scratch)
    found: dict[str, list[float]] = {}
    differences = []
    for _ in range(bench.args.repeats):
        numbers = []
        for name, function in (("ours", probes.our_evaluation), ("pycocotools", probes.their_evaluation)):
            times, values = bench.fresh(function, bench.folder, bench.scratch)
            numbers.append(np.array(values))
            for step, seconds in times.items():
                found.setdefault(f"{name}, {step}", []).append(seconds)
        differences.append(float(np.abs(numbers[0] - numbers[1]).max()))
    yield from (Row("evaluation", case, "s", values) for case, values in found.items())
    ours, loaded, evaluated = (found[k] for k in ("ours, numbers", "pycocotools, loadRes", "pycocotools, evaluate"))
    yield Row("evaluation", "pycocotools evaluate / ours", "", [b / a for a, b in zip(ours, evaluated, strict=True)])
    both = [(b + c) / a for a, b, c in zip(ours, loaded, evaluated, strict=True)]
    yield Row("evaluation", "pycocotools loadRes and evaluate / ours", "", both)
    yield Row("evaluation", "largest difference of the 12 numbers", "", differences)
    if not max(differences) <= 1e-9:
        raise SystemExit(f"the 12 numbers differ by {max(differences)}")


MEASURES: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "index": measure_index,
    "dataset": measure_dataset,
    "workers": measure_workers,
    "throughput": measure_throughput,
    "growth": measure_growth,
    "evaluation": measure_evaluation,
}


def _size(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / MB


def main() -> None:
    """Read the arguments, measure, print each row when it is there, write them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="what benchmarks/generate.py wrote")
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=list(MEASURES), help="default: all")
    parser.add_argument("--out", type=Path, help="JSON to write")
    parser.add_argument("--repeats", type=int, default=3, help="of index, dataset, growth, evaluation; default: 3")
    parser.add_argument("--workers", type=int, default=8, help="whose memory is measured; default: 8")
    parser.add_argument("--batches", type=int, default=100, help="of 64 that each of them fetches; default: 100")
    parser.add_argument("--rounds", type=int, default=7, help="of throughput; default: 7")
    parser.add_argument("--round-batches", type=int, default=30, help="of 16 in a round; default: 30")
    parser.add_argument("--detections", type=int, default=97, help="in each picture; default: 97")
    parser.add_argument("--smoke", action="store_true", help="a tiny set of its own, to see that everything runs")
    args = parser.parse_args()
    os.environ["YOLO_VERBOSE"] = "false"
    with tempfile.TemporaryDirectory(prefix="bench_data_", dir=args.folder) as scratch:
        bench = Bench(args.folder, Path(scratch, "cache"), Path(scratch), args)
        if args.smoke:
            multiprocessing.set_forkserver_preload(["yolo_attn.engine.data", "ultralytics.data"])  # seconds, once
            vars(args).update(SMOKE)
            bench = bench._replace(folder=Path(scratch, "data"))
            sizes = {"categories": 5, "pictures": 12}
            bench.fresh(generate, bench.folder, Split("train", 400, 2000, **sizes), Split("val", 20, 100, **sizes))
        elif not args.folder or not (args.folder / "splits.json").is_file():
            parser.error("folder: expected one that benchmarks/generate.py wrote")
        bench.forget()
        report = {
            **machine(PACKAGES),
            "workers are started by": START_METHOD,
            "settings": {k: v for k, v in vars(args).items() if k not in {"folder", "out"}},
        }
        report["splits"] = json.loads((bench.folder / "splits.json").read_text())
        print(json.dumps(report, indent=2))
        rows = []
        for name in args.measures:
            for row in MEASURES[name](bench):
                rows.append(row._asdict())
                spread = f"   {min(row.values):.4g} to {max(row.values):.4g}" if len(row.values) > 1 else ""
                median = statistics.median(row.values)
                print(f"{row.measure:<12}{row.case:<60}{median:>10.4g} {row.unit}{spread}", flush=True)
                if args.out:
                    args.out.parent.mkdir(parents=True, exist_ok=True)
                    args.out.write_text(json.dumps({**report, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
