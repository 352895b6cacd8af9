"""The forms of SimAM, NAM and GAM, how one is run, and whether it computes what the naive one does."""

import copy
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from speed.naive import naive
from speed.timing import Form, Forms
from yolo_attn.kernels import simam
from yolo_attn.kernels.choice import has_triton
from yolo_attn.layers import GAM, NAM, SimAM

simam_forward: Any = torch.compile(simam.forward, dynamic=False)
simam_backward: Any = torch.compile(simam.backward, dynamic=False)

KINDS = ("output", "gradient of x", "gradients of the parameters")


class _ClosedForm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, e_lambda: float, gain: float) -> Tensor:
        out, mean, inverse = simam_forward(x, e_lambda, gain)
        ctx.gain = gain
        ctx.save_for_backward(x, mean, inverse)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return simam_backward(grad, *ctx.saved_tensors, ctx.gain), None, None


class CompiledClosedForm(nn.Module):
    """SimAM with its two passes in closed form, each compiled: what kernels written by hand have to beat.

    Under torch.compile the layer itself takes the plain formula, so "compiled ours" is another form.
    """

    def __init__(self, layer: SimAM) -> None:
        super().__init__()
        self.numbers = layer.e_lambda, layer.gain

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated x."""
        return _ClosedForm.apply(x, *self.numbers)


class Pass:
    """A pass through a module: forward in inference, or backward too, from `grad`; of half precision under autocast."""

    def __init__(self, module: nn.Module, x: Tensor, grad: Tensor | None) -> None:
        layout = torch.contiguous_format if x.is_contiguous() else torch.channels_last
        self.module = module.to(x.device).to(memory_format=layout).train(grad is not None)
        self.x, self.grad = x, grad
        self.half = x.dtype if x.dtype != torch.float32 else None
        self.wanted = [x, *module.parameters()]

    def forward(self) -> Tensor:
        """Return the output."""
        with torch.autocast(self.x.device.type, self.half) if self.half else nullcontext():
            return self.module(self.x)

    def __call__(self) -> tuple[Tensor, ...]:
        """Return the output, and the gradients of x and of the parameters where there is a backward pass."""
        if self.grad is None:
            with torch.no_grad():
                return (self.forward(),)
        out = self.forward()
        self.grad = self.grad.to(out.dtype)  # by the first call alone; naive code widens half precision
        return (out.detach(), *torch.autograd.grad(out, self.wanted, self.grad))


def layer_forms(layer: SimAM | NAM | GAM, x: Tensor, grad: Tensor | None, compiled: bool) -> Forms:
    """The forms of a layer on an input, with equal weights; compiled ones too if asked for."""
    modules: dict[str, nn.Module] = {"naive": naive(layer), "ours": copy.deepcopy(layer)}
    modes = {"formula": "0", "Triton": "1"}
    if not isinstance(layer, GAM):  # which has no other
        modules["formula"] = copy.deepcopy(layer)
    if isinstance(layer, SimAM):
        if x.is_cuda and has_triton():
            modules["Triton"] = copy.deepcopy(layer)
    elif grad is None:
        fused = modules["fused"] = copy.deepcopy(layer)
        fused.fuse()
    for name in ("naive", "ours") if compiled else ():
        forward: Any = torch.compile(copy.deepcopy(modules[name]), dynamic=False)
        modules[f"compiled {name}"] = forward
    if compiled and isinstance(layer, SimAM):
        modules["compiled closed form"] = CompiledClosedForm(layer)
    forms = Forms()
    for name, module in modules.items():
        forms[name] = Form(Pass(module, x, grad), modes.get(name, "auto"))
    return forms


def convolutions(layer: GAM) -> nn.Module:
    """The four convolutions of GAM alone: nothing that calls these can take less time."""
    channel, spatial = layer.channel, layer.spatial
    return nn.Sequential(channel.fc1, channel.fc2, spatial.conv1, spatial.conv2)


def check(forms: Forms, tolerance: float) -> None:
    """Take out the forms that are off by more than a share of the naive form's largest value of the kind.

    All parameters are of one kind: the biases before GAM's batch norms have no gradient but rounding.
    """
    expected = _by_kind(forms["naive"].call())
    for name in list(forms):
        with forms.attempt(name):
            for kind, values in _by_kind(forms[name].call()).items():
                off = ((values - expected[kind]).abs().max() / expected[kind].abs().max()).item()
                if not off <= tolerance:
                    raise ValueError(f"{kind} off by {off:.1e} of the naive form's largest")


def _by_kind(found: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Output and gradients as vectors, since forms keep their parameters in different shapes."""
    parts = zip(KINDS, (found[:1], found[1:2], found[2:]), strict=True)
    return {kind: torch.cat([t.float().flatten() for t in tensors]) for kind, tensors in parts if tensors}
