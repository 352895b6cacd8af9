"""Values of a COCO JSON, also where a tool wrote them as another type."""

import math
import sys
from typing import Any

LARGEST_ID = 2**53
"""Above it, ids are not exact in the evaluator's arrays; below 0, it accepts none."""

LARGEST_SIDE = 2**20
"""Pixels of an image's side; a larger one is taken for a mistake."""


def id_in(value: Any) -> Any:
    """Return an id as Python's dictionaries, and so COCO's own tools, compare it; None for what is not an id."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, (int, str)) and not isinstance(value, bool) else None


def is_crowd(value: Any) -> bool:
    """Return whether an `iscrowd` says yes: true, or a number other than 0, also as text."""
    return value is True or (value != 0 and bool(number_in(value)))


def number_in(value: Any) -> float | None:
    """Return a finite number, also one written as text; None for anything else."""
    number = _float(value)
    return number if math.isfinite(number) else None


def area_in(value: Any) -> float | None:
    """Return a number, also one written as text, clipped to the finite ones; None for anything else."""
    number = _float(value)
    return None if math.isnan(number) else max(-sys.float_info.max, min(number, sys.float_info.max))


def _float(value: Any) -> float:
    """Return a number, also one written as text; NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return math.nan
    try:
        return float(value)
    except ValueError:
        return math.nan
    except OverflowError:
        return math.inf if int(value) > 0 else -math.inf


def name_in(value: Any) -> str:
    """Return a name, a number as its digits; empty for anything else."""
    return str(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else ""


def is_plain_box(value: Any) -> bool:
    """Return whether a value is what nearly every box is: four floats of a sensible size."""
    return type(value) is list and len(value) == 4 and all(type(v) is float and -1e9 < v < 1e9 for v in value)


def box_in(value: Any) -> list[float] | None:
    """Return four finite numbers; None for anything else."""
    numbers = finite_numbers(value)
    return numbers if len(numbers) == 4 else None


def finite_numbers(value: Any) -> list[float]:
    """Return a list's four or five finite numbers; an empty list for anything else."""
    numbers = [number_in(v) for v in value] if isinstance(value, list) and len(value) in (4, 5) else [None]
    return [] if None in numbers else [n for n in numbers if n is not None]
