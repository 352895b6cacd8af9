"""How large a model YAML's text may be."""

from typing import Any

from yolo_attn.errors import UserError, quoted

SECTIONS = ("backbone", "head")

MOST_ROWS = 1000
"""Of a model; Ultralytics' longest has 54."""

LONGEST_NAME = 200
"""Characters of a layer's name."""


def check_rows(content: Any, name: str) -> None:
    """Raise if a YAML has more rows, or longer names of layers, than any model."""
    parts = [content.get(section) for section in SECTIONS] if isinstance(content, dict) else []
    rows = [row for part in parts if isinstance(part, list) for row in part]
    if len(rows) > MOST_ROWS:
        raise UserError(f"{name}: {len(rows):,} rows, expected at most {MOST_ROWS:,}")
    for index, row in enumerate(rows):
        if isinstance(row, list) and len(row) > 2 and isinstance(row[2], str) and len(row[2]) > LONGEST_NAME:
            raise UserError(f"{name}, row {index}: found {quoted(row[2])}, expected the name of a layer")
