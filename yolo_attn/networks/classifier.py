"""The head of classifiers as most networks have it; Ultralytics' `Classify` has a convolution of 1,280 channels."""

from collections.abc import Sequence
from typing import Any

from torch import nn
from ultralytics.nn.modules import Classify

from yolo_attn.networks.options import check_ints, draw_weights


class FC(Classify):
    """Mean of the map, then linear layers: (B, C, H, W) to (B, classes).

    Logits in training, probabilities in inference, as Ultralytics' own head, whose `forward` runs.

    Args:
        channels: Of the input.
        classes: Of the output.
        hidden: Widths of linear layers before the last one, each with a ReLU and a dropout behind it, as VGG has them.
        pool: Side of the map that the mean leaves; its cells are the first linear layer's inputs.
        dropout: Share of inputs of the last linear layer, and behind each hidden one, that a training leaves out.
        std: Standard deviation of the initial weights, biases being 0; None for PyTorch's own initial values.

    Raises:
        ValueError: If a number is not an int above 0, the dropout is no share, or the deviation is below 0.
    """

    def __init__(
        self,
        channels: int,
        *,
        classes: int = 1000,
        hidden: Sequence[int] = (),
        pool: int = 1,
        dropout: float = 0.0,
        std: float | None = None,
    ) -> None:
        nn.Module.__init__(self)
        widths: Sequence[Any] = hidden if isinstance(hidden, (list, tuple)) else [hidden]
        for width in widths:
            check_ints(hidden=width)
        check_ints(pool=pool, classes=classes)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout!r}, expected a share of at least 0 and below 1")
        inputs: int = channels * pool**2
        steps: list[nn.Module] = []
        for width in widths:
            steps += [nn.Linear(inputs, width), nn.ReLU(inplace=True), nn.Dropout(dropout)]
            inputs = width
        self.conv, self.pool = nn.Identity(), nn.AdaptiveAvgPool2d(pool)
        self.drop = nn.Sequential(*steps) if steps else nn.Dropout(dropout)
        self.linear = nn.Linear(inputs, classes)
        draw_weights(self, std)

    @staticmethod
    def outputs(classes: int = 1000, **others: object) -> int:
        """Return the channels of the output."""
        return classes
