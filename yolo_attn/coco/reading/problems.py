"""What was skipped, clipped or found suspicious in a data set: counted and listed."""

import functools
from collections.abc import Iterable, Iterator
from typing import Any

from ultralytics.utils import LOGGER

LISTED = 1000
"""Items of a kind that are listed; all are counted."""


class Problems:
    """Kinds of problems in words, with how often each was met and in which items."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._items: dict[str, list[str]] = {}

    def add(self, kind: str, items: Iterable[str], count: int | None = None) -> None:
        """Count and list items.

        Args:
            kind: What is wrong with them and what was done about it.
            items: What messages call each, such as "annotation 12"; only the first `LISTED` are kept.
            count: How many there are, where `items` has only the first of them.
        """
        listed, met = self._items.get(kind, []), 0
        for item in items:
            met += 1
            if len(listed) < LISTED:
                listed.append(item)
        if met:
            self._items[kind] = listed
            self._counts[kind] = self[kind] + (met if count is None else count)

    def update(self, other: "Problems") -> None:
        """Add another reader's problems."""
        for kind, count in other:
            self.add(kind, other.items(kind), count)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        """Yield each kind with its count, in the order in which they were met."""
        return iter(self._counts.items())

    def __len__(self) -> int:
        return len(self._counts)

    def __getitem__(self, kind: str) -> int:
        return self._counts.get(kind, 0)

    def items(self, kind: str) -> list[str]:
        """Return the listed items of a kind."""
        return self._items.get(kind, [])

    def lines(self) -> list[str]:
        """Return a line for each kind, with its first item."""
        return [self.line(kind) for kind, _ in self]

    def line(self, kind: str) -> str:
        """Return a kind that was met, with its count and first item."""
        count = self[kind]
        return f"{count} × {kind}: {self._items[kind][0]}{', …' if count > 1 else ''}"

    def as_json(self) -> list[dict[str, Any]]:
        """Return each kind with its count and its listed items."""
        return [{"problem": kind, "count": count, "items": self._items[kind]} for kind, count in self]

    @classmethod
    def from_json(cls, kinds: list[dict[str, Any]]) -> "Problems":
        """Invert `as_json`."""
        problems = cls()
        for kind in kinds:
            problems.add(kind["problem"], kind["items"], kind["count"])
        return problems


@functools.cache
def warn_once(line: str) -> None:
    """Log a warning, once in a process."""
    LOGGER.warning(line)
