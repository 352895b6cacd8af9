"""`yolo-attn layers`: list the layers that a model YAML may name, with options and cost."""

import argparse
import inspect
import shutil
import textwrap
from typing import Any

from yolo_attn.cli.arguments import add_import_option

CHANNELS, SIZE = 256, 40
"""Channels, and height and width in pixels, of the map on which a layer's cost is measured."""

BLOCKS = """Every layer also works inside these blocks, named such as C2f_NAM:
{blocks}
The option `where` says at which place: {where}.

In a model YAML:
  - [-1, 1, GAM, []]                                # its own row; channels are never given
  - [-1, 1, GAM, [{{ratio: 8, groups: 4}}]]           # with options
  - [-1, 3, C2f_NAM, [128, True, {{where: pre_bn}}]]  # inside a block, after the block's own arguments"""


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("layers", help="list the layers: papers, options, parameters, FLOPs, blocks")
    add_import_option(parser)


def run(args: argparse.Namespace, further: list[str]) -> None:
    """Print the table."""
    from yolo_attn.model.blocks import UNITS, WHERE
    from yolo_attn.model.registry import LAYERS

    width = min(shutil.get_terminal_size().columns, 120)
    print(f"Cost at the defaults on a map of {CHANNELS} channels, {SIZE}×{SIZE} pixels, by Ultralytics' counter.\n")
    print(f"{'layer':<18}{'parameters':>12}{'MFLOPs':>10}   options and defaults")
    for name, layer in sorted(LAYERS.items(), key=lambda item: item[0].lower()):
        parameters, flops = cost(layer)
        row = f"{name:<18}{parameters:>12,}{flops / 1e6:>10,.2f}   "
        print(textwrap.fill(row + (options(layer) or "none"), width, subsequent_indent=" " * len(row)))
        print(_indented(_first_line(layer), width))
    where = ", ".join([f"{WHERE[0]} (default)", *WHERE[1:]])
    print("\n" + BLOCKS.format(blocks=_indented(" ".join(UNITS), width), where=where))


def cost(layer: type[Any]) -> tuple[int, float]:
    """Return parameters, and floating-point operations on a map of CHANNELS × SIZE × SIZE, of a layer's defaults.

    Operations are Ultralytics' count, twice the multiply-adds, plus those that layers report themselves.
    """
    import torch
    from thop import profile

    module = layer(CHANNELS).eval()
    macs, _ = profile(module, inputs=(torch.zeros(1, CHANNELS, SIZE, SIZE),), verbose=False)
    return sum(p.numel() for p in module.parameters()), 2 * macs


def options(layer: type[Any]) -> str:
    """Return a layer's options and their defaults as in a model YAML."""
    from yolo_attn.model.rows import options_of

    return ", ".join(f"{name}: {_text(default)}" for name, default in options_of(layer).items())


def _text(value: Any) -> str:
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def _first_line(layer: type[Any]) -> str:
    return inspect.cleandoc(layer.__doc__ or layer.__module__).splitlines()[0]


def _indented(text: str, width: int) -> str:
    return textwrap.fill(text, width, initial_indent="  ", subsequent_indent="  ")
