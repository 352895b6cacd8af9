"""Names of a model YAML's rows: a layer's, or a block's and a layer's in one, such as C2f_NAM."""

from typing import NamedTuple


class RowName(NamedTuple):
    """The parts of a row's name.

    Attributes:
        block: The block that a layer goes into, or the whole name where there is no underscore in it.
        layer: The layer behind the first underscore, "" without one; no block's name has an underscore, a layer's may.
    """

    block: str
    layer: str = ""

    @classmethod
    def of(cls, name: str) -> "RowName":
        """Return the parts of a name."""
        block, _, layer = name.partition("_")
        return cls(block, layer)

    def __str__(self) -> str:
        return f"{self.block}_{self.layer}" if self.layer else self.block
