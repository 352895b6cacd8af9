"""Accuracy of a classifier over images: in all, of each class, and which classes are taken for which."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

EVALUATOR = "yolo_attn: shares of images whose class is the best, and among the best five"


class Predicted(NamedTuple):
    """An image's class, and the classes that a model finds most likely, the best first, with their probabilities."""

    number: int
    best: list[int]
    confidences: list[float]


class ClassAccuracy:
    """What a classifier's metrics.json and predictions.json say.

    Args:
        names: The model's classes by number.
        predicted: What was predicted, by each image's path below the split's folder.

    Attributes:
        per_class: Of each class by name, its share of images whose best class it is, -1 without images, and how many.
    """

    def __init__(self, names: Mapping[int, str], predicted: Mapping[str, Predicted]) -> None:
        self._names, self._predicted = names, dict(sorted(predicted.items()))
        self.counts = np.zeros((len(names), len(names)), dtype=np.int64)
        for found in self._predicted.values():
            self.counts[found.number, found.best[0]] += 1
        right, images = self.counts.diagonal().tolist(), self.counts.sum(1).tolist()
        self.per_class = {
            str(names[n]): {"accuracy_top1": right[n] / images[n] if images[n] else -1.0, "images": images[n]}
            for n in range(len(names))
        }

    def report(self) -> dict[str, Any]:
        """Return what metrics.json holds: accuracies as fractions of 1; rows of the confusion are true classes."""
        found = self._predicted.values()
        return {
            "accuracy_top1": float(np.mean([each.best[0] == each.number for each in found])) if found else -1.0,
            "accuracy_top5": float(np.mean([each.number in each.best for each in found])) if found else -1.0,
            "images": len(found),
            "per_class": self.per_class,
            "confusion": {"classes": list(self.per_class), "counts": self.counts.tolist()},
            "evaluator": EVALUATOR,
        }

    def predictions(self) -> list[dict[str, Any]]:
        """Return what predictions.json holds: of each image its class, and the best five with their probabilities."""
        return [
            {
                "image": file,
                "class": str(self._names[found.number]),
                "top": [str(self._names[n]) for n in found.best],
                "confidence": [round(confidence, 6) for confidence in found.confidences],
            }
            for file, found in self._predicted.items()
        ]
