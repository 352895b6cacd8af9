"""Many strings in one array."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SURROGATES = "surrogatepass"  # a JSON may name half of a character


class Strings(Sequence[str]):
    """An immutable sequence of strings in one buffer: forked processes share it, and the cache stores it whole.

    An int gives a string, a slice a list of them, an array of rows the `Strings` of these rows.

    Args:
        text: Bytes of all strings, one after the other.
        ends: Where each string ends in it.
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

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, np.ndarray):
            return Strings.of(map(self.raw, i.tolist()))
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        return self.raw(range(len(self))[i]).decode(errors=SURROGATES)

    def raw(self, i: int) -> bytes:
        """Return the bytes of one string."""
        start = self.ends[i - 1] if i else 0
        return self.text[start : self.ends[i]].tobytes()
