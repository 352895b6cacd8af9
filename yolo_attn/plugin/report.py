"""What a transfer of weights did: which rows and tensors of a checkpoint found their place in a model."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Transfer:
    """A checkpoint's rows and tensors, and where each of them is in the model.

    Attributes:
        source: What was loaded.
        target: The model.
        source_rows: Names of the source's rows.
        target_rows: Names of the target's rows.
        places: The target's index of each source row that it has.
        new_attention: The target's rows with attention that the source has not there: none, another, or the same in
            another place of the block.
        tensors: The target's key of each of the source's tensors; None for those that it did not take.
        parameters: Number of values of each of the source's tensors that are parameters.
        classes: How many the source and the target know; 0 where that is not known.
    """

    source: str
    target: str
    source_rows: list[str]
    target_rows: list[str]
    places: dict[int, int]
    new_attention: list[int]
    tensors: dict[str, str | None]
    parameters: dict[str, int]
    classes: tuple[int, int]

    @property
    def share(self) -> float:
        """Share of the source's tensors that the target took."""
        return len(self.taken) / max(len(self.tensors), 1)

    @property
    def taken(self) -> set[str]:
        """The target's keys of the tensors that it took."""
        return {key for key in self.tensors.values() if key is not None}

    @property
    def inserted(self) -> list[int]:
        """The target's rows that the source has not."""
        return sorted(set(range(len(self.target_rows))) - set(self.places.values()))

    @property
    def missing(self) -> list[int]:
        """The source's rows that the target has not."""
        return sorted(set(range(len(self.source_rows))) - set(self.places))

    def then(self, later: "Transfer") -> "Transfer":
        """This transfer and a later one, out of the model that it filled, as one."""
        old = {later.places[middle] for middle in self.new_attention if middle in later.places}
        return Transfer(
            self.source,
            later.target,
            self.source_rows,
            later.target_rows,
            {old: later.places[middle] for old, middle in self.places.items() if middle in later.places},
            sorted(old.union(later.new_attention)),
            {key: later.tensors.get(middle) if middle else None for key, middle in self.tensors.items()},
            self.parameters,
            (self.classes[0], later.classes[1]),
        )

    def line(self) -> str:
        """What was kept, in a line."""
        in_blocks = len(set(self.new_attention) - set(self.inserted))
        values = {key: number for key, number in self.parameters.items() if self.tensors[key]}
        text = (
            f"{self.source} into {self.target}: {len(self.places)} rows matched"
            f"{f' ({in_blocks} with new attention inside)' if in_blocks else ''}, {len(self.inserted)} inserted, "
            f"{len(self.missing)} missing; {len(self.taken):,} of {len(self.tensors):,} tensors and "
            f"{sum(values.values()):,} of {sum(self.parameters.values()):,} parameters transferred ({self.share:.1%})"
        )
        theirs, ours = self.classes
        if theirs and ours and theirs != ours:
            text += f"; head rebuilt for {ours} classes, the checkpoint has {theirs}"
        return text

    def table(self) -> str:
        """A line for each row of the target, and for each row of the source that the target has not."""
        lines = [f"{'row':>4} {'from':>5}  {'layer':<22}{'tensors':>12}{'parameters':>24}"]
        for row in self.as_rows():
            index, source = (" " if row[key] is None else row[key] for key in ("row", "from"))
            tensors = f"{row['tensors']:,}/{row['of_tensors']:,}"
            parameters = f"{row['parameters']:,}/{row['of_parameters']:,}"
            lines.append(f"{index:>4} {source:>5}  {row['layer']:<22}{tensors:>12}{parameters:>24}")
        return "\n".join(lines)

    def as_rows(self) -> list[dict[str, Any]]:
        """The table's rows; `from` is the source's index, and both counts are of the source's tensors."""
        sources = {new: old for old, new in self.places.items()}
        rows: list[tuple[int | None, int | None, str]] = [
            (index, sources.get(index), name) for index, name in enumerate(self.target_rows)
        ]
        rows += [(None, index, self.source_rows[index]) for index in self.missing]
        found = []
        for index, source, name in rows:
            keys = [key for key in self.tensors if source is not None and key.startswith(f"model.{source}.")]
            taken = [key for key in keys if self.tensors[key]]
            found.append(
                {
                    "row": index,
                    "from": source,
                    "layer": name,
                    "tensors": len(taken),
                    "of_tensors": len(keys),
                    "parameters": sum(self.parameters.get(key, 0) for key in taken),
                    "of_parameters": sum(self.parameters.get(key, 0) for key in keys),
                }
            )
        return found

    def as_json(self) -> dict[str, Any]:
        """All of it, for transfer.json."""
        rows = self.as_rows()
        return {
            "source": self.source,
            "target": self.target,
            "rows": {"matched": len(self.places), "inserted": self.inserted, "missing": self.missing},
            "new_attention": self.new_attention,
            "tensors": {"transferred": len(self.taken), "of": len(self.tensors)},
            "parameters": {
                "transferred": sum(number for key, number in self.parameters.items() if self.tensors[key]),
                "of": sum(self.parameters.values()),
            },
            "classes": {"source": self.classes[0] or None, "target": self.classes[1] or None},
            "table": rows,
        }
