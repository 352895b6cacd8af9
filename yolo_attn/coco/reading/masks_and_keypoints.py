"""Masks and keypoints of a COCO JSON: which are usable, and what a training gets."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray
from ultralytics.data.converter import merge_multi_segment

from yolo_attn.coco.reading.index import Strings
from yolo_attn.coco.reading.problems import Problems
from yolo_attn.coco.reading.run_lengths import number_of_runs, pixels_of
from yolo_attn.coco.reading.values import number_in
from yolo_attn.errors import UserError

LARGEST_NUMBER = 1e9
"""Pixels of a coordinate; a larger one is taken for a mistake."""

POLYGONS = msgspec.json.Decoder(list[list[float]])

MOST_CORNERS = 2000
"""Corners of an outline that is trained on; joining two parts takes the product of their corners."""

SIMPLIFIED = f"outline of more than {MOST_CORNERS} corners or {2 * MOST_CORNERS} run lengths, simplified for training"

MOST_PARTS = 250
"""Parts of a simplified outline."""

MOST_KEYPOINTS = 1000
"""Keypoints of an annotation; a whole body has 133."""

SPARE_KEYPOINTS = 10_000_000
"""Rows of zeros for annotations without keypoints; more are allowed up to sixteen times the keypoints in the JSON."""

COCO_KEYPOINTS = 17
COCO_FLIP = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
"""COCO's 17 keypoints of a mirrored person: nose, then eyes, ears, … in pairs of left and right."""


def read_masks(annotations: Sequence[Any], boxes: NDArray[np.float64], problems: Problems) -> Strings:
    """Return polygons or run lengths of each annotation, as JSON; its box as a polygon where they are unusable."""
    masks: list[bytes] = []
    for annotation, (x, y, w, h) in zip(annotations, boxes, strict=True):
        mask, dropped, size = usable_mask(annotation.segmentation)
        if mask and dropped:
            problems.add("polygon without three corners of finite numbers, the others are used", [annotation.called])
        if mask is None:
            problems.add("annotation without a usable segmentation, its box is used", [annotation.called])
            corners = np.clip([x, y, x + w, y, x + w, y + h, x, y + h], -LARGEST_NUMBER, LARGEST_NUMBER)
            mask = msgspec.json.encode([corners.tolist()])
        if size > 2 * MOST_CORNERS:
            problems.add(SIMPLIFIED, [annotation.called])
        masks.append(mask)
    return Strings.of(masks)


def read_mask(mask: bytes) -> Any:
    """Return polygons or run lengths of what `read_masks` made."""
    return msgspec.json.decode(mask)


def read_keypoints(file: Path, annotations: Sequence[Any], problems: Problems, named: int = 0) -> NDArray[np.float64]:
    """Return (N, K, 3) keypoints of each annotation, zeros where it has none.

    Where there are no annotations at all, K is how many keypoints are named, or COCO's.

    Raises:
        UserError: If no annotation has keypoints, numbers of keypoints differ, or their array would be far larger than
            the JSON.
    """
    if not annotations:
        return np.zeros((0, min(named, MOST_KEYPOINTS) or COCO_KEYPOINTS, 3))
    found = [_triples(annotation.keypoints) for annotation in annotations]
    numbers = Counter(len(points) for points in found if points is not None)
    if len(numbers) != 1:
        raise UserError(
            f"{file}: expected annotations with the same number of keypoints, found "
            + (f"{' and '.join(map(str, sorted(numbers)[:5]))} of them" if numbers else "none with keypoints")
        )
    number, having = next(iter(numbers.items()))
    if number > MOST_KEYPOINTS:
        raise UserError(f"{file}: its annotations have {number:,} keypoints, expected at most {MOST_KEYPOINTS:,}")
    if len(found) * number > max(16 * having * number, SPARE_KEYPOINTS):
        raise UserError(
            f"{file}: {having:,} of {len(found):,} annotations have keypoints, {number:,} each; "
            "remove annotations without keypoints"
        )
    missing = (a.called for a, points in zip(annotations, found, strict=True) if points is None)
    problems.add("annotation without usable keypoints, only its box is trained on", missing)
    none = np.zeros((number, 3))
    return np.stack([none if points is None else points for points in found])


def count_keypoints(
    annotations: Sequence[Any], keypoints: NDArray[np.float64], problems: Problems
) -> NDArray[np.int64]:
    """Return (N,) how many of the (N, K, 3) keypoints are labelled, by `num_keypoints`, else counted."""
    counts = (keypoints[..., 2] > 0).sum(1)
    for row, annotation in enumerate(annotations):
        given = annotation.num_keypoints
        if given is None or (type(given) is int and given == counts[row]):
            continue
        number = number_in(given)
        if number is None or not number.is_integer() or not 0 <= number < LARGEST_NUMBER:
            problems.add("num_keypoints that is not an int, counted instead", [annotation.called])
        elif number != counts[row]:
            problems.add(
                "num_keypoints that is not the number of labelled keypoints, used as given", [annotation.called]
            )
            counts[row] = int(number)
    return counts


def outline(mask: Any) -> NDArray[np.float64]:
    """Return one closed outline, (N, 2) pixels, of polygons or run lengths, of at most `MOST_CORNERS` corners.

    Ultralytics' labels have one polygon an object: parts are joined by lines as in its converter, holes are lost.
    """
    polygons = [np.asarray(part, dtype=np.float64).reshape(-1, 2) for part in mask] if isinstance(mask, list) else None
    parts = _simplified(_contours(mask) if polygons is None else polygons)
    if len(parts) <= 1:
        return parts[0] if parts else np.zeros((0, 2))
    return np.concatenate(merge_multi_segment([part.ravel().tolist() for part in parts]))


def flip_order(names: Sequence[str], number: int) -> list[int]:
    """Return the index that each of `number` keypoints gets in the mirrored image; empty where unknown.

    Pairs are found by "left" and "right" in the names; COCO's own 17 keypoints need no names.
    """
    if len(names) != number:
        return list(COCO_FLIP) if not names and number == COCO_KEYPOINTS else []
    swap = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
    mirrored = [next((n.replace(a, b) for a, b in swap.items() if a in n), n) for n in names]
    order = [names.index(other) if other in names else i for i, other in enumerate(mirrored)]
    return order if order != list(range(number)) else []


def _contours(mask: dict[str, Any]) -> list[NDArray[np.float64]]:
    """Return outer contours, stretched from pixel centres, as OpenCV has them, to the pixels' outer edges."""
    pixels, corner, step = pixels_of(mask)
    contours = []
    found = cv2.findContours(pixels, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    for contour in _longest(found, MOST_CORNERS):
        points = contour.reshape(-1, 2).astype(np.float64)
        low, extent = points.min(0), np.ptp(points, axis=0)
        if extent.all():
            points = low + (points - low) * (extent + 1) / extent
        else:  # a line of pixels
            points = low + np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) * (extent + 1)
        contours.append(corner + points * step)
    return contours


def _simplified(parts: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Return outlines of at most `MOST_CORNERS` corners in all: of the longest parts, evenly chosen corners."""
    if sum(map(len, parts)) <= MOST_CORNERS:
        return parts
    parts = _longest(parts, MOST_PARTS)
    share = (MOST_CORNERS - 4 * len(parts)) / sum(map(len, parts))
    numbers = [min(len(part), 4 + int(share * len(part))) for part in parts]
    return [part[np.arange(n) * len(part) // n] for part, n in zip(parts, numbers, strict=True)]


def _longest(parts: Sequence[NDArray[Any]], most: int) -> list[NDArray[Any]]:
    """Return the parts with most corners, in their order."""
    chosen = sorted(range(len(parts)), key=lambda i: -len(parts[i]))[:most]
    return [parts[i] for i in sorted(chosen)]


def usable_mask(text: msgspec.Raw) -> tuple[bytes | None, bool, int]:
    """Return a segmentation's usable polygons or run lengths, or None; whether polygons were dropped; how many numbers.

    One flat list of numbers is one polygon; numbers may be written as text.
    """
    try:
        polygons = POLYGONS.decode(text)
        if polygons and all(map(_is_polygon, polygons)):
            return bytes(text), False, sum(map(len, polygons))
    except (ValueError, RecursionError):
        pass
    try:
        mask = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return None, False, 0
    runs = number_of_runs(mask)
    if runs:
        return bytes(text), False, runs
    if not isinstance(mask, list):
        return None, False, 0
    given = mask if any(isinstance(part, list) for part in mask) else [mask]
    numbers = [[number_in(v) for v in part] for part in given if isinstance(part, list)]
    usable = [part for part in numbers if None not in part and _is_polygon(part)]
    return (msgspec.json.encode(usable) if usable else None), len(usable) < len(given), sum(map(len, usable))


def _is_polygon(points: list[Any]) -> bool:
    """Return whether these numbers are at least three corners of sensible size."""
    return len(points) >= 6 and len(points) % 2 == 0 and max(points) < LARGEST_NUMBER and min(points) > -LARGEST_NUMBER


def _triples(text: msgspec.Raw) -> NDArray[np.float64] | None:
    try:
        points = np.asarray(msgspec.json.decode(text), dtype=np.float64).reshape(-1, 3)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None
    return points if len(points) and (np.abs(points) < LARGEST_NUMBER).all() else None
