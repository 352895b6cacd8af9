"""SimAM: a gate for every pixel from its energy, without parameters.

Paper: Yang et al., "SimAM: A Simple, Parameter-Free Attention Module for Convolutional Neural Networks", ICML 2021.

    μ = mean_hw x      d = (x − μ)²      n = H·W − 1
    y = d / (4 (Σ_hw d / n + λ)) + 0.5        out = x · σ(y)

where y is the inverse of the paper's minimal energy, for all pixels of a plane at once.

From the authors' code (github.com/ZjjConan/SimAM):
- The signature is (channels, e_lambda); channels is never used. The class default of λ is 1e-4, while their ImageNet
  and COCO configurations use 0.1.
- The gate lies in [σ(0.5), 1) = [0.6225, 1): it is never the identity, and a constant map is scaled by 0.6225.
- Place in their networks: between the 3×3 convolution and its batch norm, in every residual block.

Where this differs, and why:
- H·W = 1: theirs divides 0 by 0. Here n = max(H·W − 1, 1), hence x·σ(0.5), the value of every constant map.
- float16 and bfloat16: statistics and gate are formed in float32. In float16 Σd overflows (80×80 at std ≥ 3.2) and the
  gate silently becomes σ(0.5). The output has the dtype of the input, under autocast too.
- λ ≥ 10 is refused: a channel count passed as λ is a dead layer that nothing else would report.
"""

from typing import Any

import torch
from torch import Tensor

from yolo_attn.kernels.choice import runs_fast
from yolo_attn.kernels.simam import simam
from yolo_attn.layers.common import AttentionLayer, at_least_float32, cast, scaled

# mean 1, x − μ 1, square 1, Σd 1, division 1, + 0.5 1, σ 3 (exp, add, divide), · x 1
_FLOPS_PER_ELEMENT = 10


class SimAM(AttentionLayer):
    """Scale every pixel by the sigmoid of its inverse energy (Yang et al., ICML 2021).

    Has no parameters and no buffers. Statistics are taken over each (H, W) plane in float32, or float64 for float64.

    Shape:
        (B, C, H, W) → (B, C, H, W), same dtype and memory format.

    Args:
        channels: accepted for one signature with the other layers, and not used.
        e_lambda: λ of the paper, 0 < λ < 10. The authors train ImageNet and COCO with 0.1.
        gain: factor on the output.

    Raises:
        ValueError: if channels is not a positive int or None, or λ is out of range.
    """

    def __init__(self, channels: int | None = None, *, e_lambda: float = 1e-4, gain: float = 1.0) -> None:
        super().__init__(gain)
        if channels is not None and (type(channels) is not int or channels < 1):
            raise ValueError(
                f"SimAM: channels must be a positive int or None, got {channels!r}; λ goes by name: "
                "SimAM(e_lambda=1e-4)"
            )
        if type(e_lambda) not in (int, float) or not 0 < e_lambda < 10:
            hint = "; a channel count goes first: SimAM(64, e_lambda=1e-4)" if channels is None else ""
            raise ValueError(
                f"SimAM: e_lambda must be a finite number with 0 < e_lambda < 10, got {e_lambda!r}; from 10 on the "
                f"gate is practically the constant σ(0.5) = 0.62{hint}"
            )
        self.channels = channels
        self.e_lambda = float(e_lambda)

    def forward(self, x: Tensor) -> Tensor:
        """Return x · σ(y), of x's shape and dtype."""
        if runs_fast(x):
            return simam(x, self.e_lambda, self.gain)
        z = at_least_float32(x)
        count: Any = x.shape[-2] * x.shape[-1]
        # Sizes are tensors under torch.jit.trace, where max() would freeze the size that was traced.
        n = count - (count > 1).long() if isinstance(count, Tensor) else torch.sym_max(count - 1, 1)
        d = (z - z.mean((-2, -1), keepdim=True)).square()
        # A λ that z's dtype rounds to zero would make a constant plane 0/0.
        e_lambda = max(self.e_lambda, torch.finfo(z.dtype).tiny)
        y = d / (4 * (d.sum((-2, -1), keepdim=True) / n + e_lambda)) + 0.5
        return cast(scaled(z * y.sigmoid(), self.gain), x.dtype)

    def flops(self, x: Tensor) -> int:
        """Count the elementwise operations on x, which counters that look for submodules do not see.

        Each addition, multiplication, division or exponential is one, so σ is three: 10 for each element. The few
        operations for each plane are not counted.
        """
        return _FLOPS_PER_ELEMENT * x.numel()

    def extra_repr(self) -> str:
        """Show λ, and the channels if they were given."""
        return f"{'' if self.channels is None else f'{self.channels}, '}e_lambda={self.e_lambda:g}"
