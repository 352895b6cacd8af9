"""What `benchmarks/data.py` measures, each function in a process of its own.

The package is imported inside the functions, before their time starts: a process's peak memory begins with that of the
process that started it, which for this reason imports nothing large.
"""

import contextlib
import json
import multiprocessing
import resource
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 16
MB = 1e6
TRAIN, VAL = "coco/annotations/instances_train2017.json", "coco/annotations/instances_val2017.json"
START_METHOD = multiprocessing.get_all_start_methods()[0]
"""How PyTorch starts its workers where nothing else is asked; a spawned process would pass on its own way."""


class Cost:
    """Seconds of a with statement, and peak memory of its process before and after, MB."""

    def __enter__(self) -> "Cost":
        self.imported = self._peak()
        self.start = time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds, self.peak = time.perf_counter() - self.start, self._peak()

    @staticmethod
    def _peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB


def read(file: Path, task: str) -> Cost:
    """Read an index."""
    from yolo_attn.coco.reading.reader import read_index

    with Cost() as cost:
        read_index(file, task=task)
    return cost


def build(kind: str, folder: Path, imgsz: int, train: bool = True) -> Any:
    """The training pictures as our data set or as Ultralytics' of txt labels, with or without augmentation."""
    import yaml
    from ultralytics.cfg import get_cfg
    from ultralytics.data import build_yolo_dataset

    from yolo_attn.engine.data import build_dataset, describe, look_through

    args = get_cfg(overrides={"data": str(folder / "coco"), "task": "detect", "imgsz": imgsz})
    if kind == "txt":
        data: Any = {"names": yaml.safe_load((folder / "txt/data.yaml").read_text())["names"], "channels": 3}
        images = str(folder / "txt/images/train2017")
        return build_yolo_dataset(args, images, BATCH, data, mode="train" if train else "val", stride=32)
    data = describe(args, ["train", "val"])
    examined = look_through(args, data, "train", data["names"])
    return build_dataset(args, data, "train", examined, train=train, batch=BATCH, rect=False, stride=32)


def start(kind: str, folder: Path) -> Cost:
    """Build a data set for training."""
    import ultralytics.data  # noqa: F401  before the time starts

    import yolo_attn.engine.data  # noqa: F401  likewise

    with Cost() as cost:
        build(kind, folder, 640)
    return cost


def loader(dataset: Any, workers: int, batch: int) -> Iterator[Any]:
    """Shuffled batches of a data set without end; the workers live as long as the iterator."""
    import torch
    from torch.utils.data import DataLoader, RandomSampler

    order = RandomSampler(dataset, num_samples=10**9, generator=torch.Generator().manual_seed(0))
    further = {"collate_fn": dataset.collate_fn, "multiprocessing_context": START_METHOD}
    return iter(DataLoader(dataset, batch, sampler=order, num_workers=workers, **further))


def memory(kind: str, folder: Path, workers: int, batches: int, batch: int) -> dict[str, float]:
    """Memory after each worker's first batch and after further ones, MB: the workers' mean, and all processes' PSS."""
    import psutil

    dataset = build(kind, folder, 64, train=False)
    fetched = loader(dataset, workers, batch)
    found = {}
    for when, number in (("first batch", 1), (f"{batches} batches of {batch}", batches - 1)):
        for _ in range(number * workers):
            next(fetched)
        used = [psutil.Process(p.pid).memory_full_info() for p in multiprocessing.active_children()]
        for name in ("rss", "pss", "uss"):
            found[f"{name.upper()} of a worker, {when}"] = statistics.mean(getattr(u, name) for u in used) / MB
        whole = sum(u.pss for u in used) + psutil.Process().memory_full_info().pss
        found[f"PSS of all processes, {when}"] = whole / MB
    return found


def speed(folder: Path, rounds: int, batches: int) -> dict[str, list[float]]:
    """Pictures a second of 2 workers with augmentation at 640 pixels, ours and txt in turn."""
    datasets = {kind: build(kind, folder, 640) for kind in ("ours", "txt")}
    found: dict[str, list[float]] = {kind: [] for kind in datasets}
    for _ in range(rounds):
        for kind, dataset in datasets.items():
            fetched = loader(dataset, 2, BATCH)
            for _ in range(6):  # of which 4 the workers fetch ahead
                next(fetched)
            begun = time.perf_counter()
            pictures = sum(len(next(fetched)["img"]) for _ in range(batches))
            found[kind].append(pictures / (time.perf_counter() - begun))
            del fetched
    return found


def detect(folder: Path, each: int, scratch: Path) -> None:
    """Write what a detector might find in the validation pictures: arrays for us, results JSON for pycocotools."""
    from yolo_attn.coco.reading.reader import read_index

    index, rng = read_index(folder / VAL), np.random.default_rng(0)
    shape = (len(index.image_ids), each)
    order = np.argsort(index.image_of, kind="stable")
    counts = np.bincount(index.image_of, minlength=shape[0])[:, None]
    near = (counts.cumsum()[:, None] - counts + (rng.random(shape) * counts).astype(int)).clip(0, len(order) - 1)
    true = order[near]
    wrong = rng.exponential(0.12, shape)
    extent = np.tile(index.boxes[true][..., 2:], 2)
    boxes = index.boxes[true] + extent * wrong[..., None] * rng.uniform(-0.5, 0.5, (*shape, 4))
    scores = (rng.random(shape) * np.exp(-3 * wrong)).round(6)
    guesses = rng.integers(0, len(index.category_ids), shape)
    classes = np.where(rng.random(shape) < 0.7, index.category_of[true], guesses)
    np.savez(scratch / "detections.npz", boxes=boxes.round(3), scores=scores, classes=classes)
    arrays = (index.category_ids[classes], boxes.round(3), scores)
    columns = (np.repeat(index.image_ids, each), *(a.reshape(-1, *a.shape[2:]) for a in arrays))
    names = ("image_id", "category_id", "bbox", "score")
    rows = [dict(zip(names, row, strict=True)) for row in zip(*(c.tolist() for c in columns), strict=True)]
    (scratch / "detections.json").write_text(json.dumps(rows))


def our_evaluation(folder: Path, scratch: Path) -> tuple[dict[str, float], list[float]]:
    """Seconds from the arrays to the numbers, the index being there as it is for a validator, and the numbers."""
    from yolo_attn.coco.evaluate import Detections, coco_scores
    from yolo_attn.coco.reading.reader import read_index

    begun = time.perf_counter()
    index = read_index(folder / VAL)
    truth = time.perf_counter() - begun
    with np.load(scratch / "detections.npz") as file:
        arrays = [file[name] for name in ("boxes", "scores", "classes")]
    begun = time.perf_counter()
    detections = Detections()
    for row, (boxes, scores, classes) in enumerate(zip(*arrays, strict=True)):
        detections.add(int(index.image_ids[row]), boxes, scores, index.category_ids[classes])
    numbers = list(coco_scores(index, detections).metrics.values())
    return {"truth": truth, "numbers": time.perf_counter() - begun}, numbers


def their_evaluation(folder: Path, scratch: Path) -> tuple[dict[str, float], list[float]]:
    """The same of pycocotools, from the results JSON."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    times = [time.perf_counter()]
    with contextlib.redirect_stdout(None):
        truth = COCO(str(folder / VAL))
        times.append(time.perf_counter())
        found = truth.loadRes(str(scratch / "detections.json"))
        times.append(time.perf_counter())
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        times.append(time.perf_counter())
    return dict(zip(("truth", "loadRes", "evaluate"), np.diff(times).tolist(), strict=True)), evaluation.stats.tolist()
