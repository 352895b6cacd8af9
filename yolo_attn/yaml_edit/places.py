"""Find the rows at which a place of `--at` puts attention."""

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from yolo_attn.errors import UserError
from yolo_attn.yaml_edit.row_names import RowName
from yolo_attn.yaml_edit.text import ModelText, Row, numbered

PLACES = {
    "neck": "a row for each map that feeds the head, behind the last neck row; only the head takes the attended map",
    "backbone": "a row before SPPF, or behind the last backbone row; consumers take the attended map",
    "stages": "a row behind each backbone stage from stride 4 on, before SPPF; consumers take the attended map",
    "after:4,6,9": "a row behind each of these rows, by their numbers now; consumers take the attended map",
    "blocks": "inside all blocks that can have it, such as C2f; no row is added",
    "blocks:backbone": "inside those of the backbone alone",
    "blocks:neck": "inside those of the neck alone",
}
"""The values of `--at` and their rules."""

POOLING = ("SPPF", "SPPELAN", "SPP")

FIRST_STAGE = 4
"""Stride of the first stage's map; rows before it are the stem."""


@dataclass(frozen=True)
class Insertion:
    """A row to insert: whose map it takes, the row that it comes before, and whether only the head takes its map."""

    source: int
    before: int
    section: str
    only_head: bool = False


def rows_at(model: ModelText, place: str, strides: Mapping[int, int]) -> list[Insertion]:
    """Return the attention rows of a place, in order.

    Raises:
        UserError: If the model lacks the place.
    """
    if place == "neck":
        head = model.rows[-1]
        return [Insertion(source, head.index, head.section, True) for source in dict.fromkeys(head.sources)]
    backbone = [row for row in model.rows if row.section == "backbone"]
    if place == "backbone":
        pooling = next((row for row in backbone if row.name in POOLING and row.sources != (-1,)), None)
        sources = [pooling.sources[0] if pooling else backbone[-1].index]
    elif place == "stages":
        sources = _stages(backbone, strides)
        if not sources:
            raise UserError(f"{model.name}: no row of the backbone makes a map of stride {FIRST_STAGE} or more")
    else:
        sources = _numbers(model, place)
    return [Insertion(source, source + 1, model.rows[source].section) for source in sources]


def blocks_at(model: ModelText, place: str, blocks: Container[str]) -> list[Row]:
    """Return the rows whose blocks get attention inside; a ResNetLayer that is the stem has no residual unit for it.

    Raises:
        UserError: If there are none.
    """
    section = {"backbone": "backbone", "neck": "head"}.get(place.partition(":")[2])
    rows = [row for row in model.rows[:-1] if section in (None, row.section)]
    found = [row for row in rows if row.name in blocks and not (row.name == "ResNetLayer" and row.args[3:4] == [True])]
    if not found:
        names = list(dict.fromkeys(row.name for row in rows))
        attended = [row.index for row in rows if row.name not in blocks and RowName.of(row.name).block in blocks]
        reason = f"found {', '.join(names)} there; yolo-attn layers lists the blocks that take attention"
        if not rows:
            reason = f"found no rows there; {model.rows[-1].name}, the head, follows the backbone directly"
        elif attended:
            reason = f"its blocks already have attention, in {numbered(attended)}; yolo-attn remove takes it out"
        raise UserError(f"{model.name}: --at {place}: {reason}")
    return found


def check_place(place: str) -> None:
    """Check a value of `--at`.

    Raises:
        UserError: If it is not a place; lists those that are.
    """
    if place not in PLACES and not re.fullmatch(r"after: *\d{1,9}( *, *\d{1,9})*", place):
        raise UserError(f"{place}: no such place; expected one of {', '.join(PLACES)}")


def _stages(backbone: Sequence[Row], strides: Mapping[int, int]) -> list[int]:
    """Return the last row of each run of rows with the same stride."""
    pooling = next((row.index for row in backbone if row.name in POOLING), len(backbone))
    rows = [row.index for row in backbone if row.index in strides and row.index < pooling]
    followed = {row for row, following in pairwise(rows) if strides[row] == strides[following]}
    return [row for row in rows if row not in followed and strides[row] >= FIRST_STAGE]


def _numbers(model: ModelText, place: str) -> list[int]:
    numbers = sorted(int(number) for number in place.removeprefix("after:").split(","))
    twice = next((number for number, following in pairwise(numbers) if number == following), None)
    if twice is not None:
        raise UserError(f"--at {place}: row {twice} is given more than once")
    last = len(model.rows) - 2
    for number in numbers:
        if number > last:
            what = "is the head" if number == last + 1 else "does not exist"
            raise UserError(f"{model.name}: --at {place}: row {number} {what}; expected rows from 0 to {last}")
    return numbers
