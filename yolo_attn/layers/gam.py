"""GAM: channel attention by an MLP per pixel, then spatial attention by two wide convolutions.

Paper: Liu et al., "Global Attention Mechanism: Retain Information to Enhance Channel-Spatial Interactions",
arXiv 2112.05561.

    A = fc2(ReLU(fc1(x)))  per pixel over C, C → C/r → C             u = x · σ(A)
    s = σ(BN(conv7×7(ReLU(BN(conv7×7(u))))))   C → C/r → C           out = u · s

From the code in circulation:
- Most of it leaves out the channel sigmoid that the paper's text and figure have: `channel_act="none"` reproduces it.
- All of it has r = 4. Only r = 16, ungrouped, explains the size that the paper gives for its ResNet-50 (149.5 M).
- With groups, one port shuffles the attention map after the sigmoid, which misaligns map and input.

Where this differs, and why:
- The fully connected layers are 1×1 convolutions: the same function without two permutes. Their weights are (out, in,
  1, 1); those of a port, (out, in), need a reshape.
- With groups > 1 the shuffle stands between the two convolutions, where it mixes the groups.
- The convolutions keep their biases though a batch norm follows, which makes their gradient zero in training: their
  keys then match those of the ports.
- Convolutions run in the autocast dtype; both gates are formed in float32, and each product has the input's dtype.
- The batch norms are plain BatchNorm2d: inside Ultralytics they get its eps 1e-3 and momentum 0.03, as all of its own.
"""

import torch
from torch import Tensor, nn

from yolo_attn.kernels.choice import runs_fast
from yolo_attn.kernels.gam import sigmoid_gate
from yolo_attn.layers.common import (
    AttentionLayer,
    at_least_float32,
    check_kernel_size,
    check_positive_ints,
    divisors,
    gated,
    scaled,
)
from yolo_attn.layers.norms import fold_into


class GAMChannel(nn.Module):
    """The channel part, x · act(fc2(ReLU(fc1(x)))); its options are those of GAM, and checked there."""

    def __init__(self, channels: int, *, ratio: int, channel_act: str) -> None:
        super().__init__()
        self.channel_act = channel_act
        self.fc1 = nn.Conv2d(channels, channels // ratio, 1)
        self.fc2 = nn.Conv2d(channels // ratio, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated x, of x's shape and dtype."""
        attention = self.fc2(self.fc1(x).relu())
        return _sigmoid_gated(x, attention) if self.channel_act == "sigmoid" else gated(x, at_least_float32(attention))


class GAMSpatial(nn.Module):
    """The spatial part, u · σ(BN(conv(ReLU(BN(conv(u)))))); its options are those of GAM, and checked there."""

    def __init__(self, channels: int, *, ratio: int, groups: int, kernel_size: int) -> None:
        super().__init__()
        middle, padding = channels // ratio, kernel_size // 2
        self.groups = groups
        self.conv1 = nn.Conv2d(channels, middle, kernel_size, padding=padding, groups=groups)
        self.bn1: nn.Module = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, channels, kernel_size, padding=padding, groups=groups)
        self.bn2: nn.Module = nn.BatchNorm2d(channels)

    def forward(self, u: Tensor) -> Tensor:
        """Return the gated u, of u's shape and dtype."""
        s = self.bn1(self.conv1(u)).relu()
        if self.groups > 1:
            channels, (height, width) = self.conv1.out_channels, s.shape[2:]
            s = s.reshape(-1, self.groups, channels // self.groups, height, width).transpose(1, 2)
            s = s.reshape(-1, channels, height, width)
        return _sigmoid_gated(u, self.bn2(self.conv2(s)))

    def fuse(self) -> None:
        """Fold both batch norms into their convolutions."""
        self.bn1 = fold_into(self.conv1, self.bn1)
        self.bn2 = fold_into(self.conv2, self.bn2)


class GAM(AttentionLayer):
    """Gate channels, then space, without pooling either (Liu et al., arXiv 2112.05561).

    Heavy: at P3, P4 and P5 of yolov8n the defaults add 2.15 M parameters (68 %) and 3.93 GFLOPs (44 %), groups=4
    18 % and 12 %.

    Shape:
        (B, C, H, W) → (B, C, H, W), same dtype and memory format.

    Args:
        channels: C of the input.
        ratio: r, by which C is reduced inside both parts; must divide C. 16 is the paper's ResNet-50.
        groups: of the two convolutions of the spatial part; must divide C/r.
        channel_act: "sigmoid" (the paper) or "none" (most ports), on the channel attention.
        kernel_size: of the two convolutions of the spatial part; odd.
        gain: factor on the output.

    Raises:
        ValueError: if an option is out of range.
    """

    def __init__(
        self,
        channels: int,
        *,
        ratio: int = 4,
        groups: int = 1,
        channel_act: str = "sigmoid",
        kernel_size: int = 7,
        gain: float = 1.0,
    ) -> None:
        super().__init__(gain)
        check_positive_ints("GAM", channels=channels, ratio=ratio, groups=groups, kernel_size=kernel_size)
        if channels % ratio:
            raise ValueError(f"GAM: ratio={ratio} does not divide channels={channels}; allowed: {_listed(channels)}")
        middle = channels // ratio
        if middle % groups:
            raise ValueError(
                f"GAM: groups={groups} does not divide both channels={channels} and channels/ratio={middle}; "
                f"allowed: {_listed(middle)}"
            )
        if channel_act not in ("sigmoid", "none"):
            raise ValueError(f"GAM: channel_act={channel_act!r} is unknown; allowed: 'sigmoid', 'none'")
        check_kernel_size("GAM", kernel_size)
        self.channel = GAMChannel(channels, ratio=ratio, channel_act=channel_act)
        self.spatial = GAMSpatial(channels, ratio=ratio, groups=groups, kernel_size=kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated x, of x's shape and dtype."""
        return scaled(self.spatial(self.channel(x)), self.gain)

    def fuse(self) -> None:
        """Fold the batch norms into their convolutions, in place, for inference.

        From then on the layer uses the running statistics in either mode, and `bn1`, `bn2` are nn.Identity. A second
        call does nothing.
        """
        self.spatial.fuse()

    def extra_repr(self) -> str:
        """Show what the convolutions below do not."""
        return f"channel_act={self.channel.channel_act!r}"


def _sigmoid_gated(x: Tensor, attention: Tensor) -> Tensor:
    """Return x · σ(attention) in x's dtype, by a gate in float32 at least."""
    if attention.dtype in (torch.float16, torch.bfloat16) and runs_fast(x):
        return sigmoid_gate(x, attention)
    attention = at_least_float32(attention).sigmoid()
    return gated(x, attention)


def _listed(n: int) -> str:
    return ", ".join(map(str, divisors(n)))
