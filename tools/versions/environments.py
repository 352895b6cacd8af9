"""The environments: releases of Ultralytics in front of this one, others for PyTorch and Python, this one with more.

All are kept in CACHE and made once.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from tools.versions.limits import beside

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "pyproject.toml"
CACHE = Path(sys.prefix) / "versions"
"""Folder of the releases and environments; it goes with the environment that runs this."""

RELEASES = (
    *(f"8.3.{patch}" for patch in (0, 20, 50, 78, 100, 130, 157, 163, 200, 230, 250, 251, 253)),
    *(f"8.4.{patch}" for patch in (0, 3, 4, 7, 10, 60, 100, 150)),
)
"""Releases of Ultralytics beside the newest, which is the one that is installed."""

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
UV = (sys.executable, "-m", "uv")
INSTALL_LIMIT = 1800
"""Seconds that an installation may take."""


class UnavailableError(Exception):
    """An environment cannot be made here: an interpreter is not at hand, or an installation failed."""


@dataclass(frozen=True)
class Ready:
    """An environment that can run the steps: its interpreter, and folders in front on its import path."""

    python: Path
    front: Sequence[Path] = ()


@dataclass(frozen=True)
class Release:
    """A release of Ultralytics in front of the environment that runs this; "newest" is that environment as it is."""

    name: str

    def prepare(self) -> Ready:
        """Install it."""
        python = Path(sys.executable)
        return Ready(python) if self.name == "newest" else Ready(python, [release_folder(self.name)])


@dataclass(frozen=True)
class End:
    """An environment of its own, made by uv: a version of Python, what it has beside what the package declares."""

    name: str
    python: str
    requirements: Sequence[str] = ()
    options: Sequence[str] = ()

    def prepare(self) -> Ready:
        """Install it.

        Raises:
            UnavailableError: If it cannot be made.
        """
        interpreter = find_python(self.python)
        wanted = [PROJECT.read_text(encoding="utf-8"), *self.requirements, *self.options]
        with _once(CACHE / self.name, wanted) as (python, missing):
            if missing:
                _run(*UV, "venv", "--quiet", "--clear", "--no-python-downloads", "--python", interpreter, _of(python))
                _run(*UV, "pip", "install", "--python", python, *self.options, "-r", PROJECT, *self.requirements)
        return Ready(python)


@dataclass(frozen=True)
class Beside:
    """This environment with further packages, in a folder of their own; what is installed here stays as it is."""

    name: str
    requirements: Sequence[str]

    def prepare(self) -> Ready:
        """Install it.

        Raises:
            UnavailableError: If it cannot be made.
        """
        with _once(CACHE / self.name, self.requirements) as (python, missing):
            if missing:
                _run(sys.executable, "-m", "venv", "--clear", _of(python))
                (own,) = _of(python).glob("lib/python*/site-packages")
                (own / "beside.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
                _run(python, "-m", "pip", "install", "--quiet", *self.requirements)  # it sees what is here already
        return Ready(python)


def environments() -> list[Release | End]:
    """All environments, oldest release first."""
    exporters = [f"{package}>={lowest(package)}" for package in ("onnx", "onnxruntime")]
    return [
        *map(Release, (*RELEASES, "newest")),
        *(End(f"python-{version}", version, exporters) for version in PYTHONS),
        End("pytorch-oldest", "3.10", (*exporters, f"torch=={lowest('torch')}.*", "numpy<2")),
        End("lowest", "3.10", exporters, ("--resolution", "lowest-direct")),
    ]


def release_folder(release: str) -> Path:
    """The folder of a release of Ultralytics and of what it needs beside it; installed if it is not there."""
    folder = CACHE / f"ultralytics-{release}"
    CACHE.mkdir(exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "ultralytics").is_dir():
            part = folder.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", part)
            _run(*pip, f"ultralytics=={release}", *beside(release))
            part.rename(folder)
    return folder


def find_python(version: str) -> Path:
    """An interpreter of a version: this one, one on the PATH, or one of pyenv's.

    Raises:
        UnavailableError: If there is none.
    """
    for python in _pythons(version):
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        result = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60)
        if result.returncode == 0 and result.stdout.strip() == version:
            return python
    raise UnavailableError(f"no Python {version} is on the PATH or among pyenv's versions")


def _pythons(version: str) -> Iterator[Path]:
    yield Path(sys.executable)
    found = shutil.which(f"python{version}")
    yield from [Path(found)] if found else []
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/python"))


def lowest(package: str) -> str:
    """The lowest version of a package that pyproject.toml declares."""
    found = re.search(rf'"{package}>=([\d.]+)', PROJECT.read_text(encoding="utf-8"))
    assert found, package
    return found[1]


@contextmanager
def _once(folder: Path, wanted: Sequence[str]) -> Iterator[tuple[Path, bool]]:
    """The interpreter of an environment, and whether it has to be made first; nobody else makes it meanwhile."""
    CACHE.mkdir(exist_ok=True)
    done, text = folder / "installed.txt", "\n".join(wanted)
    with FileLock(f"{folder}.lock"):
        missing = not done.is_file() or done.read_text() != text
        yield folder / "bin" / "python", missing
        if missing:
            done.write_text(text)


def _of(python: Path) -> Path:
    """The environment that an interpreter is of."""
    return python.parents[1]


def _run(*command: str | Path) -> None:
    result = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=INSTALL_LIMIT, check=False
    )
    if result.returncode:
        raise UnavailableError(f"{' '.join(map(str, command))} failed:\n{result.stderr[-2000:]}")
