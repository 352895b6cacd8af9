"""What a COCO JSON's values stand for, whatever they are written as."""

import math
import sys
from typing import Any

LARGEST_ID = 2**53
"""Beyond it, ids are not exact in the evaluator's arrays; below 0, it takes none."""

LARGEST_SIDE = 2**20
"""Pixels of an image's side; more are taken for a mistake."""


def id_in(value: Any) -> Any:
    """An id that names a thing as Python's dictionaries, and so COCO's own tools, compare it; None for what is none."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, (int, str)) and not isinstance(value, bool) else None


def is_crowd(value: Any) -> bool:
    """Whether an `iscrowd` says yes: a number other than 0, written as one or as text, or true."""
    return value is True or (value != 0 and bool(number_in(value)))


def number_in(value: Any) -> float | None:
    """A finite number, written as one or as text; None for anything else."""
    number = _float(value)
    return number if math.isfinite(number) else None


def area_in(value: Any) -> float | None:
    """A number, written as one or as text, an infinite one as the largest finite one; None for anything else."""
    number = _float(value)
    return None if math.isnan(number) else max(-sys.float_info.max, min(number, sys.float_info.max))


def _float(value: Any) -> float:
    """A number, written as one or as text; NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return math.nan
    try:
        return float(value)
    except ValueError:
        return math.nan
    except OverflowError:
        return math.inf if int(value) > 0 else -math.inf


def name_in(value: Any) -> str:
    """A name, a number as its digits; empty for anything else."""
    return str(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else ""


def is_plain_box(value: Any) -> bool:
    """Whether it is what nearly every box is, four floats of a sensible size."""
    return type(value) is list and len(value) == 4 and all(type(v) is float and -1e9 < v < 1e9 for v in value)


def box_in(value: Any) -> list[float] | None:
    """Four finite numbers; None for anything else."""
    numbers = [number_in(v) for v in value] if isinstance(value, list) and len(value) == 4 else [None]
    return None if None in numbers else [n for n in numbers if n is not None]
