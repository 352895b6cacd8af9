"""Which names a model YAML may use for attention layers."""

import importlib
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from torch import nn
from ultralytics.nn import tasks

from yolo_attn import layers, networks
from yolo_attn.errors import UserError, similar
from yolo_attn.model.blocks import UNITS
from yolo_attn.yaml_edit import port_of
from yolo_attn.yaml_edit.row_names import RowName

LAYERS: dict[str, type[nn.Module]] = {name: getattr(layers, name) for name in layers.__all__}

NETWORKS: dict[str, Any] = {name: getattr(networks, name) for name in networks.__all__}
"""Rows of ours that are no attention: what they make has as many channels as their `outputs` says."""

listeners: list[Callable[[type[nn.Module]], object]] = []
"""Called with each layer that is registered."""

Layer = TypeVar("Layer", bound=type[nn.Module])

_executions: dict[str, Any] = {}
"""The spec of the module that each user's layer was defined under: a module that is run once more has another one."""


def register_layer(layer: Layer = None) -> Layer:  # type: ignore[assignment]  # the default is for the refusal
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
        raise TypeError(
            f"register_layer takes a class of nn.Module, found {layer!r}; as a decorator it has no brackets"
        )
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
    if RowName.of(name).block in UNITS:
        raise ValueError(f"{name}: names of blocks with an underscore are those of their attention variants")
    spec = getattr(sys.modules.get(layer.__module__), "__spec__", None)
    if LAYERS.get(name, layer) is not layer and not _is_defined_anew(LAYERS[name], layer, spec):
        raise ValueError(f"{name}: a layer of this name is registered already, {LAYERS[name]}")
    if name in parsed_names():
        raise ValueError(f"{name}: Ultralytics has a layer of this name; choose another")
    if layer.__module__ == "__main__" or "<locals>" in layer.__qualname__:
        warnings.warn(
            f"{name} works in this process only: checkpoints and multi-GPU workers cannot import it from "
            f"{layer.__module__}.{layer.__qualname__}; put it into a module",
            stacklevel=2,
        )
    LAYERS[name], _executions[name] = layer, spec
    for each in listeners:
        each(layer)
    return layer


def parts_of(layer: type[nn.Module]) -> list[type[nn.Module]]:
    """A layer, and the module classes in its file that its own package defines: what its objects may consist of."""
    package = layer.__module__.partition(".")[0]
    defined = vars(sys.modules[layer.__module__]).values() if layer.__module__ in sys.modules else ()
    parts = [v for v in defined if isinstance(v, type) and issubclass(v, nn.Module)]
    return [layer, *(part for part in parts if part.__module__.partition(".")[0] == package)]


def import_modules(names: Sequence[str]) -> None:
    """Import modules so that the layers in them register; the current folder is searched first.

    Raises:
        UserError: If one is no module's name, with the one that was probably meant, or cannot be imported, with the
            reason.
    """
    sys.path.insert(0, str(Path.cwd()))
    for name in names:
        meant = _module_name(name)
        if name != meant:
            raise UserError(
                f"--import {name!r}: expected the name of a module in this folder or on PYTHONPATH, such as {meant}"
            )
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:  # a user's module may raise anything
            raise UserError(f"--import {name}: {type(error).__name__}: {error}") from error


def is_importable(kind: type) -> bool:
    """Whether another process finds a class under its own name, as loading a checkpoint must."""
    found: Any = sys.modules.get(kind.__module__)
    for name in kind.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is kind and kind.__module__ != "__main__"


def users_modules() -> list[str]:
    """Modules that the registered layers beside ours live in, for another process to import."""
    modules = {layer.__module__ for layer in LAYERS.values()} - {"__main__"}
    return sorted(name for name in modules if name in sys.modules and not name.startswith("yolo_attn."))


def parsed_names() -> set[str]:
    """Names of classes that Ultralytics' parser resolves by itself."""
    return {name for name, value in vars(tasks).items() if isinstance(value, type)}


def is_attention(module: object) -> bool:
    """Whether a module is a registered layer."""
    return isinstance(module, tuple(LAYERS.values()))


def split_name(name: str) -> tuple[str | None, type[nn.Module] | None]:
    """The block and the attention layer in a row's name: ("C2f", NAM) of C2f_NAM, (None, NAM), ("Conv", None)."""
    if name in LAYERS:
        return None, LAYERS[name]
    block, layer = RowName.of(name)
    return (block, LAYERS[layer]) if block in UNITS and layer in LAYERS else (name, None)


def hint(name: str, known: list[str]) -> str:
    """What helps with an unknown name: what ports call so, else names in `known` that may be meant, else all layers."""
    port = port_of(name, UNITS)
    if port and port.lower() != name.lower():
        return f"did you mean {port}? yolo-attn migrate translates the rows of ports"
    near = near_misses(name, known)
    return f"did you mean {' or '.join(near)}?" if near else f"attention layers are {', '.join(LAYERS)}"


def near_misses(name: str, known: list[str]) -> list[str]:
    """Names in `known` that a user who wrote `name` may have meant, best first; one that differs in case alone, alone.

    A name that contains a layer's name counts too, since ports write `GAM_Attention` and `NAMAttention`.
    """
    same = [k for k in dict.fromkeys(known) if k.lower() == name.lower()]
    if same:
        return same
    contained = sorted((layer for layer in LAYERS if layer.lower() in name.lower()), key=len, reverse=True)
    return list(dict.fromkeys(contained + similar(name, known)))


def _module_name(text: str) -> str:
    """The name under which Python imports a module, given it or a path of its file."""
    parts = Path(os.path.relpath(text.removesuffix(".py") or "my_layers")).parts
    return ".".join(parts[-1:] if ".." in parts else parts).strip(".") or "my_layers"


def _is_defined_anew(old: Any, new: Any, spec: Any) -> bool:
    """Whether a class is an earlier one defined once more, as by reloading its module or repeating a notebook's cell.

    Two of one name in one run of a module are two layers.
    """
    same_place = (old.__module__, old.__qualname__) == (new.__module__, new.__qualname__)
    return same_place and (spec is None or spec is not _executions.get(new.__name__))
