"""Attention layers (SimAM, NAM, GAM) as first-class Ultralytics layer types.

Importing this package makes model YAMLs understand `[-1, 1, GAM, []]`: at once where Ultralytics is already imported,
else as soon as it is. The import itself loads neither PyTorch nor Ultralytics, prints nothing and writes nothing.
"""

import importlib.util
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "identity_init", "load_safe", "register", "register_layer", "set_kernels", "unregister"]

_MODULES = ("ultralytics.nn.tasks", "ultralytics.engine.model")
"""Modules of Ultralytics' with something to register in; the second imports the first."""


def register() -> None:
    """Make the attention layers known to Ultralytics (done by the import; again, it changes nothing).

    Raises:
        ImportError: If Ultralytics is not installed.
    """
    _listen()
    from yolo_attn.plugin.patches import register

    register()


def unregister() -> None:
    """Put Ultralytics back as it was before `register`."""
    _stop_listening()
    if _MODULES[0] in sys.modules:
        from yolo_attn.plugin.patches import unregister

        unregister()


def __getattr__(name: str) -> Any:
    if name == "register_layer":  # needs PyTorch, which importing this package does not load
        from yolo_attn.plugin.registry import register_layer

        return register_layer
    if name == "load_safe":
        from yolo_attn.plugin.checkpoints import load_safe

        return load_safe
    if name == "identity_init":
        from yolo_attn.engine.identity import identity_init

        return identity_init
    if name == "set_kernels":
        from yolo_attn.kernels.switch import set_kernels

        return set_kernels
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _RegisterAfter(MetaPathFinder):
    """Runs `register` right after a module of Ultralytics' has been imported."""

    def __init__(self, module: str) -> None:
        self.module = module

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname != self.module:
            return None
        sys.meta_path.remove(self)  # find_spec below would ask it again
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                register()

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]  # of this import alone
        return spec


def _listen() -> None:
    """Register again after those modules whose import is still to come."""
    _stop_listening()
    sys.meta_path[:0] = [_RegisterAfter(module) for module in _MODULES if module not in sys.modules]


def _stop_listening() -> None:
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _RegisterAfter)]


if _MODULES[0] in sys.modules:
    register()
else:
    _listen()
