"""One picture through a model: its detections, and what its attention does."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from yolo_attn.engine.validation.validator import plain_text
from yolo_attn.gates.meter import Area, GateMeter
from yolo_attn.maps.view import GateView


@dataclass(frozen=True)
class Look:
    """What is drawn of one picture.

    Attributes:
        detections: The picture with what was detected, as Ultralytics draws it, (H, W, 3), blue first.
        gates: By what their layers are called, grey values in 0 … 1 of what lies under a gate, (H, W), and its view.
    """

    detections: NDArray[np.uint8]
    gates: dict[str, tuple[NDArray[np.float32], GateView]]


class Looker(GateMeter):
    """A model that looks at pictures, one at a time. Of those that are not drawn only statistics remain."""

    def look(self, pixels: NDArray[np.uint8]) -> Look:
        """Take a picture, (H, W, 3), blue first, into the statistics, and reduce it to what is drawn."""
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
        return Look(result.plot(), gates)
