"""COCO's run lengths of masks, decoded no further than needed."""

import math
from typing import Any

import hotcoco
import numpy as np
from numpy.typing import NDArray

LARGEST_MASK = 2**30
"""Pixels of a mask; more are taken for a mistake. Images of more are not read either."""

LARGEST_CROP = 2**22
"""Pixels decoded for an outline; of larger masks every second or third row and column, and so on."""

LONGEST_COUNT = 6
"""Groups of five bits of a run length after the first; masks have fewer than 2**31 pixels."""


def decode_mask(run_lengths: dict[str, Any]) -> NDArray[np.uint8]:
    """Return a mask, (height, width) zeros and ones, of COCO's run lengths, compressed or not."""
    if isinstance(run_lengths["counts"], list):
        run_lengths = hotcoco.mask.fr_py_objects(run_lengths, *run_lengths["size"])
    return hotcoco.mask.decode(run_lengths)


def counts_of(run_lengths: dict[str, Any]) -> NDArray[np.int64]:
    """Return how many pixels, column by column, are zeros, then ones, then zeros, and so on; negative counts are wrong.

    Compressed counts are differences from the last but one in groups of five bits, lowest first; a sixth bit says that
    another group follows, and the highest of all bits is the sign: pycocotools' `rleToString`.

    Raises:
        ValueError: If compressed counts are cut off or too long.
    """
    counts = run_lengths["counts"]
    if isinstance(counts, list):
        return np.array(counts, dtype=np.int64)
    groups = np.frombuffer(counts.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    last = groups & 32 == 0
    if not len(groups) or not last[-1] or groups.min() < 0 or groups.max() > 63:
        raise ValueError("not compressed run lengths")
    ends = np.flatnonzero(last)
    starts = np.r_[0, ends[:-1] + 1]
    place = np.arange(len(groups)) - np.repeat(starts, ends - starts + 1)
    if place.max() > LONGEST_COUNT:
        raise ValueError("run length too long for a mask")
    values = np.add.reduceat((groups & 31) << 5 * place, starts)
    values -= np.where(groups[ends] & 16, 1 << 5 * (place[ends] + 1), 0)
    values[1::2] = values[1::2].cumsum()
    values[2::2] = values[2::2].cumsum()
    return values


def pixels_of(mask: dict[str, Any]) -> tuple[NDArray[np.uint8], NDArray[np.int64], int]:
    """Return zeros and ones of run lengths, the (x, y) pixel where they begin, and the pixels a side of each.

    Of a large mask only the part with ones is decoded; where that is large too, only every second row and column, etc.
    """
    height, width = mask["size"]
    if height * width <= LARGEST_CROP:
        return decode_mask(mask), np.zeros(2, dtype=np.int64), 1
    edges = counts_of(mask).cumsum()
    starts, ends = edges[: len(edges) // 2 * 2 : 2], edges[1::2]
    starts, ends = starts[ends > starts], ends[ends > starts]
    if not len(starts):
        return np.zeros((1, 1), dtype=np.uint8), np.zeros(2, dtype=np.int64), 1
    left, right = starts[0] // height, (ends[-1] - 1) // height
    top, bottom = 0, height - 1
    if (starts // height == (ends - 1) // height).all():
        top, bottom = (starts % height).min(), ((ends - 1) % height).max()
    step = math.ceil(math.sqrt((right - left + 1) * (bottom - top + 1) / LARGEST_CROP))
    columns, rows = np.arange(left, right + 1, step), np.arange(top, bottom + 1, step)
    places = (columns[:, None] * height + rows).ravel()
    ones = np.searchsorted(edges, places, side="right") % 2
    pixels = np.ascontiguousarray(ones.astype(np.uint8).reshape(len(columns), len(rows)).T)
    return pixels, np.array([left, top]), step


def number_of_runs(mask: Any) -> int:
    """Return how many run lengths a segmentation has; 0 if it has no usable ones."""
    if not isinstance(mask, dict) or not _are_counts(mask.get("size")) or len(mask["size"]) != 2:
        return 0
    counts, pixels = mask.get("counts"), math.prod(mask["size"])
    if not counts or not 0 < pixels <= LARGEST_MASK:
        return 0
    if not isinstance(counts, str):
        return len(counts) if _are_counts(counts) and sum(counts) == pixels else 0
    try:
        numbers = counts_of(mask)
    except ValueError:
        return 0
    return len(numbers) if (numbers >= 0).all() and numbers.sum() <= pixels else 0


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and v >= 0 for v in values)
