"""NAM's channel gate in training, x · σ(w · BN(x)), with a backward pass that keeps x and a few numbers a channel.

w · BN(x) is a batch norm whose scale and shift are w·γ and w·β. The gate is formed again in the backward pass. Autograd
goes on from the vectors to γ and β, and to w where w has a gradient.

A Triton gate waits for a GPU on which that of SimAM has shown its worth.
"""

from typing import Any

import torch
from torch import Tensor

from yolo_attn.kernels.autograd import Grads, gradients


def batch_norm_gate(
    x: Tensor, w: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor, momentum: float, eps: float
) -> Tensor:
    """Return x · σ(w · BN(x)) with the batch's statistics, in the dtype of w; x has elements.

    x is (B, C, H, W), of w's dtype or a narrower one; the vectors are (C,), of float32 or float64: gamma and beta the
    batch norm's scale and shift, mean and var its running statistics, which momentum moves towards the batch's; eps is
    added to the variance.
    """
    return _BatchNormGate.apply(x, w, gamma, beta, mean, var, momentum, eps)


class _BatchNormGate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor, *options: float
    ) -> Tensor:
        z = x.to(w.dtype)
        batch_norm = _batch_norm if z.device.type == "cpu" and z.is_contiguous() else _batch_norm_of_torch
        y, batch_mean, inverse = batch_norm(z, w * gamma, w * beta, mean, var, *options)
        ctx.save_for_backward(x, w, gamma, beta, batch_mean, inverse)
        ctx.eps = options[-1]
        return y.sigmoid_().mul_(z)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Grads:
        return gradients(_batch_norm_backward, grad, *ctx.saved_tensors, ctx.eps, ctx.needs_input_grad[1])


def _batch_norm_backward(
    grad: Tensor,
    x: Tensor,
    w: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    inverse: Tensor,
    eps: float,
    needs_w: bool,
) -> Grads:
    z, scale = x.to(w.dtype), w * gamma
    factor = scale * inverse
    gs, q = _parts(grad, z, factor, w * beta - factor * mean)
    dx, dscale, dshift = torch.ops.aten.native_batch_norm_backward(
        q, z, scale, None, None, mean, inverse, True, eps, [True] * 3
    )
    dw = gamma * dscale + beta * dshift if needs_w else None
    return dx.add_(gs).to(x.dtype), dw, w * dscale, w * dshift, None, None, None, None


def _batch_norm_of_torch(
    z: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, var: Tensor, momentum: float, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return BN(z), and the batch's mean and 1 / √(v + ε)."""
    return torch.native_batch_norm(z, scale, shift, mean, var, True, momentum, eps)


def _batch_norm(
    z: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, var: Tensor, momentum: float, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `_batch_norm_of_torch` does; on CPUs several times as fast where z is contiguous."""
    count = z.numel() // z.shape[1]
    batch_mean = z.mean((0, 2, 3))
    y = torch.ops.aten.mse_loss(z, _wide(batch_mean), 0)  # (z − μ)² in one pass
    batch_var = y.mean((0, 2, 3))
    mean.lerp_(batch_mean, momentum)
    var.lerp_(batch_var * (count / max(count - 1, 1)), momentum)
    inverse = (batch_var + eps).rsqrt_()
    factor = scale * inverse
    y = torch.mul(z, _wide(factor), out=y).add_(_wide(shift - factor * batch_mean))
    return y, batch_mean, inverse


def _parts(grad: Tensor, z: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Return g · s and g · s · (1 − s) · z, with s = σ(scale · z + shift)."""
    s = (z * _wide(scale)).add_(_wide(shift)).sigmoid_()
    gs = s * grad
    return gs, torch.addcmul(gs, gs, s, value=-1, out=s).mul_(z)


def _wide(vector: Tensor) -> Tensor:
    return vector.reshape(1, -1, 1, 1)
