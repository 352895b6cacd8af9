"""Which row of a model each row of a source of weights is, with any attention between them.

Rows that know their names are matched by these; those of a state dict by nothing but their tensors.
"""

import copy
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from torch import Size, nn

from yolo_attn.errors import UserError
from yolo_attn.model.blocks import ATTRIBUTE
from yolo_attn.model.registry import LAYERS, split_name
from yolo_attn.weights.checkpoint_files import StateDict
from yolo_attn.weights.gains import attention_of, rows_of

Shapes = dict[str, Size]
"""Tensors of a row, by their names behind the row's number."""

UNNAMED = "attention"
"""What a state dict's row is called that the model has not: its tensors do not tell the layer's name."""


@dataclass(frozen=True)
class Match:
    """Rows of a source of weights and of a model, and which is which.

    Attributes:
        names: Names of the rows of both.
        attention: The attention's tensors in each row of both that has any.
        places: The model's index of each of the source's rows that it has; None where they differ in other rows than
            those of attention.
        kept: The source's index of each of the model's rows with the source's attention in it.
    """

    names: tuple[list[str], list[str]]
    attention: tuple[dict[int, Shapes], dict[int, Shapes]]
    places: dict[int, int] | None
    kept: dict[int, int]

    @property
    def new_attention(self) -> dict[int, Shapes]:
        """Attention of the model that the source has not."""
        return {new: tensors for new, tensors in self.attention[1].items() if new not in self.kept}

    @property
    def left_out(self) -> dict[int, Shapes]:
        """Attention of the source that the model has not."""
        return {old: tensors for old, tensors in self.attention[0].items() if old not in self.kept.values()}

    @property
    def attended(self) -> bool:
        """Whether one of both has attention."""
        return any(self.attention)


_latest: WeakKeyDictionary[nn.Module, tuple[Any, Match | None]] = WeakKeyDictionary()
"""Of each source, the rows and tensors that it was last matched with, and the match."""


def match(source: Any, model: Any) -> Match | None:
    """Match the rows of a source of weights and of a model; a second model of the same rows and tensors is not anew.

    Attention is the same where its kind, its place and all of its tensors' names and shapes are; a state dict tells no
    more than the last.

    Returns:
        The match; None where one of both was not built from rows.

    Raises:
        UserError: If a state dict is of another model, attention apart.
    """
    if not isinstance(source, nn.Module):  # Ultralytics' own to refuse
        return None
    asked = (copy.deepcopy(rows_of(model)), {key: value.shape for key, value in model.state_dict().items()})
    known = _latest.get(source)
    if known is None or known[0] != asked:
        _latest[source] = known = (asked, _match(source, model))
    return known[1]


def _match(source: Any, model: Any) -> Match | None:
    rows = rows_of(source), rows_of(model)
    bare = isinstance(source, StateDict)
    if not rows[1] or not (rows[0] or bare):
        return None
    target = [row[2] for row in rows[1]]
    places: dict[int, int] | None
    if bare:
        places = _match_tensors(source, model, target)
        names = [target[places[i]] if i in places else UNNAMED for i in range(len(source.model))]
    else:
        names = [row[2] for row in rows[0]]
        places = match_rows(*rows)
    theirs, ours = _attention(source, names), _attention(model, target)
    kept = {
        new: old
        for old, new in (places or {}).items()
        if new in ours
        and theirs.get(old, {}) == ours[new]
        and (bare or attention_of(rows[0][old]) == attention_of(rows[1][new]))
    }
    if places is not None:
        places = {old: new for old, new in places.items() if target[new] not in LAYERS or new in kept}
    return Match((names, target), (theirs, ours), places, kept)


def match_rows(source: list[list[Any]], target: list[list[Any]]) -> dict[int, int] | None:
    """Which row of the target each row of the source is.

    Rows are walked in order with the attention layers set aside, a block and its attention variants being the same; an
    attention layer is the target's of the same name between the same two rows, if both take the same row's map.

    Returns:
        The target's index of each source row that is in the target, or None where the models differ in other rows too.
    """
    fed = _feeding(source), _feeding(target)
    base = [[i for i in range(len(rows)) if i not in own] for rows, own in zip((source, target), fed, strict=True)]
    if [base_of(source[i][2]) for i in base[0]] != [base_of(target[i][2]) for i in base[1]]:
        return None
    places = dict(zip(*base, strict=True))
    wanted = _by_place({row: (target[row][2], at) for row, at in fed[1].items()})
    for place, rows in _by_place({row: (source[row][2], at) for row, at in fed[0].items()}).items():
        places |= zip(rows, wanted[place], strict=False)
    return places


def _shapes_by_row(model: Any) -> dict[int, Shapes]:
    """The tensors of each row of a model; rows without any have none."""
    found: defaultdict[int, Shapes] = defaultdict(dict)
    for key, value in model.state_dict().items():
        first, row, *path = key.split(".")
        if first == "model" and row.isdecimal():
            found[int(row)][".".join(path)] = value.shape
    return found


def _inside(shapes: Shapes) -> Shapes:
    """Those of a row's tensors that are of attention inside its block."""
    return {name: shape for name, shape in shapes.items() if ATTRIBUTE in name.split(".")}


def _match_tensors(source: StateDict, model: Any, names: Sequence[str]) -> dict[int, int]:
    """Which row of a model each row of a state dict is.

    Rows that are no attention are found in order by the names of their tensors. What stands between is attention: the
    model's, where the model has as many layers of just these tensors there.

    Raises:
        UserError: If the model's rows, attention apart, are not in the state dict, or could be several of its.
    """
    theirs, ours = _shapes_by_row(source), _shapes_by_row(model)
    base = [index for index, name in enumerate(names) if name not in LAYERS]
    found = _base_in([_plain(theirs[i]) for i in range(len(source.model))], [_plain(ours[i]) for i in base], base)
    if found is None:
        expected = " or ".join(map(str, dict.fromkeys((len(base), len(names)))))
        raise UserError(
            f"{name_of(source)} does not fit {yaml_name(model)}: another family, it has {len(source.model)} rows, "
            f"expected {expected}"
        )
    places = dict(zip(found, base, strict=True))
    given, wanted = (
        _by_place({row: frozenset(tensors[row].items()) for row in range(number) if row not in others})
        for tensors, number, others in ((theirs, len(source.model), found), (ours, len(names), base))
    )
    for place, rows in given.items():
        if len(rows) == len(wanted[place]):
            places |= zip(rows, wanted[place], strict=True)
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
    return shapes.keys() - _inside(shapes)


def _by_place(attention: Mapping[int, Hashable]) -> defaultdict[tuple[int, Hashable], list[int]]:
    """Attention rows by how many other rows stand before them, and what they are told apart by."""
    found = defaultdict(list)
    for before, (row, what) in enumerate(sorted(attention.items(), key=lambda item: item[0])):
        found[row - before, what].append(row)
    return found


def _attention(model: Any, names: Sequence[str]) -> dict[int, Shapes]:
    """The tensors of the attention in each row that has any."""
    shapes, found = _shapes_by_row(model), {}
    for index, name in enumerate(names):
        is_row = name in LAYERS or name == UNNAMED
        tensors = shapes[index] if is_row else _inside(shapes[index])
        if is_row or (tensors if isinstance(model, StateDict) else split_name(name)[1]):
            found[index] = tensors
    return found


def _feeding(rows: list[list[Any]]) -> dict[int, int]:
    """Which row the map of each attention row comes from, counted without attention."""
    found: dict[int, int] = {}
    for index, row in enumerate(rows):
        at = index
        for _ in range(index + 1):  # a file's YAML may name rows that take themselves
            if at < 0 or rows[at][2] not in LAYERS:
                break
            at = rows[at][0] if rows[at][0] >= 0 else at + rows[at][0]
        if row[2] in LAYERS:
            found[index] = sum(other[2] not in LAYERS for other in rows[: at + 1])
    return found


def base_of(name: str) -> str:
    """A row's name without the attention inside its block."""
    return split_name(name)[0] or name


def name_of(source: Any) -> str:
    """A source's file, and the YAML that it was built from, as far as they are known."""
    file = getattr(source, "pt_path", None)
    return f"{file} ({yaml_name(source)})" if file and hasattr(source, "yaml") else str(file or yaml_name(source))


def yaml_name(model: Any) -> str:
    """The file name of the YAML that a model was built from, or its class."""
    return Path((getattr(model, "yaml", None) or {}).get("yaml_file") or type(model).__name__).name
