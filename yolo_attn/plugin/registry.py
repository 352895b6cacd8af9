"""Which names a model YAML may use for attention layers."""

import importlib
import inspect
import sys
import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from torch import nn
from ultralytics.nn import tasks

from yolo_attn import layers
from yolo_attn.errors import UserError
from yolo_attn.plugin.blocks import UNITS

LAYERS: dict[str, type[nn.Module]] = {name: getattr(layers, name) for name in layers.__all__}

Layer = TypeVar("Layer", bound=type[nn.Module])


def register_layer(layer: Layer) -> Layer:
    """Make a layer of your own a row name and an in-block suffix; to be used as a decorator.

    Its constructor takes `channels` first, and options by keyword; its output has its input's shape.

    Args:
        layer: A class of `nn.Module`. Checkpoints and the workers of a multi-GPU run find it where it lives in an
            importable module; elsewhere (a notebook, a script, a function) a warning says so.

    Returns:
        The same class. Doing it again changes nothing.

    Raises:
        TypeError: If it is no module class, or its parameters are others than `channels` and options with defaults.
        ValueError: If the name is taken, by one of our layers, a block variant or a layer of Ultralytics'.
    """
    if not (isinstance(layer, type) and issubclass(layer, nn.Module)):
        raise TypeError(f"register_layer takes a class of nn.Module, found {layer!r}")
    name, parameters = layer.__name__, list(inspect.signature(layer).parameters.values())
    if not parameters or parameters[0].name != "channels":
        raise TypeError(
            f"{name}: its first parameter must be channels, found {', '.join(map(str, parameters)) or 'none'}"
        )
    if parameters[0].kind is not parameters[0].POSITIONAL_OR_KEYWORD:
        raise TypeError(f"{name}: channels must be an ordinary first parameter, found {parameters[0]} behind a *")
    others = [str(p) for p in parameters[1:] if p.kind is not p.KEYWORD_ONLY or p.default is p.empty]
    if others:
        raise TypeError(f"{name}: options must be keyword-only, behind a *, with defaults; found {', '.join(others)}")
    if "where" in inspect.signature(layer).parameters:
        raise TypeError(f"{name}: an option named where cannot be given in blocks, where it is the place; rename it")
    if name.partition("_")[0] in UNITS:
        raise ValueError(f"{name}: names of blocks with an underscore are those of their attention variants")
    if LAYERS.get(name, layer) is not layer and not _same(LAYERS[name], layer):
        raise ValueError(f"{name}: a layer of this name is registered already, {LAYERS[name]}")
    if name in _ultralytics_names():
        raise ValueError(f"{name}: Ultralytics has a layer of this name; choose another")
    if layer.__module__ == "__main__" or "<locals>" in layer.__qualname__:
        warnings.warn(
            f"{name} works in this process only: checkpoints and multi-GPU workers cannot import it from "
            f"{layer.__module__}.{layer.__qualname__}; put it into a module",
            stacklevel=2,
        )
    LAYERS[name] = layer
    patches = sys.modules.get("yolo_attn.plugin.patches")
    if patches:
        patches.admit(layer)
    return layer


def parts_of(layer: type[nn.Module]) -> list[type[nn.Module]]:
    """A layer, and the module classes in its file that its own package defines: what its objects may consist of."""
    package = layer.__module__.partition(".")[0]
    defined = vars(sys.modules[layer.__module__]).values() if layer.__module__ in sys.modules else ()
    parts = [v for v in defined if isinstance(v, type) and issubclass(v, nn.Module)]
    return [layer, *(part for part in parts if part.__module__.partition(".")[0] == package)]


def import_modules(names: Sequence[str]) -> None:
    """Import modules so that the layers in them register.

    Args:
        names: Module names; the current folder is searched first.

    Raises:
        UserError: If one cannot be imported, with the reason.
    """
    sys.path.insert(0, str(Path.cwd()))
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever a user's module raises
            raise UserError(f"--import {name}: {type(error).__name__}: {error}") from error


def users_modules() -> list[str]:
    """Modules that the registered layers beside ours live in, for another process to import."""
    modules = {layer.__module__ for layer in LAYERS.values()} - {"__main__"}
    return sorted(name for name in modules if name in sys.modules and not name.startswith("yolo_attn."))


def near_misses(name: str, known: list[str]) -> list[str]:
    """Names in `known` that a user who wrote `name` may have meant, best first.

    A name that contains a layer's name counts too, since ports write `GAM_Attention` and `NAMAttention`.
    """
    contained = sorted((layer for layer in LAYERS if layer.lower() in name.lower()), key=len, reverse=True)
    close = get_close_matches(name.lower(), [k.lower() for k in known], n=3, cutoff=0.6)
    return list(dict.fromkeys(contained + [k for k in known if k.lower() in close]))


def _same(old: Any, new: Any) -> bool:
    """Whether a class is the same one defined anew, as by reloading its module."""
    return (old.__module__, old.__qualname__) == (new.__module__, new.__qualname__)


def _ultralytics_names() -> set[str]:
    return {name for name, value in vars(tasks).items() if isinstance(value, type)}
