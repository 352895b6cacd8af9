"""The labels of a data set in Ultralytics' form, made one by one from arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from yolo_attn.coco.dataset.image_files import ImageFiles
from yolo_attn.coco.reading.index import CocoIndex, Strings
from yolo_attn.coco.reading.masks_and_keypoints import outline, read_mask

TINY = "box of at most a pixel, used; boxes must be in pixels, not in fractions of the image"

TOLERANCE = 1e-3  # pixels that a box may reach out of its image without being reported

MOST_BOXES = 10_000
"""Boxes of an image that carry a label: a training's memory grows with the image of a batch that has most."""


@dataclass(frozen=True)
class Labels(Sequence[dict[str, Any]]):
    """A label dictionary for each usable image, in Ultralytics' form: normalised centre, width, height.

    Crowds carry no label; boxes are clipped to the image as it is displayed. Of an oriented box that reaches over the
    edge, the rectangle in its direction around the visible part stays, as Ultralytics' own augmentation leaves it.

    Attributes:
        source: The index that the labels were made of.
        images: Row in the source of each image.
        files: Path of each image.
        sizes: (images, 2) width and height of each image as it is displayed, pixels.
        starts: Where the boxes of each image start.
        ends: Where they end.
        boxes: (N, 4) boxes, image by image.
        classes: (N, 1) class of each box.
        annotations: Row in the source of each box.
        corners: (N, 4, 2) corners of oriented boxes, as fractions of their image; None for other tasks.
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
    corners: NDArray[np.float32] | None = None

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
            "segments": self._segments(part, size),
            "keypoints": self._keypoints(rows, size),
            "normalized": True,
            "bbox_format": "xywh",
        }

    def take(self, order: Sequence[int]) -> "Labels":
        """Return the labels of these images, in this order."""
        rows = np.asarray(order, dtype=np.int64)
        columns = ("images", "files", "sizes", "starts", "ends")
        return replace(self, **{column: getattr(self, column)[rows] for column in columns})

    def _segments(self, part: slice, size: NDArray[np.float64]) -> list[NDArray[np.float32]]:
        """Return the outline or the four corners of each box, as fractions of its image; none for other tasks."""
        if self.corners is not None:
            return list(self.corners[part])
        rows = self.annotations[part].tolist()
        return [self._segment(row, size) for row in rows] if self.source.masks is not None else []

    def _segment(self, row: int, size: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the outline of an annotation, (N, 2) as fractions of its image."""
        assert self.source.masks is not None
        points = outline(read_mask(self.source.masks.raw(row))).clip(0, size)
        if len(points) < 3:
            x, y, w, h = self.source.boxes[row]
            points = np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h)]).clip(0, size)
        return (points / size).astype(np.float32)

    def _keypoints(self, rows: NDArray[np.int32], size: NDArray[np.float64]) -> NDArray[np.float32] | None:
        """Return (len(rows), K, 3) keypoints, x and y as fractions of the image."""
        if self.source.keypoints is None:
            return None
        points = self.source.keypoints[rows]
        points[..., :2] /= size
        return points.astype(np.float32)


def make_labels(
    index: CocoIndex, found: ImageFiles, names: Sequence[str]
) -> tuple[Labels, dict[str, NDArray[np.int64]]]:
    """Make the labels of the usable images, with categories matched by name to the model's classes.

    Returns:
        The labels, and the rows of annotations that were skipped, clipped or suspicious, by the reason.
    """
    suspect = {}
    number = {name: i for i, name in enumerate(names)}
    class_of = np.array([number.get(name, -1) for name in index.category_names])
    images = np.flatnonzero(found.sizes[:, 0])
    slot = np.full(len(index.image_ids), -1)
    slot[images] = np.arange(len(images))
    image, classes = slot[index.image_of], class_of[index.category_of]
    suspect["box of a category that is not a class here, no label"] = np.flatnonzero((image >= 0) & (classes < 0))

    rows = np.flatnonzero((image >= 0) & (classes >= 0) & ~index.crowd)
    rows = rows[np.argsort(image[rows], kind="stable")]
    size = found.sizes[index.image_of[rows]][:, None]
    if index.corners is None:
        with np.errstate(over="ignore"):
            corners = index.boxes[rows].reshape(-1, 2, 2).cumsum(1)
        inside = ends = corners.clip(0, size)
    else:
        corners = index.corners[rows]
        inside = _visible(corners, size)
        ends = np.stack([inside.min(1), inside.max(1)], 1).clip(0, size)
    extent = ends[:, 1] - ends[:, 0]
    full = (extent > 0).all(1)
    suspect["box without area inside its image, skipped"] = rows[~full]
    suspect["box clipped to its image"] = rows[full & (np.abs(inside - corners).max((1, 2), initial=0) > TOLERANCE)]

    suspect[TINY] = rows[full & (index.boxes[rows, 2:] <= 1).all(1)]

    centres = ends.mean(1)
    rows = rows[full]
    first = np.searchsorted(image[rows], image[rows])
    labelled = np.arange(len(rows)) - first < MOST_BOXES
    suspect[f"box beyond the first {MOST_BOXES:,} of its image, no label"] = rows[~labelled]
    rows, taken = rows[labelled], np.flatnonzero(full)[labelled]
    bounds = np.searchsorted(image[rows], np.arange(len(images) + 1))
    labels = Labels(
        index,
        images,
        found.paths if len(images) == len(found.paths) else found.paths[images],
        found.sizes[images],
        bounds[:-1],
        bounds[1:],
        (np.stack([centres, extent], 1) / size).reshape(-1, 4).astype(np.float32)[taken],
        classes[rows, None].astype(np.float32),
        rows.astype(np.int32),
        None if index.corners is None else (inside / size).astype(np.float32)[taken],
    )
    return labels, suspect


def _visible(corners: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what images show of (N, 4, 2) oriented boxes: corners as they are, or of a part; zeros without area."""
    sides = corners[:, 1:] - corners[:, :1]
    first, second = sides[:, [0, 0, 1]], sides[:, [1, 2, 2]]
    areas = np.abs(first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]).max(1, initial=0)
    visible = np.where(areas[:, None, None] > TOLERANCE**2, corners, 0)
    reach = np.maximum(-visible, visible - size).max((1, 2), initial=-np.inf)
    for row in np.flatnonzero(reach > TOLERANCE):
        visible[row] = _visible_part(visible[row].astype(np.float32), size[row, 0])
    return visible


def _visible_part(corners: NDArray[np.float32], size: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rectangle, in the direction of a box, around the part of it that an image shows."""
    image = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], dtype=np.float32) * size.astype(np.float32)
    area, part = cv2.intersectConvexConvex(cv2.convexHull(corners), image)
    if part is None or area <= 0:
        return np.zeros((4, 2))
    angle = np.radians(cv2.minAreaRect(corners)[2])
    rotation = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    aligned = part.reshape(-1, 2) @ rotation
    (left, top), (right, bottom) = aligned.min(0), aligned.max(0)
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)]) @ rotation.T
