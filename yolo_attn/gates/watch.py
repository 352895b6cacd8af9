"""The gates of a model's attention layers, watched while it runs.

A gate is what multiplies the input: out = gain · gate · x. It is taken from x and out, so it needs nothing of a layer
but its output: fast forms that never hold a gate have one, and so have folded layers and those of users. A product of
several gates, as CBAM's for channels and for space, counts as one.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from yolo_attn.gates.statistics import GateStatistics
from yolo_attn.layers.common import AttentionLayer
from yolo_attn.model.blocks import ATTRIBUTE
from yolo_attn.model.registry import is_attention
from yolo_attn.model.run_rows import run_rows
from yolo_attn.yaml_edit.row_names import RowName

TOO_SMALL = 16
"""An x under this many times its dtype's smallest normal number tells no gate: out is rounded more coarsely there."""


def attention_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The attention layers of a model by their module names, in rows and in blocks; parts of layers are none."""
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if is_attention(module) and not any(name.startswith(f"{outer}.") for outer in found):
            found[name] = module
    return found


def label_of(model: Any, name: str) -> str:
    """What a layer of `attention_layers` is called: "row 16 GAM", and "row 2 C2f_NAM m.0.cv2" in a block."""
    index, *inner = name.removeprefix("model.").split(".")
    row = model.model[int(index)]
    block = row[0] if type(row) is nn.Sequential else row
    layer = model.get_submodule(name)
    kind = type(layer).__name__
    kind = kind if isinstance(block, type(layer)) else str(RowName(type(block).__name__, kind))
    return " ".join([f"row {index}", kind, ".".join(part for part in inner if part != ATTRIBUTE)]).strip()


def gate_of(x: Tensor, out: Tensor, gain: float = 1.0) -> Tensor:
    """The gate of a layer.

    Args:
        x: Its input, (B, C, H, W), of a floating dtype.
        out: Its output, of x's shape.
        gain: The factor that it puts on its output besides.

    Returns:
        out / (gain · x), of x's shape, in float32 at least; NaN where x is 0 or next to it.
    """
    tells = x.abs() >= TOO_SMALL * torch.finfo(x.dtype).tiny
    wide = torch.promote_types(x.dtype, torch.float32)
    return torch.where(tells, out.to(wide) / (x.to(wide) * gain), torch.nan)


@contextlib.contextmanager
def watching(layers: dict[str, nn.Module], see: Callable[[str, Tensor], None]) -> Iterator[None]:
    """While it lasts, a layer that has run shows its gate; what the layers compute, and how, stays as it is.

    Args:
        layers: Layers by name.
        see: Takes a layer's name and its gate, as `gate_of` has it, after each of its runs; not of a user's layer that
            breaks the rule that its output has its input's shape. One gate exists at a time.
    """
    hooks: list[Any] = []
    try:
        for name, layer in layers.items():
            hooks += _watch(name, layer, see)
        yield
    finally:
        for hook in hooks:
            hook.remove()


def measure_gates(model: Any, batches: Iterable[Tensor]) -> dict[str, GateStatistics]:
    """Statistics of every attention layer's gate over images; the model stays as it is.

    Args:
        model: A model of Ultralytics'. It runs as in evaluation, up to its last attention.
        batches: Images (B, 3, H, W) between 0 and 1.

    Returns:
        The statistics by the layers' module names; empty for a model without attention.
    """
    layers = attention_layers(model)
    found = {name: GateStatistics() for name in layers}
    if layers:
        with watching(layers, lambda name, gate: found[name].add(gate)):
            run_rows(model, batches, max(int(name.split(".")[1]) for name in layers))
    return found


def _watch(name: str, layer: nn.Module, see: Callable[[str, Tensor], None]) -> tuple[Any, Any]:
    held: list[Tensor] = []

    def before(_: Any, inputs: tuple[Tensor, ...]) -> None:
        held[:] = [inputs[0].detach().clone()]  # a user's layer may write into its input

    def after(_: Any, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        x = held.pop()
        if out.shape == x.shape:
            see(name, gate_of(x, out.detach(), gain_of(layer)))

    return layer.register_forward_pre_hook(before), layer.register_forward_hook(after)


def gain_of(layer: nn.Module) -> float:
    """The factor that a layer of ours puts on its output besides its gate; 1 for a user's, whose formula is its own."""
    return layer.gain if isinstance(layer, AttentionLayer) else 1.0
