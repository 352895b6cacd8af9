"""CBAM: channel attention from means and maxima, then spatial attention from the same over the channels.

Paper: Woo et al., "CBAM: Convolutional Block Attention Module", ECCV 2018.

    u = x · σ(MLP(mean_hw x) + MLP(max_hw x))        MLP = fc2(ReLU(fc1(·))), C → C/r → C
    out = u · σ(BN(conv7×7([max_c u, mean_c u])))    2 → 1 channels

From the authors' code (github.com/Jongchan/attention-module):
- Both layers of the MLP have biases, so that of fc2 counts twice in the sum.
- The maximum comes first in the stack (in the paper, the mean). The convolution has no bias; a batch norm with momentum
  0.01, which the paper does not mention, follows it. r = 16.
- Place in their networks: the end of every residual block, before the addition.

Ultralytics has a class of the same name that is another layer: one C × C convolution on the mean for the channels,
[mean, max] for the space, no batch norm.

Where this differs, and why:
- C/r is rounded down but never below 1, for the narrow blocks of small detectors.
- Mean and maximum are plain ones: the backward of adaptive pooling is not deterministic on CUDA. Values that tie for
  the maximum share its gradient (amax); in the authors' code one of them gets all of it.
- Means, gates and products are float32 at least; MLP and convolution run in the autocast dtype.
- The batch norm is a plain BatchNorm2d: inside Ultralytics it gets its eps 1e-3 and momentum 0.03, as all of its own.
"""

from torch import Tensor, nn

from yolo_attn.layers.common import (
    AttentionLayer,
    MaxMeanGate,
    at_least_float32,
    cast,
    check_kernel_size,
    check_positive_ints,
    gated,
    max_and_mean,
    mean,
)


class CBAMChannel(nn.Module):
    """The channel part; its options are those of CBAM, and checked there."""

    def __init__(self, channels: int, *, ratio: int) -> None:
        super().__init__()
        middle = max(1, channels // ratio)
        self.fc1 = nn.Linear(channels, middle)
        self.fc2 = nn.Linear(middle, channels)

    def mlp(self, pooled: Tensor) -> Tensor:
        """Return the attention of (B, C) means or maxima, in float32 at least."""
        return at_least_float32(self.fc2(self.fc1(cast(pooled, self.fc1.weight.dtype)).relu()))

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated x, of x's shape and dtype."""
        attention = self.mlp(mean(x, (2, 3))) + self.mlp(x.amax((2, 3)))
        return gated(x, attention.sigmoid()[:, :, None, None])


class CBAM(AttentionLayer):
    """Gate channels, then space, each by its means and maxima (Woo et al., ECCV 2018).

    Shape:
        (B, C, H, W) → (B, C, H, W), same dtype and memory format.

    Args:
        channels: C of the input.
        ratio: r, by which C is reduced inside the MLP, to max(1, C // r).
        kernel_size: of the spatial convolution; odd.
        gain: factor on the output.

    Raises:
        ValueError: if an option is out of range; in forward, if training sees a single pixel in all.
    """

    def __init__(self, channels: int, *, ratio: int = 16, kernel_size: int = 7, gain: float = 1.0) -> None:
        super().__init__(gain)
        check_positive_ints("CBAM", channels=channels, ratio=ratio)
        check_kernel_size("CBAM", kernel_size)
        self.channel = CBAMChannel(channels, ratio=ratio)
        self.spatial = MaxMeanGate(kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated x, of x's shape and dtype."""
        u = self.channel(x)
        return gated(u, self.spatial(max_and_mean(u, 1)).sigmoid(), gain=self.gain)
