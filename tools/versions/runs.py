"""Runs the steps in an environment, in processes that are ended when a step takes too long."""

import contextlib
import json
import os
import platform
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tools.versions.environments import ROOT, End, Ready, Release
from tools.versions.limits import limit_of
from tools.versions.steps import STEPS

STEP_LIMIT = 600
"""Seconds that a step may take."""

NAMES = tuple(step.__name__ for step in STEPS)


@dataclass(frozen=True)
class Row:
    """How the steps went in an environment.

    Attributes:
        date: Day of the run, UTC.
        machine: What it ran on.
        versions: Of Python and of packages.
        outcomes: "passed", or "cannot: " or "failed: " and a reason, by step.
        seconds: How long all steps took.
    """

    date: str
    machine: str
    versions: dict[str, str]
    outcomes: dict[str, str]
    seconds: int

    @property
    def failures(self) -> dict[str, str]:
        """The steps that failed."""
        return {step: outcome for step, outcome in self.outcomes.items() if outcome.startswith("failed")}


def run(environment: Release | End, names: Sequence[str] = NAMES) -> Row:
    """Run steps in an environment; the log of a failed one is printed.

    Raises:
        UnavailableError: If the environment cannot be made.
    """
    ready = environment.prepare()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="yolo_attn_versions_") as folder:
        home = Path(folder)
        (home / "config").mkdir()
        errors: dict[str, str | None] = {}
        while left := [name for name in names if name not in errors]:
            errors |= _process(ready, home, left)
        reported = [line["versions"] for line in _lines(home / "report.jsonl") if "versions" in line]
        versions: dict[str, str] = reported[0] if reported else {}
        outcomes = {name: _outcome(name, errors[name], versions) for name in names}
        if any(outcome.startswith("failed") for outcome in outcomes.values()):
            print((home / "log.txt").read_text(errors="replace"))
    date = datetime.now(timezone.utc).date().isoformat()
    return Row(date, _machine(), versions, outcomes, round(time.monotonic() - start))


def _process(ready: Ready, home: Path, names: Sequence[str]) -> dict[str, str | None]:
    """Run steps in one process, as far as it comes; what went wrong in each that was begun, None if nothing did."""
    report, log = home / "report.jsonl", home / "log.txt"
    before = len(_lines(report))
    command = [str(ready.python), "-m", "tools.versions.steps", str(report), *names]
    with log.open("a") as stream:
        process = subprocess.Popen(
            command, cwd=home, env=_variables(ready, home), stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        late = _is_late(process, report)
    finally:
        with contextlib.suppress(ProcessLookupError):  # also ends what a step has left running
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    found = {line["step"]: line["error"] for line in _lines(report)[before:] if "step" in line}
    cut = next((name for name in names if name not in found), None)
    if cut:
        found[cut] = f"ran longer than {STEP_LIMIT} s" if late else f"the process ended with {process.returncode}"
    return found


def _is_late(process: subprocess.Popen[bytes], report: Path) -> bool:
    """Wait until a process ends, or its report has not grown for STEP_LIMIT seconds."""
    lines, since = 0, time.monotonic()
    while process.poll() is None:
        time.sleep(0.2)
        if len(_lines(report)) != lines:
            lines, since = len(_lines(report)), time.monotonic()
        elif time.monotonic() - since > STEP_LIMIT:
            return True
    return False


def _outcome(step: str, error: str | None, versions: dict[str, str]) -> str:
    limit = limit_of(step, versions["ultralytics"]) if "ultralytics" in versions else None
    if limit and error:
        return f"cannot: {limit.reason}"
    if limit:
        return f"failed: passes, though LIMITS says: {limit.reason}"
    return f"failed: {error}" if error else "passed"


def _lines(report: Path) -> list[dict[str, Any]]:
    """The whole lines of a report."""
    text = report.read_text() if report.is_file() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _variables(ready: Ready, home: Path) -> dict[str, str]:
    path = [str(folder) for folder in (*ready.front, ROOT)]
    others = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "YOLO_", "PYTEST"))}
    return {
        **others,
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        "YOLO_CONFIG_DIR": str(home / "config"),
        "YOLO_ATTN_CACHE": str(home / "cache"),
        "YOLO_OFFLINE": "1",
        "YOLO_AUTOINSTALL": "false",
        "MPLBACKEND": "Agg",
        "OMP_NUM_THREADS": "1",
    }


def _machine() -> str:
    """Kind of processor, number of cores, and system."""
    cpu = Path("/proc/cpuinfo")
    match = re.search(r"model name\s*: (.*)", cpu.read_text()) if cpu.is_file() else None
    return f"{match[1] if match else platform.machine()}, {os.cpu_count()} cores, {platform.system()}"
