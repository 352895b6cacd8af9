"""A model's gates on images as they are predicted, without their margins."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from ultralytics.engine.predictor import BasePredictor

from yolo_attn.gates.statistics import GateStatistics
from yolo_attn.gates.watch import attention_layers, gain_of, label_of, watching

PREDICT = {"mode": "predict", "rect": True, "batch": 1, "save": False, "verbose": False}
"""Ultralytics' settings of its own `predict`, which writes nothing by itself."""


@dataclass(frozen=True)
class Area:
    """Where an image lies in the input of a model, pixels; the rest of the input is margin.

    Attributes:
        size: Height and width of the input.
        rows: The image's first row, and the one behind its last.
        columns: The same of its columns.
    """

    size: tuple[int, int]
    rows: tuple[int, int]
    columns: tuple[int, int]

    @classmethod
    def of(cls, white: Tensor) -> "Area":
        """The area of a white image in the input (1, C, H, W) that became of it; margins are grey, or black."""
        lit = white[0].amin(0) > 0.5
        rows, columns = (lit.any(dim).nonzero().flatten().tolist() for dim in (1, 0))
        return cls((lit.shape[0], lit.shape[1]), (rows[0], rows[-1] + 1), (columns[0], columns[-1] + 1))

    def crop(self, gate: Tensor) -> Tensor:
        """The cells of a gate, (…, H, W), whose centres lie on the image; at least one each way."""
        rows, columns = self._cells(gate)
        return gate[..., slice(*rows), slice(*columns)]

    def under(self, gate: Tensor, image: Tensor) -> Tensor:
        """What lies under the cells that `crop` leaves of a gate, of an image (…, H, W) of the input's size."""
        (top, bottom), (left, right) = (
            [round(edge * pixels / number) for edge in edges]
            for edges, pixels, number in zip(self._cells(gate), self.size, gate.shape[-2:], strict=True)
        )
        return image[..., top:bottom, left:right]

    def _cells(self, gate: Tensor) -> list[tuple[int, int]]:
        """First row and the one behind the last, and columns, of a map's cells on the image."""
        found = []
        for edges, pixels, number in zip((self.rows, self.columns), self.size, gate.shape[-2:], strict=True):
            first, end = (math.ceil(edge * number / pixels - 0.5) for edge in edges)
            found.append((first, max(end, first + 1)))
        return found


class GateMeter:
    """Measures a model's gates on images, one at a time, each as Ultralytics' predict takes it, without margins.

    Args:
        model: The model, which Ultralytics fuses for inference, or its checkpoint.
        predictor: Ultralytics' predictor of its task.
        settings: Ultralytics' settings.

    Attributes:
        found: Statistics of each gate over all images so far, by what its layer is called.
        gains: The gain of each layer, by the same.
    """

    def __init__(self, model: nn.Module | str, predictor: type[BasePredictor], settings: dict[str, Any]) -> None:
        self._predictor: Any = predictor(overrides={**settings, **PREDICT})
        self._predictor.setup_model(model, verbose=False)
        self._predictor.done_warmup = True  # on a GPU an empty image would count
        self._model = self._predictor.model.model
        self._layers = attention_layers(self._model)
        self._labels = {name: label_of(self._model, name) for name in self._layers}
        self._area = functools.cache(self._find_area)
        self.found = {label: GateStatistics() for label in self._labels.values()}
        self.gains = {self._labels[name]: gain_of(layer) for name, layer in self._layers.items()}

    @property
    def size(self) -> int:
        """The size in pixels that the last image got, a multiple of the model's stride."""
        return int(max(self._predictor.imgsz))

    def measure(self, pixels: NDArray[np.uint8], see: Callable[[str, Tensor, Area], None] | None = None) -> Any:
        """Take an image, (H, W, C), blue first, into the statistics.

        Args:
            pixels: The image.
            see: Takes what a layer is called, its gate, (1, C, H, W), and where the image lies in the model's input.

        Returns:
            Ultralytics' result.
        """

        def take(name: str, gate: Tensor) -> None:
            label, area = self._labels[name], self._area(pixels.shape)
            self.found[label].add(area.crop(gate))
            if see:
                see(label, gate, area)

        with watching(self._layers, take):
            (result,) = self._predictor(pixels)
        return result

    def _find_area(self, shape: tuple[int, ...]) -> Area:
        """Where images of a shape come to lie in the task's input."""
        return Area.of(self._predictor.preprocess([np.full(shape, 255, np.uint8)]))


def spread(count: int, most: int) -> list[int]:
    """Up to `most` of the numbers below `count`, evenly spread, ascending."""
    taken = min(count, most)
    return [n * count // taken for n in range(taken)]
