"""SimAM with a backward pass of its own, which keeps x and two numbers a plane.

With d = x − μ, n = max(N − 1, 1), N = H·W, D = 4 (Σd²/n + λ), s = σ(d²/D + ½) and a = g · x · s (1 − s):

    out = x · s        dx = g · s + (2/D) · (a·d − Σ(a·d)/N − (4/(n·D)) · Σ(a·d²) · d)

All is plain PyTorch, in place after the first step, so that any layout and device is served by the same lines;
simam_triton.py has the same two functions for GPUs.
"""

import importlib
import math
from typing import Any

import torch
from torch import Tensor

from yolo_attn.kernels.autograd import gradients
from yolo_attn.kernels.choice import runs_triton


def simam(x: Tensor, e_lambda: float, gain: float) -> Tensor:
    """Return gain · x · σ(y), of x's shape, dtype and memory format; x has elements.

    Args:
        x: (B, C, H, W), of a floating dtype.
        e_lambda: λ > 0; one that the arithmetic would round to zero is taken as its smallest normal number.
        gain: factor on the output.
    """
    if x.requires_grad and torch.is_grad_enabled():
        return _SimAM.apply(x, e_lambda, gain)
    return _form(x).forward(x, e_lambda, gain)[0]


class _SimAM(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, e_lambda: float, gain: float) -> Tensor:
        ctx.form, ctx.gain = _form(x), gain
        out, mean, inverse = ctx.form.forward(x, e_lambda, gain)
        ctx.save_for_backward(x, mean, inverse)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return gradients(ctx.form.backward, grad, *ctx.saved_tensors, ctx.gain), None, None


def _form(x: Tensor) -> Any:
    """The module whose `forward` and `backward` take x: this one, or that of the Triton kernels."""
    return importlib.import_module("yolo_attn.kernels.simam_triton" if runs_triton(x) else __name__)


def forward(x: Tensor, e_lambda: float, gain: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return out, μ and 1/D."""
    z = x.to(torch.promote_types(x.dtype, torch.float32))
    n = max(x.shape[2] * x.shape[3] - 1, 1)
    mean = z.mean((2, 3), keepdim=True)
    y = torch.ops.aten.mse_loss(z, mean, 0)  # (z − μ)² in one pass
    e_lambda = max(e_lambda, torch.finfo(z.dtype).tiny)
    inverse = y.sum((2, 3), keepdim=True).mul_(4 / n).add_(4 * e_lambda).reciprocal_()
    # z · σ(y + ½) as z / (1 + e^−½ · 2^(−y · log₂e)): exp2 is the quickest way to σ on a CPU, and ½ takes no pass.
    power = y.mul_(inverse * -math.log2(math.e)).exp2_()
    out = torch.add(z.new_ones(()), power, alpha=math.exp(-0.5), out=power)
    torch.div(z, out, out=out)
    if gain != 1:
        out.mul_(gain)
    return out.to(x.dtype), mean, inverse


def backward(grad: Tensor, x: Tensor, mean: Tensor, inverse: Tensor, gain: float) -> Tensor:
    """Return dx of x's dtype."""
    z, g = x.to(mean.dtype), grad.to(mean.dtype)
    n = max(x.shape[2] * x.shape[3] - 1, 1)
    d = z - mean
    s = (d * inverse).mul_(d).add_(0.5).sigmoid_()
    gs = s * g
    ad = torch.addcmul(gs, gs, s, value=-1, out=s).mul_(z).mul_(d)
    first = ad.mean((2, 3), keepdim=True)
    second = (ad * d).sum((2, 3), keepdim=True).mul_(4 / n).mul_(inverse)
    dx = gs.addcmul_(ad.addcmul_(d, second, value=-1).sub_(first), inverse, value=2)
    if gain != 1:
        dx.mul_(gain)
    return dx.to(x.dtype)
