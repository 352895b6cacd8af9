"""The trainings of a comparison, each in a process of its own: what is finished stays, all else begins anew.

A training that was cut off is not resumed: a resumed one takes its pictures in another order, and the same command
shall give the same numbers however often it was interrupted.
"""

import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from yolo_attn.compare.study import Variant, run_folder
from yolo_attn.engine.run import Training
from yolo_attn.errors import UserError
from yolo_attn.files import write_json

LOCK = ".lock"
"""File in a comparison's folder that the process which works on it holds."""

PAUSE = 0.5
"""Seconds between two looks at the trainings."""

PATIENCE = 10.0
"""Seconds that a training has to end in, once it is told to."""


@dataclass(frozen=True)
class Job:
    """One training of a comparison: a variant, a seed, and what the training is told."""

    study: Path
    variant: Variant
    seed: int
    training: Training
    modules: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The run folder."""
        return run_folder(self.study, self.variant.name, self.seed)

    @property
    def log(self) -> Path:
        """What the training prints; it outlives a run folder that is removed again."""
        return self.folder.with_suffix(".log")

    @property
    def finished(self) -> bool:
        """Whether it has trained to its end."""
        return (self.folder / "run.json").exists()

    @property
    def failed(self) -> bool:
        """Whether it was told that it failed."""
        return (self.folder / "failed.json").exists()


@contextlib.contextmanager
def locked(study: Path) -> Iterator[None]:
    """While it lasts, no other process works on a comparison.

    Raises:
        UserError: If one does.
    """
    study.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(study / LOCK, timeout=0):
            yield
    except Timeout as error:
        raise UserError(f"{study}: another process works on this comparison; wait for it, or stop it") from error


def run_all(
    jobs: Sequence[Job], devices: Sequence[str], parallel: int, watch: Callable[[Sequence[Job]], None]
) -> list[Job]:
    """Train what is not finished.

    Args:
        jobs: All trainings, in the order in which they begin.
        devices: Devices, each of which trains some; empty takes Ultralytics' choice.
        parallel: Trainings at once on each device.
        watch: Called every half second with the trainings that run.

    Returns:
        Those that failed.
    """
    waiting = [job for job in jobs if not job.finished]
    places: Sequence[str | None] = (tuple(devices) or (None,)) * parallel
    running: dict[int, tuple[Job, subprocess.Popen[str]]] = {}
    try:
        while waiting or running:
            for place, device in enumerate(places):
                if waiting and place not in running:
                    job = waiting.pop(0)
                    running[place] = job, _start(job, device)
            watch([job for job, _ in running.values()])
            time.sleep(PAUSE)
            for place, (job, process) in list(running.items()):
                if process.poll() is not None:
                    _settle(job, process)
                    del running[place]
        watch([])
    finally:
        for _, process in running.values():
            _end(process)
    return [job for job in jobs if job.failed]


def _start(job: Job, device: str | None) -> "subprocess.Popen[str]":
    """Begin a training, in place of what is left of one that was cut off or failed."""
    shutil.rmtree(job.folder, ignore_errors=True)
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    training = job.training
    if device is not None:
        training = replace(training, settings={**training.settings, "device": device})
    with job.log.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "yolo_attn.compare.worker"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C is the comparison's to hear
        )
    assert process.stdin
    told = {"variant": job.variant.name, "training": asdict(training), "modules": job.modules}
    with contextlib.suppress(BrokenPipeError):  # it has ended already, and its log says why
        process.stdin.write(json.dumps(told) + "\n")
        process.stdin.flush()
    return process


def _settle(job: Job, process: "subprocess.Popen[str]") -> None:
    """Note a failure where a training has ended without having finished."""
    assert process.stdin
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    if job.finished:
        return
    printed = re.split("[\r\n]+", job.log.read_text(encoding="utf-8", errors="replace").strip())
    reason = printed[-1].strip() or f"it ended with exit code {process.returncode}"
    if process.returncode < 0:
        reason = f"it was ended by signal {-process.returncode}, as the system does when memory is short; {reason}"
    write_json(job.folder / "failed.json", {"error": reason})


def _end(process: "subprocess.Popen[str]") -> None:
    assert process.stdin
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
