"""What several layers share: the gain, option checks, products in float32, and the gate over [max, mean]."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn


class AttentionLayer(nn.Module):
    """Base of the layers: what they share is a factor on their output.

    A gate below 1 takes from every map that passes it, and a network that was trained without it then sees maps of
    another size. The gain gives it back; the authors' formula is that of gain 1.

    Args:
        gain: factor on the output, > 0.

    Raises:
        ValueError: if gain is no finite number > 0.
    """

    gain: float = 1.0  # of the class too: checkpoints from before this option have none

    def __init__(self, gain: float) -> None:
        super().__init__()
        if type(gain) not in (int, float) or not 0 < gain < math.inf:
            raise ValueError(f"{type(self).__name__}: gain must be a finite number > 0, got {gain!r}")
        self.gain = float(gain)


def check_positive_ints(layer: str, **options: object) -> None:
    """Raise ValueError, naming the layer, unless every option is an int > 0 (True is none)."""
    for name, value in options.items():
        if type(value) is not int or value < 1:
            raise ValueError(f"{layer}: {name} must be a positive int, got {value!r}")


def check_kernel_size(layer: str, kernel_size: int) -> None:
    """Raise ValueError, naming the layer, unless kernel_size is a positive odd int."""
    check_positive_ints(layer, kernel_size=kernel_size)
    if kernel_size % 2 == 0:
        raise ValueError(f"{layer}: kernel_size must be odd, got {kernel_size}; allowed: 1, 3, 5, 7, ...")


def divisors(n: int) -> list[int]:
    """Return the divisors of n, ascending."""
    return [d for d in range(1, n + 1) if n % d == 0]


def cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return x in a dtype: x itself where it has it, because a graph that is traced would keep a cast to the same."""
    return x if x.dtype == dtype else x.to(dtype)


def at_least_float32(x: Tensor) -> Tensor:
    """Return x in float32, or as it is if its dtype is wider."""
    return cast(x, _wide(x))


def gated(x: Tensor, *gates: Tensor, gain: float = 1.0) -> Tensor:
    """Return gain · x times every gate, in x's dtype; the gates, and so the product before it, are float32 at least."""
    out = x
    *others, last = gates
    for gate in (*others, scaled(last, gain)):
        out = out * gate  # promotes a narrower x on the fly, and keeps x itself for the backward
    return cast(out, x.dtype)


def scaled(x: Tensor, gain: float) -> Tensor:
    """Return gain · x, and x itself at gain 1."""
    return x if gain == 1 else x * gain


def mean(x: Tensor, dim: int | Iterable[int], *, keepdim: bool = False) -> Tensor:
    """Return the mean of x over dim in float32 at least, without a copy of x in that dtype.

    Stands for average pooling to size 1: the backward of adaptive pooling is not deterministic on CUDA.
    """
    dtype = None if x.dtype == _wide(x) else _wide(x)
    return x.mean(dim if isinstance(dim, int) else tuple(dim), keepdim=keepdim, dtype=dtype)


def max_and_mean(x: Tensor, dim: int) -> Tensor:
    """Return the maximum and the mean of a (B, C, H, W) x over dim, stacked in that order in dimension 1.

    Where several values tie, amax shares the gradient among them; max pooling gives it to one. Both are subgradients.
    """
    return torch.stack((at_least_float32(x.amax(dim)), mean(x, dim)), 1)


class MaxMeanGate(nn.Module):
    """BN(conv([max, mean])): (B, 2, ·, ·) → (B, 1, ·, ·), before its sigmoid; CBAM and triplet attention use it.

    The convolution has no bias, and the batch norm momentum 0.01: both as in the authors' code of the two.
    """

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(1, momentum=0.01)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return the attention map in float32 at least."""
        return at_least_float32(self.bn(self.conv(cast(pooled, self.conv.weight.dtype))))


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
