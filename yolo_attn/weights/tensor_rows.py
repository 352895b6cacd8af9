"""A model's tensors by row, and which row of a model each row of a state dict is, by nothing but its tensors."""

from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from typing import Any

from torch import Size

from yolo_attn.model.blocks import ATTRIBUTE
from yolo_attn.model.registry import LAYERS
from yolo_attn.weights.checkpoint_files import StateDict

Shapes = dict[str, Size]
"""Tensors of a row, by their names behind the row's number."""


def shapes_by_row(model: Any) -> dict[int, Shapes]:
    """The tensors of each row of a model; rows without any have none."""
    found: defaultdict[int, Shapes] = defaultdict(dict)
    for key, value in model.state_dict().items():
        first, row, *path = key.split(".")
        if first == "model" and row.isdecimal():
            found[int(row)][".".join(path)] = value.shape
    return found


def inside(shapes: Shapes) -> Shapes:
    """Those of a row's tensors that are of attention inside its block."""
    return {name: shape for name, shape in shapes.items() if ATTRIBUTE in name.split(".")}


def match_tensors(source: StateDict, model: Any, names: Sequence[str]) -> dict[int, int] | None:
    """Which row of a model each row of a state dict is.

    Rows that are no attention are found in order by the names of their tensors. What stands between is attention: the
    model's, where the model has as many layers of just these tensors there.

    Args:
        source: The state dict.
        model: The model.
        names: Names of the model's rows.

    Returns:
        The model's index of each of the state dict's rows that it has; None where the model's rows, attention apart,
        are not in the state dict, or could be several of its.
    """
    theirs, ours = shapes_by_row(source), shapes_by_row(model)
    base = [index for index, name in enumerate(names) if name not in LAYERS]
    found = _base_in([_plain(theirs[i]) for i in range(len(source.model))], [_plain(ours[i]) for i in base], base)
    if found is None:
        return None
    places = dict(zip(found, base, strict=True))
    given = _kinds(theirs, range(len(source.model)), found)
    wanted = _kinds(ours, range(len(names)), base)
    for kind, rows in given.items():
        if len(rows) == len(wanted[kind]):
            places |= zip(rows, wanted[kind], strict=True)
    return places


def _base_in(theirs: list[set[str]], ours: list[set[str]], own: list[int]) -> list[int] | None:
    """Where the model's rows that are no attention are: under its own numbers, or in the one way that there is.

    Where names differ, as between scales, a number of rows that fits decides. The last row is the head, whose tensors
    differ between tasks and versions of Ultralytics.
    """
    number, (*body, head) = len(theirs), own
    if number == head + 1 and [theirs[index] for index in body] == ours[:-1]:
        return own
    first, last = _within(theirs[:-1], ours[:-1]), _within(theirs[-2::-1], ours[-2::-1])
    if first is not None and last is not None:
        mirrored = [number - 2 - index for index in reversed(last)]
        if all(one == other for one, other, names in zip(first, mirrored, ours, strict=False) if names):
            return [*first, number - 1]
    return {len(own): list(range(number)), head + 1: own}.get(number)


def _within(rows: Sequence[set[str]], wanted: Sequence[set[str]]) -> list[int] | None:
    """The first place of each wanted row behind that of the one before."""
    left = iter(enumerate(rows))
    found = [next((index for index, row in left if row == each), None) for each in wanted]
    return None if None in found else [index for index in found if index is not None]


def _plain(shapes: Shapes) -> set[str]:
    return shapes.keys() - inside(shapes)


def _kinds(
    tensors: Mapping[int, Shapes], rows: Sequence[int], base: Container[int]
) -> defaultdict[tuple[int, frozenset[Any]], list[int]]:
    """Attention rows by how many other rows stand before them, and their tensors."""
    found = defaultdict(list)
    before = 0
    for row in rows:
        if row in base:
            before += 1
        else:
            found[before, frozenset(tensors[row].items())].append(row)
    return found
