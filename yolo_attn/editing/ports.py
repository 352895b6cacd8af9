"""Model YAMLs written for popular ports of the layers, translated row by row.

Ports have names of their own (`GAM_Attention`, `SEAttention`) and want channels by hand: `[-1, 1, CBAM, [1024, 7]]`.
"""

import re
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from yolo_attn.editing.text import ModelText, Row, flow, spliced

AFFIXES = re.compile(r"_|attention|attn|att(?![a-z])|module|block|layer")

KINDS = {
    "simam": ("SimAM", ("e_lambda",)),
    "nam": ("NAM", ()),
    "gam": ("GAM", ("ratio",)),
    "cbam": ("CBAM", ("ratio", "kernel_size")),
    "se": ("SE", ("ratio",)),
    "eca": ("ECA", ("kernel_size",)),
    "efficientchannel": ("ECA", ()),
    "bam": ("BAM", ("ratio", "dilation")),
    "coord": ("CoordAtt", ("ratio",)),
    "coordinate": ("CoordAtt", ("ratio",)),
    "ca": ("CoordAtt", ("ratio",)),
    "triplet": ("TripletAttention", ()),
    "ema": ("EMA", ("groups",)),
}
"""What a port's name means without its affixes: the layer, and its options in the port's order behind the channels."""

KERNELS = (3, 7)
"""What CBAM's kernel may be: alone, or alone behind the channels, such a number is one."""

LEAST_CHANNELS, SURELY_CHANNELS = 16, 64
"""From the one on an integer in the first place is channels; in the second from the other on, or a repeated first.

Under a layer's own name, which may have an option there, it is if it is a multiple of the other; of SimAM, whose λ is
below 10, as under a port's.
"""

PORTS_KERNEL = 3
"""Of ECA in ports that do not work it out from the channels."""


@dataclass(frozen=True)
class Migrated:
    """A translated model YAML.

    Attributes:
        text: The new text.
        changes: A line for each row that was changed.
        unknown: A line for each row that could not be translated.
        channels: The channels that each changed row of attention gave by hand.
        kept: Rows of layers here that stay as they are with options by position, which a port may mean otherwise.
    """

    text: str
    changes: list[str]
    unknown: list[str]
    channels: dict[int, int]
    kept: list[int]


def migrate(model: ModelText, layers: Container[str], blocks: Container[str], known: Container[str]) -> Migrated:
    """Translate the rows of ports.

    Args:
        model: The model YAML.
        layers: Names of the attention layers here.
        blocks: Names of the blocks that can have attention inside.
        known: Names that Ultralytics itself builds.
    """
    splices, changes, unknown, kept = [], [], [], []
    channels: dict[int, int] = {}
    for row in model.rows:
        try:
            name, arguments = _translated(row, layers, blocks, known)
        except ValueError as error:
            unknown.append(f"row {row.index}, {row.name} {flow(row.args)}: {error}")
            continue
        if (name, arguments) == (row.name, row.args):
            if name in layers and row.args and not isinstance(row.args[0], dict):
                kept.append(row.index)
            continue
        first = _number(row.args[0]) if row.args else None
        if name in layers and type(first) is int and first >= LEAST_CHANNELS:
            channels[row.index] = first
        notes = "; inside each unit, where: end" if name.partition("_")[2] and name not in layers else ""
        changes.append(f"row {row.index}: {row.name}, {flow(row.args)} -> {name}, {flow(arguments)}{notes}")
        splices += list(model.rewritten(row, name, flow(arguments) if arguments != row.args else None))
    return Migrated(spliced(model.text, splices), changes, unknown, channels, kept)


def port_of(name: str, blocks: Container[str]) -> str | None:
    """What a name of a port is here: GAM for GAM_Attention, C2f_NAM for C2f_NAMAttention; None if it is no port's."""
    block, layer = _inside(name, blocks)
    found = KINDS.get(_kind(layer or name))
    if not found:
        return None
    return f"{block}_{found[0]}" if block else found[0]


def _translated(
    row: Row, layers: Container[str], blocks: Container[str], known: Container[str]
) -> tuple[str, list[Any]]:
    """Name and arguments of a row here.

    Raises:
        ValueError: With the reason, if it has none.
    """
    block, layer = _inside(row.name, blocks)
    if row.name in layers:
        options = KINDS.get(_kind(row.name), ("", ()))[1]
        rest = _without_channels(row.args, LEAST_CHANNELS if row.name == "SimAM" else SURELY_CHANNELS)
        if len(rest) == len(row.args) and not _is_kernel(row.name, rest):
            return row.name, row.args
        return row.name, _options(row.name, options, rest)
    if block and layer in layers:
        return f"{block}_{layer}", row.args
    if row.name in known or row.name.startswith(("nn.", "torchvision.")):
        return row.name, row.args
    found = KINDS.get(_kind(layer if block else row.name))
    if not found:
        raise ValueError("no layer here has that name or one like it")
    name, options = found
    if block:
        return f"{block}_{name}", row.args
    return name, _options(name, options, _without_channels(row.args, LEAST_CHANNELS))


def _inside(name: str, blocks: Container[str]) -> tuple[str, str]:
    """Block and layer of a block variant's name, with an underscore or without."""
    for end in range(len(name) - 1, 1, -1):
        if name[:end] in blocks and (name[end] == "_" or _kind(name[end:]) in KINDS):
            return name[:end], name[end:].removeprefix("_")
    return "", ""


def _kind(name: str) -> str:
    return AFFIXES.sub("", name.lower())


def _options(layer: str, names: tuple[str, ...], rest: list[Any]) -> list[Any]:
    """What stands behind the channels of a row, as options by name.

    Raises:
        ValueError: If it means nothing that is known.
    """
    if layer == "NAM" and rest in ([True], [False]):  # no_spatial
        return [] if rest[0] else [{"spatial": True}]
    if layer == "ECA" and names and not rest:
        rest = [PORTS_KERNEL]
    if _is_kernel(layer, rest):
        names = names[1:]
    if len(rest) > len(names) or any(isinstance(value, str | list | dict) for value in rest):
        raise ValueError(f"what {flow(rest)} means is not known")
    return [dict(zip(names, rest, strict=False))] if rest else []


def _is_kernel(layer: str, rest: list[Any]) -> bool:
    return layer == "CBAM" and len(rest) == 1 and rest[0] in KERNELS


def _number(value: Any) -> Any:
    """A number that YAML reads as text, such as 1e-4 or "1024"; anything else as it is."""
    try:
        return value if not isinstance(value, str) else int(value) if value.isdecimal() else float(value)
    except ValueError:
        return value


def _without_channels(args: list[Any], least: int) -> list[Any]:
    args = [_number(value) for value in args]
    first, *others = args or [None]
    if type(first) is not int or first < least or first % (64 if least == SURELY_CHANNELS else 1):
        return args
    if others and type(others[0]) is int and others[0] >= SURELY_CHANNELS and others[0] != first:
        raise ValueError(f"{first} channels in and {others[0]} out; layers here keep the channels of their input")
    return others[1:] if others and others[0] == first else others
