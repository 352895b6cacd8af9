"""Backward passes that are written out: differentiable once, and for one gradient at a time."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from yolo_attn.kernels.switch import VARIABLE

Grads = tuple[Tensor | None, ...]


def once_differentiable(backward: Callable[[Any, tuple[Tensor, ...], Tensor], Grads]) -> Callable[[Any, Tensor], Grads]:
    """Make a Function's backward of one that also takes the saved tensors, with clear errors for what it cannot.

    A gradient that it returns raises an error when it is differentiated itself, and so does a batch of gradients that
    comes in as one. PyTorch's decorator of this name does the first, with an error that knows no way out.
    """

    @functools.wraps(backward)
    def wrapper(ctx: Any, grad: Tensor) -> Grads:
        if "Batched" in str(torch._C._dispatch_keys(grad)):  # by torch.func, or by the older way of torch.autograd
            raise _refusal("do not take a batch of gradients")
        saved = ctx.saved_tensors  # read once: activation checkpoints hand them out no second time
        with torch.no_grad():
            grads = backward(ctx, saved, grad)
        if not torch.is_grad_enabled():
            return grads
        return tuple(g if g is None else _Refusal.apply(g, grad, *saved) for g in grads)

    return wrapper


class _Refusal(torch.autograd.Function):
    """The identity; depends on all that a gradient was computed from, and has no gradient of its own."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, *inputs: Tensor) -> Tensor:
        return grad.view_as(grad)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        raise _refusal("have no second derivative")


def _refusal(what: str) -> RuntimeError:
    return RuntimeError(
        f"the fast forms of attention layers {what}; for that their plain formulas are: "
        f'set {VARIABLE}=0 or call yolo_attn.set_kernels("0")'
    )
