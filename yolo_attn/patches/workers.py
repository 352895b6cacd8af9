"""Processes that Ultralytics starts: the workers of a multi-GPU training, and the trainings of a tuning.

They know nothing of what was imported here, so each begins with the same import path, this package, and the modules of
the user's own layers.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from yolo_attn.model.registry import users_modules
from yolo_attn.weights.gains import own_gains
from yolo_attn.weights.transfer import transfer_of

LOADED_VARIABLE = "YOLO_ATTN_LOADED"
"""Tells a worker of the model that was loaded before its training: its gains and its transfer, as JSON."""

COMMAND = "from ultralytics.cfg import entrypoint\n\nentrypoint()\n"
"""What `yolo` does with the arguments behind it."""


def generate_ddp_file(generate: Callable[..., str], trainer: Any) -> str:
    """Ultralytics' file that each worker of a multi-GPU training runs, with our first lines before it."""
    file = Path(generate(trainer))
    lines = first_lines()
    if isinstance(trainer.model, nn.Module):
        report = transfer_of(trainer.model)
        told = {"gains": own_gains(trainer.model), "transfer": report.as_json() if report else None}
        lines += f"import os\n\nos.environ[{LOADED_VARIABLE!r}] = {json.dumps(told)!r}\n"
    file.write_text(lines + file.read_text(encoding="utf-8"), encoding="utf-8")
    return str(file)


def loaded() -> dict[str, Any]:
    """In a worker, what its launcher told of the model that was loaded before the training; elsewhere nothing."""
    return json.loads(os.environ.get(LOADED_VARIABLE, "{}"))


def tune(run_tuning: Callable[..., Any], model: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Ultralytics' tuning; the commands that it starts for its trainings run with our first lines before them."""
    run = subprocess.run

    def run_with_layers(command: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(command, list) and "train" in command:
            command = [sys.executable, "-c", first_lines() + COMMAND, *command[command.index("train") :]]
        return run(command, *args, **kwargs)

    subprocess.run = run_with_layers  # type: ignore[assignment]  # one signature for all of its own
    try:
        return run_tuning(model, *args, **kwargs)
    finally:
        subprocess.run = run


def first_lines() -> str:
    """Python code after which a new process knows the layers that this one knows."""
    path = [str(Path(entry).absolute()) for entry in sys.path]
    imports = "".join(f"import_module({name!r})\n" for name in ["yolo_attn", *users_modules()])
    return f"import sys\nfrom importlib import import_module\n\nsys.path[:] = {path!r}\n{imports}\n"
