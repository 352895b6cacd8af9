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
from torch import Size, nn

from yolo_attn.errors import UserError, one_line
from yolo_attn.files import write_bytes
from yolo_attn.safe.build import Described, build
from yolo_attn.safe.checkpoints import plain
from yolo_attn.version import __version__

SUFFIX = ".safetensors"
MARK = "yolo_attn"
"""Key that every file of ours has, with the version that wrote it."""

LARGEST_JSON = 4 * 2**20
"""Characters of a header's model YAML and class names; a hundred thousand names take two million."""


def write_weights(model: Any, file: Path, half: bool = False) -> None:
    """Write a model's tensors, its YAML, class names, task and image size.

    Tensors that share memory are written each on its own; building the model from its YAML ties them again. The model
    is not fused; with `half`, floating-point tensors are stored in float16, otherwise they keep their dtype.
    """
    tensors = {}
    for name, value in model.state_dict().items():
        value = value.detach().cpu()
        tensors[name] = (value.half() if half and value.is_floating_point() else value).contiguous().clone()
    described = {**model.yaml, "yaml_file": Path(model.yaml.get("yaml_file") or "").name}
    about = {
        "format": "pt",
        MARK: __version__,
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
        The model, float32, with `names`, `task` and, in `args`, the image size.

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
            names = list(content.keys())
            shapes = {name: Size(content.get_slice(name).get_shape()) for name in names}
            return build(file, _described(file, about), shapes, ((name, content.get_tensor(name)) for name in names))
    except (SafetensorError, OSError, MemoryError) as error:
        raise UserError(f"{file}: no whole safetensors file: {' '.join(str(error).split())}") from error


def _described(file: Path, about: dict[str, str]) -> Described:
    try:
        return Described(
            kind=about["model"],
            yaml=_json(about.get("yaml", "null")),
            names=_json(about["names"]),
            task=about["task"],
            settings={"task": about["task"], "imgsz": _json(about["imgsz"])},
            source=f" (written under {about.get('ultralytics', '?')[:50]})",
        )
    except (KeyError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: no header of `yolo-attn export`: {one_line(error)}") from error


def _json(text: str) -> Any:
    """What JSON of the header holds; ValueError or RecursionError if it is none, too long or too deep."""
    if len(text) > LARGEST_JSON:
        raise ValueError(f"{len(text):,} characters, expected at most {LARGEST_JSON:,}")
    return plain(json.loads(text))
