"""Draw the charts of a report as SVG, with text as text.

Colours are those of Okabe and Ito, Color Universal Design, 2008, without yellow, which is invisible on white; every
model also has its own mark and line.
"""

import io
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from yolo_attn.compare.analysis.detections import ERRORS
from yolo_attn.compare.analysis.seeds import Difference
from yolo_attn.compare.analysis.verdicts import Contrast, Results
from yolo_attn.compare.study_folder import Cost, Variant
from yolo_attn.engine.validation.validator import plain_text

COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKS = ("o", "s", "^", "D", "v", "P", "X", "<", "*")
LINES = ("-", "--", "-.", ":", (0, (5, 1)))
"""Their numbers have no common divisor: combinations repeat after 315 models."""

SIZES = ("AP", "APs", "APm", "APl")

MOST_CLASSES = 24
"""Classes that fit into a chart; the table has all."""

LONGEST = 48
"""Characters of a name in a chart."""

Series = tuple[int, Variant, Sequence[tuple[float, float] | None]]
"""A model's number, which chooses its colour and mark, the model, and a value and its half interval for each row."""


@plain_text()
def draw_charts(results: Results) -> list[tuple[str, str]]:
    """Return caption and SVG of each chart that has something to show."""
    main, spread = results.scoring.label(results.main), "bars are standard deviation over seeds"
    counted = results.scoring.counted
    sizes = [name for name in SIZES if name in results.shown]
    classes = list(dict.fromkeys(name for each in results.contrasts for name in each.per_class))
    classes = sorted(changed_most(results, classes), key=lambda name: -results.images.counts.get(name, 0))
    errors: list[Series] = [
        (n, each.variant, [(each.errors[kind], 0.0) for kind in ERRORS])
        for n, each in enumerate(results.variants)
        if each.errors
    ]

    def latency(cost: Cost) -> Sequence[float]:
        return () if cost.latency_ms is None else (cost.latency_ms, *(cost.latency_quartiles_ms or ()))

    def parameters(cost: Cost) -> Sequence[float]:
        return () if cost.parameters is None else (cost.parameters / 1e6,)

    drawn = {
        f"{main} against latency: {spread} and quartiles": _costs(results, "latency, ms", latency),
        f"{main} against parameters: {spread}": _costs(results, "parameters, millions", parameters),
        **{
            f"Learning curves of {name}: mean over seeds, and a band from the lowest to the highest": _curves(
                results, name, score=column.startswith("metrics/")
            )
            for name, column in results.scoring.curves.items()
        },
        "Differences by object size, with 95 % t-intervals over seeds": (
            _differences(results, sizes, lambda each: each.metrics) if len(sizes) > 1 else None
        ),
        f"Differences by class, with 95 % t-intervals over seeds; of many classes those with the most {counted}": (
            _differences(results, classes[:MOST_CLASSES], lambda each: each.per_class)
        ),
        "Kinds of errors: AP50 that would be gained without them, mean over seeds": (
            _dots(list(ERRORS), errors, "AP50 gained without errors of this kind (0–100)")
        ),
    }
    return [(caption, svg) for caption, svg in drawn.items() if svg]


def changed_most(results: Results, classes: Iterable[str]) -> list[str]:
    """Return classes by their largest difference to the base, descending; those without one come last."""

    def change(name: str) -> float:
        found = (each.per_class.get(name) for each in results.to_base)
        return max((abs(each.mean) for each in found if each), default=-1.0)

    return sorted(classes, key=change, reverse=True)


def _costs(results: Results, axis: str, cost: Callable[[Cost], Sequence[float]]) -> str | None:
    """Draw the main metric against a cost, with the spread of both and the Pareto front.

    `cost` returns a model's cost and, if it has a spread, its lower and upper quartile; nothing if it is unknown.
    """
    found = [(n, each, cost(each.cost)) for n, each in enumerate(results.variants) if results.main in each.scores]
    points = [(n, each, values) for n, each, values in found if values]
    if not points:
        return None
    figure, axes = _figure(5.4, 4.0 + 0.2 * len(points))
    for n, each, (value, *quartiles) in points:
        score = each.scores[results.main]
        across = [[abs(value - end)] for end in quartiles] or None
        upright = None if score.deviation is None else 100 * score.deviation
        axes.errorbar(value, 100 * score.mean, upright, across, **_style(n, each.variant), linestyle="", capsize=3)
    front: list[tuple[float, float]] = []
    for value, below in sorted((values[0], -100 * each.scores[results.main].mean) for _, each, values in points):
        if not front or -below > front[-1][1]:
            front.append((value, -below))
    axes.plot(*zip(*front, strict=True), color="#999999", linestyle=":", drawstyle="steps-post", label="Pareto front")
    return _finish(figure, axes, axis, f"{results.scoring.label(results.main)} (0–100)")


def _curves(results: Results, name: str, score: bool) -> str | None:
    """Draw a learning curve of each model: mean over the seeds, and a band from the lowest to the highest."""
    known = [(n, each, each.curves[name]) for n, each in enumerate(results.variants) if name in each.curves]
    if not known:
        return None
    figure, axes = _figure(6.4, 4.0 + 0.2 * len(results.variants))
    for n, each, curve in known:
        epochs = sorted(curve)
        values = [[100 * v if score else v for v in curve[epoch]] for epoch in epochs]
        style = _style(n, each.variant) | {"linestyle": LINES[n % len(LINES)], "markevery": max(1, len(epochs) // 8)}
        axes.plot(epochs, [sum(v) / len(v) for v in values], **style)
        axes.fill_between(epochs, list(map(min, values)), list(map(max, values)), color=style["color"], alpha=0.15)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return _finish(figure, axes, "epoch", f"{name} (0–100)" if score else name)


def _differences(
    results: Results, rows: Sequence[str], of: Callable[[Contrast], Mapping[str, Difference]]
) -> str | None:
    """Draw differences to the base."""
    series: list[Series] = []
    for n, each in enumerate(results.to_base, 1):
        found = map(of(each).get, rows)
        series.append((n, each.variant, [(d.mean, d.half or 0.0) if d else None for d in found]))
    axis = f"difference of {results.scoring.label(results.main)} to the base (0–100)"
    return _dots([shortened(row) for row in rows], series, axis, centred=True)


def _dots(rows: Sequence[str], series: Sequence[Series], axis: str, centred: bool = False) -> str | None:
    """Draw a row for each name, with a mark and an interval for each model."""
    if not rows or not any(any(values) for *_, values in series):
        return None
    apart = 0.8 / len(series)
    figure, axes = _figure(6.4, 1.4 + 0.2 * len(series) + len(rows) * max(0.3, 0.16 * len(series)))
    for place, (n, each, values) in enumerate(series):
        known = [(y - 0.4 + (place + 0.5) * apart, *value) for y, value in enumerate(values) if value]
        if known:
            y, value, half = ([100 * v for v in column] for column in zip(*known, strict=True))
            axes.errorbar(value, [v / 100 for v in y], xerr=half, **_style(n, each), linestyle="", capsize=3)
    if centred:
        axes.axvline(0, color="#999999", linewidth=1)
    for between in range(len(rows) - 1):
        axes.axhline(between + 0.5, color="#dddddd", linewidth=0.6)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    return _finish(figure, axes, axis, "")


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.ticklabel_format(style="plain", useOffset=False)  # else nearly equal numbers read "0.0002 + 3.157"
    axes.locator_params(axis="x", nbins=5)
    return figure, axes


def _style(n: int, variant: Variant) -> dict[str, Any]:
    mark = {"color": COLOURS[n % len(COLOURS)], "marker": MARKS[n % len(MARKS)], "markersize": 6}
    return {**mark, "label": shortened(variant.label)}


def _finish(figure: Figure, axes: Axes, across: str, upright: str) -> str:
    axes.set_xlabel(across)
    axes.set_ylabel(upright)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, borderaxespad=0)
    return as_svg(figure)


def as_svg(figure: Figure, tight: bool = False) -> str:
    """Return a figure as the SVG element of a page, of its own size or cut to what is drawn."""
    stream = io.StringIO()
    settings = {"svg.fonttype": "none", "svg.hashsalt": "yolo_attn"}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about letters that Matplotlib's font lacks
        figure.savefig(stream, format="svg", metadata={"Date": None}, bbox_inches="tight" if tight else None)
    svg = stream.getvalue()
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg[svg.index("<svg") :])  # ids that several charts of a page would share
    return re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)


def shortened(text: str, most: int = LONGEST) -> str:
    """Return a name as a chart shows it, of at most so many characters."""
    shown = "".join(c if c.isprintable() else "�" for c in text)
    return shown if len(shown) <= most else shown[: most - 1] + "…"
