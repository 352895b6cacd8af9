"""Many strings in one array."""

from collections.abc import Iterable, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

SURROGATES = "surrogatepass"  # a JSON may name half of a character


class Strings(Sequence[str]):
    """An immutable sequence of strings in one buffer: processes that are forked share it, and a cache stores it whole.

    Args:
        text: Bytes of all strings, one behind the other.
        ends: Where each ends in it.
    """

    def __init__(self, text: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self.text, self.ends = text, ends

    @classmethod
    def of(cls, strings: Iterable[str | bytes]) -> "Strings":
        """Pack strings, or their bytes in UTF-8."""
        encoded = [s if isinstance(s, bytes) else s.encode(errors=SURROGATES) for s in strings]
        ends = np.cumsum([len(s) for s in encoded], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8), ends)

    def __len__(self) -> int:
        return len(self.ends)

    def raw(self, i: int) -> bytes:
        """The bytes of one string."""
        start = self.ends[i - 1] if i else 0
        return self.text[start : self.ends[i]].tobytes()

    @overload
    def __getitem__(self, i: int) -> str: ...
    @overload
    def __getitem__(self, i: slice) -> list[str]: ...
    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        return self.raw(range(len(self))[i]).decode(errors=SURROGATES)

    def take(self, rows: NDArray[np.int64]) -> "Strings":
        """The strings of these rows."""
        return Strings.of(self.raw(row) for row in rows.tolist())
