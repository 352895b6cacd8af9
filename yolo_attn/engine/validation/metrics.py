"""What `model.val()` and `model.train()` return: Ultralytics' metrics, with COCO's numbers on COCO-format data."""

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Any

from ultralytics.utils import metrics

from yolo_attn.coco.evaluate import KEYPOINT_METRICS, METRICS, CocoScores

PLOTTED = {"AP": "metrics/COCO_AP", "AP50": "metrics/COCO_AP50"}
"""Columns of results.csv that Ultralytics plots in results.png, by what they begin with."""

OF_CLASS = "coco/AP/"
"""What the columns of classes begin with."""

MOST_CLASSES = 100
"""Classes whose AP is in results.csv; a table of more is not read by anybody."""


def coco_columns(names: Iterable[str], boxes: Iterable[str], classes: Sequence[str]) -> dict[str, str]:
    """Return the columns of results.csv with COCO's numbers: the task's, those of `boxes` beside, AP of each class.

    With each goes its key in `trainer.metrics`, which every tracker takes, and each is another one: MLflow refuses most
    signs, and `/` begins a section.
    """
    columns = {
        **{name: name for name in (PLOTTED.get(name, f"coco/{name}") for name in names)},
        **{name: name for name in (f"coco/box_{name}" for name in boxes)},
    }
    if len(classes) > MOST_CLASSES:
        return columns
    taken = set(columns.values())
    for name in classes:
        plain = OF_CLASS + re.sub(r"[^\w .-]|^\.+$", "_", name)
        numbered = (f"{plain}_{number}" for number in range(2, MOST_CLASSES + 2))
        key = next(key for key in itertools.chain([plain], numbered) if key not in taken)
        columns[f"{OF_CLASS}{name}"] = key
        taken.add(key)
    return columns


def columns_before(kind: str, classes: Sequence[str]) -> dict[str, str]:
    """Return the columns of a task before it was validated, with their keys."""
    return coco_columns(
        KEYPOINT_METRICS if kind == "keypoints" else METRICS, METRICS if kind != "bbox" else (), classes
    )


def coco_numbers(scores: CocoScores) -> dict[str, float]:
    """Return COCO's numbers, -1 where it defines none, by their keys in `trainer.metrics`."""
    boxes = scores.boxes.metrics if scores.boxes else {}
    values = [*scores.metrics.values(), *boxes.values(), *(each["AP"] for each in scores.per_class.values())]
    return dict(zip(coco_columns(scores.metrics, boxes, list(scores.per_class)).values(), values, strict=False))


class CocoMetrics:
    """Mixin for metrics of Ultralytics': `coco` has COCO's numbers, and AP and AP50 of each class."""

    coco: CocoScores

    @property
    def fitness(self) -> float:
        """COCO AP, which chooses best.pt."""
        return self.coco.metrics["AP"]

    @property
    def results_dict(self) -> dict[str, float]:
        """Ultralytics' own numbers, COCO's, and the fitness."""
        own: dict[str, float] = super().results_dict  # type: ignore[misc]  # of the class that this is mixed into
        return {**own, **coco_numbers(self.coco)}


class DetMetrics(CocoMetrics, metrics.DetMetrics):
    """Of detectors."""


class SegmentMetrics(CocoMetrics, metrics.SegmentMetrics):
    """Of segmenters."""


class PoseMetrics(CocoMetrics, metrics.PoseMetrics):
    """Of keypoint detectors."""


class ClassifyMetrics(metrics.ClassifyMetrics):
    """Of classifiers."""

    @property
    def fitness(self) -> float:
        """Top-1, which chooses best.pt; Ultralytics takes the mean of top-1 and top-5."""
        return self.top1


def set_coco(own: Any, scores: CocoScores | None) -> None:
    """Put COCO's numbers on an object of Ultralytics' metrics, or take them off."""
    for kind in (DetMetrics, SegmentMetrics, PoseMetrics):
        stock = kind.__bases__[1]
        if type(own) in (kind, stock):
            own.__class__ = kind if scores else stock
    if scores:
        own.coco = scores
