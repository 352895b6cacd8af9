"""BAM: one gate from a channel vector times a spatial map, added to 1.

Paper: Park et al., "BAM: Bottleneck Attention Module", BMVC 2018.

    c = fc2(ReLU(BN(fc1(mean_hw x))))                                       (B, C)
    s = final(ReLU(BN(dil2(ReLU(BN(dil1(ReLU(BN(reduce(x)))))))))           (B, 1, H, W)
    out = x · (1 + σ(c · s))

fc1, fc2: C → C/r → C. reduce, final: 1×1; dil1, dil2: 3×3, dilated; C → C/r → C/r → C/r → 1. All have biases.

From the authors' code (github.com/Jongchan/attention-module), which the formula above follows:
- The paper adds the branches, σ(c + s), and normalises each at its end; their code multiplies them and does not.
- r = 16, dilation 4, two dilated convolutions.
- Place in their networks: between the stages of a ResNet, not inside its blocks.

Where this differs, and why:
- Their pooling takes the height for both sides of its window: H < W < 2H leaves columns out without a word, any other
  H ≠ W raises. Here the mean is over the whole plane, which is theirs at H = W.
- Training with one image: the batch norm of the channel part sees one value per channel, and theirs raises. Ultralytics
  gives such a batch whenever the number of images leaves a rest of one, so that norm then uses its running statistics,
  without moving them. A SyncBatchNorm has the other ranks' values and is left to itself.
- C/r is rounded down but never below 1, for the narrow blocks of small detectors.
- The biases before a batch norm are kept though their gradient is zero in training: their keys match the authors'.
- Mean, gate and product are float32 at least; the MLP and the convolutions run in the autocast dtype.
- The norms are plain: inside Ultralytics those of the spatial part get its eps 1e-3 and momentum 0.03.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from yolo_attn.layers.common import AttentionLayer, at_least_float32, cast, check_positive_ints, gated, mean


class BAMChannel(nn.Module):
    """The channel part, (B, C, H, W) → (B, C); its options are those of BAM, and checked there."""

    def __init__(self, channels: int, *, ratio: int) -> None:
        super().__init__()
        middle = max(1, channels // ratio)
        self.fc1 = nn.Linear(channels, middle)
        self.bn: nn.Module = nn.BatchNorm1d(middle)
        self.fc2 = nn.Linear(middle, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the attention in float32 at least, before the sigmoid."""
        y = self.fc1(cast(mean(x, (2, 3)), self.fc1.weight.dtype))
        return at_least_float32(self.fc2(self._norm(y).relu()))

    def _norm(self, y: Tensor) -> Tensor:
        bn = self.bn
        if isinstance(bn, nn.BatchNorm1d) and bn.training and len(y) == 1:
            return F.batch_norm(y, bn.running_mean, bn.running_var, bn.weight, bn.bias, False, 0.0, bn.eps)
        return bn(y)


class BAMSpatial(nn.Module):
    """The spatial part, (B, C, H, W) → (B, 1, H, W); its options are those of BAM, and checked there."""

    def __init__(self, channels: int, *, ratio: int, dilation: int) -> None:
        super().__init__()
        middle = max(1, channels // ratio)
        self.reduce = nn.Conv2d(channels, middle, 1)
        self.bn_reduce = nn.BatchNorm2d(middle)
        self.dil1 = nn.Conv2d(middle, middle, 3, padding=dilation, dilation=dilation)
        self.bn_dil1 = nn.BatchNorm2d(middle)
        self.dil2 = nn.Conv2d(middle, middle, 3, padding=dilation, dilation=dilation)
        self.bn_dil2 = nn.BatchNorm2d(middle)
        self.final = nn.Conv2d(middle, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the attention in float32 at least, before the sigmoid."""
        y = self.bn_reduce(self.reduce(x)).relu()
        y = self.bn_dil1(self.dil1(y)).relu()
        y = self.bn_dil2(self.dil2(y)).relu()
        return at_least_float32(self.final(y))


class BAM(AttentionLayer):
    """Gate by 1 + σ(channel attention · spatial attention) (Park et al., BMVC 2018).

    Shape:
        (B, C, H, W) → (B, C, H, W), same dtype and memory format.

    Args:
        channels: C of the input.
        ratio: r, by which C is reduced inside both parts, to max(1, C // r).
        dilation: of the two 3×3 convolutions of the spatial part.
        gain: factor on the output.

    Raises:
        ValueError: if an option is out of range; in forward, if training sees a single pixel in all.
    """

    def __init__(self, channels: int, *, ratio: int = 16, dilation: int = 4, gain: float = 1.0) -> None:
        super().__init__(gain)
        check_positive_ints("BAM", channels=channels, ratio=ratio, dilation=dilation)
        self.channel = BAMChannel(channels, ratio=ratio)
        self.spatial = BAMSpatial(channels, ratio=ratio, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated x, of x's shape and dtype."""
        gate = 1 + (self.channel(x)[:, :, None, None] * self.spatial(x)).sigmoid()
        return gated(x, gate, gain=self.gain)
