"""Oriented boxes of a COCO JSON: COCO's format has none, and each tool puts them elsewhere.

`bbox` and `attributes.rotation` are CVAT's: left, top, width and height before the box is rotated about its centre,
clockwise as one sees the image, by degrees (cvat/apps/dataset_manager/formats/transformations.py). Five numbers as
`bbox` are Detectron2's: centre x, centre y, width, height, degrees counter-clockwise (its RotatedBoxes). Other tools
write radians, or left and top, which nothing in the JSON says; corners in `segmentation` make them certain.
"""

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import cv2
import msgspec
import numpy as np

from yolo_attn.coco.reading.masks_and_keypoints import LARGEST_NUMBER, outline, read_mask, usable_mask
from yolo_attn.coco.reading.problems import Problems
from yolo_attn.coco.reading.values import finite_numbers, number_in

FORMS = (
    "of four corners in segmentation",
    "around the outline in segmentation",
    "of bbox [centre x, centre y, width, height, degrees counter-clockwise]",
    "of bbox, rotated clockwise by the degrees of attributes.rotation",
    "upright",
)
"""How an annotation states its oriented box, the first of these that it has."""

CORNERS, OUTLINE, FIVE_NUMBERS, ROTATION, UPRIGHT = range(len(FORMS))

RADIANS = (
    "bbox of five numbers whose angle, read as degrees, may be in radians, since none in the JSON exceeds 2π; degrees, "
    "or corners as segmentation, make it certain"
)

NO_ROTATION = "attributes.rotation that is not a number, the upright box is used"

NO_CORNERS = "segmentation without three corners of finite numbers, the annotation's bbox is used"

POINTS = msgspec.json.Decoder(list[tuple[float, float]])

EMPTY = (b"null", b"[]", b"[[]]")

LEVEL = 0.01
"""Pixels by which corners may miss an upright rectangle."""

Corners = list[tuple[float, float]]


def read_oriented(annotation: Any, problems: Problems) -> tuple[Corners, int] | None:
    """Return the four corners of an annotation's box, pixels, and their row in `FORMS`; None where it has no box.

    An upright rectangle in `segmentation` is what some tools write for every box, so an angle counts before it. The box
    around an outline is the one of smallest area.
    """
    points, numbers = _points(annotation, problems), finite_numbers(annotation.bbox)
    if points and min(around(points)[2:]) < LEVEL and len(numbers) > 3:
        points = []  # a line of a segmentation, beside a box
    upright = len(points) == 4 and all(map(_is_level, zip(*points, strict=True)))
    if points and not upright:
        return (points, CORNERS) if len(points) == 4 else (_smallest(points), OUTLINE)
    if len(numbers) == 5:
        x, y, width, height, degrees = numbers
        return _rotated(x, y, width, height, -degrees), FIVE_NUMBERS
    rotation = _rotation(annotation, problems) if len(numbers) == 4 else None
    if points and not rotation:
        return points, CORNERS
    if len(numbers) != 4:
        return None
    x, y, width, height = numbers
    corners = _rotated(x + width / 2, y + height / 2, width, height, rotation or 0.0)
    return corners, UPRIGHT if rotation is None else ROTATION


def _is_level(side: Sequence[float]) -> bool:
    """Return whether the corners of a rectangle have two places, as on a side of an upright one."""
    low, high = min(side), max(side)
    return all(min(place - low, high - place) < LEVEL for place in side)


def look_like_radians(angles: Sequence[float]) -> bool:
    """Return whether the angles of boxes of five numbers may be in radians, where degrees are expected."""
    return any(angles) and max(map(abs, angles)) <= 2 * math.pi


def around(corners: Corners) -> list[float]:
    """Return left, top, width and height of the upright box around corners."""
    (left, right), (top, bottom) = ((min(side), max(side)) for side in zip(*corners, strict=True))
    return [left, top, right - left, bottom - top]


def _points(annotation: Any, problems: Problems) -> Corners:
    """Return the corners of an annotation's segmentation, which may also be pairs; none where it has no usable one."""
    text = bytes(annotation.segmentation)
    if text in EMPTY:
        return []
    with contextlib.suppress(ValueError, RecursionError):
        pairs = POINTS.decode(text)
        if len(pairs) > 2 and all(abs(v) < LARGEST_NUMBER for pair in pairs for v in pair):
            return _opened(pairs)
    mask = usable_mask(annotation.segmentation)[0]
    points = outline(read_mask(mask)).tolist() if mask else []
    if len(points) > 2:
        return _opened([(x, y) for x, y in points])
    problems.add(NO_CORNERS, [annotation.called])
    return []


def _opened(points: Corners) -> Corners:
    """Return corners without a last one that is the first again."""
    return points[:-1] if len(points) > 3 and points[0] == points[-1] else points


def _rotation(annotation: Any, problems: Problems) -> float | None:
    """Return the degrees by which CVAT rotates a box; None where it does not say."""
    attributes = annotation.attributes
    rotation = rotation_in(attributes)
    if rotation is None and isinstance(attributes, dict) and "rotation" in attributes:
        problems.add(NO_ROTATION, [annotation.called])
    return rotation


def rotation_in(attributes: Any) -> float | None:
    """Return the degrees that attributes say; None where they say no number."""
    return number_in(attributes.get("rotation")) if isinstance(attributes, dict) else None


def _rotated(x: float, y: float, width: float, height: float, degrees: float) -> Corners:
    """Return the corners of a box rotated clockwise about its centre; without area where it has no width or height."""
    angle = math.radians(math.fmod(degrees, 360))
    cos, sin = math.cos(angle), math.sin(angle)
    w, h = max(width, 0) / 2, max(height, 0) / 2
    sides = ((-w, -h), (w, -h), (w, h), (-w, h))
    corners = [(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in sides]
    return [(_bounded(a), _bounded(b)) for a, b in corners]


def _bounded(number: float) -> float:
    return max(-LARGEST_NUMBER, min(number, LARGEST_NUMBER))


def _smallest(points: Corners) -> Corners:
    """Return the corners of the rectangle of smallest area around points."""
    corners = np.array(points)
    centre = corners.mean(0)  # OpenCV computes in float32
    found = centre + cv2.boxPoints(cv2.minAreaRect((corners - centre).astype(np.float32)))
    return [(x, y) for x, y in found.tolist()]
