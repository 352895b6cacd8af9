"""The labels of a data set in Ultralytics' form, made one by one from arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_attn.coco.dataset.image_files import Pictures
from yolo_attn.coco.reading.index import CocoIndex
from yolo_attn.coco.reading.masks_and_keypoints import outline, read_mask
from yolo_attn.coco.reading.strings import Strings

TINY = "box of a pixel at most, taken; boxes must be in pixels, not in shares of the image"

TOLERANCE = 1e-3  # pixels that a box may leave its picture by before that is worth a word

MOST_BOXES = 10_000
"""Boxes of a picture that carry a label: a training's memory grows with the most that a picture of a batch has."""


@dataclass(frozen=True)
class Labels(Sequence[dict[str, Any]]):
    """A label dictionary for each usable picture, in Ultralytics' form: normalised centre, width, height.

    Crowds carry no label; boxes are clipped to the picture as it is displayed.

    Attributes:
        source: What the labels were made of.
        images: Row in the source of each picture.
        files: Path of each picture.
        sizes: Width and height of each picture as it is displayed, pixels.
        ends: Where the boxes of each picture end.
        starts: Where they start.
        boxes: (N, 4) boxes, picture by picture.
        classes: (N, 1) class of each box.
        annotations: Row in the source of each box.
    """

    source: CocoIndex
    images: NDArray[np.int64]
    files: Strings
    sizes: NDArray[np.float64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    boxes: NDArray[np.float32]
    classes: NDArray[np.float32]
    annotations: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: Any) -> Any:
        part = slice(self.starts[i], self.ends[i])
        size, rows = self.sizes[i], self.annotations[part]
        return {
            "im_file": self.files[i],
            "shape": (int(size[1]), int(size[0])),
            "cls": self.classes[part],
            "bboxes": self.boxes[part],
            "segments": [self._segment(row, size) for row in rows.tolist()] if self.source.masks is not None else [],
            "keypoints": self._keypoints(rows, size),
            "normalized": True,
            "bbox_format": "xywh",
        }

    def take(self, order: Sequence[int]) -> "Labels":
        """The labels of these pictures, in this order."""
        rows = np.asarray(order, dtype=np.int64)
        return replace(
            self,
            images=self.images[rows],
            files=self.files.take(rows),
            sizes=self.sizes[rows],
            starts=self.starts[rows],
            ends=self.ends[rows],
        )

    def _segment(self, row: int, size: NDArray[np.float64]) -> NDArray[np.float32]:
        """The outline of an annotation, (N, 2) as shares of its picture."""
        assert self.source.masks is not None
        points = outline(read_mask(self.source.masks.raw(row))).clip(0, size)
        if len(points) < 3:
            x, y, w, h = self.source.boxes[row]
            points = np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h)]).clip(0, size)
        return (points / size).astype(np.float32)

    def _keypoints(self, rows: NDArray[np.int32], size: NDArray[np.float64]) -> NDArray[np.float32] | None:
        """(len(rows), K, 3) keypoints, x and y as shares of the picture."""
        if self.source.keypoints is None:
            return None
        points = self.source.keypoints[rows]
        points[..., :2] /= size
        return points.astype(np.float32)


def make_labels(
    index: CocoIndex, pictures: Pictures, names: Sequence[str]
) -> tuple[Labels, dict[str, NDArray[np.int64]]]:
    """Labels of the pictures that are usable.

    Args:
        index: The annotations.
        pictures: Its pictures.
        names: Class names in the model's order; categories are matched to them by name.

    Returns:
        The labels, and the rows of annotations that were left out or clipped, by the reason.
    """
    suspect = {}
    number = {name: i for i, name in enumerate(names)}
    class_of = np.array([number.get(name, -1) for name in index.category_names])
    images = np.flatnonzero(pictures.sizes[:, 0])
    slot = np.full(len(index.image_ids), -1)
    slot[images] = np.arange(len(images))
    picture, classes = slot[index.image_of], class_of[index.category_of]
    suspect["box of a category that is no class here, no label"] = np.flatnonzero((picture >= 0) & (classes < 0))

    rows = np.flatnonzero((picture >= 0) & (classes >= 0) & ~index.crowd)
    rows = rows[np.argsort(picture[rows], kind="stable")]
    size = np.tile(pictures.sizes[index.image_of[rows]], 2)
    corners = index.boxes[rows].copy()
    with np.errstate(over="ignore"):
        corners[:, 2:] += corners[:, :2]
    inside = corners.clip(0, size)
    extent = inside[:, 2:] - inside[:, :2]
    full = (extent > 0).all(1)
    suspect["box without area inside its picture, left out"] = rows[~full]
    suspect["box clipped to its picture"] = rows[full & (np.abs(inside - corners).max(1, initial=0) > TOLERANCE)]

    suspect[TINY] = rows[full & (index.boxes[rows, 2:] <= 1).all(1)]

    centres = (inside[:, :2] + inside[:, 2:]) / 2
    rows = rows[full]
    first = np.searchsorted(picture[rows], picture[rows])
    labelled = np.arange(len(rows)) - first < MOST_BOXES
    suspect[f"box beyond the first {MOST_BOXES:,} of its picture, no label"] = rows[~labelled]
    rows, taken = rows[labelled], np.flatnonzero(full)[labelled]
    bounds = np.searchsorted(picture[rows], np.arange(len(images) + 1))
    labels = Labels(
        index,
        images,
        pictures.paths if len(images) == len(pictures.paths) else pictures.paths.take(images),
        pictures.sizes[images],
        bounds[:-1],
        bounds[1:],
        (np.concatenate([centres, extent], 1) / size).astype(np.float32)[taken],
        classes[rows, None].astype(np.float32),
        rows.astype(np.int32),
    )
    return labels, suspect
