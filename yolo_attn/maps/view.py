"""What is drawn of a gate over one picture."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yolo_attn.gates.statistics import DEAD

STRONGEST = 3
"""Channels that are drawn on their own."""

BARS = 60
"""Of the histogram."""

Range = tuple[float, float]


@dataclass(frozen=True)
class GateView:
    """A gate over one picture, reduced to what is drawn: a few maps, whatever the number of channels.

    NaN is where there is no gate, because the layer's input is 0.

    Attributes:
        mean: Mean over the channels, (H, W).
        channels: Mean over the positions, (C,).
        strongest: The channels with the largest means, descending.
        maps: Their gates, (N, H, W).
        counts: Histogram of all values, (BARS,).
        range: What the histogram spans.
    """

    mean: NDArray[np.float32]
    channels: NDArray[np.float32]
    strongest: list[int]
    maps: NDArray[np.float32]
    counts: NDArray[np.int64]
    range: Range

    @classmethod
    def of(cls, gate: Tensor) -> "GateView":
        """The view of a gate (1, C, H, W)."""
        gate = gate[0].detach().cpu().float()
        gate = gate.where(gate.isfinite(), torch.nan)
        channels = gate.flatten(1).nanmean(1)
        order = channels.nan_to_num(-torch.inf).argsort(descending=True, stable=True)
        strongest = order[:STRONGEST].tolist()
        values = gate[~gate.isnan()].numpy()
        low, high = widened(values)
        counts, _ = np.histogram(values, BARS, (low, high))
        return cls(gate.nanmean(0).numpy(), channels.numpy(), strongest, gate[strongest].numpy(), counts, (low, high))


def widened(values: NDArray[np.float32]) -> Range:
    """The range of values without NaN, but never less than what a dead gate may deviate: it would look alive."""
    values = values[~np.isnan(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    middle, reach = (low + high) / 2, DEAD * max(abs(low), abs(high)) or DEAD
    return min(low, middle - reach), max(high, middle + reach)
