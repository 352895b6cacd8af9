"""Which classes the classifiers of a comparison take for which: a matrix of each model, and the pairs that matter."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from yolo_attn.compare.analysis.verdicts import Results
from yolo_attn.compare.report.charts import as_svg, shortened
from yolo_attn.engine.validation.validator import plain_text

COLOURS = "Blues"
"""From white to dark, which colour-blind readers and grey prints show alike."""

EXPONENT = 0.5
"""Of the colour scale, with which a few per cent differ from none."""

FEW = 24
"""Classes up to which cells have numbers, and two matrices fit side by side."""

NAMED = 120
"""Classes up to which the axes name each."""

LONGEST = 24
"""Characters of a class's name on an axis."""

PAIRS = 20
"""Pairs of classes in the table."""


class Pair(NamedTuple):
    """Images of one class that models took for another: by model, their mean number over seeds; None if unknown."""

    actual: str
    predicted: str
    means: Sequence[float | None]


class Confusions(NamedTuple):
    """What a report shows of which classes are taken for which.

    Attributes:
        matrices: Label and SVG of each model.
        wide: Whether a matrix takes the width of a page.
        pairs: The pairs that any model confuses most, the most frequent first.
    """

    matrices: Sequence[tuple[str, str]]
    wide: bool
    pairs: Sequence[Pair]


@plain_text()
def draw_confusions(results: Results) -> Confusions:
    """Draw the confusion matrices of classifiers, and list the most frequent pairs; nothing of other models."""
    found = [each.confusion for each in results.variants]
    classes = next((each.classes for each in found if each), ())
    counts = [each.counts if each and each.classes == classes else None for each in found]
    known = [(each.variant.label, of) for each, of in zip(results.variants, counts, strict=True) if of is not None]
    return Confusions([(label, _draw(classes, of)) for label, of in known], len(classes) > FEW, _pairs(classes, counts))


def _pairs(classes: Sequence[str], counts: Sequence[NDArray[np.float64] | None]) -> list[Pair]:
    if not classes:
        return []
    wrong = np.max([each for each in counts if each is not None], axis=0)
    np.fill_diagonal(wrong, 0)
    cells = [divmod(int(cell), len(classes)) for cell in np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]]
    return [
        Pair(classes[row], classes[column], [None if each is None else float(each[row, column]) for each in counts])
        for row, column in cells
        if wrong[row, column]
    ]


def _draw(classes: Sequence[str], counts: NDArray[np.float64]) -> str:
    """Draw the share of each class's images, a row, that are taken for each class; a class without images is empty."""
    images = counts.sum(1, keepdims=True)
    shares = np.divide(counts, images, where=images > 0, out=np.full(counts.shape, np.nan))
    number = len(classes)
    side = 3.9 if number <= FEW else 9.6
    figure = Figure(figsize=(side + 2.2, side + 1.2), layout="constrained")
    axes = figure.add_subplot()
    scale = PowerNorm(EXPONENT, 0, 1)
    shown = axes.imshow(shares, cmap=COLOURS, norm=scale, interpolation="none")
    ticks = [0, 0.05, 0.2, 0.5, 1]
    bar = figure.colorbar(shown, ax=axes, shrink=0.6, fraction=0.04, pad=0.02, ticks=ticks, format=PercentFormatter(1))
    bar.ax.tick_params(labelsize=8)
    if number <= NAMED:
        size = min(9.0, 0.8 * 72 * side / number)
        names = [shortened(name, LONGEST) for name in classes]
        axes.set_xticks(range(number), names, rotation=90, fontsize=size)
        axes.set_yticks(range(number), names, fontsize=size)
    if number <= FEW:
        for row, column in zip(*np.nonzero(np.nan_to_num(shares) >= 0.005), strict=True):
            ink = "white" if scale(shares[row, column]) > 0.6 else "black"
            text = f"{100 * shares[row, column]:.0f}"
            axes.text(
                column, row, text, ha="center", va="center", color=ink, fontsize=min(8.0, 0.42 * 72 * side / number)
            )
    axes.set_anchor("N")
    axes.tick_params(length=0 if number <= NAMED else 3)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    return as_svg(figure, tight=True)  # the layout leaves other margins than the square needs
