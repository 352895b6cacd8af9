"""What was measured, as Markdown tables and as a plot."""

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]

COLOURS = {
    "formula": "#BBBBBB",
    "ours": "#0072B2",
    "fused": "#56B4E9",
    "Triton": "#009E73",
    "compiled naive": "#E69F00",
    "compiled ours": "#D55E00",
    "compiled closed form": "#CC79A7",
}
"""The forms beside the naive one, as they stand in tables and plots."""


def tables(rows: Rows) -> str:
    """All sections as Markdown."""
    layers = [row for row in rows if row["section"] == "layers"]
    models = [row for row in rows if row["section"] != "layers"]
    return "\n".join([*(_layers(layers) if layers else ()), "", *(_models(models) if models else ())]).strip()


def _layers(rows: Rows) -> Iterable[str]:
    """A line for each case: time of the naive form, how many times as fast the others are, memory naive → ours."""
    forms = [form for form in COLOURS if any(row["form"] == form for row in rows)]
    cuda = any("host ms" in row for row in rows)
    more = ("host", "copy, GB/s", "share, ours", "share, Triton") if cuda else ()
    yield from _head("layer", "x", "layout", "dtype", "", "naive, ms", *forms, "floor", "saved", "peak", *more)
    for case in _cases(rows):
        first, ours = case["naive"], case.get("ours", {})
        shape = "×".join(map(str, first["shape"]))
        cells = [first["layer"], shape, first["layout"], first["dtype"], first["way"], f"{first['ms'][0]:.3g}"]
        for form in forms:
            median, low, high = case.get(form, {}).get("ratio", (None,) * 3)
            quartiles = f" ({low:.2f}–{high:.2f})" if form == "ours" and median else ""
            cells.append(f"{median:.2f}{quartiles}" if median else "")
        cells.append(f"{floor:.3g}" if (floor := _floor(case)) else "")
        for key in ("saved volumes", "peak volumes"):
            cells.append(f"{first[key]:.2f} → {ours[key]:.2f}" if key in ours else "")
        if cuda:
            cells.append(f"{first['host ms'][0] / ours['host ms'][0]:.2f}" if ours else "")
            cells.append(f"{case['copy']['GB/s'][0]:.0f}" if "copy" in case else "")
            shares = [case.get(form, {}).get("share of copy speed") for form in ("ours", "Triton")]
            cells += [f"{share:.2f}" if share else "" for share in shares]
        yield _line(cells)


def _models(rows: Rows) -> Iterable[str]:
    """A line for each model: its speed in every way, and by how much more time it takes than the plain one."""
    ways = list(dict.fromkeys((row["way"], row["scale"]) for row in rows))
    found = {(row["form"], row["way"], row["scale"]): row for row in rows}
    yield from _head("attention", *(f"YOLOv8{scale}, {way}" for way, scale in ways), "ONNX nodes")
    for form in dict.fromkeys(row["form"] for row in rows):
        cells, nodes = [form], ""
        for way in ways:
            row = found.get((form, *way), {})
            speed = f"{row['images/s'][0]:.3g} img/s" if "images/s" in row else f"{row['ms'][0]:.3g} ms" if row else ""
            cells.append(f"{speed}, {100 / row['ratio'][0] - 100:+.1f} %" if row and form != "none" else speed)
            nodes = str(row.get("nodes", nodes))
        yield _line([*cells, nodes])


def plot(rows: Rows, title: str, file: Path) -> None:
    """Draw how many times as fast as naive each form is, and the floor, for the scale and dtype that come first."""
    import matplotlib.pyplot as plt

    rows = [row for row in rows if row["section"] == "layers"]
    rows = [row for row in rows if (row["scale"], row["dtype"]) == (rows[0]["scale"], rows[0]["dtype"])]
    ways, layouts, layers = (list(dict.fromkeys(row[key] for row in rows)) for key in ("way", "layout", "layer"))
    places = sorted(
        {(row["layer"], row["level"]) for row in rows}, key=lambda place: (layers.index(place[0]), place[1])
    )
    size = {"figsize": (6.5 * len(layouts), 3.6 * len(ways)), "squeeze": False, "sharex": True, "sharey": "row"}
    figure, axes = plt.subplots(len(ways), len(layouts), layout="constrained", **size)
    for (way, layout), axis in zip(itertools.product(ways, layouts), axes.flat, strict=True):
        for case in _cases(row for row in rows if (row["way"], row["layout"]) == (way, layout)):
            at = places.index((case["naive"]["layer"], case["naive"]["level"]))
            forms = [form for form in COLOURS if form in case]
            width = 0.8 / len(forms)
            for i, form in enumerate(forms):
                median, low, high = case[form]["ratio"]
                place = at - 0.4 + (i + 0.5) * width
                axis.bar(place, median - 1, width, bottom=1, color=COLOURS[form], label=form)
                axis.plot([place, place], [low, high], color="black", linewidth=0.8)
            if floor := _floor(case):
                axis.hlines(floor, at - 0.45, at + 0.45, color="black", label="floor")
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set_yscale("log", base=2)
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_title(f"{way}, {layout}", fontsize=10)
        axis.set_xticks(range(len(places)), map("\n".join, places))
        axis.grid(axis="y", alpha=0.3)
    for axis in axes[:, 0]:
        axis.set_ylabel("times as fast as naive")
    shown = (zip(*axis.get_legend_handles_labels(), strict=True) for axis in axes.flat)
    labels = {name: handle for pairs in shown for handle, name in pairs}
    figure.legend(labels.values(), labels, loc="outside lower center", ncols=len(labels), fontsize=9)
    figure.suptitle(title, fontsize=10)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=90)


def _cases(rows: Iterable[dict[str, Any]]) -> Iterable[dict[str, dict[str, Any]]]:
    """The rows of each case, by their form."""
    cases: dict[Any, dict[str, dict[str, Any]]] = {}
    for row in rows:
        key = (*(row[name] for name in ("layer", "layout", "dtype", "way")), *row["shape"])
        cases.setdefault(key, {})[row["form"]] = row
    return cases.values()


def _floor(case: dict[str, dict[str, Any]]) -> float | None:
    """How many times as fast as naive the least is that a layer must do."""
    return next((row["ratio at the floor"] for row in case.values() if "ratio at the floor" in row), None)


def _head(*cells: str) -> list[str]:
    return [_line(cells), "|" + "---|" * len(cells)]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
