"""Ultralytics' own tests, run offline with and without this package registered.

    python tests/upstream/ultralytics_tests.py

writes the outcomes without it, of the installed release, beside this file. Its source distribution holds the tests.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
COCO = ROOT.parent / "shared/data/coco-mini"
FILES = ("tests/test_engine.py", "tests/test_python.py", "tests/test_cli.py")
PYTEST = ("-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider", "-p", "recorder")
TIMEOUT = 3600
"""Seconds that one file of tests may take; a few minutes on a free core."""


@dataclass(frozen=True)
class Release:
    """One release of Ultralytics, with its tests and their stand-ins.

    Attributes:
        name: Its version.
        folder: Where it is installed, if not in this environment.
        home: Has the tests, and the stand-ins under `assets`.
    """

    name: str
    folder: Path | None
    home: Path

    def environment(self, registered: bool = False, **more: str) -> dict[str, str]:
        """Environment variables of its processes, offline; in all of them the layers are registered, or in none."""
        path = [*([HERE / "registered"] if registered else []), *([self.folder] if self.folder else []), HERE, ROOT]
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "YOLO_OFFLINE": "1",
            "YOLO_AUTOINSTALL": "false",
            "MPLBACKEND": "Agg",
            "PYTHONHASHSEED": "0",  # early releases name cases by the order of a set
            **more,
        }

    def outcomes(self, tests, registered: bool) -> dict[str, str]:
        """The outcome of each test: passed, failed or skipped.

        Args:
            tests: Files, or tests by their whole names.
            registered: Whether this package is imported in every process of theirs.
        """
        with tempfile.TemporaryDirectory() as scratch:
            own, log = Path(scratch, "assets"), Path(scratch, "outcomes.jsonl")
            shutil.copytree(self.home / "assets", own)
            for file in (own / "cfg").rglob("settings.json"):
                file.write_text(file.read_text().replace(str(self.home / "assets"), str(own)))
            shutil.copytree(self.home / "tests", Path(scratch, "tests"))
            shutil.copy(self.home / "pyproject.toml", scratch)
            more = {"OUTCOMES": str(log), "YOLO_CONFIG_DIR": str(own / "cfg")}
            with Path(scratch, "log.txt").open("w") as output:
                subprocess.run(
                    [sys.executable, *PYTEST, *tests],
                    cwd=scratch,
                    env=self.environment(registered, **more),
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    timeout=TIMEOUT,
                )
            said = Path(scratch, "log.txt").read_text(errors="replace")[-2000:]
            assert log.exists(), said
            first, *records = map(json.loads, log.read_text().splitlines())
        assert first == {"version": self.name, "registered": registered}, said
        return {record["test"]: record["outcome"] for record in records}


def prepared(name: str, folder: Path | None = None) -> Release:
    """A release with its tests, fetched and prepared once for this environment."""
    home = Path(sys.prefix) / f"ultralytics-{name}-tests"
    found = Release(name, folder, home)
    with FileLock(f"{home}.lock"):
        if not (home / "ready").exists():
            shutil.rmtree(home, ignore_errors=True)
            fetch(name, home)
            command = [sys.executable, HERE / "assets.py", home / "assets", COCO]
            subprocess.run(command, env=found.environment(), check=True, timeout=600, stdout=subprocess.DEVNULL)
            (home / "ready").touch()
    return found


def fetch(name: str, home: Path) -> None:
    """Take the tests, and how they are configured, out of a release's source distribution."""
    with tempfile.TemporaryDirectory() as scratch:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "ultralytics"]
        subprocess.run([*pip, "--dest", scratch, f"ultralytics=={name}"], check=True, timeout=600)
        (archive,) = Path(scratch).glob("ultralytics-*.tar.gz")
        with tarfile.open(archive) as content:
            content.extractall(scratch, filter="data")
        source = Path(scratch, f"ultralytics-{name}")
        home.mkdir(parents=True)
        shutil.copytree(source / "tests", home / "tests")
        shutil.copy(source / "pyproject.toml", home)


def committed(name: str) -> Path:
    """The file of a release's outcomes without this package."""
    return HERE / f"outcomes-{name}.json"


if __name__ == "__main__":
    found = prepared(version("ultralytics"))
    outcomes: dict[str, str] = {}
    for file in FILES:
        outcomes |= found.outcomes([file], registered=False)
        committed(found.name).write_text(json.dumps(outcomes, indent=1, sort_keys=True) + "\n")
        print(file, sum(outcome == "passed" for outcome in outcomes.values()), "of", len(outcomes), "passed so far")
