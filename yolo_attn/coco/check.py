"""Check a data set before it is trained on."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from yolo_attn.coco.dataset.data_report import Examined, SplitReport, examine
from yolo_attn.coco.dataset.locations import Data, json_alone, load_alone, load_source, parts_of, splits_of
from yolo_attn.coco.dataset.splits import Split
from yolo_attn.files import check_apart
from yolo_attn.tables import aligned

WIDEST = 60
"""Characters of an item in a table."""


def check_data(data: Data, task: str, output: Path | None = None) -> dict[str, Examined]:
    """Read and examine every split of COCO-format data as a training would: classes are the first split's.

    One JSON whose name says no split is examined as "all".

    Raises:
        UserError: If the data cannot be used, or `output` is among it.
    """
    parts = parts_of(data)
    alone = json_alone(parts[0], task) if len(parts) == 1 else None
    splits = {"all": load_alone(alone, task)} if alone else _splits(parts, task)
    if output:
        places = [folder for split in splits.values() for folder in split.folders]
        places += [file.parent for split in splits.values() for file in split.index.files]
        check_apart(output, "--pictures", [*places, *(part for part in parts if part.is_dir())])
    names = next(iter(splits.values())).names
    return {name: examine(split.index, split.folders, names) for name, split in splits.items()}


def _splits(parts: Sequence[Path], task: str) -> dict[str, Split]:
    having = splits_of(parts, task)
    found: dict[str, Split] = {}
    for sets in dict.fromkeys(map(tuple, having.values())):
        found |= load_source(sets, [split for split, those in having.items() if tuple(those) == sets], task) or {}
    return {split: found[split] for split in having}


def problem_count(reports: Iterable[SplitReport]) -> int:
    """Return how many items were skipped, clipped or suspicious."""
    return sum(count for report in reports for _, count in report.problems)


def tables(reports: Mapping[str, SplitReport]) -> list[str]:
    """Return two tables as lines: what is used of each split, and each kind of problem."""
    rows = [
        [split, *(f"{n:,}" for n in (r.images, r.usable, r.boxes, r.crowds, problem_count([r])))]
        for split, r in reports.items()
    ]
    lines = aligned([["split", "images", "usable", "boxes", "crowds", "problems"], *rows])
    lines += ["", *oriented] if (oriented := [f"{s}: {r.forms}" for s, r in reports.items() if r.oriented]) else []
    problems = [
        [split, f"{count:,}", kind, _cut(report.problems.items(kind)[0])]
        for split, report in reports.items()
        for kind, count in report.problems
    ]
    empty = [s for s, report in reports.items() if s == "train" and not report.boxes]
    lines += ["", "The train split has no box to learn from."] if empty else []
    if not problems:
        return lines if empty else [*lines, "", "No problems found."]
    return [*lines, "", *aligned([["split", "count", "problem", "first item"], *problems])]


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"
