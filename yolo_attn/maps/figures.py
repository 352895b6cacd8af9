"""Figures: a gate over an image, and the gates of a whole model."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from yolo_attn.gates.statistics import DEAD, HIGH, LOW, GateStatistics
from yolo_attn.maps.views import GateView, widened

COLOURS = "viridis"
"""A colour map that colour-blind readers and grey prints show alike."""

ALIVE, DEAD_COLOUR, RIGHT = "#31688e", "#bbbbbb", "#35b779"
PARTS = {"channels": "#440154", "pictures": "#21918c", "positions": "#fde725"}
DPI = 100
MOST = 5
"""Classes of a prediction that are drawn."""

LONGEST = 960
"""Largest longer side of an image with detections, pixels."""

OPACITY = 0.55

LONGEST_NAME = 26
"""Characters of a class's name in a figure."""


def draw_gate(grey: NDArray[np.float32], view: GateView, title: str, file: Path) -> None:
    """Draw a layer's gate over an image.

    From left to right: the mean over the channels, over the grey values (H, W), 0 … 1, of what the model sees; the
    strongest channels; the mean of each channel; the histogram of all values.
    """
    figure = Figure(figsize=(13, 2.9), layout="constrained")
    figure.suptitle(title, x=0.005, ha="left", fontsize=11)
    axes: Any = figure.subplots(
        1, 3 + len(view.maps), gridspec_kw={"width_ratios": [1.25, *[1] * len(view.maps), 1, 1]}
    )
    height, width = grey.shape
    place = {"extent": (0, width, height, 0), "interpolation": "nearest"}
    axes[0].imshow(grey, cmap="gray", vmin=0, vmax=1, **place)
    _map(figure, axes[0], [axes[0]], view.mean, widened(view.mean), alpha=OPACITY, **place)
    axes[0].set_title("mean over channels", fontsize=9)
    limits = widened(view.maps)
    for axis, channel, values in zip(axes[1:], view.strongest, view.maps, strict=False):
        last = channel == view.strongest[-1]
        _map(figure, axis, [axis] if last else [], values, limits, **place)
        axis.set_title(f"channel {channel}", fontsize=9)
    bars, histogram = axes[-2:]
    bars.bar(np.arange(len(view.channels)), view.channels, width=1, color=ALIVE)
    bars.set_title("mean of each channel", fontsize=9)
    bars.ticklabel_format(axis="y", style="plain", useOffset=False)
    edges = np.linspace(*view.range, len(view.counts) + 1)
    histogram.bar(edges[:-1], view.counts / max(view.counts.sum(), 1), np.diff(edges), align="edge", color=ALIVE)
    histogram.set_title("share of all values", fontsize=9)
    for axis in (bars, histogram):
        axis.tick_params(labelsize=8)
    figure.savefig(file, dpi=DPI)


def draw_statistics(found: Mapping[str, GateStatistics], file: Path) -> None:
    """Draw how far each gate is from a constant, what it varies across, and its histogram."""
    gates, rows = list(found.values()), np.arange(len(found))
    figure = Figure(figsize=(13, 1.6 + 0.36 * len(found)), layout="constrained")
    axes: Any = figure.subplots(1, 3, sharey=True)
    deviations = [100 * gate.deviation if np.isfinite(gate.deviation) else np.nan for gate in gates]
    colours = [DEAD_COLOUR if gate.dead else ALIVE for gate in gates]
    axes[0].barh(rows, np.maximum(deviations, 1e-3), color=colours)
    axes[0].set_xscale("log")
    axes[0].set_xlim(1e-3, max(100.0, *(2 * d for d in deviations if d == d), 0.0))
    axes[0].axvline(100 * DEAD, color="black", linestyle="--", linewidth=1)
    axes[0].set_title(f"deviation from a constant, % (grey: dead, under {100 * DEAD:g} %)", fontsize=10)
    axes[0].set_yticks(rows, list(found))
    left = np.zeros(len(gates))
    for part, colour in PARTS.items():
        share = np.nan_to_num([100 * gate.shares[part] for gate in gates])
        axes[1].barh(rows, share, left=left, color=colour, edgecolor="black", linewidth=0.4, label=f"across {part}")
        left += share
    axes[1].set_xlim(0, 100)
    axes[1].set_title("its variation, %", fontsize=10)
    axes[1].legend(loc="upper center", bbox_to_anchor=(0.5, -0.3 / (0.36 * len(gates) + 0.5)), ncol=3, fontsize=8)
    counts = np.array([gate.counts.numpy() / max(gate.values, 1) for gate in gates])
    shown = axes[2].imshow(
        np.ma.masked_less_equal(counts, 0),
        extent=(LOW, HIGH, len(gates) - 0.5, -0.5),
        aspect="auto",
        interpolation="nearest",
        cmap=COLOURS,
        norm=LogNorm(1e-5, 1),
    )
    axes[2].set_xlim(LOW, HIGH if any(gate.high > HIGH / 2 for gate in gates) else HIGH / 2)
    figure.colorbar(shown, ax=axes[2]).ax.tick_params(labelsize=8)
    axes[2].set_title("histogram of the gate, share of its values", fontsize=10)
    for axis in axes:
        axis.tick_params(labelsize=8)
    axes[0].set_ylim(len(gates) - 0.5, -0.5)
    figure.savefig(file, dpi=DPI)


def draw_classes(found: Sequence[tuple[str, float]], actual: str | None, file: Path) -> None:
    """Draw the classes that a model finds most likely, with their probabilities, and mark the true one if known."""
    figure = Figure(figsize=(3.2, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for row, (name, probability) in enumerate(found):
        right = name == actual
        axes.barh(row, probability, height=0.3, color=RIGHT if right else ALIVE)
        shown = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
        weight = "bold" if right else "normal"
        text: dict[str, Any] = {"va": "bottom", "fontsize": 11, "fontweight": weight, "parse_math": False}
        axes.text(0, row - 0.2, shown, ha="left", **text)
        axes.text(1, row - 0.2, percentage(probability), ha="right", **text)
    axes.set_xlim(0, 1)
    axes.set_ylim(MOST - 0.5, -0.8)
    axes.set_axis_off()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about letters that Matplotlib's font lacks
        figure.savefig(file, dpi=DPI)


def percentage(probability: float) -> str:
    """Return a probability as per cent, with one decimal, in one piece."""
    return f"{100 * probability:.1f}\u00a0%"


def draw_over(grey: NDArray[np.float32], mean: NDArray[np.float32], file: Path) -> None:
    """Draw a gate's mean over its channels, (H, W), over the grey values, 0 … 1, of what the model sees."""
    low, high = widened(mean)
    colours = matplotlib.colormaps[COLOURS](np.nan_to_num((mean - low) / (high - low)))[..., :3]
    large = cv2.resize(colours, grey.shape[::-1], interpolation=cv2.INTER_NEAREST)
    mixed = OPACITY * large + (1 - OPACITY) * grey.clip(0, 1)[..., None]
    save_image((255 * mixed[..., ::-1]).round().astype(np.uint8), file)


def save_image(pixels: NDArray[np.uint8], file: Path) -> None:
    """Write pixels, (H, W, 3), BGR, as a PNG of at most LONGEST pixels a side."""
    height, width = pixels.shape[:2]
    scale = min(LONGEST / max(height, width), 1.0)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
    file.write_bytes(cv2.imencode(".png", small)[1].tobytes())


def _map(figure: Figure, axis: Any, bar_at: list[Any], values: Any, limits: tuple[float, float], **how: Any) -> None:
    shown = axis.imshow(values, cmap=COLOURS, vmin=limits[0], vmax=limits[1], **how)
    axis.set_axis_off()
    for place in bar_at:
        figure.colorbar(shown, ax=place, fraction=0.05).ax.tick_params(labelsize=8)
