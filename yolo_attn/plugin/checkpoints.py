"""Loading a model from a file without running anything that the file says."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.nn import tasks

from yolo_attn.errors import UserError
from yolo_attn.plugin.safe_pickle import read_pickle
from yolo_attn.plugin.untrusted import check_yaml, plain_settings
from yolo_attn.plugin.weights_only import SUFFIX, read_weights


def load_safe(path: str | Path) -> nn.Module:
    """A checkpoint's model, read without executing the checkpoint's pickle.

    Takes Ultralytics' checkpoints of every family and task and ours, cut-off trainings' included, and `.safetensors`
    files of `yolo-attn export`. Layers of your own are known after the module that registers them was imported.

    Args:
        path: The `.pt` or `.safetensors` file.

    Returns:
        The model (the averaged one where there is one) as Ultralytics' loader gives it: float32, in eval mode, with
        `names`, `stride`, `yaml`, `task`, and the training's settings in `args`.

    Raises:
        UserError: In one line, if the file is missing, broken, or names anything that such a checkpoint does not need;
            nothing that it names has run then.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"{file}: {'a folder, expected a file' if file.is_dir() else 'no such file'}")
    if file.suffix == SUFFIX:
        return _ready(read_weights(file), file)
    content = read_pickle(file)
    model: Any = (content.get("ema") or content.get("model")) if isinstance(content, dict) else content
    if not isinstance(model, tasks.BaseModel):
        found = "no model" if model is None else f"a {type(model).__name__}"
        raise UserError(f"{file}: it holds {found}, expected a model of Ultralytics'")
    check_yaml(file, getattr(model, "yaml", None))  # a later training builds the model from it
    try:
        for holder in (model.__dict__, model._modules):  # the training's loss, which the reader leaves out
            holder.pop("criterion", None)
        model.args = plain_settings(content.get("train_args"))
        return _ready(model, file)
    except Exception as error:  # whatever wrong attributes lead to
        raise UserError(f"{file}: its model is no whole one: {type(error).__name__}: {str(error)[:100]}") from error


def _ready(model: Any, file: Path) -> nn.Module:
    model.float().eval()
    model.pt_path = str(file)
    model.task = getattr(model, "task", None) or tasks.guess_model_task(model)
    if not hasattr(model, "stride"):
        model.stride = torch.tensor([32.0])
    return model
