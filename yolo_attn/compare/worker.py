"""A process that trains one model of a comparison: `python -m yolo_attn.compare.worker`, told by its standard input.

The input stays open as long as the comparison lives; when it closes, however that came about, this process ends too.
"""

import json
import os
import sys
import threading
import time
from datetime import datetime, timezone
from pathlib import Path

import torch

from yolo_attn.compare.costs import hardware
from yolo_attn.engine.run import Training, train
from yolo_attn.engine.validator import versions
from yolo_attn.errors import UserError
from yolo_attn.files import write_json
from yolo_attn.plugin.registry import import_modules


def main() -> int:
    """Train, and leave run.json when all is done; returns the exit code."""
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_comparison, daemon=True).start()
    import_modules(job["modules"])
    begun = time.perf_counter()
    try:
        trainer = train(Training(**job["training"]))
    except UserError as error:
        print(error, file=sys.stderr, flush=True)
        return error.exit_code
    seconds = time.perf_counter() - begun
    record = {
        "variant": job["variant"],
        "seed": job["training"]["settings"]["seed"],
        "epochs": trainer.epochs,
        "seconds": round(seconds, 3),
        "memory_mb": peak_memory(trainer.device),
        **hardware(trainer.device),
        "versions": versions(),
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    write_json(Path(trainer.save_dir, "run.json"), record)
    return 0


def peak_memory(device: torch.device) -> float | None:
    """MiB of the device that were taken at most; of the process on a CPU, where the system tells."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)


def _end_with_the_comparison() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
