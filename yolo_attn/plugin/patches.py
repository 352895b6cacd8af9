"""Everything that is changed in Ultralytics, and how it is put back.

Each entry wraps one function of Ultralytics; the wrapper takes the original as its first argument.
"""

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn, serialization
from ultralytics.nn import tasks
from ultralytics.utils import downloads

from yolo_attn.plugin.blocks import AttendedConv, attend
from yolo_attn.plugin.parser import parse_model
from yolo_attn.plugin.registry import LAYERS
from yolo_attn.plugin.sparsity import add_penalty
from yolo_attn.plugin.yamls import yaml_model_load

_undo: list[Callable[[], None]] = []


def register() -> None:
    """Make the attention layers known to Ultralytics. Doing it again changes nothing."""
    if _undo:
        return
    _wrap(tasks, "parse_model", parse_model)
    _wrap(tasks, "yaml_model_load", yaml_model_load)
    _wrap(tasks.BaseModel, "fuse", fuse)
    for model in (
        "BaseModel",
        "RTDETRDetectionModel",
        "WorldModel",
        "YOLOEModel",
    ):  # all that compute a loss themselves
        if hasattr(tasks, model):
            _wrap(getattr(tasks, model), "loss", add_penalty)
    _wrap(downloads, "is_url", is_url)
    _count_flops()
    _allow_safe_load()


def unregister() -> None:
    """Put Ultralytics back as it was. Models that exist go on working."""
    while _undo:
        _undo.pop()()


def fuse(fuse_model: Callable[..., nn.Module], model: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    """Fold what attention layers can fold for inference, then let Ultralytics fuse the rest."""
    layers: tuple[Any, ...] = tuple(LAYERS.values())
    for module in model.modules():
        if isinstance(module, layers) and hasattr(module, "fuse"):
            module.fuse()
    return fuse_model(model, *args, **kwargs)


def is_url(ask: Callable[..., bool], url: str, check: bool = False) -> bool:
    """Like Ultralytics', but YOLO_OFFLINE also keeps it from asking whether a font can be downloaded."""
    offline = os.environ.get("YOLO_OFFLINE", "").lower() in {"1", "true", "yes", "on"}
    return not (check and offline) and ask(url, check)


def _wrap(owner: Any, name: str, wrapper: Callable[..., Any]) -> None:
    """Replace `owner.name`, and every `from … import name` of it inside Ultralytics, by the wrapper."""
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


def _count_flops() -> None:
    """Tell Ultralytics' FLOPs counter what a layer without submodules costs; it sees modules, not operations."""
    try:
        from thop.profile import register_hooks
    except ImportError:  # Ultralytics then reports no FLOPs at all
        return

    def count(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        module.total_ops += module.flops(inputs[0]) / 2  # the counter holds multiply-adds, two FLOPs each

    for layer in LAYERS.values():
        if hasattr(layer, "flops"):
            register_hooks[layer] = count
            _undo.append(functools.partial(register_hooks.pop, layer, None))


def _allow_safe_load() -> None:
    """Let `torch.load(weights_only=True)` rebuild our layers, their parts, and what holds them in blocks."""
    if hasattr(serialization, "add_safe_globals"):
        layers = [vars(sys.modules[layer.__module__]).values() for layer in LAYERS.values()]
        classes = {v for values in layers for v in values if isinstance(v, type) and issubclass(v, nn.Module)}
        ours: list[Any] = [c for c in classes if c.__module__.startswith("yolo_attn.")]
        ours += [AttendedConv, attend]
        serialization.add_safe_globals(ours)
        _undo.append(functools.partial(_disallow, ours))


def _disallow(classes: list[Any]) -> None:
    kept = [c for c in serialization.get_safe_globals() if c not in classes]
    serialization.clear_safe_globals()
    serialization.add_safe_globals(kept)
