"""Which row of a model each row of a source of weights is, whatever attention stands between them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yolo_attn.errors import UserError
from yolo_attn.plugin.gains import rows_of
from yolo_attn.plugin.registry import LAYERS, split_name
from yolo_attn.plugin.sources import StateDict

BothRows = tuple[list[list[Any]], list[list[Any]]]
"""Rows of a source and of a model."""


def both_rows(source: Any, model: Any) -> BothRows:
    """The rows of a source and of a model; none where it was not built from rows.

    A state dict does not tell: it is taken for one of the model itself, or of the model without its attention.

    Raises:
        UserError: If a state dict has as many rows as neither.
    """
    ours = rows_of(model)
    if not isinstance(source, StateDict):
        return rows_of(source), ours
    base = [[*row[:2], base_of(row[2]), *row[3:]] for row in ours if row[2] not in LAYERS]
    if len(source.model) not in {len(ours), len(base)}:
        expected = " or ".join(dict.fromkeys(map(str, (len(base), len(ours)))))
        raise UserError(
            f"{name_of(source)} does not fit {yaml_name(model)}: another family, it has {len(source.model)} rows, "
            f"expected {expected}"
        )
    has_rows_of_attention = len(base) < len(ours)
    own = len(source.model) == len(ours) and (
        has_rows_of_attention or len(source.state_dict()) == len(model.state_dict())
    )
    return (ours if own else base), ours


def names_of(rows: BothRows) -> tuple[list[str], list[str]]:
    """Names of the rows of both."""
    source, target = ([row[2] for row in part] for part in rows)
    return source, target


def places_of(rows: BothRows) -> dict[int, int] | None:
    """The model's index of each of the source's rows, as `match_rows` finds them."""
    return match_rows(*names_of(rows), *map(_feeding, rows))


def match_rows(
    source: Sequence[str],
    target: Sequence[str],
    fed_source: Mapping[int, int] | None = None,
    fed_target: Mapping[int, int] | None = None,
) -> dict[int, int] | None:
    """Which row of the target each row of the source is.

    Rows are walked in order with the attention layers set aside, a block and its attention variants being the same; an
    attention layer is the target's of the same name between the same two rows, if both take the same row's map.

    Args:
        source: Names of the source's rows.
        target: Names of the target's rows.
        fed_source: Which row the map of each attention row of the source comes from, counted without attention.
        fed_target: The same of the target.

    Returns:
        The target's index of each source row that is in the target, or None where the models differ in other rows too.
    """
    fed_source, fed_target = fed_source or {}, fed_target or {}
    ours, theirs = _split(source), _split(target)
    if [row for row, _ in ours] != [row for row, _ in theirs]:
        return None
    places = {}
    for (_, mine), (_, other) in zip(ours, theirs, strict=True):
        left = list(other)
        for index, name in mine:
            fed = fed_source.get(index) if name in LAYERS else None
            same = next((place for place in left if place[1] == name and fed_target.get(place[0]) == fed), None)
            if same:
                places[index] = same[0]
                left = [place for place in left if place[0] > same[0]]
    return places


def _feeding(rows: list[list[Any]]) -> dict[int, int]:
    """Which row the map of each attention row comes from, counted without attention."""
    found: dict[int, int] = {}
    for index, row in enumerate(rows):
        at = index
        while at >= 0 and rows[at][2] in LAYERS:
            at = rows[at][0] if rows[at][0] >= 0 else at + rows[at][0]
        if row[2] in LAYERS:
            found[index] = sum(other[2] not in LAYERS for other in rows[: at + 1])
    return found


def _split(names: Sequence[str]) -> list[tuple[str, list[tuple[int, str]]]]:
    """Each row that is no attention layer, under its block's own name, with the attention in front of it and itself."""
    parts, group = [], []
    for index, name in enumerate(names):
        group.append((index, name if name in LAYERS else base_of(name)))
        if name not in LAYERS:
            parts.append((base_of(name), group))
            group = []
    return parts


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
