"""Builds models whose rows name attention layers, around Ultralytics' own `parse_model`.

A first parse on the meta device, with a BatchNorm2d appended behind each attention row's input, gives the channels
that Ultralytics computes there. Then the real parse runs on rows that name stand-ins: classes that live in the parser's
module for the length of the call and return the finished layer. Scale, repeats, table, index and parameter count stay
Ultralytics' own; nothing of its parser is copied.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from traceback import walk_tb
from typing import Any

import torch
import ultralytics
from torch import nn
from ultralytics.nn import tasks
from ultralytics.utils import LOGGER

from yolo_attn.environment import replaced
from yolo_attn.errors import UserError, like
from yolo_attn.model.blocks import UNITS
from yolo_attn.model.graph import check_graph, check_strides
from yolo_attn.model.limits import bounded_building, check_size
from yolo_attn.model.registry import LAYERS, NETWORKS, hint, parsed_names
from yolo_attn.model.rows import AttentionRow, RowError, is_row, own_row, place_of, read_rows, wrong_source
from yolo_attn.model.run_rows import each_row
from yolo_attn.model.sparsity import check_sparsity
from yolo_attn.yaml_edit.row_names import RowName

SUPPORTED = "8.3.0 to 8.4"

REFERENCE_SIZE = 640
"""Image size, pixels, that layers with one parameter a pixel refer to at every training size."""

Parser = Callable[..., tuple[nn.Sequential, list[int]]]


def parse_model(parse: Parser, d: dict[str, Any], ch: int, verbose: bool = True) -> tuple[nn.Sequential, list[int]]:
    """Build the model that `d` describes, attention rows included, as Ultralytics' own `parse` does all others.

    `d` is left as it is; `ch` is the image's channels.

    Returns:
        The layers, and the sorted indices of the outputs to keep, as Ultralytics' parser returns them.

    Raises:
        RowError: If a row is wrong, or asks for more than `limits` allow; where Ultralytics' parser refused it, of the
            kind that this raised, too.
        UserError: If the model is larger than those, if the sparsity penalty is no number or has nothing to act on, or
            if the parser of the installed Ultralytics does not keep the contract that this rests on.
    """
    check_size(d)
    rows = read_rows(d)
    known = check_graph(d)
    check_sparsity(d, [row.layer for row in rows])
    if rows:
        check_contract(parse)
    try:
        with bounded_building(d.get("yaml_file") or "model"):
            built = _parse(parse, d, ch, verbose, rows) if rows else parse(d, ch, verbose)
    except UserError:
        raise
    except Exception as error:  # wrong arguments may make Ultralytics' blocks raise anything
        row_error = _explained(error, d, rows)
        if row_error is None:
            raise
        raise like(error, row_error) from error
    wrong = wrong_source(d)
    if wrong:  # a row that the parser takes, and that fails in a forward pass
        raise like(IndexError(), wrong)
    if rows and not known:
        check_strides(d, built[0], ch)
    return built


def _explained(error: Exception, d: dict[str, Any], rows: list[AttentionRow]) -> RowError | None:
    """What is wrong with the row that Ultralytics' parser was at, in our words; None where that is not known."""
    index, body = _index_of(error), [*d["backbone"], *d["head"]]
    for own in rows:
        if own.index == index:
            return RowError(
                f"{own.place}: {own.block} of {body[index][3]} raised {type(error).__name__}: {error}; {own.form}"
            )
    wrong = wrong_source(d)
    if isinstance(error, IndexError) and wrong:
        return wrong
    if index is None or index >= len(body):
        return None
    place, row = place_of(d, index), body[index]
    if not is_row(row):
        return RowError(f"{place}: found {row}, expected [from, repeats, layer, arguments]")
    name = row[2]
    if isinstance(row[-1], list) and "anchors" in row[-1]:
        return RowError(f"{place}: {name} takes no anchors in Ultralytics; yolo-attn migrate takes them out of the row")
    known = parsed_names()
    is_torchs = name.startswith("nn.") and hasattr(nn, name[3:])
    if not isinstance(error, (KeyError, AttributeError)) or name in known or is_torchs:
        return None
    block, layer = RowName.of(name)
    if layer in LAYERS and block in known:
        return RowError(f"{place}: {block} has no attention variant; blocks that have are {', '.join(UNITS)}")
    variants = [str(RowName(block, layer)) for block in UNITS for layer in LAYERS]
    meant = hint(name, [*LAYERS, *NETWORKS, *variants, *known])
    return RowError(
        f"{place}: unknown layer {name!r}; {meant} (for a layer of your own import its module, --import MODULE)"
    )


def _index_of(error: Exception) -> int | None:
    """The row that Ultralytics' parser was at, by the traceback."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__) if frame.f_globals is vars(tasks)]
    return next((frame.f_locals.get("i") for frame in frames if frame.f_code.co_name == "parse_model"), None)


def _parse(
    parse: Parser, d: dict[str, Any], ch: int, verbose: bool, rows: list[AttentionRow]
) -> tuple[nn.Sequential, list[int]]:
    measured, rows = _measure(parse, d, ch, rows)
    model_rows = _own_copies(d)
    stand_ins = {}
    for row, channels in zip(rows, measured, strict=True):
        if row.network:
            model_rows[row.index][2:] = _network_row(row.network, partial(row.network.build, channels))
        elif row.block:
            model_rows[row.index] = own_row(model_rows[row.index], row.block)
        else:
            alias = f"{row.layer.__name__}@{id(model_rows)}_{row.index}"
            stand_ins[alias] = _stand_in(row, channels)
            model_rows[row.index][2:] = [alias, [channels, *([row.options] if row.options else [])]]
    with replaced(tasks, **stand_ins), _networks_made():
        layers, save = parse({**d, "backbone": model_rows, "head": []}, ch, verbose)
    _graft(layers, rows, measured, verbose)
    return layers, save


def _own_copies(d: dict[str, Any]) -> list[list[Any]]:
    """Copies of a model's rows, each its own, also of those that are one list through a YAML alias."""
    return [deepcopy(row) for row in (*d["backbone"], *d["head"])]


class _NetworkArguments(list[Any]):
    """Arguments of a ResNetLayer, whose channels Ultralytics' parser takes as they are; printed as the row has them.

    Attributes:
        build: Makes the layer in its place.
    """

    def __init__(self, row: AttentionRow, build: Callable[[], nn.Module]) -> None:
        super().__init__([self, row.outputs, 1, True])
        self.build, self.shown = build, str([*row.positional] or row.options)

    def __str__(self) -> str:
        return self.shown


def _network_row(row: AttentionRow, build: Callable[[], nn.Module]) -> list[Any]:
    """Name and arguments of the row of a network for Ultralytics' parser."""
    return ["ResNetLayer", _NetworkArguments(row, build)]


@contextlib.contextmanager
def _networks_made() -> Iterator[None]:
    """Within it, Ultralytics' ResNetLayer makes what `_network_row` says, and its own kind of other rows."""
    own = tasks.ResNetLayer

    class Printed(type):
        """What the parser prints of a row, once it has made it."""

        def __repr__(cls) -> str:
            return repr(latest[0])

    class Making(nn.Identity, metaclass=Printed):
        def __new__(cls, *args: Any) -> Any:
            layer: Any = args[0].build() if isinstance(args[0], _NetworkArguments) else own(*args)
            layer.np = sum(p.numel() for p in layer.parameters())
            latest[0] = type(layer)
            return layer

    latest: list[type] = [own]
    with replaced(tasks, ResNetLayer=Making):
        yield


def _graft(layers: nn.Sequential, rows: list[AttentionRow], measured: list[int], verbose: bool) -> None:
    """Put attention into the finished blocks of block rows."""
    for row, channels in zip(rows, measured, strict=True):
        if not row.block:
            continue
        built: Any = layers[row.index]
        channels = row.plain.outputs if row.plain else channels
        before = sum(p.numel() for p in built.parameters())
        for block in built if type(built) is nn.Sequential else [built]:
            row.graft(block, channels)
        built.np = sum(p.numel() for p in built.parameters())
        built.type += f"_{row.layer.__name__}"
        if verbose:
            name = RowName(row.block, row.layer.__name__)
            LOGGER.info(f"{row.index:>3}  {name}, where: {row.where}, {built.np - before:,} parameters of attention")


def _stand_in(row: AttentionRow, channels: int) -> type[nn.Module]:
    """A class that the parser calls and prints as the row's layer, and that returns the finished layer."""

    def new(cls: type, *args: Any) -> nn.Module:
        layer: Any = row.build(channels)
        layer.np = sum(p.numel() for p in layer.parameters())  # early 8.3 counts on the class, which does not stay
        return layer

    names = {"__module__": row.layer.__module__, "__qualname__": row.layer.__qualname__}
    return type(row.layer.__name__, (nn.Identity,), {**names, "__new__": new})


def _measure(
    parse: Parser, d: dict[str, Any], ch: int, rows: list[AttentionRow]
) -> tuple[list[int], list[AttentionRow]]:
    """Channels that Ultralytics computes where each row needs them, and the rows with the map sizes that they lack."""
    model_rows = _own_copies(d)[: rows[-1].index + 1]
    for row in rows:
        own = model_rows[row.index]
        if row.network:
            own[2:] = _network_row(row.network, nn.Identity)
        elif row.block:
            model_rows[row.index] = own_row(own, row.block)
        else:
            own[1:] = [1, "nn.Identity", []]
    probed = [row for row in rows if row.measured_index >= 0]
    probes = [[row.measured_index, 1, "nn.BatchNorm2d", []] for row in probed]
    layers: Any
    with torch.device("meta"), _networks_made():
        layers, _ = parse({**deepcopy(d), "backbone": model_rows, "head": probes}, ch, False)
        features = {row.index: layers[len(model_rows) + i].num_features for i, row in enumerate(probed)}
        channels = [features.get(row.index, ch) for row in rows]  # a row without a source row takes the image itself
        if any(row.needs_grid for row in rows):
            sizes = _map_sizes(_with_networks(layers[: len(model_rows)], rows, channels), ch)
            rows = [row.with_grid(sizes.get(row.measured_index)) if row.needs_grid else row for row in rows]
    return channels, rows


def _with_networks(layers: Any, rows: list[AttentionRow], channels: list[int]) -> Any:
    """Layers of the first parse with those of networks in their places, which change channels and sizes."""
    for row, number in zip(rows, channels, strict=True):
        if row.network:
            made: Any = row.network.build(number)
            made.i, made.f = layers[row.index].i, layers[row.index].f
            layers[row.index] = made
    return layers


def _map_sizes(layers: Any, ch: int) -> dict[int, tuple[int, int]]:
    """Height and width of each row's output at REFERENCE_SIZE pixels, if it is one map; under -1 of the image's."""
    x = torch.zeros(1, ch, REFERENCE_SIZE, REFERENCE_SIZE)
    made = {m.i: output for m, output in each_row(layers.eval(), x) if isinstance(output, torch.Tensor)}
    return {i: (output.shape[-2], output.shape[-1]) for i, output in {-1: x, **made}.items()}


@functools.cache
def check_contract(parse: Parser) -> None:
    """Check, once for a parser, that it treats rows as this module expects.

    Raises:
        UserError: Naming the Ultralytics version found and those supported.
    """
    row = AttentionRow("self-test", 1, 0, 2, _Witness, {})
    model = {
        "nc": 1,
        "scales": {"n": [1.0, 0.5, 1024]},
        "scale": "n",
        "backbone": [[-1, 1, "Conv", [32, 3, 2]], [-1, 2, "_Witness", []], [-1, 1, "Conv", [64, 3, 2]]],
        "head": [[1, 1, "nn.BatchNorm2d", []]],
    }
    layers: Any
    try:
        with torch.device("meta"):
            layers, save = _parse(parse, model, 3, False, [row])
        kept = (
            [type(m) for m in layers[1]] == [_Witness, _Witness]
            and [m.channels for m in layers[1]] == [16, 16]
            and layers[2].conv.in_channels == layers[3].num_features == 16
            and (layers[1].i, layers[1].f, layers[1].type) == (1, -1, f"{__name__}._Witness")
            and save == [1]
        )
        reason = "" if kept else "it built other layers than its rows name"
    except Exception as error:  # a changed parser may raise anything, the user needs the version
        reason = f"{type(error).__name__}: {error}"
    if reason:
        raise UserError(
            f"Ultralytics {ultralytics.__version__} parses model rows in a way that yolo_attn does not know "
            f"({reason}); supported: {SUPPORTED}"
        )


class _Witness(nn.Module):
    """The layer of the self-test: remembers its channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.scale = nn.Parameter(torch.ones(channels))
