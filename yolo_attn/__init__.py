"""Attention layers (SimAM, NAM, GAM) as first-class Ultralytics layer types.

Importing this package makes model YAMLs understand `[-1, 1, GAM, []]`: at once where Ultralytics is already imported,
else as soon as it is. The import itself loads neither PyTorch nor Ultralytics, prints nothing and writes nothing.
"""

import importlib
import logging
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from yolo_attn.lazy import public
from yolo_attn.version import __version__

__all__ = [
    "BAM",
    "CBAM",
    "ECA",
    "EMA",
    "GAM",
    "NAM",
    "SE",
    "ClassificationTrainer",
    "ClassificationValidator",
    "CoordAtt",
    "DetectionTrainer",
    "DetectionValidator",
    "OBBTrainer",
    "OBBValidator",
    "PoseTrainer",
    "PoseValidator",
    "RTDETRTrainer",
    "RTDETRValidator",
    "SegmentationTrainer",
    "SegmentationValidator",
    "SimAM",
    "TripletAttention",
    "UserError",
    "__version__",
    "demo_dataset",
    "identity_init",
    "load_safe",
    "measure_gates",
    "register",
    "register_layer",
    "set_kernels",
    "unregister",
]

_TASKS = ("Classification", "Detection", "OBB", "Pose", "RTDETR", "Segmentation")

_HOMES = {
    "coco.demo": "demo_dataset",
    "engine.training.trainer": " ".join(f"{task}Trainer" for task in _TASKS),
    "engine.validation.validator": " ".join(f"{task}Validator" for task in _TASKS),
    "errors": "UserError",
    "gates.watch": "measure_gates",
    "kernels.switch": "set_kernels",
    "layers": "BAM CBAM ECA EMA GAM NAM SE CoordAtt SimAM TripletAttention",
    "model.registry": "register_layer",
    "weights.identity_init": "identity_init",
    "weights.checkpoint_files": "load_safe",
}
"""Which module holds which public name; a name's first use imports it."""

_MODULES = (
    "ultralytics.nn.tasks",
    "ultralytics.engine.model",
    "ultralytics.data.utils",
    "ultralytics.engine.exporter",
    "ultralytics.models.yolo.classify.predict",
)
"""Modules of Ultralytics' with something to register in; the parser's comes first."""

_warned: set[str] = globals().get("_warned", set())  # a reload keeps it


def register() -> None:
    """Make the attention layers known to Ultralytics (done by the import; again, it changes nothing).

    Where this Ultralytics lacks what they need, it is left as it is, and one warning says so.

    Raises:
        ImportError: If Ultralytics cannot be imported.
    """
    importlib.import_module(_MODULES[0])
    _listen()
    try:
        from yolo_attn.patches.table import register

        register(_finder.executing)
    except Exception as error:  # a changed Ultralytics may make our own imports raise anything
        import ultralytics

        text = f"{type(error).__name__}: {error}".removeprefix("UserError: ")
        line = f"Ultralytics {ultralytics.__version__} stays without attention layers: {text}; see yolo-attn doctor"
        if line not in _warned:
            _warned.add(line)
            logging.getLogger("ultralytics").warning(f"yolo_attn {__version__}: {line}")


def unregister() -> None:
    """Put Ultralytics back as it was before `register`."""
    _stop_listening()
    wrapping = sys.modules.get("yolo_attn.patches.wrapping")
    if wrapping:
        wrapping.restore()


if TYPE_CHECKING:
    from yolo_attn.coco.demo import demo_dataset
    from yolo_attn.engine.training.trainer import (
        ClassificationTrainer,
        DetectionTrainer,
        OBBTrainer,
        PoseTrainer,
        RTDETRTrainer,
        SegmentationTrainer,
    )
    from yolo_attn.engine.validation.validator import (
        ClassificationValidator,
        DetectionValidator,
        OBBValidator,
        PoseValidator,
        RTDETRValidator,
        SegmentationValidator,
    )
    from yolo_attn.errors import UserError
    from yolo_attn.gates.watch import measure_gates
    from yolo_attn.kernels.switch import set_kernels
    from yolo_attn.layers import BAM, CBAM, ECA, EMA, GAM, NAM, SE, CoordAtt, SimAM, TripletAttention
    from yolo_attn.model.registry import register_layer
    from yolo_attn.weights.checkpoint_files import load_safe
    from yolo_attn.weights.identity_init import identity_init
else:
    __getattr__ = public(__name__, _HOMES)[1]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _RegisterAfter(MetaPathFinder):
    """Runs `register` whenever a module of Ultralytics' has been executed, by an import or a reload.

    Attributes:
        executing: Those that are being executed.
    """

    def __init__(self) -> None:
        self.executing: set[str] = set()

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname not in _MODULES:
            return None
        finders = [finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec")]
        spec = next((found for f in finders if (found := f.find_spec(fullname, path, target)) is not None), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                self.executing.add(fullname)
                try:
                    execute(module)
                finally:
                    self.executing.discard(fullname)
                if self in sys.meta_path:
                    register()

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]  # of this import alone
        return spec


_finder: _RegisterAfter = globals().get("_finder") or _RegisterAfter()  # a reload keeps it


def _listen() -> None:
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def _stop_listening() -> None:
    if _finder in sys.meta_path:
        sys.meta_path.remove(_finder)


if _MODULES[0] in sys.modules:
    register()
else:
    _listen()
