"""Coordinate attention: one gate along the height and one along the width, from the means over the other axis.

Paper: Hou et al., "Coordinate Attention for Efficient Mobile Network Design", CVPR 2021.

    f = hswish(BN(conv1([mean_w x, mean_h x])))        H + W positions, C → m = max(8, C/r)
    out = x · σ(conv_h(f_h)) · σ(conv_w(f_w))          f_h, f_w: the first H and the last W positions of f, m → C

From the authors' code (github.com/houqb/CoordAttention):
- All convolutions are 1×1 with biases; hswish(t) = t · ReLU6(t + 3) / 6. r = 32.
- Place in their networks: in every inverted residual of MobileNetV2, after the depthwise convolution.

Where this differs, and why:
- Means are plain ones: the backward of adaptive pooling is not deterministic on CUDA.
- Means, gates and product are float32 at least; the convolutions run in the autocast dtype.
- The batch norm is a plain BatchNorm2d: inside Ultralytics it gets its eps 1e-3 and momentum 0.03, as all of its own.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolo_attn.layers.common import AttentionLayer, at_least_float32, cast, check_positive_ints, gated, mean


class CoordAtt(AttentionLayer):
    """Gate rows and columns by their means (Hou et al., CVPR 2021).

    Shape:
        (B, C, H, W) → (B, C, H, W), same dtype and memory format.

    Args:
        channels: C of the input.
        ratio: r, by which C is reduced inside, to max(8, C // r).
        gain: factor on the output.

    Raises:
        ValueError: if an option is out of range.
    """

    def __init__(self, channels: int, *, ratio: int = 32, gain: float = 1.0) -> None:
        super().__init__(gain)
        check_positive_ints("CoordAtt", channels=channels, ratio=ratio)
        middle = max(8, channels // ratio)
        self.conv1 = nn.Conv2d(channels, middle, 1)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv_h = nn.Conv2d(middle, channels, 1)
        self.conv_w = nn.Conv2d(middle, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated x, of x's shape and dtype."""
        height = x.shape[2]
        strips = torch.cat((mean(x, 3), mean(x, 2)), 2)[..., None]
        f = F.hardswish(self.bn1(self.conv1(cast(strips, self.conv1.weight.dtype))))
        rows = at_least_float32(self.conv_h(f[:, :, :height])).sigmoid()
        columns = at_least_float32(self.conv_w(f[:, :, height:])).sigmoid()
        return gated(x, columns.transpose(2, 3), rows, gain=self.gain)
