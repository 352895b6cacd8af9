"""Loading a model from a file without running anything that the file says."""

from pathlib import Path

from torch import nn

from yolo_attn.errors import UserError
from yolo_attn.weights.checkpoint_files import StateDict, load_inert


def load_safe(path: str | Path) -> nn.Module:
    """A checkpoint's model, built anew from the checkpoint's model YAML; nothing that the file names is run.

    Takes Ultralytics' checkpoints of every family and task and ours, cut-off trainings' included, and `.safetensors`
    files of `yolo-attn export`. Layers of your own are known after the module that registers them was imported.

    Args:
        path: The `.pt` or `.safetensors` file.

    Returns:
        The model (the averaged one where there is one) as Ultralytics' loader gives it: float32, in eval mode, with
        `names`, `stride`, `yaml`, `task`, and the training's settings in `args`.

    Raises:
        UserError: In one line, if the file is missing, broken, or its model is not what its model YAML builds.
    """
    model = load_inert(Path(path))
    if isinstance(model, StateDict):
        raise UserError(f"{path}: a state dict, without its model YAML; load it into a model of a YAML")
    return model
