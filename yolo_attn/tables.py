"""Tables as lines of text."""

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines; what begins with a digit stands on the right, with its heading."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(cell[0].isdigit() for cell in column[1:]) for column in columns]
    return [
        "  ".join(
            f"{cell:{'>' if at else '<'}{width}}" for cell, width, at in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    ]
