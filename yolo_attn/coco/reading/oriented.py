"""Oriented boxes of a COCO JSON, which has no form of its own for them, as four corners.

- `bbox` of five numbers is detectron2's: centre, width and height, pixels, and degrees counter-clockwise.
- `attributes.rotation` is CVAT's: `bbox` is the box before it is turned by so many degrees clockwise about its centre.
- `segmentation` of one polygon with four corners is the box; any other outline has a smallest rectangle around it.
- Anything else is the upright `bbox`.
"""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from yolo_attn.coco.reading.masks_and_keypoints import LARGEST_NUMBER, POLYGONS
from yolo_attn.coco.reading.problems import Problems
from yolo_attn.coco.reading.values import box_in, number_in

CORNERS = 4
UPRIGHT = "annotation without rotation, fifth number or outline, its upright box is used"
RADIANS = "box of five numbers, whose last is read as degrees; all of this file are as small as radians"
HALF_TURN = 3.2
"""Radians; degrees of a whole file are hardly all below it."""


def corners_of(annotation: Any, problems: Problems) -> NDArray[np.float64] | None:
    """Return (4, 2) corners of an annotation's oriented box, pixels, in their order around it; None without a box."""
    bbox, upright = annotation.bbox, box_in(annotation.bbox)
    angle = fifth(bbox)
    if angle is not None:
        level = box_in(bbox[:CORNERS])
        return None if level is None else _turned(level, -angle)
    given = annotation.attributes.get("rotation") if isinstance(annotation.attributes, dict) else None
    rotation = number_in(given)
    if given is not None and rotation is None:
        problems.add("rotation that is not a number, taken as 0", [annotation.called])
    if upright and rotation:
        left, top, width, height = upright
        return _turned([left + width / 2, top + height / 2, width, height], rotation)
    polygons = _polygons(annotation.segmentation)
    if len(polygons) == 1 and len(polygons[0]) == CORNERS:
        return polygons[0]
    if polygons:
        problems.add(
            "outline of other than four corners, the smallest rectangle around it is used", [annotation.called]
        )
        return cv2.boxPoints(cv2.minAreaRect(np.concatenate(polygons).astype(np.float32))).astype(np.float64)
    if upright is None:
        return None
    if given is None:
        problems.add(UPRIGHT, [annotation.called])
    left, top, width, height = upright
    return _turned([left + width / 2, top + height / 2, width, height], 0)


def enclosing(corners: NDArray[np.float64]) -> list[float]:
    """Return left, top, width and height around corners."""
    low, high = corners.min(0), corners.max(0)
    return [*low.tolist(), *(high - low).tolist()]


def fifth(bbox: Any) -> float | None:
    """Return the angle of a box of five numbers, degrees; None for any other box."""
    return number_in(bbox[CORNERS]) if isinstance(bbox, list) and len(bbox) == CORNERS + 1 else None


def _turned(box: Sequence[float], degrees: float) -> NDArray[np.float64] | None:
    """Return the corners of a box of this centre and size, turned clockwise as the image is seen; None if too large."""
    x, y, width, height = box
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    around = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (width / 2, height / 2)
    corners = around @ np.array([(cos, sin), (-sin, cos)]) + (x, y)
    return corners if (np.abs(corners) < LARGEST_NUMBER).all() else None


def _polygons(text: msgspec.Raw) -> list[NDArray[np.float64]]:
    """Return polygons of at least three corners; none where the segmentation is of another kind."""
    try:
        polygons = POLYGONS.decode(text)
    except (ValueError, RecursionError):
        return []
    usable = [
        part for part in polygons if len(part) >= 6 and len(part) % 2 == 0 and max(map(abs, part)) < LARGEST_NUMBER
    ]
    return [np.reshape(part, (-1, 2)) for part in usable]
