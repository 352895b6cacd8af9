"""What `model.val()` and `model.train()` return: Ultralytics' metrics, with COCO's numbers on COCO-format data."""

from typing import Any

from ultralytics.utils import metrics

from yolo_attn.coco.evaluate import CocoScores

COCO_KEYS = {"metrics/COCO_AP": "AP", "metrics/COCO_AP50": "AP50"}
"""COCO's numbers among Ultralytics' own."""


class CocoMetrics:
    """Mixin for metrics of Ultralytics': `coco` has COCO's twelve numbers, and AP and AP50 of each class."""

    coco: CocoScores

    @property
    def fitness(self) -> float:
        """COCO AP, which chooses best.pt."""
        return self.coco.metrics["AP"]

    @property
    def results_dict(self) -> dict[str, float]:
        """Ultralytics' own numbers, COCO's AP and AP50, and the fitness."""
        own: dict[str, float] = super().results_dict  # type: ignore[misc]  # of the class that this is mixed into
        return {**own, **{key: self.coco.metrics[name] for key, name in COCO_KEYS.items()}}


class DetMetrics(CocoMetrics, metrics.DetMetrics):
    """Of detectors."""


class SegmentMetrics(CocoMetrics, metrics.SegmentMetrics):
    """Of segmenters."""


class PoseMetrics(CocoMetrics, metrics.PoseMetrics):
    """Of keypoint detectors."""


def set_coco(own: Any, scores: CocoScores | None) -> None:
    """Put COCO's numbers on an object of Ultralytics' metrics, or take them off."""
    for kind in (DetMetrics, SegmentMetrics, PoseMetrics):
        stock = kind.__bases__[1]
        if type(own) in (kind, stock):
            own.__class__ = kind if scores else stock
    if scores:
        own.coco = scores
