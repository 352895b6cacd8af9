"""A layer of one's own, in a module that checkpoints and the workers of a multi-GPU run can import."""

import torch
from torch import Tensor, nn

import yolo_attn


@yolo_attn.register_layer
class Scale(nn.Module):
    """A learnt factor a channel.

    Args:
        channels: Of the input and the output; the parser gives it, a YAML never does.
        start: What each factor starts with.
    """

    def __init__(self, channels: int, *, start: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), start))

    def forward(self, x: Tensor) -> Tensor:
        """Scale each channel of (B, C, H, W)."""
        return x * self.weight.reshape(1, -1, 1, 1)
