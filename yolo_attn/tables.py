"""Tables as lines of text."""

import re
from collections.abc import Sequence

NUMBER = re.compile(r"[-−+]?\d")


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines; columns whose cells begin as numbers, or are empty, stand on the right, with their heading."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(NUMBER.match(cell) for cell in column[1:] if cell) for column in columns]
    return [
        "  ".join(
            f"{cell:{'>' if at else '<'}{width}}" for cell, width, at in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    ]
