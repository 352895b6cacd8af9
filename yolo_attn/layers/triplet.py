"""Triplet attention: three spatial gates, one for each pair of C, H and W.

Paper: Misra et al., "Rotate to Attend: Convolutional Triplet Attention Module", WACV 2021.

    g_cw = σ(BN(conv7×7([max_h x, mean_h x])))        (C, W) plane
    g_hc = σ(BN(conv7×7([max_w x, mean_w x])))        (H, C) plane
    g_hw = σ(BN(conv7×7([max_c x, mean_c x])))        (H, W) plane
    out = x · (g_cw + g_hc + g_hw) / 3

From the authors' code (github.com/landskape-ai/triplet-attention):
- Each branch has its own convolution, 2 → 1 channels without bias, and batch norm with momentum 0.01. The maximum comes
  first in the stack.
- The number of channels is never used. The (H, W) branch is optional there, but not here.
- Place in their networks: the end of every residual block, before the addition.

Where this differs, and why:
- The planes are pooled from x as it lies and the gates are added up before one product: the same function as theirs,
  which rotates x, gates it and rotates it back in each branch.
- Values that tie for a maximum share its gradient (amax); in the authors' code one of them gets all of it.
- Means, gates and product are float32 at least; the convolutions run in the autocast dtype.
- The batch norms are plain BatchNorm2d: inside Ultralytics they get its eps 1e-3 and momentum 0.03, as all of its own.
"""

from torch import Tensor

from yolo_attn.layers.common import (
    AttentionLayer,
    MaxMeanGate,
    check_kernel_size,
    check_positive_ints,
    gated,
    max_and_mean,
)


class TripletAttention(AttentionLayer):
    """Gate by the mean of three spatial attentions over (C, W), (H, C) and (H, W) (Misra et al., WACV 2021).

    Shape:
        (B, C, H, W) → (B, C, H, W), same dtype and memory format.

    Args:
        channels: accepted for one signature with the other layers, and not used.
        kernel_size: of the three convolutions; odd.
        gain: factor on the output.

    Raises:
        ValueError: if an option is out of range; in forward, if training sees a single pixel in all.
    """

    def __init__(self, channels: int | None = None, *, kernel_size: int = 7, gain: float = 1.0) -> None:
        super().__init__(gain)
        if channels is not None:
            check_positive_ints("TripletAttention", channels=channels)
        check_kernel_size("TripletAttention", kernel_size)
        self.cw = MaxMeanGate(kernel_size)
        self.hc = MaxMeanGate(kernel_size)
        self.hw = MaxMeanGate(kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated x, of x's shape and dtype."""
        cw = self.cw(max_and_mean(x, 2)).sigmoid().transpose(1, 2)  # (B, 1, C, W) → (B, C, 1, W)
        hc = self.hc(max_and_mean(x, 3).transpose(2, 3)).sigmoid().permute(0, 3, 2, 1)  # (B, 1, H, C) → (B, C, H, 1)
        hw = self.hw(max_and_mean(x, 1)).sigmoid()
        return gated(x, (cw + hc + hw) / 3, gain=self.gain)
