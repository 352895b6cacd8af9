"""The comment in front of a model that attention was put into: what was done, and how it is trained."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from yolo_attn.yaml_edit.text import BREAK, numbered

HEADER = "# yolo-attn insert "
"""What a header begins with; behind it the rest of the command."""

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
        rows: Numbers of the rows that were added, or whose blocks have it inside.
        inside: Whether it stands in blocks.
        kept: Rows whose comments begin with what is their number now, and had another.
    """

    layer: str
    rows: Sequence[int]
    inside: bool
    kept: Sequence[int] = field(default=())


def write_header(record: Record, made_by: str, train: str, newline: str) -> str:
    """The header of an edited model.

    Args:
        record: What was done.
        made_by: The command that did it, behind `yolo-attn insert`.
        train: The command that trains the model.
        newline: Line break.
    """
    how = f"into the block{'s' * (len(record.rows) > 1)} of" if record.inside else "as"
    kept = f", past the comments of {numbered(record.kept)}" if record.kept else ""
    done = f"Inserted {record.layer} {how} {numbered(record.rows)}{kept}"
    lines = (
        f"{HEADER}{made_by}",
        f"# {done}; yolo-attn remove takes that out again, and these lines.",
        f"# {train}",
        "",
    )
    return "".join(line + newline for line in lines)


def read_header(text: str) -> tuple[Record | None, str]:
    """The record that a text begins with, if any, and the text without that header."""
    lines = BREAK.split(text, 4)
    found = RECORD.match("\n".join(lines))
    if not found:
        return None, text
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    numbers = {key: tuple(map(int, (found[key] or "").replace(",", " ").split())) for key in ("rows", "kept")}
    record = Record(found["layer"], numbers["rows"], found["how"].startswith("into"), numbers["kept"])
    return record, mark + lines[4]
