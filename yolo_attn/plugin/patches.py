"""Everything that is changed in Ultralytics, and how it is put back.

Each entry wraps one function of Ultralytics; the wrapper takes the original as its first argument. While a training in
several processes lasts, `engine/distributed.py` changes which device Ultralytics trains and validates on, too; while a
tuning lasts, `workers.py` changes the commands that it starts.
"""

import contextlib
import functools
import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn, serialization
from ultralytics.nn import tasks
from ultralytics.utils import dist, downloads

from yolo_attn.plugin.blocks import AttendedConv, attend
from yolo_attn.plugin.parser import parse_model
from yolo_attn.plugin.registry import LAYERS, parts_of
from yolo_attn.plugin.sources import load_checkpoint
from yolo_attn.plugin.sparsity import add_penalty
from yolo_attn.plugin.transfer import load
from yolo_attn.plugin.workers import generate_ddp_file, tune
from yolo_attn.plugin.yamls import yaml_model_load
from yolo_attn.telemetry import silence

OWN_LOSS = ("BaseModel", "RTDETRDetectionModel", "WorldModel", "YOLOEModel")
"""Ultralytics' model classes that compute a loss themselves."""

LOADERS = ("load_checkpoint", "attempt_load_one_weight")
"""What Ultralytics calls its loader of a checkpoint, today and in early 8.3."""

MODEL_MODULE = "ultralytics.engine.model"

_undo: list[Callable[[], None]] = []
_wrapped: set[tuple[Any, str]] = set()


def register() -> None:
    """Make the attention layers known to Ultralytics. Again, it only adds what has been imported since."""
    first = not _undo
    _wrap(tasks, "parse_model", parse_model)
    _wrap(tasks, "yaml_model_load", yaml_model_load)
    _wrap(tasks.BaseModel, "fuse", fuse)
    _wrap(tasks.BaseModel, "load", load)
    _wrap(tasks, next(name for name in LOADERS if hasattr(tasks, name)), load_checkpoint)
    for name in OWN_LOSS:
        if hasattr(tasks, name):
            _wrap(getattr(tasks, name), "loss", add_penalty)
    _wrap(downloads, "is_url", is_url)
    _wrap(downloads, "get_github_assets", get_github_assets)
    _wrap(dist, "generate_ddp_file", generate_ddp_file)
    model = getattr(sys.modules.get(MODEL_MODULE), "Model", None)  # its module imports the parser, which registers
    if model:
        _wrap(model, "train", _of_engine("train"))
        _wrap(model, "val", _of_engine("val"))
        _wrap(model, "tune", tune)
    if first:
        _undo.append(silence())
        _allow([AttendedConv, attend])
        for layer in LAYERS.values():
            admit(layer)


def unregister() -> None:
    """Put Ultralytics back as it was. Models that exist go on working."""
    while _undo:
        _undo.pop()()
    _wrapped.clear()


def fuse(fuse_model: Callable[..., nn.Module], model: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    """Fold what attention layers can fold for inference, then let Ultralytics fuse the rest."""
    layers: tuple[Any, ...] = tuple(LAYERS.values())
    for module in model.modules():
        if isinstance(module, layers) and hasattr(module, "fuse"):
            module.fuse()
    return fuse_model(model, *args, **kwargs)


def is_url(ask: Callable[..., bool], url: str, check: bool = False) -> bool:
    """Like Ultralytics', but YOLO_OFFLINE also keeps it from asking whether a font can be downloaded."""
    return not (check and _offline()) and ask(url, check)


def get_github_assets(ask: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Like Ultralytics', but under YOLO_OFFLINE it has no files to offer for a checkpoint that is not there."""
    return ("", []) if _offline() else ask(*args, **kwargs)


def _offline() -> bool:
    return os.environ.get("YOLO_OFFLINE", "").lower() in {"1", "true", "yes", "on"}


def _of_engine(name: str) -> Callable[..., Any]:
    """A wrapper from the engine, imported when it is called: the plug-in stands without trainers, and below them."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module("yolo_attn.engine.plain"), name)(*args, **kwargs)

    return wrapper


def _wrap(owner: Any, name: str, wrapper: Callable[..., Any]) -> None:
    """Replace `owner.name`, and every `from … import name` of it inside Ultralytics, by the wrapper, once."""
    if (owner, name) in _wrapped:
        return
    _wrapped.add((owner, name))
    original = getattr(owner, name)

    @functools.wraps(original)
    def replacement(*args: Any, **kwargs: Any) -> Any:
        return wrapper(original, *args, **kwargs)

    _replace(owner, name, original, replacement)
    _undo.append(lambda: _replace(owner, name, replacement, original))


def _replace(owner: Any, name: str, old: Any, new: Any) -> None:
    """Replace `old` wherever it still stands; a later wrapper of somebody else's stays."""
    modules = [module for key, module in sys.modules.items() if key.startswith("ultralytics.")]
    for holder in [owner, *modules]:
        if vars(holder).get(name) is old:
            setattr(holder, name, new)


def admit(layer: type[nn.Module]) -> None:
    """Tell Ultralytics' FLOPs counter and its safe loader of a layer; nothing while unregistered.

    The counter sees modules, not operations, so a layer may have a method `flops(x)` that says its own. The loader with
    `weights_only=True` rebuilds listed classes alone: the layer, and the parts of it that its package defines.
    """
    if not _undo:
        return
    with contextlib.suppress(ImportError):  # without its counter Ultralytics reports no FLOPs at all
        from thop.profile import register_hooks

        if hasattr(layer, "flops"):
            register_hooks[layer] = _count
            _undo.append(functools.partial(register_hooks.pop, layer, None))
    _allow(parts_of(layer))


def _count(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    module.total_ops += module.flops(inputs[0]) / 2  # the counter holds multiply-adds, two FLOPs each


def _allow(names: list[Any]) -> None:
    if hasattr(serialization, "add_safe_globals"):
        serialization.add_safe_globals(names)
        _undo.append(functools.partial(_disallow, names))


def _disallow(classes: list[Any]) -> None:
    kept = [c for c in serialization.get_safe_globals() if c not in classes]
    serialization.clear_safe_globals()
    serialization.add_safe_globals(kept)
