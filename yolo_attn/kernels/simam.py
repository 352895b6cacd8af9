"""SimAM with a backward pass of its own, which keeps x and two numbers a plane.

With d = x − μ, n = max(N − 1, 1), N = H·W, D = 4 (Σd²/n + λ), s = σ(d²/D + ½) and a = g · x · s (1 − s):

    out = x · s        dx = g · s + (2/D) · (a·d − Σ(a·d)/N − (4/(n·D)) · Σ(a·d²) · d)

All is plain PyTorch, in place after the first step, so that any layout and device is served by the same lines;
simam_triton.py has the same two functions for GPUs.
"""

import importlib
from typing import Any

import torch
from torch import Tensor

from yolo_attn.kernels.autograd import once_differentiable
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
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, inverse = ctx.saved_tensors
        return ctx.form.backward(grad, x, mean, inverse, ctx.gain), None, None


def _form(x: Tensor) -> Any:
    """The module whose `forward` and `backward` take x: this one, or that of the Triton kernels."""
    return importlib.import_module("yolo_attn.kernels.simam_triton" if runs_triton(x) else __name__)


def forward(x: Tensor, e_lambda: float, gain: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return out, μ and 1/D."""
    z = x.to(torch.promote_types(x.dtype, torch.float32))
    n = max(x.shape[2] * x.shape[3] - 1, 1)
    mean = z.mean((2, 3), keepdim=True)
    y = (z - mean).square_()
    e_lambda = max(e_lambda, torch.finfo(z.dtype).tiny)
    inverse = y.sum((2, 3), keepdim=True).mul_(4 / n).add_(4 * e_lambda).reciprocal_()
    out = y.mul_(inverse).add_(0.5).sigmoid_().mul_(z)
    if gain != 1:
        out.mul_(gain)
    return out.to(x.dtype), mean, inverse


def backward(grad: Tensor, x: Tensor, mean: Tensor, inverse: Tensor, gain: float) -> Tensor:
    """Return dx of x's dtype."""
    z, g = x.to(mean.dtype), grad.to(mean.dtype)
    n = max(x.shape[2] * x.shape[3] - 1, 1)
    d = z - mean
    s = d.square().mul_(inverse).add_(0.5).sigmoid_()
    gs = s * g
    ad = torch.addcmul(gs, gs, s, value=-1).mul_(z).mul_(d)
    first = ad.mean((2, 3), keepdim=True)
    second = torch.mul(ad, d, out=s).sum((2, 3), keepdim=True).mul_(4 / n).mul_(inverse)
    dx = ad.sub_(d.mul_(second).add_(first)).mul_(2 * inverse).add_(gs)
    if gain != 1:
        dx.mul_(gain)
    return dx.to(x.dtype)
