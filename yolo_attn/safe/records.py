"""What a pickle describes, as inert records."""

from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class Name:
    """A global that a pickle names; it is never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Record:
    """An object that a pickle describes; it is never made.

    Attributes:
        made_by: What would be called: the `Name` of a class or function, or whatever the pickle has in its place.
        args: With what.
        states: What would be set on it, one after the other.
    """

    made_by: Any = field(repr=False)
    args: Any = field(repr=False)
    states: list[Any] = field(default_factory=list, repr=False)


@dataclass(frozen=True, eq=False)
class Storage:
    """The entry of the file in which tensors lie.

    Attributes:
        key: Its name.
        dtype: What its elements are; None for kinds that are not read.
        length: How many there are.
    """

    key: str
    dtype: torch.dtype | None
    length: int


@dataclass(frozen=True, eq=False)
class TensorRecord:
    """A tensor's place in a storage, which it does not leave; `offset` and `stride` in elements."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def overlaps(self) -> bool:
        """Whether several of its elements may lie in one place."""
        below = 1
        for stride, size in sorted(zip(self.stride, self.size, strict=True)):
            if size > 1 and stride < below:
                return True
            below = max(below, stride * size)
        return False


@dataclass(eq=False)
class Key:
    """A dictionary's key, or a set's member, that is no plain value; its own hash would cost as much as it likes."""

    value: Any = field(repr=False)
