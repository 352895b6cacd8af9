"""Checks before a run begins, so that a mistake costs one line and leaves nothing behind."""

import contextlib
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from traceback import walk_tb
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn
from ultralytics.cfg import CLI_HELP_MSG, DEFAULT_CFG_DICT, get_cfg
from ultralytics.engine.exporter import export_formats
from ultralytics.nn import tasks
from ultralytics.utils import LOGGER, RANK
from ultralytics.utils.torch_utils import select_device

from yolo_attn import errors
from yolo_attn.compat import load_checkpoint, unwrapped
from yolo_attn.engine.tasks import TASKS, Task, task_of
from yolo_attn.errors import UserError, did_you_mean, like, quoted, similar
from yolo_attn.model.insertion import describe
from yolo_attn.model.names import MODEL_YAMLS, read_model
from yolo_attn.model.registry import is_attention, is_importable
from yolo_attn.model.run_rows import each_row
from yolo_attn.model.untrusted import check_yaml
from yolo_attn.safe.missing_classes import missing_class, origin_of
from yolo_attn.safe.safetensors_file import SUFFIX
from yolo_attn.weights.checkpoint_files import ORIGIN, StateDict, check_file, load_inert
from yolo_attn.weights.transfer import check_same, transfer_of

EXPORTED = {suffix for suffix in export_formats()["Suffix"] if suffix.startswith(".") and suffix != ".pt"}

TRUST = "--trust has Ultralytics read it, which runs what the file names"

ADVICE = (CLI_HELP_MSG, "Recommended fixes are", "Use an official Ultralytics model")
"""How what Ultralytics says further begins, which would hide what is wrong."""


def check_settings(settings: dict[str, Any]) -> SimpleNamespace:
    """Ultralytics' settings with these in place of its defaults.

    Raises:
        UserError: If a setting is unknown, with near misses, or has a wrong type or value.
    """
    for name in settings:
        if name not in DEFAULT_CFG_DICT:
            hint = did_you_mean(similar(name, DEFAULT_CFG_DICT))
            raise UserError(f"{name}={settings[name]}: Ultralytics has no such setting{hint}")
    try:
        args = get_cfg(overrides=settings)
    except (TypeError, ValueError, SyntaxError) as error:
        raise UserError(one_line(error)) from error
    try:
        select_device(args.device or "", verbose=False)
    except Exception as error:  # a backend that is not there may raise anything
        found = f"PyTorch sees {torch.cuda.device_count() or 'no'} GPU"
        raise UserError(f"--device {args.device}: no such device here, {found}; try --device cpu") from error
    return args


def check_cfg(cfg: str, task: str | None = None) -> Task:
    """Check that a YAML, by its file or name, describes a model of a known task, or of `task`, without building it.

    Raises:
        UserError: If the YAML is missing, is not a model, names something else than layers or has an activation that is
            not of torch.nn, or is a model of another task.
    """
    if Path(cfg).suffix not in {".yaml", ".yml"}:
        raise UserError(f"--cfg {cfg}: expected a model YAML such as yolov8n-gam.yaml")
    if "://" in cfg:
        raise UserError(f"--cfg {cfg}: expected a file or a name; nothing is downloaded here")
    with building(cfg):
        if Path(cfg).is_file():
            describe(read_model(cfg)[0], f"--cfg {cfg}")
        described = tasks.yaml_model_load(cfg)
        lacking = [part for part in ("backbone", "head") if not described.get(part)]
        if lacking:
            keys = quoted(", ".join(str(key) for key in described if key not in {"scale", "yaml_file"}))
            raise UserError(f"--cfg {cfg}: found {keys}, expected rows under {lacking[0]}:")
        check_yaml(f"--cfg {cfg}", described)
        head = described["head"][-1][2]
    found = task_of(head)
    if found is None:
        known = ", ".join(head for task in TASKS for head in task.heads)
        raise UserError(f"--cfg {cfg}: its head is {head}; heads of models that are trained are {known}")
    if task not in {None, found.name}:
        raise UserError(f"--cfg {cfg}: its head, {head}, is of the task {found.name}, and --task says {task}")
    return found


def check_model(cfg: str, task: Task, classes: int) -> nn.Module:
    """Build the model that a YAML describes which `check_cfg` has passed.

    Raises:
        UserError: If a row is wrong.
    """
    with building(cfg):
        return task.model(cfg, nc=classes, verbose=False)


@contextlib.contextmanager
def building(cfg: str, option: str = "--cfg ") -> Iterator[None]:
    """Report in one line what Ultralytics raises for a model YAML; the option that names it begins the line."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        ours = sorted(file.name for file in MODEL_YAMLS.glob("*.yaml"))
        near = similar(cfg, ours)
        hint = f"similar names: {', '.join(near)} (a scale letter follows the number)"
        raise UserError(
            f"{option}{cfg}: no such model; {hint if near else 'docs/models.md and docs/families.md list all names'}"
        ) from error
    except Exception as error:  # a wrong row may make its layers raise anything
        raise UserError(f"{option}{cfg}: not a model that Ultralytics can build: {one_line(error)}") from error


def check_maps(model: Any, size: int) -> None:
    """Check that every row of a classifier can take its map at an image size, pixels; report attention on one pixel.

    Raises:
        UserError: Naming the first row that cannot.
    """
    rows = deepcopy(model.model).to("meta").eval()
    done, shape = -1, (size, size)
    try:
        for done, (row, output) in enumerate(each_row(rows, torch.zeros(1, 3, size, size, device="meta"))):
            shape = tuple(getattr(output, "shape", shape)[-2:])
            if is_attention(row) and shape == (1, 1):
                LOGGER.warning(f"imgsz={size}: row {done} ({type(row).__name__}) sees a map of one pixel")
    except (RuntimeError, ValueError) as error:
        found = f"row {done + 1} ({type(rows[done + 1]).__name__}) cannot take a map of {shape[0]}×{shape[1]} pixels"
        raise UserError(f"imgsz={size}: {found}; give larger images") from error


def check_importable(model: nn.Module) -> None:
    """Check that the checkpoints of a model with layers of the user's own could be loaded again.

    Raises:
        UserError: If another process could not import such a layer, or a part of it.
    """
    kinds = {type(part) for m in model.modules() if is_attention(m) for part in m.modules()}
    for kind in sorted(kinds, key=str):
        if not is_importable(kind):
            raise UserError(
                f"{kind.__name__}: no other process can import it from {kind.__module__}.{kind.__qualname__}, so no "
                "checkpoint of this training could be loaded; put it at the top of a module, such as my_layers.py, "
                "and import that (--import my_layers)"
            )


def load_weights(
    file: str, option: str = "--weights", task: str | None = None, trust: bool = False
) -> tuple[Any, dict[str, Any], Task]:
    """A checkpoint: its model, its whole content (see `read_checkpoint`), and its task.

    Raises:
        UserError: If the file is missing, with where such a file comes from, is no checkpoint of Ultralytics', or one
            of another task than `task`.
    """
    model, checkpoint = read_checkpoint(file, option, trust)
    return model, checkpoint, _kind(model, file, option, task)


def load_source(file: str, task: str, trust: bool = False) -> Any:
    """What a training starts from: a checkpoint's model of this task, or a state dict, which does not tell its own.

    Raises:
        UserError: As `load_weights`.
    """
    model, _ = read_checkpoint(file, trust=trust)
    if not isinstance(model, StateDict):
        _kind(model, file, "--weights", task)
    return model


def _kind(model: Any, file: str, option: str, task: str | None) -> Task:
    if isinstance(model, StateDict):
        raise UserError(f"{option} {file}: a state dict, without its model YAML; it can only be trained from")
    head = type(getattr(model, "model", [model])[-1]).__name__
    found = task_of(head)
    if found is None or not isinstance(model, found.model):
        raise UserError(f"{option} {file}: it holds a {type(model).__name__} with {head}, no model of a known task")
    check_task(model, f"{option} {file}", task or found.name)
    return found


def check_task(model: Any, name: str, task: str) -> None:
    """Check that a model's head is of a task; heads that we do not know are Ultralytics' own to use.

    Raises:
        UserError: Naming the head, its task, and this one.
    """
    head = type(model.model[-1]).__name__
    found = task_of(head)
    if found and found.name != task:
        raise UserError(f"{name}: its head, {head}, is of the task {found.name}, expected {task}")


def read_checkpoint(file: str, option: str = "--weights", trust: bool = False) -> tuple[Any, dict[str, Any]]:
    """A checkpoint's model, or the state dict that a file holds, and the checkpoint's content.

    Args:
        file: The file.
        option: The option that names it; empty where none does.
        trust: Whether to read it as Ultralytics does, which runs what it names; without that, the model is built anew
            (see `load_safe`), and of the content only `train_args` is there.

    Raises:
        UserError: If the file is missing, with where such a file comes from, or is no checkpoint of Ultralytics'.
    """
    place, named = f"{option} {file}".strip(), f"{option} ".lstrip()
    if not Path(file).exists():
        origin = "last.pt of a training that was cut off"
        if option != "--resume":
            origin = f"{ORIGIN} (nothing is downloaded here)"
        raise like(FileNotFoundError(), UserError(f"{place}: no such file; it is the {origin}"))
    if Path(file).suffix in EXPORTED:
        text = f"{place}: expected a checkpoint; exported files go by yolo-attn val model={file} data=…"
        raise like(AssertionError(), UserError(text))  # as Ultralytics' own check of the suffix
    try:
        check_file(Path(file))
    except UserError as error:
        raise UserError(f"{named}{error}") from error
    if not trust or file.endswith(SUFFIX):
        try:
            model = load_inert(Path(file))
        except UserError as error:
            way_on = "" if file.endswith(SUFFIX) else f"; {TRUST}"
            raise UserError(f"{named}{error}{way_on}") from error
        return model, {} if isinstance(model, StateDict) else {"train_args": model.args}
    try:
        model, checkpoint = load_checkpoint(file)
    except UserError as error:
        raise like(error, UserError(f"{named}{error}")) from error
    except Exception as error:  # unpickling a wrong file may raise anything
        reason = origin_of(missing_class(error) or "") or f"not an Ultralytics checkpoint: {one_line(error)}"
        raise like(error, UserError(f"{place}: {reason}")) from error
    return unwrapped(model), checkpoint


def check_teacher(args: SimpleNamespace, model: Any, trust: bool = False) -> Any:
    """Check that a model can be distilled from what `distill_model` names; its path becomes absolute in the settings.

    Returns:
        The teacher, a model; None where nothing is named.

    Raises:
        UserError: As `load_weights`, or if a head names its rows by distances, which Ultralytics cannot distil.
    """
    file = getattr(args, "distill_model", None)
    if not file:
        return None
    teacher, *_ = load_weights(str(file), "distill_model", args.task, trust)
    for each, place in ((model, args.model), (teacher, file)):
        if any(row < 0 for row in np.atleast_1d(each.model[-1].f)):
            rows = f"its head reads {each.model[-1].f}, and distillation takes numbers of rows from 0 alone"
            raise UserError(f"distill_model {file}: {place}: {rows}")
    args.distill_model = str(Path(file).absolute())
    return teacher


def check_transfer(weights: Any, model: Any) -> None:
    """Check that a checkpoint's weights find their places in a model, and put them there; `transfer_of` has how.

    Raises:
        UserError: If it is of another family, task or scale, naming both.
    """
    try:
        check_same(weights, model)
        model.load(weights, verbose=False)
    except UserError as error:
        raise UserError(f"--weights {error}") from error


def check_frozen(model: Any, epochs: int, args: SimpleNamespace) -> None:
    """Check that something trains while the base of a model is frozen.

    Args:
        model: A model with the checkpoint's weights.
        epochs: For how many epochs the base is to be frozen.
        args: Ultralytics' settings; rows that its own `freeze` names do not train either.

    Raises:
        UserError: If every parameter has weights from the checkpoint, or is frozen by those settings, or if they
            compile the model on several devices, where its parameters must stay as frozen as they were, or distil.
    """
    report = transfer_of(model)
    new = [name for name, _ in model.named_parameters() if report and name not in report.taken]
    rows = range(args.freeze) if isinstance(args.freeze, int) else args.freeze or []
    if not [name for name in new if not any(f"model.{row}." in name for row in rows)]:
        reason = (
            f"freeze={args.freeze} holds the rest" if new else "every parameter has its weights from the checkpoint"
        )
        raise UserError(f"--freeze-base {epochs}: nothing would train, {reason}")
    if getattr(args, "distill_model", None):
        raise UserError(f"--freeze-base {epochs}: distill_model={args.distill_model} does not go with it")
    if getattr(args, "compile", False) and (RANK > -1 or "," in str(args.device)):
        raise UserError(f"--freeze-base {epochs}: compile={args.compile} does not go with it on several devices")
    if epochs >= args.epochs:
        LOGGER.warning(f"--freeze-base {epochs}: the base never trains, since epochs={args.epochs}")


def one_line(error: Exception) -> str:
    """An exception's type, the beginning of its text, and what helps where a checkpoint's own layer is not found."""
    text = str(error)
    for advice in ADVICE:
        text = text.partition(advice)[0]
    line = errors.one_line(error, text)
    unpickling = any(frame.f_globals["__name__"] == "torch.serialization" for frame, _ in walk_tb(error.__traceback__))
    if isinstance(error, ModuleNotFoundError) and unpickling:
        line += f"; for layers of your own give --import {error.name}, from its folder or with that on PYTHONPATH"
    return line
