"""COCO's twelve numbers for box detections."""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from yolo_attn.coco.index import CocoIndex
from yolo_attn.files import write_text

EVALUATOR = f"hotcoco {hotcoco.__version__}, COCO bbox evaluation, at most 100 detections an image and category"
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@dataclass(frozen=True)
class CocoScores:
    """COCO's numbers, as fractions of 1; -1 where COCO defines none, as for a size without ground truth.

    Attributes:
        metrics: The twelve numbers under their usual names, `METRICS`.
        per_class: For each category name its AP and AP50.
    """

    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]]


class Detections:
    """Detections of a validation run, kept as arrays in exactly the precision in which they are saved."""

    def __init__(self) -> None:
        self._of_image: dict[int, NDArray[np.float64]] = {}

    def add(self, image_id: int, boxes: ArrayLike, scores: ArrayLike, category_ids: ArrayLike) -> None:
        """Add one picture's detections.

        Args:
            image_id: The JSON's image id.
            boxes: (N, 4) left, top, width, height in pixels of the picture; kept to 1/1000 pixel.
            scores: (N,) confidence; kept to six decimals.
            category_ids: (N,) the JSON's category ids.
        """
        boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        part = np.empty((len(boxes), 7))
        part[:, 0] = image_id
        part[:, 1:5] = boxes.round(3)
        part[:, 5] = np.asarray(scores, dtype=np.float64).round(6)
        part[:, 6] = category_ids
        self._of_image[image_id] = part

    def extend(self, other: "Detections") -> None:
        """Add the detections of another process; of a picture that both have seen, one copy stays."""
        self._of_image.update(other._of_image)

    def array(self) -> NDArray[np.float64]:
        """(N, 7): image id, left, top, width, height, score, category id."""
        return np.concatenate([np.empty((0, 7)), *self._of_image.values()])

    def save(self, file: Path) -> None:
        """Write COCO's results format."""
        rows = (
            {"image_id": int(row[0]), "category_id": int(row[6]), "bbox": row[1:5], "score": row[5]}
            for row in self.array().tolist()
        )
        write_text(file, "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")


def evaluate(index: CocoIndex, detections: Detections) -> CocoScores:
    """Hold detections against a JSON's ground truth, all of its images included.

    The ground truth is the JSON's as COCO's own tools read it: crowds are ignored, nothing is clipped.
    """
    truth = hotcoco.COCO.from_arrays(
        [{"id": int(i)} for i in index.image_ids],
        [{"id": int(i), "name": name} for i, name in zip(index.category_ids, index.category_names, strict=True)],
        index.image_ids[index.image_of],
        index.category_ids[index.category_of],
        index.boxes,
        area=index.areas,
        iscrowd=index.crowd.astype(np.int64),
    )
    evaluation = hotcoco.COCOeval(truth, truth.loadRes(detections.array()), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    with contextlib.redirect_stdout(None):  # summarize() prints, and nothing else computes the numbers
        evaluation.summarize()
    values = evaluation.results()["metrics"]
    curves: Any = evaluation.eval
    precision = np.asarray(curves["precision"])[:, :, :, 0, -1]  # IoU, recall, category; all sizes, 100
    per_class = {
        name: {"AP": _mean_defined(precision[:, :, k]), "AP50": _mean_defined(precision[0, :, k])}
        for k, name in enumerate(index.category_names)
    }
    return CocoScores({name: float(values[name]) for name in METRICS}, per_class)


def score_text(score: float) -> str:
    """A score to three decimals, or "-" where COCO defines none."""
    return "-" if score < 0 else f"{score:.3f}"


def _mean_defined(precision: NDArray[np.float64]) -> float:
    defined = precision[precision > -1]
    return float(defined.mean()) if defined.size else -1.0
