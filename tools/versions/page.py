"""Keeps the rows of all runs, and writes docs/versions.md of them."""

import json
from collections.abc import Mapping
from dataclasses import asdict

from filelock import FileLock

from tools.versions.environments import CACHE, ROOT, End, Release, environments
from tools.versions.limits import BESIDE
from tools.versions.runs import Row
from tools.versions.steps import STEPS

KEPT = ROOT / "docs/measured/versions.json"
PAGE = ROOT / "docs/versions.md"

SIGNS = {"passed": "✓", "cannot": "–", "failed": "✗"}

TEXT = """# Versions

Supported are the releases of Ultralytics, PyTorch and Python that this table shows as run. `make test-versions`
writes it: each row is one run of the {number} steps below in one environment, on the CPU, with a drawn set of 24
images, at 64 pixels. `python -m tools.versions 8.4.0 lowest` runs these two alone and leaves the others as they are;
`--missing` goes on where a run was cut off.

✓ passed, ✗ failed, – not possible with these releases without this package either; the reasons are below.

{table}

The rows of releases and `newest` share one environment, in front of which each release of Ultralytics lies. Each other
row has its own: `python-…` with the newest release of every package that this Python can have, `pytorch-oldest` with
the oldest PyTorch that `pyproject.toml` declares and a NumPy that it can use, `lowest` with the lowest declared release
of every package. {beside}

{machines}

## Steps

{steps}

## What these releases cannot do by themselves

{limits}

## What failed

{failures}
"""


def load() -> dict[str, Row]:
    """The rows of earlier runs, by environment."""
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {}
    return {name: Row(**row) for name, row in kept.items()}


def keep(name: str, row: Row) -> None:
    """Keep a row in place of an earlier one of its environment, and write the page."""
    with FileLock(CACHE / "versions.lock"):
        rows = {**load(), name: row}
        kept = {each.name: asdict(rows[each.name]) for each in environments() if each.name in rows}
        KEPT.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        PAGE.write_text(render(rows), encoding="utf-8")


def render(rows: Mapping[str, Row]) -> str:
    """The page of some rows."""
    known = environments()
    ran = [(each.name, rows[each.name]) for each in known if each.name in rows]
    header = ["environment", "Ultralytics", "Python", "PyTorch", "NumPy", *map(str, range(1, len(STEPS) + 1))]
    lines = [_line(header), _line(["---"] * len(header)), *(_row(each, rows) for each in known)]
    beside = [f"Ultralytics {each.releases} lies beside {each.requirements[0]}: {each.reason}." for each in BESIDE]
    return TEXT.format(
        number=len(STEPS),
        table="\n".join(lines),
        beside=" ".join(beside),
        machines=_machines(ran),
        steps="\n".join(f"{i}. {(step.__doc__ or '').strip()}" for i, step in enumerate(STEPS, 1)),
        limits=_reasons(ran, "cannot"),
        failures=_reasons(ran, "failed"),
    )


def _row(environment: Release | End, rows: Mapping[str, Row]) -> str:
    row = rows.get(environment.name)
    if row is None:
        return _line([environment.name, "not yet run", *[""] * (3 + len(STEPS))])
    found = [row.versions.get(name, "") for name in ("ultralytics", "python", "torch", "numpy")]
    return _line([environment.name, *found, *(_sign(row, step.__name__) for step in STEPS)])


def _sign(row: Row, step: str) -> str:
    return SIGNS[row.outcomes[step].partition(":")[0]] if step in row.outcomes else ""


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _machines(ran: list[tuple[str, Row]]) -> str:
    """When and on what the rows were run."""
    groups: dict[tuple[str, str], list[int]] = {}
    for _, row in ran:
        groups.setdefault((row.date, row.machine), []).append(row.seconds)
    return "\n".join(
        f"Run on {date} on {machine}: {len(seconds)} rows, {min(seconds)} to {max(seconds)} s each."
        for (date, machine), seconds in sorted(groups.items())
    )


def _reasons(ran: list[tuple[str, Row]], kind: str) -> str:
    """The steps that came out so, each with the environments."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, row in ran:
        for step, outcome in row.outcomes.items():
            if outcome.startswith(kind):
                groups.setdefault((step, outcome.removeprefix(f"{kind}: ")), []).append(name)
    numbers = {step.__name__: i for i, step in enumerate(STEPS, 1)}
    lines = [
        f"- {numbers[step]} `{step}`: {reason} ({', '.join(names)})"
        for (step, reason), names in sorted(groups.items(), key=lambda item: numbers[item[0][0]])
    ]
    return "\n".join(lines) or "Nothing."
