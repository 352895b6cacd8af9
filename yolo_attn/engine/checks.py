"""What is made sure of before a run begins, so that a mistake costs one line and leaves nothing behind."""

from difflib import get_close_matches
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from ultralytics.cfg import DEFAULT_CFG_DICT, get_cfg
from ultralytics.nn import tasks

from yolo_attn.coco.index import read_index
from yolo_attn.errors import UserError
from yolo_attn.plugin.yamls import MODEL_YAMLS

TRANSFERRED = 0.9  # share of a checkpoint's tensors under which a training would not be a fine-tuning of it

DETECT_HEADS = ("Detect", "v10Detect")


def check_settings(settings: dict[str, Any]) -> SimpleNamespace:
    """Ultralytics' settings with these in place of its defaults.

    Raises:
        UserError: If a setting is unknown, with near misses, or has a wrong type or value.
    """
    for name in settings:
        if name not in DEFAULT_CFG_DICT:
            near = get_close_matches(name, list(DEFAULT_CFG_DICT), n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise UserError(f"{name}={settings[name]}: Ultralytics has no such setting{hint}")
    try:
        args = get_cfg(overrides=settings)
        select_device(args.device)
    except (TypeError, ValueError, SyntaxError) as error:
        raise UserError(" ".join(str(error).split())) from error
    return args


def select_device(device: Any) -> None:
    """Make sure that the device exists.

    Raises:
        UserError: If a GPU is asked for and there is none.
    """
    name = str(device if device is not None else "").lower()
    wants_gpu = name not in {"", "cpu", "mps", "none"} and not name.startswith(("npu", "xpu"))
    if wants_gpu and not torch.cuda.is_available():
        raise UserError(f"--device {device}: PyTorch sees no CUDA device here; use --device cpu")


def check_model(cfg: str, classes: int) -> nn.Module:
    """Build the model that a YAML describes.

    Raises:
        UserError: If the YAML is missing, is not a model, or has a wrong row.
    """
    if Path(cfg).suffix not in {".yaml", ".yml"}:
        raise UserError(f"--cfg {cfg}: expected a model YAML such as yolov8n-gam.yaml")
    try:
        head = tasks.yaml_model_load(cfg)["head"][-1][2]
        if head not in DETECT_HEADS:
            raise UserError(f"--cfg {cfg}: its head is {head}; only detectors ({', '.join(DETECT_HEADS)}) are trained")
        return tasks.DetectionModel(cfg, nc=classes, verbose=False)
    except UserError:
        raise
    except FileNotFoundError as error:
        ours = sorted(file.name for file in MODEL_YAMLS.glob("*.yaml"))
        near = get_close_matches(cfg, ours, n=3) or ours
        raise UserError(
            f"--cfg {cfg}: no such model; near are {', '.join(near)} (a scale letter follows the number)"
        ) from error
    except Exception as error:  # Ultralytics' parser raises whatever a wrong row makes its layers raise
        raise UserError(f"--cfg {cfg}: not a model that Ultralytics can build: {_one_line(error)}") from error


def load_weights(file: str) -> tuple[nn.Module, dict[str, Any]]:
    """A checkpoint's model and its whole content.

    Raises:
        UserError: If the file is missing, with where such a file comes from, or is no Ultralytics checkpoint.
    """
    if not Path(file).is_file():
        raise UserError(
            f"--weights {file}: no such file; it is the best.pt or last.pt of a training, or a checkpoint that you "
            "downloaded from Ultralytics' releases (nothing is downloaded here)"
        )
    try:
        load = getattr(tasks, "load_checkpoint", None) or tasks.attempt_load_one_weight
        model, checkpoint = load(file)
    except Exception as error:  # whatever unpickling a wrong file raises
        raise UserError(f"--weights {file}: not an Ultralytics checkpoint: {_one_line(error)}") from error
    return model, checkpoint


def check_transfer(file: str, weights: nn.Module, model: nn.Module) -> None:
    """Make sure that most of a checkpoint would find its place in the model.

    Raises:
        UserError: If less than 90 % of its tensors would, saying how many.
    """
    source, target = weights.state_dict(), model.state_dict()
    fitting = sum(name in target and target[name].shape == value.shape for name, value in source.items())
    if fitting < TRANSFERRED * len(source):
        raise UserError(
            f"--weights {file}: only {fitting} of its {len(source)} tensors ({fitting / len(source):.0%}) would "
            f"transfer into this model, {TRANSFERRED:.0%} are needed: inserted layers shift the rows behind them"
        )


def check_boxes(data: dict[str, Any]) -> None:
    """Make sure that there is something to learn.

    Raises:
        UserError: If the training JSON has no box, or crowds alone.
    """
    index = read_index(data["annotations"]["train"])
    if index.crowd.all():
        raise UserError(f"{index.file}: no box to learn from, {len(index.boxes)} annotations are crowds")


def check_classes(file: str, weights: nn.Module, data: dict[str, Any]) -> None:
    """Make sure that a checkpoint knows at least one of the data's classes.

    Raises:
        UserError: Naming both sides' first classes.
    """
    names: Any = weights.names
    known, wanted = list(names.values()), list(data["names"].values())
    if not set(known) & set(wanted):
        raise UserError(
            f"--weights {file}: its {len(known)} classes ({', '.join(map(str, known[:3]))}, …) are none of the data's "
            f"{len(wanted)} ({', '.join(wanted[:3])}, …)"
        )


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"
