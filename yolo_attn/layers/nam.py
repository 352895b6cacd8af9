"""NAM: batch norm scales as channel attention, then as pixel attention.

Paper: Liu et al., "NAM: Normalization-based Attention Module", arXiv 2111.12419.

    channel:  z = BN2d(x)                       w_c = |γ_c| / Σ|γ|      out = x · σ(w_c · z)
    spatial:  z = BN1d(x), a feature a pixel    w_p = |λ_p| / Σ|λ|      out = x · σ(w_p · z)

From the authors' code (github.com/Christian-lyc/NAM), which the formulas above follow:
- The paper prints γ/Σγ and no "· x"; their code has |γ| and the product, and training fails without it.
- They read γ and λ through `.data`, so no gradient reaches them through w: here `detach_weights=True`.
- The spatial part was released once and later deleted: `spatial=False` is what they ship. Channel goes first.
- Place in their networks: the end of every residual block, after the last batch norm and before the addition.
- At the start the gate is 0.5 ± 4e-3 (C = 64) or ± 2e-4 (C = 1024), nearly a constant; `weight_norm="mean"` (w · C)
  keeps its strength independent of C.

Where this differs, and why:
- Σ|γ| = 0 gives NaN there. Here w = 0 when the sum is below the smallest normal number of its dtype; exact otherwise.
- float16 and bfloat16: batch norm and gate are formed in float32, also after `model.half()`. The output has the dtype
  of the input, under autocast too.
- The norms are subclasses (see ScaleNorm). `fuse` leaves two numbers a channel of the channel part's, for inference.
- Their spatial part has one (λ, β) for each pixel of one size. A detector sees many: see NAMSpatial.
- Their sparsity penalty, p·(Σ|γ| + Σ|λ|), belongs to the training loss: SCALE_NORMS are the norms that hold γ and λ.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from yolo_attn.kernels.choice import runs_fast
from yolo_attn.kernels.nam import batch_norm_gate
from yolo_attn.layers.common import AttentionLayer, at_least_float32, cast, check_positive_ints, scaled
from yolo_attn.layers.norms import FoldedNorm, batch_norm, keep, may_be_bypassed
from yolo_attn.layers.resize import resize


class ScaleNorm(nn.BatchNorm2d):
    """BatchNorm2d whose scales are attention weights.

    A subclass, because Ultralytics sets eps and momentum of every module that is exactly a BatchNorm2d and would undo
    the user's values, while its optimizer spares every norm layer, subclasses included, from weight decay.
    """


class PixelScaleNorm(nn.BatchNorm1d):
    """BatchNorm1d over pixels whose scales are attention weights.

    Holds λ, β and running statistics, for each pixel of the grid in row-major order; NAMSpatial does the arithmetic.
    """


SCALE_NORMS = (ScaleNorm, PixelScaleNorm)

LARGEST_SIDE = 4096
"""Of a grid, pixels; beyond it the scales alone would take gigabytes."""


class NAMChannel(nn.Module):
    """The channel part of NAM; its options are those of NAM, and checked there."""

    def __init__(self, channels: int, *, weight_norm: str, detach_weights: bool, eps: float, momentum: float) -> None:
        super().__init__()
        self.weight_norm = weight_norm
        self.detach_weights = detach_weights
        self.bn: Any = ScaleNorm(channels, eps=eps, momentum=momentum)  # a FoldedNorm after fuse()

    def weights(self, dtype: torch.dtype) -> Tensor:
        """Return w, of shape (C,): |γ| over its sum, or over its mean."""
        scale = self.bn.weight.detach() if self.detach_weights else self.bn.weight
        scale = cast(scale, dtype).abs()
        return _shares(scale, scale.sum(), self.bn.num_features if self.weight_norm == "mean" else 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return x · σ(w · BN(x)), of x's shape, in float32 at least."""
        bn = self.bn
        folded = isinstance(bn, FoldedNorm)
        if bn.training and not folded and x.shape[0] * x.shape[2] * x.shape[3] == 1:
            raise ValueError(
                f"NAM: batch statistics need more than one value per channel, got an input of shape {tuple(x.shape)} "
                "in training mode; use a larger batch or map, or eval()"
            )
        if bn.training and not folded and runs_fast(x) and may_be_bypassed(bn):
            return self._fast(x, torch.promote_types(x.dtype, torch.float32))
        z = at_least_float32(x)
        y = bn(z) if folded else self.weights(z.dtype).reshape(1, -1, 1, 1) * batch_norm(bn, z)
        return z * y.sigmoid()

    def _fast(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        bn = self.bn
        w = self.weights(dtype)
        mean, var = bn.running_mean.to(dtype), bn.running_var.to(dtype)
        out = batch_norm_gate(x, w, bn.weight.to(dtype), bn.bias.to(dtype), mean, var, bn.momentum, bn.eps)
        keep(bn, mean, var)
        return out

    @torch.no_grad()
    def fuse(self) -> None:
        """Fold w · BN(x) into a scale and a shift for each channel."""
        if isinstance(self.bn, FoldedNorm):
            return
        held, self.bn = self.bn, copy.deepcopy(self.bn).cpu().double()  # not every device has float64
        bn, w = self.bn, self.weights(torch.float64)
        scale = w * bn.weight * (bn.running_var + bn.eps).rsqrt()
        shift = w * bn.bias - scale * bn.running_mean
        self.bn = FoldedNorm(scale.to(held.weight), shift.to(held.weight))


class NAMSpatial(nn.Module):
    """The spatial part of NAM, at any map size; its options are those of NAM, and checked there.

    A reference grid (H0, W0) of P0 pixels holds λ, β and the running statistics. With R, the bilinear resizing from the
    grid to the map (antialiased where it shrinks, identity at equal size):

        λ' = Rλ      β' = Rβ      w' = |λ'| / (P0 · mean|λ'|)      out = x · σ(w' · (λ' (x − μ) / √(v + ε) + β'))

    Evaluation takes μ, v from the running statistics, by R. Training takes each pixel's over (B, C), and moves the
    running ones by these resized to the grid, the variance unbiased. At the grid's size this is the authors' formula.
    Dividing by P0, and not by the map's P, keeps the strength of the gate when the size changes.

    Under SyncBatchNorm the statistics remain those of each rank.
    """

    def __init__(
        self, grid: tuple[int, int], *, weight_norm: str, detach_weights: bool, eps: float, momentum: float
    ) -> None:
        super().__init__()
        self.grid = grid
        self.weight_norm = weight_norm
        self.detach_weights = detach_weights
        self.bn: Any = PixelScaleNorm(grid[0] * grid[1], eps=eps, momentum=momentum)  # or what it is converted to

    def weights(self, scale: Tensor) -> Tensor:
        """Return w' of λ' (H, W): |λ'| over its mean times P0, or over its mean."""
        scale = (scale.detach() if self.detach_weights else scale).abs()
        pixels = self.bn.num_features
        return _shares(scale, scale.mean() * pixels, pixels if self.weight_norm == "mean" else 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return x · σ(w' · BN(x)), of x's shape and dtype."""
        bn = self.bn
        count = x.shape[0] * x.shape[1]
        if bn.training and count == 1:
            raise ValueError(
                f"NAM: batch statistics need more than one value per pixel, got an input of shape {tuple(x.shape)} "
                "in training mode; use a larger batch or more channels, or eval()"
            )
        z = at_least_float32(x)
        size = x.shape[2:]
        if bn.training:
            scale, shift = self._resized((bn.weight, bn.bias), size, z.dtype)
            var, mean = torch.var_mean(z, (0, 1), correction=0)
            self._update(mean.detach(), var.detach() * (count / (count - 1)))
        else:
            held = (bn.weight, bn.bias, bn.running_mean, bn.running_var)
            scale, shift, mean, var = self._resized(held, size, z.dtype)
        w = self.weights(scale)
        y = (z - mean) * (w * scale * (var + bn.eps).rsqrt()) + w * shift
        return cast(z * y.sigmoid(), x.dtype)

    def _resized(self, held: Sequence[Tensor], size: Sequence[Any], dtype: torch.dtype) -> tuple[Tensor, ...]:
        return resize(torch.stack([cast(t, dtype).reshape(self.grid) for t in held]), size).unbind()

    @torch.no_grad()
    def _update(self, mean: Tensor, var: Tensor) -> None:
        """Move the running statistics towards a batch's, as nn.BatchNorm1d does."""
        bn = self.bn
        momentum = bn.momentum or 0.0
        new = resize(torch.stack((mean, var)), self.grid).flatten(1)
        for running, value in zip((bn.running_mean, bn.running_var), new, strict=True):
            running.copy_((1 - momentum) * running.to(value.dtype) + momentum * value)
        bn.num_batches_tracked.add_(1)

    def extra_repr(self) -> str:
        """Show what the batch norm below does not."""
        return f"grid={self.grid}"


class NAM(AttentionLayer):
    """Gate channels, and pixels if asked to, by their batch norm scales (Liu et al., arXiv 2111.12419).

    x · σ(w · BN(x)) with w = |γ| / Σ|γ|, then the same with one scale λ for each pixel of a reference grid, which is
    resized to the map (NAMSpatial has the definition).

    Shape:
        (B, C, H, W) → (B, C, H, W), same dtype and memory format; H and W may differ from the grid's.

    Args:
        channels: C of the input.
        spatial: whether the spatial part follows the channel part.
        grid: (H0, W0) of the spatial part, or one number for a square: the map's size in the usual training. Goes with
            spatial=True, and only with it.
        weight_norm: "sum" for |γ| / Σ|γ| (the authors'), "mean" for the same · C; |λ| likewise, · H0·W0.
        detach_weights: whether w is a constant to the gradients of γ and λ, as in the authors' code.
        eps: of the batch norms.
        momentum: of the batch norms; their running statistics are always a moving average.
        gain: factor on the output.

    Raises:
        ValueError: if an option is out of range; in forward, if training sees a single value per channel, or per pixel
            with spatial=True.
    """

    def __init__(
        self,
        channels: int,
        *,
        spatial: bool = False,
        grid: int | tuple[int, int] | list[int] | None = None,
        weight_norm: str = "sum",
        detach_weights: bool = True,
        eps: float = 1e-5,
        momentum: float = 0.1,
        gain: float = 1.0,
    ) -> None:
        super().__init__(gain)
        check_positive_ints("NAM", channels=channels)
        if type(spatial) is not bool:
            raise ValueError(f"NAM: spatial must be True or False, got {spatial!r}")
        size = _check_grid(grid, spatial)
        if weight_norm not in ("sum", "mean"):
            raise ValueError(f"NAM: weight_norm={weight_norm!r} is unknown; allowed: 'sum', 'mean'")
        if type(detach_weights) is not bool:
            raise ValueError(f"NAM: detach_weights must be True or False, got {detach_weights!r}")
        if type(eps) not in (int, float) or not 0 < eps < math.inf:
            raise ValueError(f"NAM: eps must be a finite number > 0, got {eps!r}")
        if type(momentum) not in (int, float) or not 0 < momentum <= 1:
            raise ValueError(f"NAM: momentum must be a number with 0 < momentum <= 1, got {momentum!r}")
        options: Any = {
            "weight_norm": weight_norm,
            "detach_weights": detach_weights,
            "eps": eps,
            "momentum": momentum,
        }
        self.channel = NAMChannel(channels, **options)
        self.spatial = NAMSpatial(size, **options) if size else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated x, of x's shape and dtype."""
        out = self.channel(x)
        if self.spatial is not None:
            out = self.spatial(out)
        return cast(scaled(out, self.gain), x.dtype)  # rounded once

    def fuse(self) -> None:
        """Fold the channel part's weights and batch norm into two numbers a channel, in place, for inference.

        From then on it uses the running statistics in either mode, and `channel.bn` is a FoldedNorm. The spatial part
        remains: what it would fold into depends on the size of the map. A second call does nothing.
        """
        self.channel.fuse()

    def extra_repr(self) -> str:
        """Show what the batch norms below do not."""
        return f"weight_norm={self.channel.weight_norm!r}, detach_weights={self.channel.detach_weights}"


def _check_grid(grid: Any, spatial: bool) -> tuple[int, int] | None:
    """Return grid as (H0, W0), or None without spatial."""
    if not spatial:
        if grid is not None:
            raise ValueError(f"NAM: grid={grid!r} has no meaning without spatial=True")
        return None
    if grid is None:
        raise ValueError(
            "NAM: spatial=True needs grid, the (H, W) of the map in the usual training: grid=40 for a map of stride 16 "
            "at 640 × 640"
        )
    size = tuple(grid) if isinstance(grid, tuple | list) else (grid, grid)
    if len(size) != 2 or not all(type(n) is int and 0 < n <= LARGEST_SIDE for n in size):
        raise ValueError(
            f"NAM: grid must be a positive int or two of them, (H, W), got {grid!r}; at most {LARGEST_SIDE} each"
        )
    return size


def _shares(scale: Tensor, total: Tensor, factor: int) -> Tensor:
    """Return factor · scale / total, or 0 where the total vanishes."""
    # A clamp would do for the value; its gradient (0 · inf) would not.
    w = scale / torch.where(total >= torch.finfo(scale.dtype).tiny, total, 1.0)
    return w if factor == 1 else w * factor
