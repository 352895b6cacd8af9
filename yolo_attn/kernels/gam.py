"""GAM's gates in half precision, x · σ(a), with a backward pass that keeps x and a and forms the gate again.

Autograd would keep the gate, which is float32 and so twice as large as a. In float32 they are of one size.
"""

from typing import Any

import torch
from torch import Tensor

from yolo_attn.kernels.autograd import Grads, gradients


def sigmoid_gate(x: Tensor, a: Tensor) -> Tensor:
    """Return x · σ(a), of x's dtype, at most float32; a has x's shape, in half precision.

    Gate and product are float32.
    """
    return _SigmoidGate.apply(x, a)


class _SigmoidGate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor) -> Tensor:
        ctx.save_for_backward(x, a)
        return _gate(a).mul_(x).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Grads:
        return gradients(_backward, grad, *ctx.saved_tensors)


def _backward(grad: Tensor, x: Tensor, a: Tensor) -> Grads:
    s = _gate(a)
    gs = s * grad
    da = torch.addcmul(gs, gs, s, value=-1, out=s).mul_(x)
    return gs.to(x.dtype), da.to(a.dtype)


def _gate(a: Tensor) -> Tensor:
    return a.float().sigmoid_()
