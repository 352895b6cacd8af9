"""The steps on releases of Ultralytics: how outcomes are judged and kept, and three releases whole."""

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from support import OLDEST, ROOT

from tools.versions import __main__ as command
from tools.versions import limits, page, runs
from tools.versions.environments import Ready, Release, environments, find_python, lowest
from tools.versions.limits import Limit, limit_of

VERSIONS = {"python": "3.11.7", "ultralytics": "8.3.0", "torch": "2.1.0+cpu", "numpy": "1.23.0"}


@pytest.mark.integration
@pytest.mark.parametrize("release", [OLDEST, "8.4.0", pytest.param("newest", marks=pytest.mark.slow)])
def test_every_step_passes_or_is_listed_as_impossible(release):
    """The newest release's are slow only because all other tests run on it."""
    row = runs.run(Release(release))
    assert row.failures == {}
    assert row.versions["ultralytics"] == release or release == "newest"
    impossible = {step for step, outcome in row.outcomes.items() if outcome.startswith("cannot")}
    assert impossible == {limit.step for limit in limits.LIMITS if limit_of(limit.step, row.versions["ultralytics"])}


@pytest.mark.parametrize(
    ("error", "limited", "outcome"),
    [
        (None, False, "passed"),
        ("KeyError: 'A2C2f'", False, "failed: KeyError: 'A2C2f'"),
        ("KeyError: 'A2C2f'", True, "cannot: not there"),
        (None, True, "failed: passes, though LIMITS says: not there"),
    ],
)
def test_listed_step_must_fail_and_others_must_pass(error, limited, outcome, monkeypatch):
    listed = Limit("yolo12", "<8.3.78", "not there")
    monkeypatch.setattr(limits, "LIMITS", (listed,) if limited else ())
    assert runs._outcome("yolo12", error, VERSIONS) == outcome


def test_a_limit_is_of_its_step_and_its_releases(monkeypatch):
    listed = Limit("onnx", "<8.3.200", "")
    monkeypatch.setattr(limits, "LIMITS", (listed,))
    assert limit_of("onnx", "8.3.199") is listed
    assert limit_of("onnx", "8.3.200") is limit_of("yolo12", "8.3.0") is None
    assert runs._outcome("onnx", None, {}) == "passed"


FAKE = """
import json, os, sys, time
report, *names = sys.argv[1:]
with open(report, "a") as stream:
    print(json.dumps({"versions": {"ultralytics": "8.4.190"}}), file=stream, flush=True)
    for name in names:
        if name == "segfaults":
            os.kill(os.getpid(), 11)
        if name == "hangs":
            time.sleep(60)
        print(json.dumps({"step": name, "error": None}), file=stream, flush=True)
"""


@pytest.mark.integration
def test_step_that_crashes_or_hangs_is_reported_and_the_others_run(tmp_path, monkeypatch):
    script = tmp_path / "python"
    (tmp_path / "steps.py").write_text(FAKE)
    script.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} {tmp_path}/steps.py "$@"\n')
    script.chmod(0o755)
    monkeypatch.setattr(Release, "prepare", lambda self: Ready(script))
    monkeypatch.setattr(runs, "STEP_LIMIT", 2)
    row = runs.run(Release("newest"), ["first", "segfaults", "hangs", "last"])
    assert row.outcomes == {
        "first": "passed",
        "segfaults": "failed: the process ended with -11",
        "hangs": "failed: ran longer than 2 s",
        "last": "passed",
    }
    assert row.versions == {"ultralytics": "8.4.190"}
    assert row.seconds < 30


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Files of a table of its own."""
    monkeypatch.setattr(page, "KEPT", tmp_path / "versions.json")
    monkeypatch.setattr(page, "PAGE", tmp_path / "versions.md")
    monkeypatch.setattr(page, "CACHE", tmp_path)
    return tmp_path


def row(**outcomes):
    return runs.Row("2026-11-29", "a machine", VERSIONS, outcomes, 60)


def test_run_of_one_environment_replaces_its_row_alone(kept):
    page.keep("8.3.0", row(yolov8="passed", yolo12="cannot: no yolo12", onnx="failed: ImportError"))
    page.keep("lowest", row(yolov8="passed"))
    page.keep("8.3.0", row(yolov8="passed", yolo12="cannot: no yolo12"))
    assert list(json.loads((kept / "versions.json").read_text())) == ["8.3.0", "lowest"]
    text = (kept / "versions.md").read_text()
    lines = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if line.startswith("| ")}
    assert lines["8.3.0"].startswith("| 8.3.0 | 8.3.0 | 3.11.7 | 2.1.0+cpu | 1.23.0 |")
    assert (lines["8.3.0"].count("✓"), lines["8.3.0"].count("–"), lines["8.3.0"].count("✗")) == (1, 1, 0)
    assert lines["lowest"].count("✓") == 1
    assert lines["newest"].startswith("| newest | not yet run |")
    assert "`yolo12`: no yolo12 (8.3.0)" in text
    assert text.endswith("## What failed\n\nNothing.\n")


def test_page_is_that_of_the_kept_rows():
    assert page.render(page.load()) == page.PAGE.read_text(encoding="utf-8")


def test_every_row_of_the_page_has_passed():
    rows = page.load()
    assert {name: found.failures for name, found in rows.items() if found.failures} == {}


@pytest.mark.integration
def test_environments_are_named_once_and_have_the_declared_ends():
    names = [each.name for each in environments()]
    assert len(set(names)) == len(names)
    (oldest,) = [each for each in environments() if each.name == "pytorch-oldest"]
    assert f"torch=={lowest('torch')}.*" in oldest.requirements
    assert find_python(f"{sys.version_info.major}.{sys.version_info.minor}") == Path(sys.executable)


def test_missing_rows_alone_are_run(kept, monkeypatch):
    page.keep("8.3.0", row(yolov8="passed"))
    ran = []
    monkeypatch.setattr(command, "run", lambda environment: ran.append(environment.name) or row(yolov8="passed"))
    monkeypatch.setattr(sys, "argv", ["versions", "--missing"])
    assert command.main() == 0
    assert ran == [each.name for each in environments() if each.name != "8.3.0"]
    assert set(page.load()) == {each.name for each in environments()}


TERMINATED = """
import sys
from pathlib import Path
from tools.versions.__main__ import main
from tools.versions.environments import Ready, Release
python = Path(sys.argv.pop())
Release.prepare = lambda self: Ready(python)
sys.exit(main())
"""


@pytest.mark.integration
def test_sigterm_ends_the_process_of_the_step_too(tmp_path):
    script, started = tmp_path / "python", tmp_path / "pid"
    script.write_text(f"#!/bin/sh\necho $$ > {started}.part\nmv {started}.part {started}\nexec sleep 100\n")
    script.chmod(0o755)
    process = subprocess.Popen([sys.executable, "-c", TERMINATED, "newest", script], cwd=ROOT)
    try:
        deadline = time.monotonic() + 60
        while not started.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        step = psutil.Process(int(started.read_text()))
        process.terminate()
        assert process.wait(30) == 143
        step.wait(10)
    finally:
        process.kill()
