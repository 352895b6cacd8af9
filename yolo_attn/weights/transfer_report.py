"""What a transfer of weights did: which rows and tensors of a checkpoint found their place in a model."""

from dataclasses import dataclass
from typing import Any

from yolo_attn.yaml_edit import numbered

ENOUGH = 0.9
"""Share of the base's tensors and parameters under which something is wrong with a checkpoint, or with its choice."""


@dataclass(frozen=True)
class Transfer:
    """A checkpoint's rows and tensors, the source's, and where each of them is in the model, the target.

    Attributes:
        places: The target's index of each source row that it has.
        new_attention: The target's rows with attention that the source has not there: none, another, or the same with
            other options or in another place of the block.
        tensors: The target's key of each of the source's tensors; None for those that it did not take.
        left_out: The source's rows with attention that the target has not there, each with the keys of its tensors.
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
    left_out: dict[int, set[str]]
    parameters: dict[str, int]
    classes: tuple[int, int]

    @property
    def is_whole(self) -> bool:
        """Whether what could come did, nearly: attention that is dropped could not, nor a head of other classes."""
        head = f"model.{len(self.source_rows) - 1}."
        expected = {key for key in self._wanted if self.tensors[key] or not (self._rebuilt and key.startswith(head))}
        return all(taken >= ENOUGH * number for taken, number in self._counts(expected))

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
        new = {later.places[middle] for middle in self.new_attention if middle in later.places}
        sources = {middle: old for old, middle in self.places.items() if middle not in self.new_attention}
        gone = {
            sources[middle]: {key for key, place in self.tensors.items() if place in keys}
            for middle, keys in later.left_out.items()
            if middle in sources
        }
        return Transfer(
            self.source,
            later.target,
            self.source_rows,
            later.target_rows,
            {old: later.places[middle] for old, middle in self.places.items() if middle in later.places},
            sorted(new.union(later.new_attention)),
            {key: later.tensors.get(middle) if middle else None for key, middle in self.tensors.items()},
            {**gone, **self.left_out},
            self.parameters,
            (self.classes[0], later.classes[1]),
        )

    def line(self) -> str:
        """What was kept, in a line."""
        in_blocks = len(set(self.new_attention) - set(self.inserted))
        tensors, parameters = (f"{n:,} of {of:,} {{}} ({_percent(n, of)})" for n, of in self._counts(self._wanted))
        text = (
            f"{self.source} into {self.target}: {len(self.places)} rows matched"
            f"{f' ({in_blocks} with new attention inside)' if in_blocks else ''}, {len(self.inserted)} inserted; "
            f"{tensors.format('tensors')} and {parameters.format('parameters')} transferred"
        )
        if self.left_out:
            rows = numbered(sorted(self.left_out))
            text += f"; the checkpoint's attention in {rows}, which the model lacks there, is dropped"
        if self._rebuilt:
            text += f"; head rebuilt for {self.classes[1]} classes, the checkpoint has {self.classes[0]}"
        return text

    @property
    def _wanted(self) -> set[str]:
        """The source's tensors without those of attention that is dropped."""
        return set(self.tensors).difference(*self.left_out.values())

    @property
    def _rebuilt(self) -> bool:
        return all(self.classes) and self.classes[0] != self.classes[1]

    def _counts(self, keys: set[str]) -> list[tuple[int, int]]:
        """How many of these tensors of the source the target took, of how many; and how many parameters in them."""
        taken = {key for key in keys if self.tensors[key]}
        values = (sum(self.parameters.get(key, 0) for key in part) for part in (taken, keys))
        return [(len(taken), len(keys)), (next(values), next(values))]

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
        tensors, parameters = self._counts(self._wanted)
        return {
            "source": self.source,
            "target": self.target,
            "rows": {"matched": len(self.places), "inserted": self.inserted, "missing": self.missing},
            "new_attention": self.new_attention,
            "tensors": {"transferred": tensors[0], "of": tensors[1]},
            "parameters": {"transferred": parameters[0], "of": parameters[1]},
            "left_out": {"rows": sorted(self.left_out), "tensors": len(self.tensors) - tensors[1]},
            "classes": {"source": self.classes[0] or None, "target": self.classes[1] or None},
            "table": self.as_rows(),
        }


def _percent(part: int, whole: int) -> str:
    """A share that is 100% only where all is there."""
    return "100%" if part == whole else f"{min(part / whole, 0.999):.1%}"
