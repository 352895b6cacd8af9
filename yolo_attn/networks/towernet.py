"""Blocks of TowerNet, the small classifier of public SimAM tutorials.

Inception is GoogLeNet's block (Szegedy et al., "Going Deeper with Convolutions", arXiv 1409.4842, figure 2b), with a
ReLU behind every convolution, biases, and no batch norm inside.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from yolo_attn.networks.options import check_ints, draw_weights


class ConvBNReLU(nn.Sequential):
    """A 3×3 convolution without bias, a batch norm and a ReLU: (B, C, H, W) to (B, width, H / stride, W / stride).

    Args:
        channels: Of the input.
        width: Of the output.
        stride: Of the convolution.
        eps: Of the batch norm.
        std: Standard deviation of the convolution's initial weights; None for PyTorch's own.

    Raises:
        ValueError: If a number is not above 0, or the deviation is below 0.
    """

    def __init__(
        self, channels: int, *, width: int = 64, stride: int = 1, eps: float = 1e-3, std: float | None = None
    ) -> None:
        check_ints(width=width, stride=stride)
        conv = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        super().__init__(conv, nn.BatchNorm2d(width, eps=eps), nn.ReLU(inplace=True))
        draw_weights(self, std)

    @staticmethod
    def outputs(width: int = 64, **others: object) -> int:
        """Return the channels of the output."""
        return width


class Inception(nn.Module):
    """Four branches on one map, concatenated: (B, C, H, W) to (B, one + three[1] + five[1] + pool, H, W).

    Args:
        channels: Of the input.
        one: Channels of the 1×1 convolution.
        three: Channels of a 1×1, and of the 3×3 convolution behind it.
        five: Channels of a 1×1, and of the 5×5 convolution behind it.
        pool: Channels of the 1×1 convolution behind a max pool of 3×3 and stride 1.

    Raises:
        ValueError: If a number is not an int above 0, or not two are given where two are expected.
    """

    def __init__(
        self,
        channels: int,
        *,
        one: int = 64,
        three: Sequence[int] = (64, 128),
        five: Sequence[int] = (16, 32),
        pool: int = 32,
    ) -> None:
        super().__init__()
        self.outputs(one, three, five, pool)
        self.one = nn.Sequential(*_convolution(channels, one, 1))
        self.three = nn.Sequential(*_convolution(channels, three[0], 1), *_convolution(three[0], three[1], 3))
        self.five = nn.Sequential(*_convolution(channels, five[0], 1), *_convolution(five[0], five[1], 5))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), *_convolution(channels, pool, 1))

    @staticmethod
    def outputs(one: int = 64, three: Sequence[int] = (64, 128), five: Sequence[int] = (16, 32), pool: int = 32) -> int:
        """Return the channels of the output."""
        for name, pair in {"three": three, "five": five}.items():
            if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
                raise ValueError(f"{name} is {pair!r}, expected two ints, such as [64, 128]")
        check_ints(one=one, three=three[0], five=five[0], pool=pool)
        check_ints(three=three[1], five=five[1])
        return one + three[1] + five[1] + pool

    def forward(self, x: Tensor) -> Tensor:
        """Return the branches' maps, one behind the other."""
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1)


def _convolution(inputs: int, outputs: int, kernel: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.ReLU(inplace=True)
