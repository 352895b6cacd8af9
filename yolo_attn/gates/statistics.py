"""Statistics of a gate over any number of images, from running sums: a few numbers a channel and a histogram.

With m the mean of all values, m_c that of channel c over all images and m_bc that of channel c in image b, the mean
square of g − m is the sum of three parts, each an average over all values:

    channels   (m_c − m)²       the same for every image: convolutions alone could do that
    pictures   (m_bc − m_c)²    how a channel as a whole answers to the image
    positions  (g − m_bc)²      how the places in a map differ

The deviation from a constant is √(mean square of g − m) / |m|.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

DEAD = 0.01
"""Deviation below which a gate is called dead: a constant factor would do as well."""

CONSTANT = 1e-6
"""Deviation up to which a gate is a constant, as far as float32 can tell."""

LOW, HIGH, BINS = 0.0, 2.0, 200
"""Of the histogram; what lies outside counts in its first and last bin."""

MOST_TOLD = 6
"""Layers that a line tells of one by one."""


class GateStatistics:
    """Running statistics of one gate, in float64.

    Attributes:
        pictures: How many were seen.
        undefined: Values that were skipped: NaN, as where the layer's input is 0, and infinite ones.
        low: Smallest value, ∞ before the first.
        high: Largest value, −∞ before the first.
        counts: Histogram, (BINS,).
    """

    def __init__(self) -> None:
        self.pictures = self.undefined = 0
        self.low, self.high = math.inf, -math.inf
        self.counts = torch.zeros(BINS, dtype=torch.float64)
        self._number = self._mean = self._between = torch.zeros(0, dtype=torch.float64)
        self._within = 0.0

    def add(self, gate: Tensor) -> None:
        """Take in the gate of some images, (B, C, H, W); the number of channels is always the same."""
        planes = gate.detach().cpu().flatten(2).double()
        defined = planes.isfinite()
        number = defined.sum(2).double()
        mean = planes.where(defined, 0.0).sum(2) / number.clamp(min=1)
        self._within += float((planes - mean[..., None]).where(defined, 0.0).square().sum())
        for n, m in zip(number, mean, strict=True):
            self._merge(n, m)
        self.pictures += len(planes)
        values = planes[defined]
        self.undefined += planes.numel() - len(values)
        if len(values):
            self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
            self.counts += torch.histc(values.clamp(LOW, HIGH), BINS, LOW, HIGH)

    def _merge(self, number: Tensor, mean: Tensor) -> None:
        """Take in an image's number of values and mean of each channel."""
        if not len(self._number):
            self._number, self._mean, self._between = (torch.zeros_like(mean) for _ in range(3))
        total = self._number + number
        share = number / total.clamp(min=1)
        step = mean - self._mean
        self._between = self._between + step.square() * self._number * share
        self._mean = self._mean + step * share
        self._number = total

    @property
    def values(self) -> int:
        """How many values there were."""
        return int(self._number.sum())

    @property
    def mean(self) -> float:
        """Of all values; NaN without any."""
        return float((self._number * self._mean).sum()) / self.values if self.values else math.nan

    @property
    def parts(self) -> dict[str, float]:
        """The mean squares that add up to the variance, by what they are across."""
        if not self.values:
            return {"channels": math.nan, "pictures": math.nan, "positions": math.nan}
        channels = float((self._number * (self._mean - self.mean).square()).sum())
        sums = {"channels": channels, "pictures": float(self._between.sum()), "positions": self._within}
        return {name: value / self.values for name, value in sums.items()}

    @property
    def std(self) -> float:
        """Standard deviation of all values."""
        return math.sqrt(sum(self.parts.values()))

    @property
    def shares(self) -> dict[str, float]:
        """The parts as shares of the variance; NaN for a constant, whose variance is rounding."""
        variance = math.nan if self.std <= CONSTANT * abs(self.mean) else self.std**2
        return {name: value / variance for name, value in self.parts.items()}

    @property
    def deviation(self) -> float:
        """Standard deviation over |mean|: 0 for a constant, ∞ around 0."""
        return self.std / abs(self.mean) if self.mean else math.inf

    @property
    def dead(self) -> bool:
        """Whether the gate is nearly a constant."""
        return self.deviation < DEAD

    def as_json(self) -> dict[str, Any]:
        """All of it; null for what has no finite value."""
        numbers = {
            "mean": self.mean,
            "std": self.std,
            "min": self.low,
            "max": self.high,
            "deviation": self.deviation,
        }
        return {
            "pictures": self.pictures,
            "values": self.values,
            "undefined": self.undefined,
            **{name: value if math.isfinite(value) else None for name, value in numbers.items()},
            "dead": self.dead,
            "shares": {name: value if math.isfinite(value) else None for name, value in self.shares.items()},
            "histogram": {"from": LOW, "to": HIGH, "counts": self.counts.long().tolist()},
        }


def gates_line(found: Mapping[str, GateStatistics]) -> str:
    """What gates are like, by what their layers are called, in a line; one by one where they are few."""
    if len(found) <= MOST_TOLD:
        return "; ".join(f"{label} {_told(gate)}" for label, gate in found.items())
    known = {label: gate for label, gate in found.items() if gate.values}
    line = f"{len(found)} layers"
    if known:
        deviations = [gate.deviation for gate in known.values()]
        line += f", gate {_range(min(g.low for g in known.values()), max(g.high for g in known.values()))}"
        line += f", deviation {percent(min(deviations))} to {percent(max(deviations))}"
    line += _listed("dead", [label for label, gate in known.items() if gate.dead])
    return line + _listed("without a finite gate", [label for label in found if label not in known])


def _listed(what: str, labels: list[str]) -> str:
    more = f" and {len(labels) - MOST_TOLD} more" if len(labels) > MOST_TOLD else ""
    return f"; {what}: {', '.join(labels[:MOST_TOLD])}{more}" if labels else ""


def _told(gate: GateStatistics) -> str:
    if not gate.values:
        return "without a finite gate"
    if gate.dead:
        return f"dead, gate {gate.mean:.2f} (deviation {percent(gate.deviation)})"
    return f"gate {_range(gate.low, gate.high)}, deviation {percent(gate.deviation)}"


def _range(low: float, high: float) -> str:
    return f"{low:.2f}–{high:.2f}" if low >= 0 else f"{low:.2f} to {high:.2f}"


def percent(share: float) -> str:
    """A share as a percentage of two digits, or three."""
    if not math.isfinite(share) or share >= 0.0995:
        return f"{100 * share:.0f} %"
    return f"{100 * share:.2g} %" if share >= CONSTANT else "0 %"
