"""Insert attention into a model YAML and remove it again, byte for byte."""

import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from yolo_attn.errors import UserError
from yolo_attn.yaml_edit.places import Insertion, blocks_at, check_place, rows_at
from yolo_attn.yaml_edit.row_names import RowName
from yolo_attn.yaml_edit.text import BREAK, SECTIONS, ModelText, Row, Splice, flow, newline_of, numbered, spliced

HEADER = "# yolo-attn insert "
"""How the header of an insertion begins; the rest of the command follows."""

RECORD = re.compile(
    rf"\ufeff?{HEADER}.*\n"
    r"# Inserted (?P<layer>\w+) (?P<how>as|into the blocks? of) rows? (?P<rows>\d{1,9}(?:, \d{1,9})*)"
    r"(?:, past the comments of rows? (?P<kept>\d{1,9}(?:, \d{1,9})*))?; yolo-attn remove .*\n"
    r"# .*\n"
    r"\n",
)


@dataclass(frozen=True)
class Record:
    """What an insertion did.

    Attributes:
        layer: Name of the layer.
        rows: The rows that were added, or whose blocks contain the layer.
        inside: Whether the layer is inside blocks.
        kept: Rows whose comment begins with their new number, and began with it before they moved.
    """

    layer: str
    rows: Sequence[int]
    inside: bool
    kept: Sequence[int] = ()


@dataclass(frozen=True)
class Edited:
    """A model YAML with attention inserted or removed.

    Attributes:
        text: The new text.
        record: What was inserted or removed; its row numbers are those of the text with attention.
        places: For each row of the text without attention, its number in the text with attention.
    """

    text: str
    record: Record
    places: Sequence[int]


def insert(
    model: ModelText,
    layer: str,
    place: str,
    options: Mapping[str, Any] | None = None,
    *,
    blocks: Container[str] = (),
    strides: Mapping[int, int] | None = None,
) -> Edited:
    """Insert attention into a model, at one of `places.PLACES`.

    `options` are the layer's, and `where` inside blocks; `blocks` names those that take attention inside. `strides` has
    the stride of each row that makes a map: "stages" needs it, and comments name levels by it.

    Raises:
        UserError: If the model lacks the place, or its text cannot be edited there.
    """
    check_place(place)
    if place.startswith("blocks"):
        return _insert_inside(model, layer, blocks_at(model, place, blocks), options)
    return _insert_rows(model, layer, rows_at(model, place, strides or {}), options, strides or {})


def with_header(edited: Edited, made_by: str, train: str) -> str:
    """Return an insertion's text with a header that says what was inserted and how to train the model.

    `made_by` has the arguments of the `yolo-attn insert` command, `train` is the command that trains the model.
    """
    record = edited.record
    how = f"into the block{'s' * (len(record.rows) > 1)} of" if record.inside else "as"
    kept = f", past the comments of {numbered(record.kept)}" if record.kept else ""
    lines = (
        f"{HEADER}{made_by}",
        f"# Inserted {record.layer} {how} {numbered(record.rows)}{kept}; "
        "yolo-attn remove undoes it and deletes these lines.",
        f"# {train}",
        "",
    )
    mark, text = _byte_order_mark(edited.text)
    return mark + "".join(line + newline_of(text) for line in lines) + text


def _read_header(text: str) -> tuple[Record | None, str]:
    """Return the record that a text begins with, if any, and the text without its header."""
    lines = BREAK.split(text, 4)
    found = RECORD.match("\n".join(lines))
    if not found:
        return None, text
    rows, kept = (tuple(map(int, re.findall(r"\d+", found[key] or ""))) for key in ("rows", "kept"))
    return Record(found["layer"], rows, found["how"] != "as", kept), _byte_order_mark(text)[0] + lines[4]


def _byte_order_mark(text: str) -> tuple[str, str]:
    """Return a text's byte order mark, if any, and the rest."""
    return ("\ufeff", text[1:]) if text.startswith("\ufeff") else ("", text)


def remove(text: str, name: str, layers: Container[str], blocks: Container[str]) -> Edited:
    """Remove what the last insertion added, by its header; without a header, all attention.

    Raises:
        UserError: If the text is not a model, has no attention, or its rows no longer match the header.
    """
    record, text = _read_header(text)
    model = ModelText(text, name)
    if record:
        _check_record(model, record)
        rows, inside = ((), record.rows) if record.inside else (record.rows, ())
        kept = record.kept
    else:
        rows = [row.index for row in model.rows if row.name in layers]
        names = [RowName.of(row.name) for row in model.rows]
        inside = [index for index, name in enumerate(names) if name.block in blocks and name.layer in layers]
        kept = ()
        if HEADER in text:
            raise UserError(
                f"{name}: the header of an insertion is below other lines; move it to the top to remove the last "
                "insertion, or delete it to remove all attention"
            )
        if not rows and not inside:
            raise UserError(f"{name}: found no attention layer in it")
    new = {row.index: row.index - sum(i < row.index for i in rows) for row in model.rows if row.index not in rows}
    if {model.rows[index].section for index in new} != set(SECTIONS):
        raise UserError(f"{name}: {' or '.join(SECTIONS)} would be left without rows")

    def taken(row: Row, source: int) -> int:
        while source in rows:
            source = model.rows[source].sources[0]
        if source < 0 < new[row.index]:
            raise UserError(f"{model.place(row.index)}: it takes the image through attention, which cannot be removed")
        return new.get(source, -1)

    splices = list(model.rows_removed(rows))
    for index in inside:
        splices += _plain(model, model.rows[index])
    splices += _renumbered(model, [model.rows[index] for index in new], new, taken)
    for index, (start, end) in model.comment_numbers(new).items():
        if index not in kept and model.text[start:end] == str(index):
            splices.append((start, end, str(new[index])))
    record = record or Record("attention", [*rows, *inside], bool(inside))
    return Edited(spliced(model.text, splices), record, list(new))


def _insert_rows(
    model: ModelText,
    layer: str,
    insertions: Sequence[Insertion],
    options: Mapping[str, Any] | None,
    strides: Mapping[int, int],
) -> Edited:
    new = {row.index: row.index + sum(i.before <= row.index for i in insertions) for row in model.rows}
    own = [insertion.before + count for count, insertion in enumerate(insertions)]
    attended = {insertion.source: index for index, insertion in zip(own, insertions, strict=True)}
    only_head = {insertion.source for insertion in insertions if insertion.only_head}
    head = model.rows[-1].index

    def taken(row: Row, source: int) -> int:
        as_before = source not in attended or (source in only_head and row.index != head)
        return new[source] if as_before else attended[source]

    splices = list(_renumbered(model, model.rows, new, taken))
    for before, section in dict.fromkeys((i.before, i.section) for i in insertions):
        rows = []
        for index, insertion in zip(own, insertions, strict=True):
            if (insertion.before, insertion.section) == (before, section):
                source = -1 if new[insertion.source] == index - 1 else new[insertion.source]
                row = flow([source, 1, layer, [dict(options)] if options else []])
                rows.append((row, f" # {index}{_level(strides.get(insertion.source))}"))
        splices.append(model.rows_added(section, before, rows))
    kept = []
    for index, (start, end) in model.comment_numbers(new).items():
        number = model.text[start:end]
        if number == str(index):
            splices.append((start, end, str(new[index])))
        elif number == str(new[index]):
            kept.append(new[index])
    return Edited(spliced(model.text, splices), Record(layer, own, False, kept), list(new.values()))


def _insert_inside(model: ModelText, layer: str, rows: Sequence[Row], options: Mapping[str, Any] | None) -> Edited:
    for row in rows:
        _check_own(model, row, row.args)
    splices = [model.renamed(row, str(RowName(row.name, layer))) for row in rows]
    if options:
        splices += [model.argument_added(row, flow(dict(options))) for row in rows]
    record = Record(layer, [row.index for row in rows], True)
    return Edited(spliced(model.text, splices), record, [row.index for row in model.rows])


def _renumbered(
    model: ModelText, rows: Sequence[Row], new: Mapping[int, int], taken: Callable[[Row, int], int]
) -> Iterator[Splice]:
    """Yield changes of every `from`; absolute numbers stay absolute, relative ones relative."""
    for row in rows:
        targets = [taken(row, source) if source >= 0 else -1 for source in row.sources]
        pairs = zip(row.given, targets, strict=True)
        yield from model.sources_changed(row, [to if old >= 0 else to - new[row.index] for old, to in pairs])


def _level(stride: int | None) -> str:
    """Return the level that a map of this stride is called: P3 for 8."""
    return f", P{stride.bit_length() - 1}" if stride and not stride & (stride - 1) else ""


def _plain(model: ModelText, row: Row) -> Iterator[Splice]:
    """Yield changes that turn a block variant back into the block."""
    has_options = bool(row.args) and isinstance(row.args[-1], dict)
    _check_own(model, row, row.args[:-1] if has_options else row.args)
    yield model.renamed(row, RowName.of(row.name).block)
    if has_options:
        yield model.last_argument_removed(row)


def _check_own(model: ModelText, row: Row, own: Sequence[Any]) -> None:
    """Raise unless a block has arguments of its own, none of which looks like the attention's options."""
    if not own or isinstance(own[-1], dict):
        place, block = model.place(row.index), RowName.of(row.name).block
        raise UserError(f"{place}: found {row.args}, expected {block}'s own arguments")


def _check_record(model: ModelText, record: Record) -> None:
    for index in record.rows:
        found = model.rows[index].name if index < len(model.rows) else "nothing"
        if (RowName.of(found).layer if record.inside else found) != record.layer:
            raise UserError(
                f"{model.place(index)}: found {found}, but the header says that {record.layer} was inserted there; "
                "if rows were moved since, delete the header to remove every attention layer"
            )
