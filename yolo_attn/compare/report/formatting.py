"""How a report writes numbers and names: the filters of its templates."""

import re
from collections.abc import Sequence

from yolo_attn.compare.analysis.seeds import MOST_SEEDS, Difference, Spread
from yolo_attn.compare.study_folder import Cost, Variant

NONE = "–"
"""Stands for a number that does not exist."""


def points(fraction: float | None, sign: bool = False) -> str:
    """Return a fraction of 1 on the scale of 0 to 100, with two decimals; with `sign` as a difference."""
    if fraction is None:
        return NONE
    text = f"{100 * fraction:+.2f}" if sign else f"{100 * fraction:.2f}"
    return text.replace("-", "−") if float(text) else "0.00"


def fixed(value: float | None, digits: int = 0) -> str:
    """Return a number that is not a score, with that many decimals."""
    return NONE if value is None else f"{value:,.{digits}f}"


def p(value: float | None) -> str:
    """Return a p-value with three decimals, or < 0.001."""
    return NONE if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def interval(difference: Difference | None) -> str:
    """Return a difference and, if known, half of its 95 % interval."""
    if difference is None:
        return NONE
    mean = points(difference.mean, sign=True)
    return mean if difference.half is None else f"{mean} ± {points(difference.half)}"


def spread(found: Spread | None, score: bool = True) -> str:
    """Return a mean and its standard deviation, of a score or of another number."""
    known = [each for each in (found.mean, found.deviation) if each is not None] if found else []
    return " ± ".join(map(points if score else fixed, known)) or NONE


def latency(cost: Cost) -> str:
    """Return a median latency and its quartiles, ms."""
    quartiles = [fixed(each, 2) for each in cost.latency_quartiles_ms or ()]
    return fixed(cost.latency_ms, 2) + (f" ({' – '.join(quartiles)})" if quartiles else "")


def seeds(needed: Sequence[int | None] | None) -> str:
    """Return how many seeds it takes to show the gain that is sought."""
    if needed is None:
        return NONE
    least, most = (f"more than {MOST_SEEDS}" if n is None else str(n) for n in needed)
    return least if least == most else f"{least} (at most {most})"


def counted(number: int, noun: str) -> str:
    """Return a number and its noun, in the plural unless it is 1."""
    return f"{number} {noun}{'s' * (number != 1)}"


def labels(variants: Sequence[Variant]) -> str:
    """Return the labels of variants as "A, B and C"."""
    *others, last = (variant.label for variant in variants)
    return f"{', '.join(others)} and {last}" if others else last


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a text, one line each."""
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def cell(value: object) -> str:
    """Return a value in one line, without Markdown's meaning."""
    return re.sub(r"([\\`*_\[\]<>|#~$])", r"\\\1", " ".join(str(value).split()))


FILTERS = (points, fixed, p, interval, spread, latency, seeds, counted, labels, paragraphs, cell)
