"""Gradients that are written out: they have no gradient of their own and take no batch, and say so."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from yolo_attn.kernels.switch import VARIABLE

Grads = tuple[Tensor | None, ...]

BATCH = "do not take a batch of gradients"


def gradients(compute: Callable[..., Grads], grad: Tensor, *saved: Any) -> Grads:
    """Return what `compute` makes of a gradient and of what was saved, in a backward pass.

    Where these are differentiated once more, or a batch of gradients comes in as one, an error names the way out.
    """
    try:
        return _Gradients.apply(compute, grad, *saved)
    except RuntimeError as error:
        if "Batching rule not implemented" in str(error):  # what torch.autograd says itself of a batch
            raise _refusal(BATCH) from error
        raise


class _Gradients(torch.autograd.Function):
    @staticmethod
    def forward(compute: Callable[..., Grads], *args: Any) -> Grads:
        return compute(*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise _refusal("have no second derivative")

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        raise _refusal(BATCH)


def _refusal(what: str) -> RuntimeError:
    return RuntimeError(
        f"the fast forms of attention layers {what}; for that their plain formulas are: "
        f'set {VARIABLE}=0 or call yolo_attn.set_kernels("0")'
    )
