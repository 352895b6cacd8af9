"""Everything that is changed in Ultralytics, PyTorch, OpenCV and Python, and how it is undone.

`PATCHES` lists the functions that are wrapped, `BESIDES` what else is changed from `register` to `unregister`, and
`TEMPORARY` what is changed only while a call of ours lasts.
"""

import contextlib
import importlib
import re
import sys
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import ultralytics
from torch import Tensor, nn, serialization
from ultralytics.nn import tasks
from ultralytics.utils import LOGGER

from yolo_attn.compat import imread
from yolo_attn.errors import UserError
from yolo_attn.layers.attended import AttendedConv, attend
from yolo_attn.model.limits import watch_building
from yolo_attn.model.names import yaml_model_load
from yolo_attn.model.parser import SUPPORTED, parse_model
from yolo_attn.model.registry import LAYERS, is_attention, listeners, parts_of
from yolo_attn.model.sparsity import add_penalty
from yolo_attn.patches import wrapping
from yolo_attn.patches.offline import (
    check_cls_dataset,
    check_det_dataset,
    get_github_assets,
    is_url,
    safe_download,
)
from yolo_attn.patches.plotting import plot_images
from yolo_attn.patches.workers import generate_ddp_file, tune
from yolo_attn.telemetry import silence
from yolo_attn.weights.checkpoint_files import load_checkpoint
from yolo_attn.weights.transfer import load

MODEL_MODULE = "ultralytics.engine.model"
DATA_MODULE = "ultralytics.data.utils"
EXPORTER_MODULE = "ultralytics.engine.exporter"
PREDICTOR_MODULE = "ultralytics.models.yolo.classify.predict"
LATE = {MODEL_MODULE, DATA_MODULE, EXPORTER_MODULE, PREDICTOR_MODULE}
"""They import the parser, which registers, or take long: what they define is wrapped once they are imported."""

COUNTER = "thop.profile"
"""Counts Ultralytics' FLOPs."""


@dataclass(frozen=True)
class Patch:
    """One function of Ultralytics', or of OpenCV's for it, that is wrapped.

    Attributes:
        owner: The module that defines it, or "module:Class".
        name: The function's name.
        wrapper: Takes the original as its first argument.
        use: What does not work without it.
        required: Whether Ultralytics is left as it is where this is missing; else it is skipped.
        since: The release of Ultralytics that has it first.
        formerly: Its name in earlier releases.
    """

    owner: str
    name: str
    wrapper: Callable[..., Any]
    use: str
    required: bool = False
    since: str = "8.3.0"
    formerly: str = ""

    @property
    def module(self) -> str:
        """The module that defines it."""
        return self.owner.partition(":")[0]

    @property
    def described(self) -> str:
        """Its place in Ultralytics, without the package's own name."""
        return f"{self.owner.removeprefix('ultralytics.').replace(':', '.')}.{self.name}"

    def find(self) -> tuple[Any, str] | None:
        """The module or class, and the function's name in this release; None where there is no such function."""
        owner, kind = sys.modules.get(self.module), self.owner.partition(":")[2]
        owner = getattr(owner, kind, None) if kind else owner
        names = [name for name in (self.name, self.formerly) if callable(vars(owner).get(name))] if owner else []
        return (owner, names[0]) if names else None


def fuse(fuse_model: Callable[..., nn.Module], model: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    """Fold what attention layers can fold for inference, then let Ultralytics fuse the rest."""
    for module in model.modules():
        if is_attention(module) and hasattr(module, "fuse"):
            module.fuse()  # type: ignore[operator]
    return fuse_model(model, *args, **kwargs)


def get_save_dir(choose: Callable[..., Path], args: Any, name: str | None = None) -> Path:
    """Ultralytics' choice of a run folder, a relative `project` being below the current folder in every release."""
    if getattr(args, "project", None):
        args.project = str(Path(args.project).absolute())
    return choose(args, name)


def _of_engine(name: str, module: str = "yolo_attn.patches.plain_python") -> Callable[..., Any]:
    """A wrapper from the engine, imported when it is called, since registering does without trainers."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*args, **kwargs)

    return wrapper


TASKS = "ultralytics.nn.tasks"
MODEL = f"{MODEL_MODULE}:Model"
DOWNLOADS = "ultralytics.utils.downloads"
NEEDING = ("predict", "track", "export")
PENALTY = "nam_sparsity in the losses of such models"

PATCHES = (
    Patch(TASKS, "parse_model", parse_model, "rows that name attention layers", required=True),
    Patch(TASKS, "yaml_model_load", yaml_model_load, "names of packaged model YAMLs", required=True),
    Patch(
        TASKS, "load_checkpoint", load_checkpoint, "other files of weights", True, formerly="attempt_load_one_weight"
    ),
    Patch(f"{TASKS}:BaseModel", "load", load, "pretrained weights in the right rows", required=True),
    Patch(f"{TASKS}:BaseModel", "loss", add_penalty, PENALTY, required=True),
    Patch(f"{TASKS}:RTDETRDetectionModel", "loss", add_penalty, PENALTY),
    Patch(f"{TASKS}:WorldModel", "loss", add_penalty, PENALTY),
    Patch(f"{TASKS}:YOLOEModel", "loss", add_penalty, PENALTY, since="8.3.99"),
    Patch(f"{TASKS}:YOLOESegModel", "loss", add_penalty, PENALTY, since="8.3.99"),
    Patch(f"{TASKS}:BaseModel", "fuse", fuse, "folding attention's batch norms for inference"),
    Patch(MODEL, "train", _of_engine("train"), "COCO-format data and whole run folders in plain Python", required=True),
    Patch(MODEL, "val", _of_engine("val"), "COCO-format data in plain Python", required=True),
    *(Patch(MODEL, name, _of_engine("with_extras"), "a line about a missing package") for name in NEEDING),
    Patch(MODEL, "tune", tune, "attention layers in the trainings of a tuning"),
    Patch(
        f"{EXPORTER_MODULE}:Exporter",
        "__call__",
        _of_engine("export", "yolo_attn.engine.export.calibration"),
        "int8 files that are calibrated on COCO-format data, and never on data of Ultralytics' own choice",
    ),
    Patch(
        f"{PREDICTOR_MODULE}:ClassificationPredictor",
        "preprocess",
        _of_engine("preprocess", "yolo_attn.engine.classification"),
        "images stretched for classifiers that take them so",
    ),
    Patch("ultralytics.utils.dist", "generate_ddp_file", generate_ddp_file, "attention layers in multi-GPU workers"),
    Patch("ultralytics.cfg", "get_save_dir", get_save_dir, "the same place for a relative project everywhere"),
    Patch(DOWNLOADS, "is_url", is_url, "YOLO_OFFLINE for fonts"),
    Patch(DOWNLOADS, "get_github_assets", get_github_assets, "YOLO_OFFLINE for checkpoints"),
    Patch(DOWNLOADS, "safe_download", safe_download, "YOLO_OFFLINE for all files"),
    Patch(DATA_MODULE, "check_det_dataset", check_det_dataset, "YOLO_OFFLINE for data sets"),
    Patch(DATA_MODULE, "check_cls_dataset", check_cls_dataset, "YOLO_OFFLINE for data sets of classifiers"),
    Patch("ultralytics.utils.plotting", "plot_images", plot_images, "mosaics whose writing does not cover the images"),
    Patch("cv2", "imread", imread, "images under names that are not UTF-8, of which OpenCV dies"),
)
"""All that is wrapped. A class that has no `loss` of its own has that of the class above it, wrapped there."""


class Change(NamedTuple):
    """Something of others' that is changed without a wrapper.

    Attributes:
        owner: The module or class that has it; "*" stands for names of no fixed number.
        by: The module of this package that changes it.
        use: What for.
    """

    owner: str
    by: str
    use: str


BESIDES = (
    Change("sys.meta_path", "__init__", "registers when Ultralytics is imported or reloaded"),
    Change(f"{COUNTER}.register_hooks", "patches.table", "layers that count their own operations"),
    Change("torch.serialization.add_safe_globals", "patches.table", "layers in files read with weights_only=True"),
    Change("torch.nn.modules.module.register_module_*_registration_hook", "model.limits", "an end to every model"),
    Change("sys.modules['openvino_telemetry']", "telemetry", "runtimes report nothing over the network"),
    Change("os.environ['ORT_DISABLE_TELEMETRY']", "telemetry", "runtimes report nothing over the network"),
)
"""What else is changed from `register` to `unregister`."""

TEMPORARY = (
    Change("tasks.*", "model.parser", "stand-ins for attention rows while a model is parsed"),
    Change("tasks.ResNetLayer", "model.parser", "rows of networks while a model is parsed"),
    Change("LOGGER.filter", "weights.transfer", "our report instead of Ultralytics' count of transferred tensors"),
    Change("LOGGER.filter", "engine.export.exporter", "warnings alone while Ultralytics exports"),
    Change("nncf.filter", "engine.export.exporter", "warnings alone while NNCF quantises"),
    Change("ultralytics_exporter.*", "engine.export.calibration", "COCO-format data while an int8 file is calibrated"),
    Change("LOGGER.filter", "coco.dataset.dataset", "no advice to write beside the images"),
    Change("LOGGER.filter", "cli.forward", "one line of a mistake instead of a screen of help"),
    Change("ScriptModule.save", "engine.export.exporter", "a full disk is an error, not the end of the process"),
    Change("parallel.DistributedDataParallel", "engine.training.distributed", "each process trains on its own GPU"),
    Change("validator.AutoBackend", "engine.training.distributed", "each process validates on its own GPU"),
    Change("validator.get_torch_device_backend", "engine.training.distributed", "each process uses its own GPU"),
    Change("distill_model.load_checkpoint", "engine.training.trainer", "a teacher of which nothing is run"),
    Change("torch.save", "engine.training.run_files", "stripped checkpoints are whole"),
    Change("threading.excepthook", "engine.training.run_files", "a plot that is not written stops no training"),
    Change("paths.increment_path", "engine.run_folder", "the choice of a run folder makes none"),
    Change("subprocess.run", "patches.workers", "attention layers in the trainings of a tuning"),
)
"""What is changed while a call lasts, by `replaced` and `filtered` of yolo_attn/environment.py."""


def register(unfinished: Container[str] = ()) -> None:
    """Make the attention layers known to Ultralytics: all or nothing. Again, it adds what has been imported since.

    Args:
        unfinished: Modules that are being imported; what they define is left for later.

    Raises:
        UserError: If this release lacks a function that must be wrapped; Ultralytics is then as it was.
    """
    for module in {*(patch.module for patch in PATCHES), COUNTER} - LATE:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    with wrapping.LOCK:
        absent = [patch.described for patch in missing(unfinished) if patch.required]
        if absent:
            unregister()
            raise UserError(f"it has no {', '.join(absent)}; supported: {SUPPORTED}")
        found = [(patch.find(), patch.wrapper) for patch in PATCHES if patch.module not in unfinished]
        if not wrapping.is_wrapped():
            wrapping.undo_with(silence())
            wrapping.undo_with(watch_building())
            _report_hidden_names()
            listeners.append(admit)
            wrapping.undo_with(listeners.remove, admit)
        wrapping.wrap((*target, wrapper) for target, wrapper in found if target)
        _allow([AttendedConv, attend])
        for layer in LAYERS.values():
            admit(layer)


def _report_hidden_names() -> None:
    """Warn of classes that another package has put into Ultralytics' parser under the names of layers of ours."""
    for name, layer in LAYERS.items():
        other = vars(tasks).get(name, layer)
        if other is not layer:
            LOGGER.warning(f"yolo_attn: rows named {name} are its own layer, not {other.__module__}.{name}")


def unregister() -> None:
    """Put Ultralytics back as it was. Models that exist go on working."""
    wrapping.restore()


def missing(unfinished: Container[str] = ()) -> list[Patch]:
    """What this release of Ultralytics ought to have, and what has been imported of it has not."""
    version = _numbers(ultralytics.__version__)
    due = [patch for patch in PATCHES if patch.module not in unfinished and _numbers(patch.since) <= version]
    return [p for p in due if not p.find() and (p.module not in LATE or p.module in sys.modules)]


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]


def admit(layer: type[nn.Module]) -> None:
    """Tell Ultralytics' FLOPs counter and its safe loader of a layer; nothing while unregistered.

    The counter sees modules, not operations, so a layer may have a method `flops(x)` that says its own. The loader with
    `weights_only=True` rebuilds listed classes alone: the layer, and the parts of it that its package defines.
    """
    with wrapping.LOCK:
        if not wrapping.is_wrapped():
            return
        counter = sys.modules.get(COUNTER)  # without it Ultralytics reports no FLOPs at all
        if counter and hasattr(layer, "flops") and layer not in counter.register_hooks:
            counter.register_hooks[layer] = _count
            wrapping.undo_with(counter.register_hooks.pop, layer, None)
        _allow(parts_of(layer))


def _count(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    module.total_ops += module.flops(inputs[0]) / 2  # the counter holds multiply-adds, two FLOPs each


def _allow(names: list[Any]) -> None:
    if not hasattr(serialization, "add_safe_globals"):
        return
    new = [name for name in names if name not in serialization.get_safe_globals()]
    if new:
        serialization.add_safe_globals(new)
        wrapping.undo_with(_disallow, new)


def _disallow(names: list[Any]) -> None:
    kept = [name for name in serialization.get_safe_globals() if name not in names]
    serialization.clear_safe_globals()
    serialization.add_safe_globals(kept)
