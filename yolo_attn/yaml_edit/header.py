"""The header comment that an insertion writes: what was inserted, and how to train the model."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from yolo_attn.yaml_edit.text import BREAK, numbered

HEADER = "# yolo-attn insert "
"""How a header begins; the rest of the command follows."""

RECORD = re.compile(
    rf"\ufeff?{HEADER}.*\n"
    r"# Inserted (?P<layer>\w+) (?P<how>as|into the blocks? of) rows? (?P<rows>\d+(?:, \d+)*)"
    r"(?:, past the comments of rows? (?P<kept>\d+(?:, \d+)*))?; yolo-attn remove .*\n"
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
    kept: Sequence[int] = field(default=())


def write_header(record: Record, made_by: str, train: str, newline: str) -> str:
    """Return the header of an edited model.

    Args:
        record: What was inserted.
        made_by: Arguments of the `yolo-attn insert` command.
        train: The command that trains the model.
        newline: The text's line break.
    """
    how = f"into the block{'s' * (len(record.rows) > 1)} of" if record.inside else "as"
    kept = f", past the comments of {numbered(record.kept)}" if record.kept else ""
    done = f"Inserted {record.layer} {how} {numbered(record.rows)}{kept}"
    lines = (
        f"{HEADER}{made_by}",
        f"# {done}; yolo-attn remove undoes it and deletes these lines.",
        f"# {train}",
        "",
    )
    return "".join(line + newline for line in lines)


def read_header(text: str) -> tuple[Record | None, str]:
    """Return the record that a text begins with, if any, and the text without its header."""
    lines = BREAK.split(text, 4)
    found = RECORD.match("\n".join(lines))
    if not found:
        return None, text
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    numbers = {key: tuple(map(int, (found[key] or "").replace(",", " ").split())) for key in ("rows", "kept")}
    record = Record(found["layer"], numbers["rows"], found["how"].startswith("into"), numbers["kept"])
    return record, mark + lines[4]
