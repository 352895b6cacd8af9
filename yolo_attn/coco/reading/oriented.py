"""Oriented boxes of a COCO JSON: COCO's format has none, and each tool puts them elsewhere.

`bbox` and `attributes.rotation` are CVAT's: left, top, width and height before the box is turned about its centre,
clockwise as one sees the image, by degrees (cvat/apps/dataset_manager/formats/transformations.py). Five numbers as
`bbox` are Detectron2's: centre x, centre y, width, height, degrees counter-clockwise (its RotatedBoxes). Other tools
write radians, or left and top, which nothing in the JSON says; corners in `segmentation` make them certain.
"""

import contextlib
import math
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from yolo_attn.coco.reading.masks_and_keypoints import LARGEST_NUMBER, outline, read_mask, usable_mask
from yolo_attn.coco.reading.problems import Problems
from yolo_attn.coco.reading.values import finite_numbers, number_in

FORMS = (
    "of four corners in segmentation",
    "around the outline in segmentation",
    "of bbox [centre x, centre y, width, height, degrees counter-clockwise]",
    "of bbox, turned clockwise by the degrees of attributes.rotation",
    "upright",
)
"""How an annotation states its oriented box, the first of these that it has."""

CORNERS, OUTLINE, FIVE_NUMBERS, ROTATION, UPRIGHT = range(len(FORMS))

RADIANS = "angle of a bbox of five numbers, read as degrees; none of the JSON exceeds 2π, so they may be radians"

NO_ROTATION = "attributes.rotation that is not a number, the upright box is used"

NO_CORNERS = "segmentation without three corners of finite numbers, the annotation's bbox is used"

POINTS = msgspec.json.Decoder(list[tuple[float, float]])


def read_oriented(annotation: Any, problems: Problems) -> tuple[NDArray[np.float64], int] | None:
    """Return the (4, 2) corners of an annotation's box, pixels, and their row in `FORMS`; None where it has no box.

    An upright rectangle in `segmentation` is what some tools write for every box, so an angle counts before it. The box
    around an outline is the one of smallest area.
    """
    points, numbers = _points(annotation, problems), finite_numbers(annotation.bbox)
    upright = points is not None and len(points) == 4 and all(len(set(side)) == 2 for side in points.T.tolist())
    if points is not None and not upright:
        return (points, CORNERS) if len(points) == 4 else (_smallest(points), OUTLINE)
    if len(numbers) == 5:
        x, y, width, height, degrees = numbers
        return _turned(x, y, width, height, -degrees), FIVE_NUMBERS
    rotation = _rotation(annotation, problems) if len(numbers) == 4 else None
    if points is not None and not rotation:
        return points, CORNERS
    if len(numbers) != 4:
        return None
    x, y, width, height = numbers
    corners = _turned(x + width / 2, y + height / 2, width, height, rotation or 0.0)
    return corners, UPRIGHT if rotation is None else ROTATION


def check_angles(annotations: list[Any], problems: Problems) -> None:
    """Report annotations of five numbers if the angles of all look like radians."""
    angles = [abs(finite_numbers(annotation.bbox)[4]) for annotation in annotations]
    if any(angles) and max(angles) <= 2 * math.pi:
        problems.add(RADIANS, (annotation.called for annotation in annotations))


def around(corners: NDArray[np.float64]) -> list[float]:
    """Return left, top, width and height of the upright box around corners."""
    low = corners.min(0)
    return [*low.tolist(), *(corners.max(0) - low).tolist()]


def _points(annotation: Any, problems: Problems) -> NDArray[np.float64] | None:
    """Return the corners of an annotation's segmentation, (N, 2); they may also be written as pairs."""
    text = annotation.segmentation
    with contextlib.suppress(ValueError, RecursionError):
        pairs = np.array(POINTS.decode(text), dtype=np.float64).reshape(-1, 2)
        if len(pairs) > 2 and (np.abs(pairs) < LARGEST_NUMBER).all():
            return _opened(pairs)
    mask = usable_mask(text)[0]
    points = outline(read_mask(mask)) if mask else np.zeros((0, 2))
    if len(points) > 2:
        return _opened(points)
    if bytes(text) not in (b"null", b"[]", b"[[]]"):
        problems.add(NO_CORNERS, [annotation.called])
    return None


def _opened(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return corners without a last one that is the first again."""
    return points[:-1] if len(points) > 4 and (points[0] == points[-1]).all() else points


def _rotation(annotation: Any, problems: Problems) -> float | None:
    """Return the degrees by which CVAT turns a box; None where it does not say."""
    attributes = annotation.attributes
    if not isinstance(attributes, dict) or "rotation" not in attributes:
        return None
    rotation = number_in(attributes["rotation"])
    if rotation is None:
        problems.add(NO_ROTATION, [annotation.called])
    return rotation


def _turned(x: float, y: float, width: float, height: float, degrees: float) -> NDArray[np.float64]:
    """Return the corners of a box turned clockwise about its centre; without area where it has no width or height."""
    angle = math.radians(math.fmod(degrees, 360))
    cos, sin = math.cos(angle), math.sin(angle)
    with np.errstate(over="ignore"):
        along = np.array([cos, sin]) * max(width, 0) / 2
        across = np.array([-sin, cos]) * max(height, 0) / 2
        corners = np.add((x, y), [-along - across, along - across, along + across, across - along])
    return corners.clip(-LARGEST_NUMBER, LARGEST_NUMBER)


def _smallest(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the corners of the rectangle of smallest area around points."""
    centre = points.mean(0)  # OpenCV computes in float32
    return centre + cv2.boxPoints(cv2.minAreaRect((points - centre).astype(np.float32)))
