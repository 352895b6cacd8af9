"""NAM's channel gate, x · σ(w · BN(x)), with backward passes of their own that keep x and a few numbers a channel.

w · BN(x) is a batch norm whose scale and shift are w·γ and w·β; with running statistics it is one scale and one shift a
channel. The gate is formed again in the backward pass. Autograd goes on from the vectors to γ and β, and to w where w
has a gradient.

A Triton gate waits for a GPU on which that of SimAM has shown its worth.
"""

from typing import Any

import torch
from torch import Tensor

from yolo_attn.kernels.autograd import Grads, once_differentiable


def affine_gate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return x · σ(scale · x + shift), in the dtype of scale; x has elements.

    Args:
        x: (B, C, H, W), of scale's dtype or a narrower one.
        scale: (C,), of float32 or float64.
        shift: (C,), likewise.
    """
    if torch.is_grad_enabled() and (x.requires_grad or scale.requires_grad or shift.requires_grad):
        return _AffineGate.apply(x, scale, shift)
    return _affine_gate(x, scale, shift)


def batch_norm_gate(
    x: Tensor, w: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor, momentum: float, eps: float
) -> Tensor:
    """Return x · σ(w · BN(x)) with the batch's statistics, in the dtype of w; x has elements.

    Args:
        x: (B, C, H, W), of w's dtype or a narrower one.
        w: (C,), of float32 or float64.
        gamma: (C,), likewise; the batch norm's scale.
        beta: (C,), likewise; the batch norm's shift.
        mean: (C,), likewise; moved towards the batch's.
        var: (C,), likewise.
        momentum: by which the two are moved.
        eps: added to the variance.
    """
    return _BatchNormGate.apply(x, w, gamma, beta, mean, var, momentum, eps)


class _AffineGate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        ctx.save_for_backward(x, scale, shift)
        return _affine_gate(x, scale, shift)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, saved: tuple[Tensor, ...], grad: Tensor) -> Grads:
        x, scale, shift = saved
        z = x.to(scale.dtype)
        gs, q = _parts(grad, z, scale, shift)
        dscale = (q * z).sum((0, 2, 3)) if ctx.needs_input_grad[1] else None
        dshift = q.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
        dx = q.mul_(_wide(scale)).add_(gs).to(x.dtype) if ctx.needs_input_grad[0] else None
        return dx, dscale, dshift


class _BatchNormGate(torch.autograd.Function):
    """Batch norm is PyTorch's own, by the backend that it would take itself; on CPUs its forward pass is not always."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor, *options: float
    ) -> Tensor:
        z = x.to(w.dtype)
        batch_norm = _batch_norm_on_cpu if z.device.type == "cpu" and z.is_contiguous() else _batch_norm
        y, batch_mean, inverse, reserved, ctx.backend = batch_norm(z, w * gamma, w * beta, mean, var, *options)
        ctx.save_for_backward(x, w, gamma, beta, batch_mean, inverse, reserved)
        ctx.eps = options[-1]
        return y.sigmoid_().mul_(z)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, saved: tuple[Tensor, ...], grad: Tensor) -> Grads:
        x, w, gamma, beta, mean, inverse, reserved = saved
        z, scale = x.to(w.dtype), w * gamma
        factor = scale * inverse
        gs, q = _parts(grad, z, factor, w * beta - factor * mean)
        dx, dscale, dshift = torch.ops.aten._batch_norm_impl_index_backward(
            ctx.backend, z, q, scale, None, None, mean, inverse, True, ctx.eps, [True] * 3, reserved
        )
        dw = gamma * dscale + beta * dshift if ctx.needs_input_grad[1] else None
        return dx.add_(gs).to(x.dtype), dw, w * dscale, w * dshift, None, None, None, None


def _batch_norm(z: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, var: Tensor, momentum: float, eps: float) -> Any:
    """Return BN(z), the batch's mean and 1 / √(v + ε), and what the backward pass asks for: reserved and backend."""
    return torch._batch_norm_impl_index(z, scale, shift, mean, var, True, momentum, eps, torch.backends.cudnn.enabled)


def _batch_norm_on_cpu(
    z: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, var: Tensor, momentum: float, eps: float
) -> Any:
    """Return what `_batch_norm` does; several times as fast as PyTorch's own where z is contiguous."""
    count = z.numel() // z.shape[1]
    batch_mean = z.mean((0, 2, 3))
    y = torch.ops.aten.mse_loss(z, _wide(batch_mean), 0)  # (z − μ)² in one pass
    batch_var = y.mean((0, 2, 3))
    mean.lerp_(batch_mean, momentum)
    var.lerp_(batch_var * (count / max(count - 1, 1)), momentum)
    inverse = (batch_var + eps).rsqrt_()
    factor = scale * inverse
    y = torch.mul(z, _wide(factor), out=y).add_(_wide(shift - factor * batch_mean))
    return y, batch_mean, inverse, z.new_empty(0, dtype=torch.uint8), 0


def _affine_gate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    z = x.to(scale.dtype)
    return (z * _wide(scale)).add_(_wide(shift)).sigmoid_().mul_(z)


def _parts(grad: Tensor, z: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Return g · s and g · s · (1 − s) · z, with s = σ(scale · z + shift)."""
    s = (z * _wide(scale)).add_(_wide(shift)).sigmoid_()
    gs = s * grad
    return gs, torch.addcmul(gs, gs, s, value=-1, out=s).mul_(z)


def _wide(vector: Tensor) -> Tensor:
    return vector.reshape(1, -1, 1, 1)
