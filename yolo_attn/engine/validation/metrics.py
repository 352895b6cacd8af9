"""What `model.val()` and `model.train()` return: Ultralytics' metrics, with COCO's numbers on COCO-format data."""

import re
from collections.abc import Iterable
from typing import Any

from ultralytics.utils import metrics

from yolo_attn.coco.evaluate import KEYPOINT_METRICS, METRICS, CocoScores

PREFIX = "metrics/COCO_"
"""What the names of COCO's numbers among Ultralytics' own begin with; as charts of a training have it."""

CHARTED = (f"{PREFIX}AP", f"{PREFIX}AP50")
"""Those that results.png shows."""

MOST_CLASSES = 100
"""With more classes, their AP stands in metrics.json alone."""

LONGEST_NAME = 50
"""How many characters of a class's name are kept."""


def class_keys(names: Iterable[str]) -> list[str]:
    """Return the keys of classes' AP, all different, in characters that CSV, TensorBoard, W&B and MLflow take alike.

    Any character but letters, digits, `_`, `-` and `.` becomes `_`; equal results get a number.
    """
    keys: dict[str, None] = {}
    for name in names:
        plain = re.sub(r"[^-.\w]", "_", name)[:LONGEST_NAME]
        key = f"{PREFIX}AP_{plain}"
        same = (f"{key}_{number}" for number in range(2, len(keys) + 3))
        keys[next(each for each in (key, *same) if each not in keys)] = None
    return list(keys)


def coco_keys(kind: str, names: Iterable[str]) -> list[str]:
    """Return the keys of all of COCO's numbers, as `coco_results` has them.

    Args:
        kind: "bbox", "segm" or "keypoints".
        names: The classes' names.
    """
    names = list(names)
    boxes = [f"{PREFIX}box_{name}" for name in METRICS] if kind != "bbox" else []
    own = [f"{PREFIX}{name}" for name in (KEYPOINT_METRICS if kind == "keypoints" else METRICS)]
    return [*own, *boxes, *(class_keys(names) if len(names) <= MOST_CLASSES else [])]


def coco_results(scores: CocoScores, boxes: CocoScores | None) -> dict[str, float]:
    """Return COCO's numbers by their keys: the task's, those of its boxes, and up to 100 classes' AP."""
    own = {f"{PREFIX}{name}": value for name, value in scores.metrics.items()}
    of_boxes = {f"{PREFIX}box_{name}": value for name, value in boxes.metrics.items()} if boxes else {}
    classes = [each["AP"] for each in scores.per_class.values()]
    of_classes = zip(class_keys(scores.per_class), classes, strict=True) if len(classes) <= MOST_CLASSES else ()
    return {**own, **of_boxes, **dict(of_classes)}


class CocoMetrics:
    """Mixin for metrics of Ultralytics': `coco` has COCO's numbers, `coco_boxes` those of boxes beside others."""

    coco: CocoScores
    coco_boxes: CocoScores | None

    @property
    def fitness(self) -> float:
        """COCO AP, which chooses best.pt."""
        return self.coco.metrics["AP"]

    @property
    def results_dict(self) -> dict[str, float]:
        """Ultralytics' own numbers, COCO's numbers and classes' AP, and the fitness."""
        own: dict[str, float] = super().results_dict  # type: ignore[misc]  # of the class that this is mixed into
        return {**own, **coco_results(self.coco, self.coco_boxes)}


class DetMetrics(CocoMetrics, metrics.DetMetrics):
    """Of detectors."""


class SegmentMetrics(CocoMetrics, metrics.SegmentMetrics):
    """Of segmenters."""


class PoseMetrics(CocoMetrics, metrics.PoseMetrics):
    """Of keypoint detectors."""


def set_coco(own: Any, scores: CocoScores | None, boxes: CocoScores | None = None) -> None:
    """Put COCO's numbers on an object of Ultralytics' metrics, or take them off."""
    for kind in (DetMetrics, SegmentMetrics, PoseMetrics):
        stock = kind.__bases__[1]
        if type(own) in (kind, stock):
            own.__class__ = kind if scores else stock
    if scores:
        own.coco, own.coco_boxes = scores, boxes
