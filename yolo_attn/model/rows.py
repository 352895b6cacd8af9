"""Attention rows of a model YAML: `[from, repeats, name, arguments]`, read and checked.

A layer's options are positional in the order of its signature, or one mapping: `[-1, 1, GAM, [8]]`,
`[-1, 1, GAM, [{ratio: 8, groups: 4}]]`. Input channels never stand in a row; the model knows them. A block variant has
the block's own arguments, and a mapping for the attention behind them: `[-1, 3, C2f_NAM, [128, True, {where: end}]]`.
"""

import ast
import copy
import inspect
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from yolo_attn.errors import UserError
from yolo_attn.model.blocks import UNITS, WHERE, place_attention
from yolo_attn.model.registry import LAYERS, NETWORKS, near_misses, split_name
from yolo_attn.networks.options import check_ints


class RowError(UserError, ValueError):
    """A row of a model YAML that cannot be built, reported with file, row index, what was given and the right form."""


GAIN = "gain"
"""The option that identity-init sets; a row that gives it keeps its own, so `right_form` leaves it out."""

LEAST_WIDTH = 16
"""Channels of the narrowest map inside Ultralytics' models."""

MAP_SIDES = (16, 64)
"""Sizes, pixels, of the maps that a user's own layer is tried on."""


@dataclass(frozen=True)
class AttentionRow:
    """One checked attention row.

    Attributes:
        place: "file, row index", to begin messages with.
        index: Position in backbone + head, as in Ultralytics' own table.
        source: The row's `from`, relative (negative) or absolute.
        repeats: The row's repeats, before the depth multiple.
        layer: The class that the row names.
        options: Keyword options for its constructor.
        positional: The values that were given by position.
        block: Ultralytics' name of the block that the layer goes into; None where it is a row of its own.
        where: The layer's place in that block, one of `blocks.WHERE`.
        plain: The row without the layer, where the block is one of `NETWORKS`.
    """

    place: str
    index: int
    source: int
    repeats: int
    layer: type[nn.Module]
    options: dict[str, Any]
    positional: tuple[Any, ...] = ()
    block: str | None = None
    where: str = WHERE[0]
    plain: "AttentionRow | None" = None

    @property
    def network(self) -> "AttentionRow | None":
        """The row of a network that Ultralytics' parser is to make in this row's place; None where there is none."""
        return self.plain or (self if hasattr(self.layer, "outputs") else None)

    @property
    def measured_index(self) -> int:
        """Index of the row whose channels this row needs: its source, the image if negative; a block's own."""
        if self.block and not self.plain:
            return self.index
        return self.source if self.source >= 0 else self.index + self.source

    @property
    def needs_grid(self) -> bool:
        """Whether the layer wants a reference map size that the row leaves out."""
        lacking = self.options.get("spatial") and self.options.get("grid") is None
        return bool(lacking) and "grid" in options_of(self.layer)

    def with_grid(self, size: tuple[int, int] | None) -> "AttentionRow":
        """This row with its reference map size, height and width, filled in.

        Raises:
            RowError: If there is no one size.
        """
        if size is None:
            raise RowError(f"{self.place}: {self.block} has maps of several sizes; write grid: [height, width]")
        return replace(self, options={**self.options, "grid": size})

    def build(self, channels: int) -> nn.Module:
        """The layer for an input of `channels` channels.

        Rows of other projects give channels first (`SimAM, [1024]`, `GAM_Attention, [512, 512]`), which would be taken
        for an option. So an integer in the first place is refused if it is a multiple of 64, as the numbers that scale
        are, or the number of input channels; not below 16, and never where it is the option's default. By its name,
        the option takes any value. The scale letter changes the answer only for a number that is the row's own
        channels at one scale.

        Raises:
            RowError: If the layer refuses an option, the first positional integer looks like a channel count, or a
                user's own layer fails on a map or changes its shape or dtype.
        """
        option, default = next(iter(options_of(self.layer).items()), ("", None))
        first = self.positional[0] if self.positional else None
        if self.network:
            first = None  # the width of its output
        if type(first) is int and first >= LEAST_WIDTH and first != default and (first % 64 == 0 or first == channels):
            raise RowError(
                f"{self.place}: {first} looks like a channel count, and {self._name} takes its {channels} input "
                f"channels from the model; {self.form}; {first} as an option goes by name, {option}: {first}"
            )
        try:
            layer = self.layer(channels, **self.options)
        except Exception as error:  # a user's own layer may raise anything
            kind = "" if isinstance(error, ValueError) else f"{self._name} raised {type(error).__name__}: "
            raise RowError(f"{self.place}: {kind}{str(error).strip()}; {self.form}") from error
        if not self.layer.__module__.startswith("yolo_attn."):
            self._check_forward(layer, channels)
        return layer

    def _check_forward(self, layer: nn.Module, channels: int) -> None:
        """Check that a user's own layer makes a map of its input's shape and dtype.

        A layer may refuse maps of some size; what it raises for maps of every size is an error of its own.
        """
        raised = set()
        for side in MAP_SIDES:
            x = torch.zeros(2, channels, side, side)
            try:
                with torch.inference_mode():
                    made = copy.deepcopy(layer).eval()(x)
            except Exception as error:
                raised.add(f"{self._name} raised {type(error).__name__}: {error}")
                cause = error
                continue
            shape = tuple(getattr(made, "shape", ())) or "no tensor"
            if shape != x.shape:
                raise RowError(f"{self.place}: {self._name} makes {shape} of {tuple(x.shape)}, expected the same shape")
            if made.dtype != x.dtype:
                raise RowError(f"{self.place}: {self._name} makes {made.dtype} of {x.dtype}, expected the same dtype")
            return
        text, *others = raised
        if not others and "cpu" not in text.lower():  # a layer for GPUs alone says so
            raise RowError(f"{self.place}: {text}; expected forward(x) to return a map of x's shape") from cause

    def graft(self, block: nn.Module, channels: int) -> None:
        """Put the layer into a finished block whose output has `channels` channels.

        Raises:
            RowError: If the layer refuses an option, or its place means nothing in this block.
        """
        assert self.block
        try:
            place_attention(block, self.block, self.where, self.build, channels)
        except RowError:
            raise
        except ValueError as error:
            raise RowError(f"{self.place}: {error}") from error

    @property
    def outputs(self) -> int:
        """Channels of what the row of a network makes.

        Raises:
            RowError: If its options do not say a number.
        """
        layer: Any = self.layer
        try:
            number = layer.outputs(**self.options)
            check_ints(outputs=number)
        except (ValueError, TypeError) as error:
            raise RowError(f"{self.place}: {error}; {self.form}") from error
        return int(number)

    @property
    def form(self) -> str:
        """How such a row is written."""
        return right_form(self.layer, self.source, self.block)

    @property
    def _name(self) -> str:
        return self.layer.__name__


def read_rows(model: dict[str, Any]) -> list[AttentionRow]:
    """The attention rows of a model dictionary, in order; all others are left to Ultralytics' parser.

    Raises:
        RowError: At the first row that gives an attention layer the wrong arguments.
    """
    found = []
    for index, row in enumerate([*model["backbone"], *model["head"]]):
        if not is_row(row):
            continue
        place, name = place_of(model, index), row[2]
        block, kind = split_name(name)
        if kind:
            read = _read(place, index, row, block, kind)
            plain = _network(place, index, own_row(row, block), model) if block and block in NETWORKS else None
            found.append(replace(read, plain=plain))
        elif name in NETWORKS:
            found.append(_network(place, index, row, model))
        elif name in UNITS and isinstance(row[-1], list) and row[-1] and isinstance(row[-1][-1], dict):
            takers = ", ".join(f"{name}_{layer}" for layer in LAYERS)
            raise RowError(
                f"{place}: found {row[-1][-1]} behind {name}'s arguments; only its variants take it: {takers}"
            )
    return found


def place_of(model: dict[str, Any], index: int) -> str:
    """File and row, to begin messages with."""
    return f"{model.get('yaml_file') or 'model'}, row {index}"


def is_row(row: Any) -> bool:
    """Whether a row has the form that names a layer."""
    return isinstance(row, list) and len(row) > 2 and isinstance(row[2], str)


def is_earlier(source: int, index: int) -> bool:
    """Whether row `index` may take row `source`, absolute or relative; the first row takes the image, -1."""
    return source < index and (index + source >= 0 or (index, source) == (0, -1))


def wrong_source(model: dict[str, Any]) -> RowError | None:
    """What is wrong with the first row that takes what no earlier row gives; None where there is no such row."""
    for index, row in enumerate([*model["backbone"], *model["head"]]):
        sources = row[0] if is_row(row) else []
        for source in sources if isinstance(sources, list) else [sources]:
            if type(source) is int and not is_earlier(source, index):
                return RowError(f"{place_of(model, index)}: from = {sources}: {source} is not an earlier row")
    return None


def right_form(layer: type[nn.Module], source: int, block: str | None) -> str:
    """How a row of `layer`, or of its variant of `block`, is written, with its options, `gain` apart."""
    known = {name: list(v) if isinstance(v, tuple) else v for name, v in options_of(layer).items()}
    options = [f"{name}: {default}" for name, default in known.items() if name != GAIN]
    if block:
        mapping = ", ".join([f"where: {' | '.join(WHERE)}", *options])
        return f"behind {block}'s own arguments write nothing or {{{mapping}}}"
    longer = f" or [{source}, 1, {layer.__name__}, [{{{', '.join(options)}}}]]" if options else ""
    return f"write [{source}, 1, {layer.__name__}, []]{longer}"


def options_of(layer: type[nn.Module]) -> dict[str, Any]:
    """The layer's options and defaults, in the order of the signature."""
    parameters = inspect.signature(layer).parameters
    return {name: p.default for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}


def _read(place: str, index: int, row: list[Any], block: str | None, layer: type[nn.Module]) -> AttentionRow:
    """The row of a layer, or of a block with a layer in it."""
    form = _check_items(place, index, row, layer, block)
    source, repeats, name, args = row
    *first, last = args or [None]
    mapping = last if isinstance(last, dict) else {}
    positional: list[Any] = []
    known = list(options_of(layer))
    if block:
        if not args or any(isinstance(value, dict) for value in first) or isinstance(last, list) or last in WHERE:
            raise RowError(f"{place}: found {args}, expected {block}'s own arguments, then one mapping or none; {form}")
        known = ["where", *known]
    else:
        positional = first if isinstance(last, dict) else args
        if positional and mapping:
            raise RowError(f"{place}: found {args}, expected options by position or one mapping; {form}")
        if len(positional) > len(known):
            raise RowError(
                f"{place}: {name} has {len(known)} options, found {positional}; input channels are not given by "
                f"hand: {form}"
            )
    unknown = [key for key in mapping if key not in known]
    if unknown:
        near = near_misses(str(unknown[0]), known)
        meant = f" (did you mean {' or '.join(near)}?)" if near else ""
        raise RowError(f"{place}: {name} has no option {unknown[0]!r}{meant}; {form}")
    given = tuple(map(literal, positional))
    options = dict(zip(known, given, strict=False)) or {key: literal(value) for key, value in mapping.items()}
    where = options.pop("where", WHERE[0])
    if where not in WHERE:
        raise RowError(f"{place}: found where: {where}, expected {' or '.join(WHERE)}; {form}")
    return AttentionRow(place, index, source, repeats, layer, options, given, block, where)


def own_row(row: list[Any], block: str) -> list[Any]:
    """A block variant's row without attention."""
    *first, _, args = row
    return [*first, block, args[:-1] if args and isinstance(args[-1], dict) else args]


def _network(place: str, index: int, row: list[Any], model: dict[str, Any]) -> AttentionRow:
    """The row of a network, with the model's number of classes where it says `nc`.

    Raises:
        RowError: If it repeats, which only a block whose output has the channels of its input could.
    """
    read = _read(place, index, row, None, NETWORKS[row[2]])
    if read.repeats > 1:
        raise RowError(f"{place}: repeats is {read.repeats}, expected 1; {read.form}")
    return replace(read, options={key: model.get("nc") if v == "nc" else v for key, v in read.options.items()})


def _check_items(place: str, index: int, row: list[Any], layer: type[nn.Module], block: str | None) -> str:
    """Check that a row has its four items, takes one earlier row, and repeats a whole number of times.

    Returns:
        The right form of such a row.
    """
    source = row[0]
    is_source = type(source) is int and is_earlier(source, index)
    form = right_form(layer, source if is_source else -1, block)
    if isinstance(source, list):
        wrong = f"{row[2]} takes one input, found from = {source}"
    elif not is_source:
        is_row = type(source) is int
        wrong = f"from = {source!r} is not an earlier row" if is_row else f"from must be an int, got {source!r}"
    elif len(row) != 4:
        wrong = f"found {row}, expected four items, [from, repeats, layer, arguments]"
    elif type(row[1]) is not int or row[1] < 1:
        wrong = f"repeats must be an int above 0, got {row[1]!r}"
    elif not isinstance(row[3], list):
        wrong = f"found {row[3]!r}, expected a list of arguments"
    else:
        return form
    raise RowError(f"{place}: {wrong}; {form}")


def literal(value: Any) -> Any:
    """A string's Python value where it has one, as in Ultralytics' rows: YAML reads 1e-4 as a string."""
    try:
        return ast.literal_eval(value) if isinstance(value, str) else value
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return value
