"""Reads a checkpoint's pickle without calling anything that the file names.

PyTorch's weights-only unpickler calls each global that is on its list with whatever arguments the file gives. A class
of a model would so be constructed by the file, and constructors of Ultralytics' read YAMLs, evaluate strings and
download weights. Here a class is on the list twice: by its name stands something that gives an empty object of it and
never runs its constructor, and under a name that no pickle can spell stands the class itself, which the unpickler wants
to see before it sets the attributes of such an object. Checkpoints hold their modules in just this form.
"""

import sys
import threading
from collections.abc import Callable
from pathlib import Path, PurePath
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn, serialization
from ultralytics.nn import modules, tasks
from ultralytics.utils import IterableSimpleNamespace

from yolo_attn.errors import UserError
from yolo_attn.plugin.blocks import AttendedConv, attend
from yolo_attn.plugin.registry import LAYERS, parts_of

MODULES = (
    "torch.nn.modules",
    "ultralytics.nn.modules",
    "ultralytics.nn.tasks",
    "torchvision.models",
    "torchvision.ops",
)
"""Packages whose `nn.Module` classes a checkpoint may hold."""

TRANSFORMS = ("Compose", "Normalize", "Resize", "CenterCrop", "ToTensor")
"""Classes of `torchvision.transforms.transforms` that a classifier's checkpoint holds."""

RENAMED = {
    "ultralytics.nn.modules.block.Silence": nn.Identity,
    "ultralytics.nn.tasks.YOLOv10DetectionModel": tasks.DetectionModel,
    "ultralytics.utils.IterableSimpleNamespace": IterableSimpleNamespace,
    "ultralytics.yolo.utils.IterableSimpleNamespace": IterableSimpleNamespace,
}
"""Settings' class, and what older releases pickled by names that are gone."""

LEFT_OUT = ("ultralytics.utils.loss", "ultralytics.utils.tal", "ultralytics.models.utils", "numpy.core", "numpy._core")
"""Modules whose objects a cut-off training leaves behind in its checkpoint and a model does not need."""

_lock = threading.Lock()


class LeftOut:
    """Stands for an object of the training's, such as its loss."""

    def __new__(cls, *args: Any) -> "LeftOut":
        """An object, whatever it was made of."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


def read_pickle(file: Path) -> Any:
    """The content of a file that `torch.save` wrote: tensors, plain data and modules, their hooks included.

    The list is in force for this call only, and alone; PyTorch keeps one list for all threads, so that another thread's
    weights-only loading of a whole model may fail meanwhile.

    Raises:
        UserError: If the file is none of `torch.save`, is broken, or names anything else; nothing of it has run then.
    """
    if not hasattr(serialization, "get_unsafe_globals_in_checkpoint"):
        raise UserError(f"{file}: safe loading needs PyTorch 2.6 or later, found {torch.__version__}")
    with _lock:
        others = serialization.get_safe_globals()
        serialization.clear_safe_globals()
        try:
            named = serialization.get_unsafe_globals_in_checkpoint(file)
            entries = {name: _entry(name) for name in named}
            refused = sorted(name for name, entry in entries.items() if not entry)
            if refused:
                raise UserError(_refusal(file, refused))
            serialization.add_safe_globals([item for entry in entries.values() for item in entry])
            return torch.load(file, map_location="cpu", weights_only=True)
        except UserError:
            raise
        except Exception as error:  # whatever a broken or wicked file makes the reader raise
            reason = " ".join(str(error).rpartition("WeightsUnpickler error: ")[2].split())[:150]
            raise UserError(f"{file}: refused, no checkpoint that can be read safely: {reason}") from error
        finally:
            serialization.clear_safe_globals()
            serialization.add_safe_globals(others)


def _refusal(file: Path, refused: list[str]) -> str:
    more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
    return (
        f"{file}: refused, nothing of it has run: it names {refused[0][:100]!r}{more}, which no checkpoint of "
        "Ultralytics' or ours needs; a layer of your own is known after its module was imported"
    )


def _entry(name: str) -> list[Any]:
    """What stands on the unpickler's list for a global; empty where it has no place there."""
    module, _, attribute = name.rpartition(".")
    if name == "builtins.getattr":
        return [(_attribute, name)]
    if attribute in {"PosixPath", "WindowsPath"} and module in {"pathlib", "pathlib._local"}:
        return [(_path, name)]
    if name == "numpy.dtype" or _within(module, LEFT_OUT):
        return [(LeftOut, name)]
    if name == f"{attend.__module__}.{attend.__name__}":
        return [attend]
    if module == "torchvision.transforms.functional" and attribute == "InterpolationMode":
        return [(_interpolation, name)]
    cls = RENAMED.get(name) or _class(module, attribute)
    return [(_empty(cls), name), (cls, f"{name}\n")] if cls else []  # a pickle's names end at the line's end


def _class(module: str, attribute: str) -> type | None:
    """The class that a checkpoint may have objects of; a module that is not imported is not imported for it."""
    if module.startswith("torchvision."):
        import torchvision  # noqa: F401  so that its classes are found
    found = vars(sys.modules.get(module, object)).get(attribute)  # not getattr, which a module may answer by importing
    own = {AttendedConv, *(part for layer in LAYERS.values() for part in parts_of(layer))}
    if module == "torchvision.transforms.transforms":
        return found if attribute in TRANSFORMS else None
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        return None
    return found if found in own or (_within(module, MODULES) and _within(found.__module__, MODULES)) else None


def _within(module: str, packages: tuple[str, ...]) -> bool:
    return module.startswith(tuple(f"{package}." for package in packages)) or module in packages


def _empty(cls: Any) -> type:
    """What gives an empty object of `cls` when it is called or asked for a new one, whatever the arguments."""

    def new(stand_in: type, *args: Any) -> Any:
        return cls.__new__(cls)

    return type(cls.__name__, (), {"__new__": new, "stands_for": cls})


def _attribute(owner: Any, name: str) -> Callable[..., Any]:
    """`getattr`, for the two things that checkpoints get by it: segmenters' `Detect.forward`, and enumerations."""
    cls: Any = getattr(owner, "stands_for", nn.Module)
    if cls is modules.Detect and name == "forward":
        return cls.forward
    if owner is _interpolation:
        return _interpolation(name.lower())
    raise UnpicklingError(f"getattr of {str(name)[:50]!r}")


def _interpolation(value: str) -> Any:
    from torchvision.transforms import InterpolationMode

    return InterpolationMode(value)


def _path(*parts: str) -> str:
    return str(PurePath(*parts))
