"""The images that int8 exports are calibrated on: of the data that is named, else of that which trained the model."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ultralytics.engine import exporter as ultralytics_exporter
from ultralytics.nn.modules import RTDETRDecoder

from yolo_attn.coco.dataset.dataset import CocoDataset
from yolo_attn.coco.dataset.locations import as_setting, is_coco_format, parts_of
from yolo_attn.compat import calibrates
from yolo_attn.engine.classification import ClassFolders, stretches
from yolo_attn.engine.data import build_dataset, describe, look_through
from yolo_attn.engine.preflight.data_checks import check_plain_data
from yolo_attn.environment import replaced
from yolo_attn.errors import UserError


def export(run: Callable[..., Any], exporter: Any, /, model: Any = None, **kwargs: Any) -> Any:
    """Ultralytics' `Exporter.__call__`; int8 files are calibrated on COCO-format data too, and on no default data.

    Raises:
        UserError: If there are no images to calibrate on.
    """
    if not calibrates(exporter.args):
        return run(exporter, model=model, **kwargs)
    with _calibrating(exporter, model):
        return run(exporter, model=model, **kwargs)


@contextlib.contextmanager
def _calibrating(exporter: Any, model: Any) -> Iterator[None]:
    """Have an exporter read the images of COCO-format data, or of a classifier's folder."""
    named = exporter.args.data
    data = named or _training_data(model)
    exporter.args.data = data if isinstance(data, (str, Path)) else as_setting([p.absolute() for p in parts_of(data)])
    args = SimpleNamespace(**{**vars(exporter.args), "task": model.task, "cache": False, "single_cls": False})
    split = args.split or "val"
    described = describe(args, [split]) if is_coco_format(args.data) else None
    if described is None:
        if not named:
            check_plain_data(args.data, split, model.task)
        with _reading_folders(model):
            yield
        return
    examined = look_through(args, described, split, described["names"], alone=True)

    def dataset(*_: Any, **__: Any) -> CocoDataset:
        height, width = exporter.imgsz
        made = build_dataset(
            SimpleNamespace(**{**vars(args), "imgsz": max(height, width), "rect": False}),
            described,
            split,
            examined,
            train=False,
            batch=args.batch,
            rect=False,
            stride=int(max(model.stride.max(), 32)),
            stretch=isinstance(model.model[-1], RTDETRDecoder) and height == width,
        )
        for transform in made.transforms.transforms[:1]:
            if hasattr(transform, "new_shape"):  # RT-DETR's images are squares already
                transform.new_shape = (height, width)
        return made

    builder = "build_yolo_dataset" if hasattr(ultralytics_exporter, "build_yolo_dataset") else "YOLODataset"
    with replaced(ultralytics_exporter, **{"check_det_dataset": lambda *_, **__: described, builder: dataset}):
        yield


@contextlib.contextmanager
def _reading_folders(model: Any) -> Iterator[None]:
    """Have an exporter read a classifier's images as its validation does; early releases have no such data set."""

    def dataset(root: str | Path, args: Any, prefix: str = "", **_: Any) -> ClassFolders:
        from torchvision import transforms as T

        made = ClassFolders(root, args, model.names, train=False, stretch=False, split=prefix)
        if stretches(model):
            size = list(args.imgsz)  # the exporter keeps the first two steps
            made.torch_transforms = T.Compose(
                [T.Resize(size), T.CenterCrop(size), *made.torch_transforms.transforms[2:]]
            )
        return made

    known = {"ClassificationDataset": dataset} if hasattr(ultralytics_exporter, "ClassificationDataset") else {}
    with replaced(ultralytics_exporter, **known):
        yield


def _training_data(model: Any) -> Any:
    """What trained a model.

    Raises:
        UserError: If that is not known.
    """
    args = getattr(model, "args", None) or {}
    data = (args if isinstance(args, dict) else vars(args)).get("data")
    if not data:
        reason = "int8 files are calibrated on images, and the model does not name its training data"
        raise UserError(f"{reason}; give --data, or data= in Python")
    return data
