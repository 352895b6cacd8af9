"""Batch norms in another dtype than their own, and folded: into a convolution, or to two numbers a channel."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module
from torch.nn.utils.fusion import fuse_conv_bn_weights

from yolo_attn.layers.common import cast

GLOBAL_HOOKS = ("forward", "forward_pre", "backward", "backward_pre")
"""Kinds of hooks that are called for every module."""


def may_be_bypassed(bn: Any) -> bool:
    """Whether the forward of a bn in training may be bypassed: no hook listens, and no other rank has a part in it."""
    hooks = (bn._forward_hooks, bn._forward_pre_hooks, bn._backward_hooks, bn._backward_pre_hooks)
    everywhere = (getattr(module, f"_global_{hook}_hooks") for hook in GLOBAL_HOOKS)
    if any(hooks) or any(everywhere):
        return False
    if bn.running_mean is None:  # torch.func.replace_all_batch_norm_modules_
        return False
    return isinstance(bn, nn.BatchNorm2d) and bn.momentum is not None


def batch_norm(bn: Any, z: Tensor) -> Tensor:
    """Return bn(z) in z's dtype, also where bn's parameters have another (float16 after `model.half()`)."""
    if bn.weight.dtype == z.dtype:
        return bn(z)
    mean, var = bn.running_mean.to(z.dtype), bn.running_var.to(z.dtype)
    weight, bias = bn.weight.to(z.dtype), bn.bias.to(z.dtype)
    z = F.batch_norm(z, mean, var, weight, bias, bn.training, bn.momentum or 0.0, bn.eps)
    if bn.training:
        keep(bn, mean, var)
    return z


def keep(bn: Any, mean: Tensor, var: Tensor) -> None:
    """Let bn hold the statistics to which a batch has moved its own, or copies of them in another dtype."""
    if mean is not bn.running_mean:
        bn.running_mean.copy_(mean)
        bn.running_var.copy_(var)
    bn.num_batches_tracked.add_(1)


class FoldedNorm(nn.Module):
    """scale · x + shift, each of shape (C,): what stands where a weighted batch norm was."""

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, x: Tensor) -> Tensor:
        """Return scale · x + shift in x's dtype."""
        scale, shift = (cast(self.get_buffer(name), x.dtype).reshape(1, -1, 1, 1) for name in ("scale", "shift"))
        return x * scale + shift

    def extra_repr(self) -> str:
        """Show the number of channels."""
        return str(len(self.get_buffer("scale")))


@torch.no_grad()
def fold_into(conv: nn.Conv2d, bn: nn.Module) -> nn.Module:
    """Fold bn into the convolution before it, which has a bias, and return what stands in bn's place."""
    if not isinstance(bn, nn.modules.batchnorm._BatchNorm):
        return bn
    assert conv.bias is not None
    assert bn.running_mean is not None
    assert bn.running_var is not None
    # In float64, on the CPU because not every device has it: a float16 fold would round at every step.
    w, b, mean, var, scale, shift = (
        t.cpu().double() for t in (conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.weight, bn.bias)
    )
    weight, bias = fuse_conv_bn_weights(w, b, mean, var, bn.eps, scale, shift)
    conv.weight.copy_(weight)
    conv.bias.copy_(bias)
    return nn.Identity()
