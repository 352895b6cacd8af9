"""A model as a `.safetensors` file: tensors, and in the header the model YAML that they belong to.

Nothing in such a file can run. What a pickled checkpoint holds besides (the optimizer, settings, results) is left out.
"""

import json
from pathlib import Path
from typing import Any

import torch
import ultralytics
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn
from ultralytics.nn import tasks
from ultralytics.nn.modules import Conv

import yolo_attn
from yolo_attn.errors import UserError, one_line
from yolo_attn.files import write_bytes
from yolo_attn.plugin.untrusted import check_yaml, plain_settings, without_downloads

SUFFIX = ".safetensors"
MARK = "yolo_attn"
"""Key that every file of ours has, with the version that wrote it."""


def write_weights(model: Any, file: Path, half: bool = False) -> None:
    """Write a model's tensors, its YAML, class names, task and picture size.

    Tensors that share memory are written each on its own; building the model from its YAML ties them again.

    Args:
        model: A model of Ultralytics', not fused, with `names`, `yaml`, `task` and `args`.
        file: The new file.
        half: Whether floating-point tensors are stored in float16; otherwise they keep their dtype.
    """
    tensors = {}
    for name, value in model.state_dict().items():
        value = value.detach().cpu()
        tensors[name] = (value.half() if half and value.is_floating_point() else value).contiguous().clone()
    described = {**model.yaml, "yaml_file": Path(model.yaml.get("yaml_file") or "").name}
    about = {
        "format": "pt",
        MARK: yolo_attn.__version__,
        "ultralytics": ultralytics.__version__,
        "torch": str(torch.__version__),
        "model": type(model).__name__,
        "yaml": json.dumps(described),
        "names": json.dumps(model.names),
        "nc": str(len(model.names)),
        "task": model.task,
        "imgsz": json.dumps(model.args["imgsz"]),
    }
    write_bytes(file, save(tensors, about))


def read_weights(file: Path) -> nn.Module:
    """Build the model that a file of `write_weights` describes, and fill in its tensors.

    Returns:
        The model, float32, with `names`, `task` and, in `args`, the picture size.

    Raises:
        UserError: If the file is broken or foreign, or its YAML and its tensors do not belong together.
    """
    try:
        with safe_open(file, framework="pt") as content:
            about = content.metadata() or {}
            if MARK not in about:
                raise UserError(
                    f"{file}: a file of tensors alone, without the model YAML that `yolo-attn export --format "
                    "safetensors` writes into it"
                )
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118  it is no mapping
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: no whole safetensors file: {' '.join(str(error).split())}") from error
    try:
        described = json.loads(about["yaml"])
    except (KeyError, ValueError):
        described = None
    check_yaml(file, described)
    try:
        model = _build(about, described)
        model.load_state_dict(tensors)
    except Exception as error:  # whatever a wicked header makes the parser raise
        raise UserError(
            f"{file}: its YAML and its tensors make no model under Ultralytics {ultralytics.__version__} (written "
            f"under {about.get('ultralytics')}): {one_line(error)}"
        ) from error
    return model


def _build(about: dict[str, str], described: dict[str, Any]) -> Any:
    """The model that a file's header and the YAML in it describe, its weights still to come."""
    kind = getattr(tasks, about["model"])
    if not (isinstance(kind, type) and issubclass(kind, tasks.BaseModel)):
        raise ValueError(f"{about['model']!r} is no model class")
    activation = Conv.default_act
    try:
        model: Any = kind(without_downloads(described), verbose=False)
    finally:
        Conv.default_act = activation  # old versions would build later models with this one's
    model.names = {int(index): str(name) for index, name in json.loads(about["names"]).items()}
    model.task = about["task"]
    model.args = plain_settings({"task": about["task"], "imgsz": json.loads(about["imgsz"])})
    return model
