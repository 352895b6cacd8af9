"""NAM: batch norm scales as channel attention.

Paper: Liu et al., "NAM: Normalization-based Attention Module", arXiv 2111.12419. Channel part:

    z = BN2d(x)      w_c = |γ_c| / Σ|γ|      out = x · σ(w_c · z)

From the authors' code (github.com/Christian-lyc/NAM), which the formula above follows:
- The paper prints γ/Σγ and no "· x"; their code has |γ| and the product, and training fails without it.
- They read γ through `.data`, so no gradient reaches γ through w: here `detach_weights=True`.
- Place in their networks: the end of every residual block, after the last batch norm and before the addition.
- At the start the gate is 0.5 ± 4e-3 (C = 64) or ± 2e-4 (C = 1024), nearly a constant; `weight_norm="mean"` (w · C)
  keeps its strength independent of C.

Where this differs, and why:
- Σ|γ| = 0 gives NaN there. Here w = 0 when the sum is below the smallest normal number of its dtype; exact otherwise.
- float16 and bfloat16: batch norm and gate are formed in float32, also after `model.half()`. The output has the dtype
  of the input, under autocast too.
- The norm is a subclass of BatchNorm2d (see ScaleNorm).

The spatial part and the sparsity penalty are not here yet.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ScaleNorm(nn.BatchNorm2d):
    """BatchNorm2d whose scales are attention weights.

    A subclass, because Ultralytics sets eps and momentum of every module that is exactly a BatchNorm2d and would undo
    the user's values, while its optimizer spares every norm layer, subclasses included, from weight decay.
    """


class NAMChannel(nn.Module):
    """The channel part of NAM; its options are those of NAM, and checked there."""

    def __init__(self, channels: int, *, weight_norm: str, detach_weights: bool, eps: float, momentum: float) -> None:
        super().__init__()
        self.weight_norm = weight_norm
        self.detach_weights = detach_weights
        self.bn = ScaleNorm(channels, eps=eps, momentum=momentum)

    def weights(self, dtype: torch.dtype) -> Tensor:
        """Return w, of shape (C,): |γ| over its sum, or over its mean."""
        scale = self.bn.weight.detach() if self.detach_weights else self.bn.weight
        scale = scale.to(dtype).abs()
        total = scale.sum()
        # A clamp would do for the value; its gradient (0 · inf) would not.
        w = scale / torch.where(total >= torch.finfo(dtype).tiny, total, 1.0)
        return w * w.numel() if self.weight_norm == "mean" else w

    def forward(self, x: Tensor) -> Tensor:
        """Return x · σ(w · BN(x)), of x's shape and dtype."""
        if self.bn.training and x.shape[0] * x.shape[2] * x.shape[3] == 1:
            raise ValueError(
                f"NAM: batch statistics need more than one value per channel, got an input of shape {tuple(x.shape)} "
                "in training mode; use a larger batch or map, or eval()"
            )
        z = x.to(torch.promote_types(x.dtype, torch.float32))
        w = self.weights(z.dtype).reshape(1, -1, 1, 1)
        return (z * (w * _batch_norm(self.bn, z)).sigmoid()).to(x.dtype)


class NAM(nn.Module):
    """Gate channels by their batch norm scales: x · σ(w · BN(x)), w = |γ| / Σ|γ| (Liu et al.).

    Shape:
        (B, C, H, W) → (B, C, H, W), same dtype and memory format.

    Args:
        channels: C of the input.
        weight_norm: "sum" for |γ| / Σ|γ| (the authors'), "mean" for the same · C.
        detach_weights: whether w is a constant to the gradient of γ, as in the authors' code.
        eps: of the batch norm.
        momentum: of the batch norm; its running statistics are always a moving average.

    Raises:
        ValueError: if an option is out of range; in forward, if training sees a single value per channel.
    """

    def __init__(
        self,
        channels: int,
        *,
        weight_norm: str = "sum",
        detach_weights: bool = True,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        if type(channels) is not int or channels < 1:
            raise ValueError(f"NAM: channels must be a positive int, got {channels!r}")
        if weight_norm not in ("sum", "mean"):
            raise ValueError(f"NAM: weight_norm={weight_norm!r} is unknown; allowed: 'sum', 'mean'")
        if type(detach_weights) is not bool:
            raise ValueError(f"NAM: detach_weights must be True or False, got {detach_weights!r}")
        if type(eps) not in (int, float) or not 0 < eps < math.inf:
            raise ValueError(f"NAM: eps must be a finite number > 0, got {eps!r}")
        if type(momentum) not in (int, float) or not 0 < momentum <= 1:
            raise ValueError(f"NAM: momentum must be a number with 0 < momentum <= 1, got {momentum!r}")
        self.channel = NAMChannel(
            channels, weight_norm=weight_norm, detach_weights=detach_weights, eps=eps, momentum=momentum
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated x, of x's shape and dtype."""
        return self.channel(x)

    def extra_repr(self) -> str:
        """Show what the batch norm below does not."""
        return f"weight_norm={self.channel.weight_norm!r}, detach_weights={self.channel.detach_weights}"


def _batch_norm(bn: nn.BatchNorm2d, z: Tensor) -> Tensor:
    """Return bn(z) in z's dtype, whatever the dtype of bn's parameters (float16 after `model.half()`)."""
    if bn.weight.dtype == z.dtype:
        return bn(z)
    assert bn.running_mean is not None
    assert bn.running_var is not None
    mean, var = bn.running_mean.to(z.dtype), bn.running_var.to(z.dtype)
    weight, bias = bn.weight.to(z.dtype), bn.bias.to(z.dtype)
    z = F.batch_norm(z, mean, var, weight, bias, bn.training, bn.momentum or 0.0, bn.eps)
    if bn.training:
        assert bn.num_batches_tracked is not None
        bn.running_mean.copy_(mean)
        bn.running_var.copy_(var)
        bn.num_batches_tracked.add_(1)
    return z
