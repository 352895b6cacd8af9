"""One image through a model, reduced to what is drawn: what the model finds, and its gates."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from ultralytics.engine.results import Results

from yolo_attn.engine.validation.validator import plain_text
from yolo_attn.gates.meter import Area, GateMeter
from yolo_attn.gates.statistics import DEAD

STRONGEST = 3
"""Channels that are drawn on their own."""

BARS = 60
"""Bars of the histogram."""


@dataclass(frozen=True)
class GateView:
    """A gate over one image, reduced to a few maps, however many channels it has.

    NaN is where there is no gate, because the layer's input is 0.

    Attributes:
        mean: Mean over the channels, (H, W).
        channels: Mean over the positions, (C,).
        strongest: The channels with the largest means, descending.
        maps: Their gates, (N, H, W).
        counts: Histogram of all values, (BARS,).
        range: Range of the histogram.
    """

    mean: NDArray[np.float32]
    channels: NDArray[np.float32]
    strongest: list[int]
    maps: NDArray[np.float32]
    counts: NDArray[np.int64]
    range: tuple[float, float]

    @classmethod
    def of(cls, gate: Tensor) -> "GateView":
        """Return the view of a gate (1, C, H, W)."""
        gate = gate[0].detach().cpu().float()
        gate = gate.where(gate.isfinite(), torch.nan)
        channels = gate.flatten(1).nanmean(1)
        order = channels.nan_to_num(-torch.inf).argsort(descending=True, stable=True)
        strongest = order[:STRONGEST].tolist()
        values = gate[~gate.isnan()].numpy()
        low, high = widened(values)
        counts, _ = np.histogram(values, BARS, (low, high))
        return cls(gate.nanmean(0).numpy(), channels.numpy(), strongest, gate[strongest].numpy(), counts, (low, high))


def widened(values: NDArray[np.float32]) -> tuple[float, float]:
    """Return the range of values without NaN, at least as wide as a dead gate's, which would look alive otherwise."""
    values = values[~np.isnan(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    middle, reach = (low + high) / 2, DEAD * max(abs(low), abs(high)) or DEAD
    return min(low, middle - reach), max(high, middle + reach)


ImageView = tuple[Results, dict[str, tuple[NDArray[np.float32], GateView]]]
"""What a model finds in an image; by layer, grey values in 0 … 1 under the gate, and the gate's view."""


class Viewer(GateMeter):
    """A model that views images, one at a time; of images that it only measures, statistics alone are kept."""

    def view(self, pixels: NDArray[np.uint8]) -> ImageView:
        """Add an image, (H, W, 3), BGR, to the statistics, and reduce it to what is drawn."""
        inputs: list[Tensor] = []
        gates: dict[str, tuple[NDArray[np.float32], GateView]] = {}

        def see(label: str, gate: Tensor, area: Area) -> None:
            grey = area.under(gate, inputs[0][0].float().mean(0))
            gates[label] = grey.cpu().numpy(), GateView.of(area.crop(gate))

        hook = self._model.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
        try:
            with plain_text():
                result = self.measure(pixels, see)
        finally:
            hook.remove()
        return result, gates
