"""One picture through a model: its detections, and what its attention does."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from yolo_attn.engine.tasks import Task
from yolo_attn.engine.validator import plain_text
from yolo_attn.maps.view import GateView
from yolo_attn.plugin.gate_statistics import GateStatistics
from yolo_attn.plugin.gates import attention_layers, gain_of, label_of, watching


@dataclass(frozen=True)
class Look:
    """What is drawn of one picture.

    Attributes:
        detections: The picture with what was detected, as Ultralytics draws it, (H, W, 3), blue first.
        picture: Grey values in 0 … 1 of the model's input, (H, W).
        gates: Views of the gates by what their layers are called.
    """

    detections: NDArray[np.uint8]
    picture: NDArray[np.float32]
    gates: dict[str, GateView]


class Looker:
    """A model that looks at pictures, one at a time. Of those that are not drawn only statistics remain.

    Args:
        model: The model, which Ultralytics fuses for inference.
        task: Its task.
        settings: Ultralytics' settings.

    Attributes:
        found: Statistics of each gate over all pictures so far, by what its layer is called.
        gains: The gain of each layer, by the same.
    """

    def __init__(self, model: nn.Module, task: Task, settings: dict[str, Any]) -> None:
        self._predictor: Any = task.predictor(overrides=settings)
        self._predictor.setup_model(model, verbose=False)
        self._predictor.done_warmup = True  # on a GPU an empty picture would count
        self._model = self._predictor.model.model
        self._layers = attention_layers(self._model)
        self._labels = {name: label_of(self._model, name) for name in self._layers}
        self.found = {label: GateStatistics() for label in self._labels.values()}
        self.gains = {self._labels[name]: gain_of(layer) for name, layer in self._layers.items()}

    def measure(self, pixels: NDArray[np.uint8]) -> None:
        """Take a picture, (H, W, 3), blue first, into the statistics."""
        with watching(self._layers, lambda name, gate: self.found[self._labels[name]].add(gate)):
            self._predictor(pixels)

    def look(self, pixels: NDArray[np.uint8]) -> Look:
        """Take a picture, (H, W, 3), blue first, into the statistics, and reduce it to what is drawn."""
        inputs: list[Tensor] = []
        views: dict[str, GateView] = {}

        def see(name: str, gate: Tensor) -> None:
            label = self._labels[name]
            self.found[label].add(gate)
            views[label] = GateView.of(gate)

        hook = self._model.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
        try:
            with watching(self._layers, see), plain_text():
                (result,) = self._predictor(pixels)
        finally:
            hook.remove()
        return Look(result.plot(), inputs[0][0].float().mean(0).cpu().numpy(), views)
