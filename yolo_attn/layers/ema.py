"""EMA: a spatial gate for each group of channels, from two branches that weigh each other.

Paper: Ouyang et al., "Efficient Multi-Scale Attention Module with Cross-Spatial Learning", ICASSP 2023.

For each of g groups u of n = C/g channels, with the same parameters for all groups:

    a = conv1×1([mean_w u, mean_h u])        H + W positions, n → n
    p = GN(u · σ(a_h) · σ(a_w))              q = conv3×3(u)
    s = Σ_n softmax_n(mean_hw p) · q + Σ_n softmax_n(mean_hw q) · p
    out = u · σ(s)

From the authors' code (github.com/YOLOonMe/EMA-attention-module):
- The group norm has one group per channel, so it normalises single planes. Both convolutions have biases. g = 32.
- A normalised plane has mean zero, so mean_hw p is the bias of GN for every input.

Where this differs, and why:
- mean_hw p is written as that bias: the same value and gradient, without rounding.
- g is the largest divisor of C up to `groups`, so that every C works; the authors' code needs C to be a multiple.
- Means are plain ones: the backward of adaptive pooling is not deterministic on CUDA.
- Means, norm, sums, gate and product are float32 at least; the convolutions run in the autocast dtype.
"""

import torch
from torch import Tensor, nn

from yolo_attn.layers.common import AttentionLayer, at_least_float32, cast, check_positive_ints, divisors, gated, mean


class EMA(AttentionLayer):
    """Gate the pixels of each group of channels by cross-weighted branches (Ouyang et al., ICASSP 2023).

    Shape:
        (B, C, H, W) → (B, C, H, W), same dtype and memory format.

    Args:
        channels: C of the input.
        groups: into which the channels are split; the largest divisor of C up to it is taken.
        gain: factor on the output.

    Raises:
        ValueError: if an option is out of range.
    """

    def __init__(self, channels: int, *, groups: int = 32, gain: float = 1.0) -> None:
        super().__init__(gain)
        check_positive_ints("EMA", channels=channels, groups=groups)
        self.groups = max(d for d in divisors(channels) if d <= groups)
        width = channels // self.groups
        self.gn = nn.GroupNorm(width, width)
        self.conv1x1 = nn.Conv2d(width, width, 1)
        self.conv3x3 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated x, of x's shape and dtype."""
        each, (height, width) = self.conv1x1.in_channels, x.shape[2:]
        u = x.reshape(-1, each, height, width)
        strips = torch.cat((mean(u, 3), mean(u, 2)), 2)[..., None]
        a = at_least_float32(self.conv1x1(cast(strips, self.conv1x1.weight.dtype))).sigmoid()
        p = u * a[:, :, :height] * a[:, :, height:].transpose(2, 3)
        scale, shift = cast(self.gn.weight, p.dtype), cast(self.gn.bias, p.dtype)
        # The module's own forward refuses a single value, for which the formula gives the bias.
        p = torch.group_norm(p, self.gn.num_groups, scale, shift, self.gn.eps)
        q = self.conv3x3(u)
        # Sums of products and not matrix products, which autocast would round. The weights are float32, so these are.
        s = (q * shift.softmax(0)[:, None, None] + p * mean(q, (2, 3), keepdim=True).softmax(1)).sum(1)
        gate = s.reshape(-1, self.groups, 1, height, width).sigmoid()
        out = gated(x.reshape(-1, self.groups, each, height, width), gate, gain=self.gain)
        return out.reshape(-1, self.groups * each, height, width)

    def extra_repr(self) -> str:
        """Show the number of groups that was taken."""
        return f"groups={self.groups}"
