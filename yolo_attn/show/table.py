"""Rows of a model as lines of text, all of them or those that differ from another model's."""

from collections.abc import Sequence
from dataclasses import replace
from difflib import SequenceMatcher

from yolo_attn.show.rows import Row, Shown
from yolo_attn.tables import aligned

HEADINGS = ("", "row", "from", "n", "module", "output", "stride", "parameters", "GFLOPs", "read by")


def table(model: Shown) -> list[str]:
    """All rows, attention marked with a star, and their sums."""
    attention = [row for row in model.rows if row.attends]
    parameters, gflops = sum(row.parameters for row in attention), sum(row.gflops for row in attention)
    sums = f"{len(model.rows)} rows, {model.parameters:,} parameters, {model.gflops:.3f} GFLOPs"
    if attention:
        sums += f"; rows with attention (*): {len(attention)}, {parameters:,} parameters, {gflops:.3f} GFLOPs"
    lines = aligned([HEADINGS, *(_cells("", row) for row in model.rows)])
    return [f"{model.name} on {model.size} × {model.size} pixels", "", *lines, "", sums]


def differences(model: Shown, base: Shown) -> list[str]:
    """Rows that one of two models lacks, or that read, make or cost other things: - the base's, + the model's."""
    lines, found, pairs = [], _paired(model, base), dict[int, int]()
    for old, new in found:
        if old and new:
            pairs[old.number] = new.number
            if _same(old, new, pairs):
                continue
        lines += [_cells("-", old)] if old else []
        lines += [_cells("+", new)] if new else []
    more = model.parameters - base.parameters, model.gflops - base.gflops
    sums = (
        f"rows: {len(base.rows)} → {len(model.rows)}; parameters: {base.parameters:,} → {model.parameters:,} "
        f"({more[0]:+,}); GFLOPs: {base.gflops:.3f} → {model.gflops:.3f} ({more[1]:+.3f})"
    )
    title = f"{model.name} (+) against {base.name} (-) on {model.size} × {model.size} pixels"
    return [title, "", *(aligned([HEADINGS, *lines]) if lines else ["no row differs"]), "", sums]


def _paired(model: Shown, base: Shown) -> list[tuple[Row | None, Row | None]]:
    """The rows of base and model side by side, in order, None where one lacks a row."""
    found: list[tuple[Row | None, Row | None]] = []
    before, after = ([row.kind for row in each.rows] for each in (base, model))
    for _, a, b, c, d in SequenceMatcher(a=before, b=after, autojunk=False).get_opcodes():
        olds, news = base.rows[a:b], model.rows[c:d]
        if b - a == d - c:
            found += zip(olds, news, strict=True)
        else:
            found += [(old, None) for old in olds] + [(None, new) for new in news]
    return found


def _same(old: Row, new: Row, pairs: dict[int, int]) -> bool:
    """Whether two rows are the same but for their numbers."""
    sources = tuple(pairs.get(source, source if source < 0 else None) for source in old.sources)
    renumbered = replace(old, number=new.number, given=new.given, sources=new.sources, readers=new.readers)
    return sources == new.sources and renumbered == new


def _cells(sign: str, row: Row) -> Sequence[str]:
    return (
        f"{sign}{'*' if row.attends else ''}",
        str(row.number),
        str(row.given),
        str(row.repeats),
        f"{row.name} {row.arguments}",
        "×".join(map(str, row.shape)),
        ", ".join(f"{stride:g}" for stride in row.strides),
        f"{row.parameters:,}",
        f"{row.gflops:.3f}",
        ", ".join(map(str, row.readers)),
    )
