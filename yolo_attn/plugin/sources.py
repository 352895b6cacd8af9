"""Files of weights that Ultralytics' own loader does not take: safetensors files of ours, and bare state dicts."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from yolo_attn.errors import UserError
from yolo_attn.plugin.checkpoints import load_safe
from yolo_attn.plugin.weights_only import SUFFIX

KEY = re.compile(r"^(?:module\.|model\.)?(model\.(\d+)\..+)$")
"""A tensor's name in a model of Ultralytics', its row in it; in front of it what parallel training or `YOLO` puts."""

WRAPPERS = ("state_dict", "ema", "model")
"""Keys under which other trainers save a state dict."""


CLASSES = ("cv3.0.2.weight", "enc_score_head.weight", "linear.weight")
"""Tensors of heads with as many rows as there are classes."""


class StateDict(nn.Module):
    """Tensors by their names, as a model of nothing but them: what Ultralytics loads from, without the model YAML.

    Args:
        tensors: Each one's name begins with "model." and its row.
        file: Where they came from.

    Attributes:
        model: The rows.
    """

    def __init__(self, tensors: dict[str, Tensor], file: str) -> None:
        super().__init__()
        self.pt_path = file
        number = 1 + max(int(key.split(".")[1]) for key in tensors)
        self.model = nn.Sequential(*(nn.Module() for _ in range(number)))
        for key, value in tensors.items():
            *path, name = key.split(".")
            owner: nn.Module = self
            for part in path:
                if part not in owner._modules:
                    owner.add_module(part, nn.Module())
                owner = owner.get_submodule(part)
            if name.startswith(("running_", "num_batches")) or not value.is_floating_point():
                owner.register_buffer(name, value)
            else:
                owner.register_parameter(name, nn.Parameter(value))

    @property
    def classes(self) -> int:
        """How many the head knows; 0 where that cannot be told."""
        head = self.model[-1].state_dict()
        return next((len(head[name]) for name in CLASSES if name in head), 0)

    def is_fused(self) -> bool:
        """Whether batch norms are folded into convolutions, which their tensors would tell."""
        return False

    @property
    def task(self) -> str:
        """Refused: it is what Ultralytics asks first of a file that is to be a model.

        Raises:
            UserError: Always.
        """
        raise UserError(f"{self.pt_path}: a state dict, without its model YAML; load it into a model of a YAML")


def load_checkpoint(load: Callable[..., Any], weight: str | Path, *args: Any, **kwargs: Any) -> Any:
    """Ultralytics' loader of a checkpoint, which also takes safetensors files of ours and state dicts.

    Args:
        load: Ultralytics' own.
        weight: The file.
        args: What its own loader takes besides; a file of the other kinds is read onto the CPU as it is.
        kwargs: Likewise.

    Returns:
        The model, or a `StateDict`, and the checkpoint's content.
    """
    file = Path(weight)
    if file.suffix == SUFFIX and file.is_file():
        model: Any = load_safe(file)
        return model, {"model": model, "train_args": model.args}
    tensors = _read_tensors(file) if file.suffix in {".pt", ".pth"} and file.is_file() else None
    if tensors:
        found = StateDict(tensors, str(file))
        return found, {"model": found}
    return load(weight, *args, **kwargs)


def _read_tensors(file: Path) -> dict[str, Tensor] | None:
    """The state dict in a file, if that is what it holds."""
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # whatever reading a checkpoint of objects, or no checkpoint at all, raises
        return None
    return _tensors(content)


def source_of(weights: Any) -> Any:
    """The model, or the `StateDict`, in what is given to a model to load."""
    if not isinstance(weights, dict):
        return weights
    tensors = _tensors(weights)
    return StateDict(tensors, "a state dict") if tensors else weights.get("ema") or weights.get("model")


def _tensors(content: Any) -> dict[str, Tensor] | None:
    """The state dict in a checkpoint's content, if it holds nothing else."""
    if isinstance(content, dict):
        content = next((content[name] for name in WRAPPERS if isinstance(content.get(name), dict)), content)
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        return None
    named = {match[1]: content[key] for key in content if (match := KEY.match(str(key)))}
    return named if named and len(named) == len(content) else None
