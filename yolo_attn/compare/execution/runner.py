"""The trainings of a comparison, each in a process of its own: what is finished stays, all else begins anew.

A training that was cut off is not resumed: a resumed one takes its pictures in another order, and the same command
shall give the same numbers however often it was interrupted.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from yolo_attn.compare.execution.devices import alone
from yolo_attn.compare.execution.processes import python
from yolo_attn.compare.study import Variant, read_run, run_folder
from yolo_attn.engine.api import Training
from yolo_attn.engine.run_folder import check_replaceable, clear, is_run
from yolo_attn.errors import RunError, UserError
from yolo_attn.files import check_plain_file, os_error_line, write_json

LOCK = ".lock"
"""File in a comparison's folder that the process which works on it holds."""

PAUSE = 0.5
"""Seconds between two looks at the trainings."""

END_OF_LOG = 2**16
"""Bytes of a log, its last, in which the reason of a failure is looked for."""

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
        """Whether it has trained to its end, and its numbers can be read."""
        return read_run(self.study, self.variant.name, self.seed).done

    @property
    def failed(self) -> bool:
        """Whether the last time that it was tried it failed."""
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
    jobs: Sequence[Job],
    devices: Sequence[str],
    parallel: int,
    watch: Callable[[Sequence[Job], Sequence[Job]], None],
) -> list[Job]:
    """Train what is not finished.

    Args:
        jobs: All trainings, in the order in which they begin.
        devices: Devices, each of which trains some.
        parallel: Trainings at once on each device.
        watch: Called every half second with the trainings that run and those that wait.

    Returns:
        Those that failed.

    Raises:
        RunError: If what is left of an earlier training cannot be removed.
    """
    waiting = [job for job in jobs if not job.finished]
    places = tuple(devices) * parallel
    running: dict[int, tuple[Job, subprocess.Popen[str]]] = {}
    failed = []
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
                    if job.failed:
                        failed.append(job)
                    del running[place]
        watch([], [])
    finally:
        for _, process in running.values():
            _end(process)
    return [job for job in jobs if job in failed]


def _start(job: Job, device: str, parallel: int) -> "subprocess.Popen[str]":
    """Begin a training, in place of what is left of one that was cut off or failed."""
    _clear(job)
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    environment, name = alone(device)
    training = replace(job.training, settings={**job.training.settings, "device": name})
    with job.log.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            python("from yolo_attn.compare.execution.worker import main; sys.exit(main())", job.modules),
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C is the comparison's to hear
        )
    assert process.stdin
    order = {"variant": job.variant.name, "training": asdict(training), "modules": job.modules, "parallel": parallel}
    with contextlib.suppress(BrokenPipeError):  # it has ended already, and its log says why
        process.stdin.write(json.dumps({**order, "folder": str(job.folder)}) + "\n")
        process.stdin.flush()
    return process


def _clear(job: Job) -> None:
    """Remove what an earlier training has left.

    Raises:
        UserError: If it may be somebody's work, or a link leads elsewhere.
        RunError: If it cannot be removed.
    """
    for place in (job.folder, job.log):
        if place.is_symlink():
            raise UserError(f"{place}: it is a link, and a training would write through it; move it away")
    if job.log.exists():
        check_plain_file(job.log)
    if not job.folder.exists():
        return
    begun = is_run(job.folder) or (job.folder / "failed.json").exists()
    if not begun and any(place.name != "weights" for place in job.folder.iterdir()):
        raise UserError(f"{job.folder}: it holds no training, and one is to lie there; move it away")
    check_replaceable(job.folder)
    try:
        clear(job.folder)
    except OSError as error:
        raise RunError(f"{os_error_line(error, job.folder)}; a training is to begin anew there") from error


def _settle(job: Job, process: "subprocess.Popen[str]") -> None:
    """Note a failure where a training has ended without having finished, and has not told why itself."""
    assert process.stdin
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    if job.failed or job.finished:
        return
    printed = re.split("[\r\n]+", _end_of(job.log).strip())
    reason = printed[-1].strip() or "it printed nothing"
    if process.returncode < 0:
        memory = ", as the system does when memory is short" if process.returncode == -signal.SIGKILL else ""
        reason = f"it was ended by signal {-process.returncode}{memory}; {reason}"
    elif not process.returncode:
        reason = str(read_run(job.study, job.variant.name, job.seed).error)
    write_json(job.folder / "failed.json", {"error": reason})


def _end_of(log: Path) -> str:
    with log.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - END_OF_LOG))
        return stream.read().decode(errors="replace")


def _end(process: "subprocess.Popen[str]") -> None:
    assert process.stdin
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
