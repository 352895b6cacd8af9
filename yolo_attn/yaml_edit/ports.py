"""Translate model YAMLs that were written for popular ports of the layers, row by row.

Ports have their own names (`GAM_Attention`, `SEAttention`) and take channels by hand: `[-1, 1, CBAM, [1024, 7]]`.
The channels that the map really has tell which number is channels and which is an option.
"""

import re
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any

from yolo_attn.yaml_edit.row_names import RowName
from yolo_attn.yaml_edit.text import ModelText, Row, flow, spliced

AFFIXES = re.compile(r"_|attention|attn|att(?![a-z])|module|block|layer")


@dataclass(frozen=True)
class Port:
    """A layer, its options in the order that ports of it take, and whether most take channels in and channels out."""

    layer: str
    options: tuple[str, ...] = ()
    has_out: bool = False


COORDINATE = Port("CoordAtt", ("ratio",), has_out=True)

PORTS = {
    "simam": Port("SimAM", ("e_lambda",)),
    "nam": Port("NAM", (), has_out=True),
    "gam": Port("GAM", ("ratio",), has_out=True),
    "cbam": Port("CBAM", ("ratio", "kernel_size")),
    "se": Port("SE", ("ratio",)),
    "eca": Port("ECA", ("kernel_size",)),
    "efficientchannel": Port("ECA"),
    "bam": Port("BAM", ("ratio", "dilation")),
    "coord": COORDINATE,
    "coordinate": COORDINATE,
    "ca": COORDINATE,
    "triplet": Port("TripletAttention", ("kernel_size",)),
    "ema": Port("EMA", ("groups",), has_out=True),
}
"""By a port's lower-case name without affixes."""

LARGEST_OPTION = 64
"""Of a ratio, of groups, of a kernel. A larger int is channels, or wrong."""

LEAST_CHANNELS = 16
"""Of any map inside Ultralytics' models."""

KERNELS = (3, 7)
"""Values of CBAM's kernel_size: such a number alone, or alone after the channels, is the kernel."""

PORTS_KERNEL = 3
"""ECA's kernel_size in ports that do not compute it from the channels."""

HEADS = ("Detect", "Segment")
"""Heads that in YOLOv5 take anchors after the number of classes."""

RealChannels = Callable[[int], Sequence[int]]
"""Channels that may be written for a row's input map: first its real ones, then those at other scales."""


@dataclass(frozen=True)
class Migrated:
    """A translated model YAML.

    Attributes:
        text: The new text.
        changes: A line for each row that was changed.
        unknown: A line for each row that could not be translated.
        notes: A line for each number that may mean something else.
        kept: Rows that stay as they are with options by position, which a port may mean differently.
    """

    text: str
    changes: list[str]
    unknown: list[str]
    notes: list[str]
    kept: list[int]


def migrate(
    model: ModelText, layers: Container[str], blocks: Container[str], known: Container[str], channels: RealChannels
) -> Migrated:
    """Translate the rows of ports.

    `layers` are the names of this package's attention, `blocks` of those that take it inside, `known` what Ultralytics
    itself builds. `channels` is called only if every row's name is known.
    """
    nameless = [row for row in model.rows if _name_here(row.name, layers, blocks, known) is None]
    if nameless:
        unknown = [_unknown(row, "no layer has this name or a similar one") for row in nameless]
        return Migrated(model.text, [], unknown, [], [])
    splices, changes, unknown, notes, kept = [], [], [], [], []
    for row in model.rows:
        name = _name_here(row.name, layers, blocks, known) or row.name
        try:
            arguments, note = _arguments(row, name, layers, channels)
        except ValueError as error:
            unknown.append(_unknown(row, str(error)))
            continue
        if (name, arguments) == (row.name, row.args):
            if name in layers and row.args and not isinstance(row.args[0], dict):
                kept.append(row.index)
            continue
        why = "; inside each unit, where: end" if name not in layers and RowName.of(name).layer else ""
        why = "; heads have no anchors" if name in HEADS else why
        changes.append(f"row {row.index}: {row.name}, {flow(row.args)} -> {name}, {flow(arguments)}{why}")
        notes += [f"row {row.index}: {note}"] * bool(note)
        splices += list(model.rewritten(row, name, flow(arguments) if arguments != row.args else None))
    return Migrated(spliced(model.text, splices), changes, unknown, notes, kept)


def without_attention(
    model: ModelText, layers: Container[str], blocks: Container[str], known: Container[str]
) -> list[list[Any]]:
    """Return a model's rows as Ultralytics builds them: attention becomes an identity, which keeps its channels.

    Args are those of `migrate`.
    """
    rows = []
    for row in model.rows:
        name, args = _name_here(row.name, layers, blocks, known) or row.name, _without_anchors(row)
        block, layer = RowName.of(name)
        if name in layers:
            name, args = "nn.Identity", []
        elif block in blocks and layer in layers:
            name, args = block, args[:-1] if args and isinstance(args[-1], dict) else args
        rows.append([row.source, row.repeats, name, args])
    return rows


def port_of(name: str, blocks: Container[str]) -> str | None:
    """Return this package's name for a port's: GAM for GAM_Attention, C2f_NAM for C2f_NAMAttention; None if unknown."""
    inside = _inside(name, blocks)
    port = PORTS.get(_kind(inside.layer if inside else name))
    if port is None:
        return None
    return str(RowName(inside.block, port.layer)) if inside else port.layer


def _unknown(row: Row, reason: str) -> str:
    return f"row {row.index}, {row.name} {flow(row.args)}: {reason}"


def _name_here(name: str, layers: Container[str], blocks: Container[str], known: Container[str]) -> str | None:
    """Return this package's name, or Ultralytics', for a row's layer; None if unknown."""
    if name in layers or name in known or name.startswith(("nn.", "torchvision.")):
        return name
    inside = _inside(name, blocks)
    return str(inside) if inside and inside.layer in layers else port_of(name, blocks)


def _inside(name: str, blocks: Container[str]) -> RowName | None:
    """Return a block variant's name in parts, also where ports write no underscore, as in C3SE."""
    for end in range(len(name) - 1, 1, -1):
        block, layer = name[:end], name[end:]
        if block in blocks and (layer[0] == "_" or _kind(layer) in PORTS):
            return RowName(block, layer.removeprefix("_"))
    return None


def _kind(name: str) -> str:
    return AFFIXES.sub("", name.lower())


def _without_anchors(row: Row) -> list[Any]:
    """Return a row's arguments; those of a YOLOv5 head without its anchors."""
    if row.name in HEADS and len(row.args) > 1 and (row.args[1] == "anchors" or isinstance(row.args[1], list)):
        return [row.args[0], *row.args[2:]]
    return row.args


def _arguments(row: Row, name: str, layers: Container[str], channels: RealChannels) -> tuple[list[Any], str]:
    """Return a row's arguments for this package, and a note to the user or "".

    Raises:
        ValueError: With the reason, if their meaning is unknown.
    """
    if name not in layers:
        return _without_anchors(row), ""
    port = PORTS.get(_kind(row.name), Port(name))
    args = [_number(value) for value in row.args]
    real = channels(row.index) if args and type(args[0]) is int else ()
    behind, note = _behind_channels(args, port, real, is_own=row.name in layers)
    if row.name in layers and len(behind) == len(args) and not _is_kernel(name, behind) and not _has_flag(name, behind):
        return row.args, ""
    return _options(port, behind), note


def _behind_channels(args: list[Any], port: Port, real: Sequence[int], is_own: bool) -> tuple[list[Any], str]:
    """Return the arguments after the channels that a row gives by hand, and a note to the user or "".

    `real` are the channels of the row's input map; `is_own` is a row with this package's name, which takes options by
    position.

    Raises:
        ValueError: If input and output channels differ.
    """
    first, *others = args or [None]
    option = port.options[0] if port.options else ""
    may_be_option = _fits(option, first)
    has_them = first in (real[:1] if is_own and may_be_option and first % 64 else real)
    if type(first) is not int or (not has_them and (may_be_option or first < LEAST_CHANNELS)):
        return args, ""
    note = ""
    if may_be_option and not others:
        note = f"{first} is taken for the channels of its map; if it means {option}, write [{{{option}: {first}}}]"
    elif not has_them:
        note = f"{first} channels were given, but its map has {real[0] if real else 'others'}"
    second = others[0] if others else first
    if second in (None, "None") or (second == first and (port.has_out or not _fits(option, second))):
        return others[1:], note
    if type(second) is int and not _fits(option, second) and second > LARGEST_OPTION:
        raise ValueError(f"{first} channels in and {second} out; attention keeps the channels of its input")
    return others, note


def _options(port: Port, rest: list[Any]) -> list[Any]:
    """Return the arguments after the channels as options by name.

    Raises:
        ValueError: If their meaning is unknown.
    """
    names = port.options
    if port.layer == "NAM" and rest in ([True], [False]):  # no_spatial
        return [] if rest[0] else [{"spatial": True}]
    if _has_flag(port.layer, rest):
        rest = rest[1:]
    if port.layer == "ECA" and names and not rest:
        rest = [PORTS_KERNEL]
    if _is_kernel(port.layer, rest):
        names = names[1:]
    if len(rest) > len(names) or not all(map(_fits, names, rest)):
        raise ValueError(f"the meaning of {flow(rest)} is unknown")
    return [dict(zip(names, rest, strict=False))] if rest else []


def _fits(option: str, value: Any) -> bool:
    """Return whether an option may have this value."""
    if option == "e_lambda":
        return type(value) in (int, float) and 0 < value < 10
    if not option or type(value) is not int or not 0 < value <= LARGEST_OPTION:
        return False
    return option != "kernel_size" or value % 2 == 1


def _has_flag(layer: str, rest: list[Any]) -> bool:
    """Return whether a port's switch is given and off: GAM's group, TripletAttention's no_spatial."""
    return layer in ("GAM", "TripletAttention") and rest[:1] == [False] and type(rest[0]) is bool


def _is_kernel(layer: str, rest: list[Any]) -> bool:
    return layer == "CBAM" and len(rest) == 1 and rest[0] in KERNELS


def _number(value: Any) -> Any:
    """Return the number in a text such as 1e-4 or "1024"; any other value unchanged."""
    try:
        return value if not isinstance(value, str) else int(value) if value.isdecimal() else float(value)
    except ValueError:
        return value
