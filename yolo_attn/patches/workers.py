"""Processes that Ultralytics starts: the workers of a multi-GPU training, and the trainings of a tuning.

They know nothing of what was imported here, so each begins with the same import path, this package, and the modules of
the user's own layers.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from yolo_attn.environment import replaced
from yolo_attn.model.registry import users_modules

COMMAND = "from ultralytics.cfg import entrypoint\n\nentrypoint()\n"
"""What `yolo` does with the arguments behind it."""


def generate_ddp_file(generate: Callable[..., str], trainer: Any) -> str:
    """Ultralytics' file that each worker of a multi-GPU training runs, with our first lines before it."""
    file = Path(generate(trainer))
    lines = first_lines()
    prepared = getattr(trainer, "prepared", None)  # of a trainer of ours
    if prepared:
        from yolo_attn.engine.training.prepared import WORKER_VARIABLE

        lines += f"import os\n\nos.environ[{WORKER_VARIABLE!r}] = {prepared.message(trainer.model)!r}\n"
    file.write_text(lines + file.read_text(encoding="utf-8"), encoding="utf-8")
    return str(file)


def tune(run_tuning: Callable[..., Any], model: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Ultralytics' tuning; the commands that it starts for its trainings run with our first lines before them."""
    run = subprocess.run

    def run_with_layers(command: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(command, list) and "train" in command:
            command = [sys.executable, "-c", first_lines() + COMMAND, *command[command.index("train") :]]
        return run(command, *args, **kwargs)

    with replaced(subprocess, run=run_with_layers):
        return run_tuning(model, *args, **kwargs)


def first_lines() -> str:
    """Python code after which a new process knows the layers that this one knows."""
    path = [str(Path(entry).absolute()) for entry in sys.path]
    imports = "".join(f"import_module({name!r})\n" for name in ["yolo_attn", *users_modules()])
    return f"import sys\nfrom importlib import import_module\n\nsys.path[:] = {path!r}\n{imports}\n"
