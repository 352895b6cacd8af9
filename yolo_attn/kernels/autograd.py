"""Backward passes that are written out, and differentiable once."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from yolo_attn.kernels.switch import VARIABLE

Backward = Callable[[Any, Tensor], tuple[Tensor | None, ...]]


def once_differentiable(backward: Backward) -> Backward:
    """Let gradients that a backward pass returns raise a clear error when they are differentiated themselves.

    PyTorch's decorator of this name does the same, with an error that knows no way out.
    """

    @functools.wraps(backward)
    def wrapper(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        with torch.no_grad():
            grads = backward(ctx, grad)
        if not torch.is_grad_enabled():
            return grads
        inputs = (grad, *ctx.saved_tensors)
        return tuple(g if g is None else _Refusal.apply(g, *inputs) for g in grads)

    return wrapper


class _Refusal(torch.autograd.Function):
    """The identity; depends on all that a gradient was computed from, and has no gradient of its own."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, *inputs: Tensor) -> Tensor:
        return grad.view_as(grad)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        raise RuntimeError(
            "the fast forms of attention layers have no second derivative, their plain formulas have: "
            f'set {VARIABLE}=0 or call yolo_attn.set_kernels("0")'
        )
