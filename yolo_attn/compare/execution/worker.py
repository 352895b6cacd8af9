"""The process that trains one model of a comparison; it reads its job from standard input.

The input stays open as long as the comparison runs; when it closes, this process ends too.
"""

import json
import os
import re
import sys
import threading
import time
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from yolo_attn.compare.execution.costs import hardware
from yolo_attn.compare.study_folder import Record
from yolo_attn.engine.api import Training, train
from yolo_attn.engine.validation.validator import CocoValidator, versions
from yolo_attn.errors import RunError, UserError, one_line
from yolo_attn.files import write_json
from yolo_attn.model.registry import import_modules


def main() -> int:
    """Train, write run.json at the end or failed.json on failure, and return the exit code."""
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_comparison, daemon=True).start()
    try:
        record = _train(job)
    except Exception as error:
        write_json(Path(job["folder"], "failed.json"), {"error": reason_of(error)})
        if isinstance(error, UserError):
            print(error, file=sys.stderr, flush=True)
            return error.exit_code
        raise
    write_json(Path(job["folder"], "run.json"), asdict(record))
    return 0


def reason_of(error: Exception) -> str:
    """Return why a training failed, in one line, without the hint of how to resume it."""
    if isinstance(error, RunError):
        return error.reason
    return str(error) if isinstance(error, UserError) else one_line(error)


def _train(job: dict[str, Any]) -> Record:
    import_modules(job["modules"])
    begun = time.perf_counter()
    trainer = train(Training(**job["training"]))
    seconds = time.perf_counter() - begun
    save_joined(trainer.validator)
    return Record(
        variant=job["variant"],
        seed=job["training"]["settings"]["seed"],
        epochs=trainer.epochs,
        seconds=round(seconds, 3),
        memory_mb=peak_memory(trainer.device),
        parallel=job["parallel"],
        **hardware(trainer.device),
        versions=versions(),
        finished=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def save_joined(validator: Any) -> None:
    """Write predictions.json with the ids of ground_truth.json if several JSONs were joined."""
    if isinstance(validator, CocoValidator) and validator.coco:
        index = validator.dataloader.dataset.index
        if index.origins:
            validator.detections.countable(index).save(validator.save_dir / "predictions.json")


def peak_memory(device: torch.device) -> float | None:
    """Return the peak memory of the device, MiB; on a CPU that of this process, None if unknown."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    status = Path("/proc/self/status")  # on Linux, getrusage() starts at the parent's peak
    peak = re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(), re.MULTILINE) if status.exists() else None
    if peak:
        return round(int(peak[1]) / 2**10, 1)
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)


def _end_with_the_comparison() -> None:
    sys.stdin.read()
    os._exit(1)
