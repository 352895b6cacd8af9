"""ECA: channel attention by one small convolution along the channels.

Paper: Wang et al., "ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks", CVPR 2020.

    out = x · σ(conv1d_k(mean_hw x))        k = |log2(C)/2 + 1/2|, odd

From the authors' code (github.com/BangguWu/ECANet):
- The convolution has one filter for all channels, no bias, and zero padding at the first and last channels.
- k: the value is truncated and, if even, raised by one: 1 for C < 8, 3 for C < 128, 5 for C < 2048.
- Their module takes k as an argument whose default is 3; the adaptive k stands in the paper.
- Place in their networks: the end of every residual block, before the addition.

Where this differs, and why:
- k comes from C when it is not given.
- The mean is a plain one: the backward of adaptive pooling is not deterministic on CUDA.
- Mean, gate and product are float32 at least; the convolution runs in the autocast dtype.
"""

import math

from torch import Tensor, nn

from yolo_attn.layers.common import (
    AttentionLayer,
    at_least_float32,
    cast,
    check_kernel_size,
    check_positive_ints,
    gated,
    mean,
)


class ECA(AttentionLayer):
    """Gate channels by a convolution along their means (Wang et al., CVPR 2020).

    Shape:
        (B, C, H, W) → (B, C, H, W), same dtype and memory format.

    Args:
        channels: C of the input.
        kernel_size: k, odd; None takes it from C by the paper's formula.
        gain: factor on the output.

    Raises:
        ValueError: if an option is out of range.
    """

    def __init__(self, channels: int, *, kernel_size: int | None = None, gain: float = 1.0) -> None:
        super().__init__(gain)
        check_positive_ints("ECA", channels=channels)
        if kernel_size is None:
            t = int(abs(math.log2(channels) / 2 + 1 / 2))
            kernel_size = t if t % 2 else t + 1
        check_kernel_size("ECA", kernel_size)
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated x, of x's shape and dtype."""
        attention = self.conv(cast(mean(x, (2, 3)), self.conv.weight.dtype)[:, None])
        return gated(x, at_least_float32(attention).sigmoid().transpose(1, 2)[..., None], gain=self.gain)
