"""Attention on the output of a module, and inside a convolution; checkpoints name both by this path."""

from typing import Any

from torch import Tensor, nn


class AttendedConv(nn.Module):
    """A convolution with attention between it and its batch norm: act(BN(attention(conv(x)))).

    Takes over the parts of an Ultralytics `Conv` under their own names. It is none itself, so that fusing does not fold
    the batch norm over the attention.

    Args:
        conv: The module whose parts it takes.
        attention: Layer for the convolution's output channels.
    """

    def __init__(self, conv: Any, attention: nn.Module) -> None:
        super().__init__()
        self.conv, self.attention, self.bn, self.act = conv.conv, attention, conv.bn, conv.act

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, attend, normalise, activate."""
        return self.act(self.bn(self.attention(self.conv(x))))


def attend(module: Any, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    """Forward hook of a module that got attention on its output."""
    return module.attention(output)
