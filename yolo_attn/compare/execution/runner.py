"""Run the trainings of a comparison, each in its own process: finished ones stay, all others start over.

An interrupted training is not resumed: it would see its images in another order, and the same command must give the
same numbers however often it was interrupted.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from yolo_attn.compare.execution.devices import one_gpu
from yolo_attn.compare.execution.processes import python
from yolo_attn.compare.study_folder import Variant, read_run, run_folder
from yolo_attn.engine.api import Training
from yolo_attn.engine.run_folder import check_replaceable, clear, is_run
from yolo_attn.errors import RunError, UserError
from yolo_attn.files import check_plain_file, os_error_line, write_json

LOCK = ".lock"
"""File in a comparison's folder, locked by the process that works on it."""

PAUSE = 0.5
"""Seconds between two checks of the trainings."""

PATIENCE = 10.0
"""Seconds that a training has to end in, once it is stopped."""


@dataclass(frozen=True)
class Job:
    """One training of a comparison, `study` being the comparison's folder."""

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
        """What the training prints; it is beside the run folder, which may be removed."""
        return self.folder.with_suffix(".log")

    @property
    def finished(self) -> bool:
        """Whether it finished and its metrics can be read."""
        return read_run(self.study, self.variant.name, self.seed).done


@contextlib.contextmanager
def locked(study: Path) -> Iterator[None]:
    """Lock a comparison's folder, on which only one process works."""
    study.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(study / LOCK, timeout=0):
            yield
    except Timeout as error:
        raise UserError(f"{study}: another process works on this comparison; wait for it, or stop it") from error


def run_all(
    jobs: Sequence[Job],
    devices: Sequence[str],
    parallel: int,
    watch: Callable[[Sequence[Job], Sequence[Job]], None],
) -> list[Job]:
    """Run all trainings that are not finished, so many at once on each device, and return those that failed.

    `watch` is called every half second with the running and the waiting ones.
    """
    waiting = [job for job in jobs if not job.finished]
    places = tuple(devices) * parallel
    running: dict[int, tuple[Job, subprocess.Popen[str]]] = {}
    try:
        while waiting or running:
            for place, device in enumerate(places):
                if waiting and place not in running:
                    job = waiting.pop(0)
                    running[place] = job, _start(job, device, parallel)
            watch([job for job, _ in running.values()], waiting)
            time.sleep(PAUSE)
            for place, (job, process) in list(running.items()):
                if process.poll() is not None:
                    _settle(job, process)
                    del running[place]
        watch([], [])
    finally:
        for _, process in running.values():
            _end(process)
    return [job for job in jobs if not job.finished]


def _start(job: Job, device: str, parallel: int) -> "subprocess.Popen[str]":
    """Start a training; first remove what an interrupted or failed one left."""
    _clear(job)
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    environment, name = one_gpu(device)
    training = replace(job.training, settings={**job.training.settings, "device": name})
    with job.log.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            python("from yolo_attn.compare.execution.worker import main; sys.exit(main())", job.modules),
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # only the comparison receives Ctrl-C
        )
    assert process.stdin
    order = {"variant": job.variant.name, "training": asdict(training), "modules": job.modules, "parallel": parallel}
    with contextlib.suppress(BrokenPipeError):  # it ended already; its log says why
        process.stdin.write(json.dumps({**order, "folder": str(job.folder)}) + "\n")
        process.stdin.flush()
    return process


def _clear(job: Job) -> None:
    """Remove what an earlier training left; raise if it may be the user's work, or is a link."""
    for place in (job.folder, job.log):
        if place.is_symlink():
            raise UserError(f"{place}: it is a link that a training would write through; move it away")
    if job.log.exists():
        check_plain_file(job.log)
    if not job.folder.exists():
        return
    begun = is_run(job.folder) or (job.folder / "failed.json").exists()
    if not begun and any(place.name != "weights" for place in job.folder.iterdir()):
        raise UserError(f"{job.folder}: it is not a training of this comparison; move it away")
    check_replaceable(job.folder)
    try:
        clear(job.folder)
    except OSError as error:
        raise RunError(f"{os_error_line(error, job.folder)}; a training cannot start over there") from error


def _settle(job: Job, process: "subprocess.Popen[str]") -> None:
    """Write failed.json for a training that ended without finishing and without writing it itself."""
    _end(process)
    if (job.folder / "failed.json").exists() or job.finished:
        return
    with job.log.open("rb") as log:
        printed = deque(filter(bytes.strip, log), maxlen=1)
    reason = printed[0].decode(errors="replace").strip().splitlines()[-1] if printed else "it printed nothing"
    if process.returncode < 0:
        memory = ", as the system does when memory is short" if process.returncode == -signal.SIGKILL else ""
        reason = f"it was ended by signal {-process.returncode}{memory}; {reason}"
    elif not process.returncode:
        reason = str(read_run(job.study, job.variant.name, job.seed).error)
    write_json(job.folder / "failed.json", {"error": reason})


def _end(process: "subprocess.Popen[str]") -> None:
    """Close the input of a process, with which it ends, or kill it."""
    try:
        process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=PATIENCE)
