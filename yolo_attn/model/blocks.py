"""Attention inside Ultralytics' blocks: where it stands in each, and how it gets there.

Ultralytics builds the block under its own name; then layers are attached to some of its inner modules. Nothing of the
block is renamed, so a variant has the block's keys and shapes plus the attention's, and what Ultralytics calls later
(`forward_split` at export, `forward_fuse` after fusing) runs the attention too. docs/blocks.md has the table.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import nn

from yolo_attn.layers.attended import AttendedConv, attend

HOOK_ID = -1
"""Key of our hook. PyTorch counts its own from 0 in each process, and would give a key of another process again."""

ATTRIBUTE = "attention"
"""What attention inside a block is called there, and so in the names of its tensors."""

WHERE = ("end", "pre_bn", "out")

UNITS: dict[str, tuple[str, ...]] = {
    "C2f": ("Bottleneck",),
    "C3": ("Bottleneck",),
    "C3k2": ("Bottleneck", "PSABlock"),
    "C2fCIB": ("CIB",),
    "A2C2f": ("ABlock", "Bottleneck"),
    "RepNCSPELAN4": ("Bottleneck",),
    "C3Ghost": ("GhostBottleneck",),
    "RepC3": ("RepConv",),
    "HGBlock": ("HGBlock",),
    "ResNetLayer": ("ResNetBlock",),
    "Bottleneck": ("Bottleneck",),
    "TorchVision": ("mobilenetv2.InvertedResidual",),
    "Stage": ("resnet.BasicBlock", "resnet.Bottleneck", "mobilenetv2.InvertedResidual"),
}
"""Blocks that have attention variants, and the kinds of units in them that "end" and "pre_bn" mean.

Before the dot stands the module of torchvision's that the class is of.
"""

END: dict[str, Callable[[Any], nn.Module]] = {
    "Bottleneck": lambda unit: unit.cv2,
    "CIB": lambda unit: unit.cv1[-1],
    "ABlock": lambda unit: unit.mlp[-1],
    "PSABlock": lambda unit: unit.ffn[-1],
    "GhostBottleneck": lambda unit: unit.conv[-1],
    "RepConv": lambda unit: unit,
    "HGBlock": lambda unit: unit.ec,
    "ResNetBlock": lambda unit: unit.cv3,
    "mobilenetv2.InvertedResidual": lambda unit: unit.conv,
    "resnet.BasicBlock": lambda unit: unit.bn2,
    "resnet.Bottleneck": lambda unit: unit.bn3,
}
"""The module of a unit whose output is the unit's branch, before the addition where there is one."""

LAST_SPATIAL: dict[str, Callable[[Any], tuple[nn.Module, str]]] = {
    "Bottleneck": lambda unit: (unit, "cv2"),
    "CIB": lambda unit: (unit.cv1, str(len(unit.cv1) - 1)),
    "ResNetBlock": lambda unit: (unit, "cv2"),
    "HGBlock": lambda unit: (unit.m[-1], "conv2") if hasattr(unit.m[-1], "conv2") else (unit.m, str(len(unit.m) - 1)),
    "mobilenetv2.InvertedResidual": lambda unit: (unit.conv, str(len(unit.conv) - 3)),  # then come pointwise and norm
    "resnet.BasicBlock": lambda unit: (unit, "conv2"),
    "resnet.Bottleneck": lambda unit: (unit, "conv2"),
}
"""Owner and name of a unit's last spatial convolution with a batch norm of its own; other kinds have none."""


def place_attention(block: Any, name: str, where: str, build: Callable[[int], nn.Module], channels: int) -> None:
    """Put attention into a block that Ultralytics has built.

    Args:
        block: The block.
        name: Its name, one of `UNITS`.
        where: "end", at the end of each unit's branch; "pre_bn", before the batch norm of each unit's last spatial
            convolution; "out", once, on the block's output.
        build: Makes the layer for a number of channels.
        channels: Of the block's output.

    Raises:
        ValueError: If the place means nothing in this block.
    """
    if where == "out":
        if getattr(block, "split", False):
            raise ValueError(f"where: out means nothing in this {name}; it returns a list of maps; write end or pre_bn")
        _attach(block, build(channels))
        return
    every = [(kind, m) for m in block.modules() for kind in UNITS[name] if _is_a(m, kind)]
    units = [(kind, unit) for kind, unit in every if where == "end" or kind in LAST_SPATIAL]
    if not units:
        raise ValueError(f"where: {where} means nothing in this {name}; {_reason(name, bool(every))}")
    for kind, unit in units:
        if where == "end":
            target = END[kind](unit)
            _attach(target, build(_out_channels(target)))
        else:
            owner, attribute = LAST_SPATIAL[kind](unit)
            conv = owner.get_submodule(attribute)
            setattr(owner, attribute, _before_norm(conv, build(_out_channels(conv))))


def _attach(module: Any, attention: nn.Module) -> None:
    module.attention = attention
    if not isinstance(module, nn.Sequential):  # which runs what it is given
        module._forward_hooks[HOOK_ID] = attend


def _before_norm(conv: Any, attention: nn.Module) -> nn.Module:
    """The convolution with attention before its batch norm, and its parts under their own names."""
    if isinstance(conv, nn.Conv2d):  # whose batch norm stands behind it
        _attach(conv, attention)
        return conv
    if not isinstance(conv, nn.Sequential):
        return AttendedConv(conv, attention)
    (first, convolution), *rest = conv.named_children()
    return nn.Sequential(OrderedDict([(first, convolution), (ATTRIBUTE, attention), *rest]))


def _is_a(module: nn.Module, kind: str) -> bool:
    """By name, since not every supported Ultralytics has every class."""
    file, _, name = kind.rpartition(".")
    named = any(base.__name__ == name for base in type(module).__mro__)
    return named and (not file or type(module).__module__ == f"torchvision.models.{file}")


def _out_channels(module: Any) -> int:
    if isinstance(module, nn.Conv2d):
        return module.out_channels
    if isinstance(module, nn.Sequential | nn.BatchNorm2d):
        return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)][-1].num_features
    if hasattr(module, "conv"):  # Conv and its kin
        return module.conv.out_channels
    return module.c2 if hasattr(module, "c2") else 2 * module.cv1.conv.out_channels  # RepConv, GhostConv


def _reason(name: str, has_units: bool) -> str:
    if name == "TorchVision":
        return "of torchvision's models only mobilenet_v2 is known inside; write out"
    if has_units:
        return "none of its units has one spatial convolution with one batch norm on its branch; write end or out"
    return "it has no residual unit; write out"
