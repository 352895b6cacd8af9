"""What was used of a data set and what was not: a few lines on screen, everything in data_report.json."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_attn.bounded_reading import LARGEST_RECORD, read_plain
from yolo_attn.coco.dataset.image_files import find_images
from yolo_attn.coco.dataset.labels import Labels, make_labels
from yolo_attn.coco.dataset.layouts import in_its_set
from yolo_attn.coco.reading.index import CocoIndex
from yolo_attn.coco.reading.oriented import FORMS
from yolo_attn.coco.reading.problems import LISTED, Problems
from yolo_attn.files import write_json

FILE_NAME = "data_report.json"
"""The report's name in a run folder."""

ALL_CROWDS = "annotation marked as a crowd, as are all: no labels; --crowds-as-objects, or its key in a data YAML"


@dataclass(frozen=True)
class SplitReport:
    """What was used of one split, and what was not.

    Attributes:
        files: The JSON, or the JSONs that were joined.
        images: Images in it.
        usable: How many of them have a usable image file.
        boxes: Boxes that carry a label.
        crowds: Crowds, which carry none.
        problems: All that was skipped, clipped or suspicious.
        oriented: How many oriented boxes that carry a label are stated in which of `FORMS`; empty for other tasks.
    """

    files: tuple[Path, ...]
    images: int
    usable: int
    boxes: int
    crowds: int
    problems: Problems
    oriented: dict[str, int] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """Return what messages call the JSON, or the JSONs that were joined."""
        return " and ".join(map(str, self.files))

    def lines(self) -> list[str]:
        """Return what was used, then a line for each problem."""
        crowds = f", {self.crowds} crowds that carry no label" if self.crowds else ""
        used = f"{self.file}: {self.usable} images, {self.boxes} boxes{crowds}"
        return [": ".join(filter(None, [used, self.forms])), *self.problems.lines()]

    @property
    def forms(self) -> str:
        """How the oriented boxes are stated; empty for other tasks."""
        return "; ".join(f"{count} {form}" for form, count in self.oriented.items())

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values; each kind of problem with its first thousand items."""
        known = {name: value for name, value in vars(self).items() if name != "oriented" or value}
        del known["files"]
        return {"file": " and ".join(map(in_its_set, self.files)), **known, "problems": self.problems.as_json()}

    def save(self, folder: Path, split: str) -> None:
        """Write the report under the split's name into the data_report.json of a run folder."""
        file = folder / FILE_NAME
        others = json.loads(read_plain(file, LARGEST_RECORD)) if file.exists() else {}
        write_json(file, {**others, split: self.as_json()})


@dataclass(frozen=True)
class Examined:
    """One split, examined; `suspect` has rows of annotations that were skipped, clipped or odd, by the reason."""

    labels: Labels
    suspect: dict[str, NDArray[np.int64]]
    report: SplitReport


def shared_images(examined: Mapping[str, Examined]) -> list[str]:
    """Return a line for each split whose images are, in part, those of an earlier one: its numbers say little."""
    lines = []
    for (one, first), (other, second) in itertools.combinations(examined.items(), 2):
        known = set(first.labels.files)
        number = sum(file in known for file in second.labels.files)
        if number:
            share = f"{number:,} of {other}'s {len(second.labels.files):,} images are images of {one}, too"
            lines.append(f"{second.report.file}: {share}; numbers on them do not show what was learned")
    return lines


def examine(index: CocoIndex, folders: Sequence[Path], names: Sequence[str]) -> Examined:
    """Find the image files of an index, each JSON's in a folder, and make labels of the model's classes."""
    images = find_images(index, folders)
    labels, suspect = make_labels(index, images, names)
    met = Problems()
    met.update(index.problems)
    met.update(images.problems)
    for kind, rows in suspect.items():
        met.add(kind, map(index.annotation_text, rows[:LISTED].tolist()), len(rows))
    boxes, crowds = len(labels.boxes), int(index.crowd.sum())
    if index.crowd.size and index.crowd.all():
        met.add(ALL_CROWDS, map(index.annotation_text, range(min(crowds, LISTED))), crowds)
    forms = np.zeros(0, dtype=np.int8) if index.forms is None else index.forms[labels.annotations]
    oriented = {form: int(count) for form, count in zip(FORMS, np.bincount(forms), strict=False) if count}
    report = SplitReport(index.files, len(index.image_ids), len(labels), boxes, crowds, met, oriented)
    return Examined(labels, suspect, report)
