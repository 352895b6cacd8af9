"""COCO-format data as Ultralytics' trainers and validators want it described."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from ultralytics.utils import colorstr

from yolo_attn.coco.dataset import CocoDataset, StretchedCocoDataset
from yolo_attn.coco.index import CocoIndex, read_index
from yolo_attn.coco.shapes import flip_order
from yolo_attn.coco.source import FILE_NAMES, is_coco_format, load_source
from yolo_attn.errors import UserError
from yolo_attn.files import write_text


def describe(args: SimpleNamespace, splits: Sequence[str]) -> dict[str, Any] | None:
    """Ultralytics' data dictionary for the COCO-format data that `args.data` names.

    It has one key more than Ultralytics knows: `annotations`, a COCO JSON for each split. Classes are the categories of
    the first split given, ascending by id.

    Returns:
        The dictionary, or None where `args.data` is an ordinary Ultralytics data YAML, or the task is one that COCO has
        not.

    Raises:
        UserError: If the data cannot be used, or a setting would make COCO's numbers wrong or write beside the data.
    """
    if args.task not in FILE_NAMES:
        return None
    source = load_source(args.data, splits, args.task)
    if source is None:
        return None
    if args.single_cls or args.classes is not None:
        raise UserError("single_cls and classes do not work with COCO-format data yet: COCO AP would count all classes")
    if args.cache == "disk":
        raise UserError("cache=disk would write .npy files beside your pictures; use cache=ram")
    first = source[splits[0]].index
    names = first.category_names
    return {
        "path": str(source[splits[0]].images),
        "train": None,
        "val": None,
        **{name: str(split.images) for name, split in source.items()},
        "annotations": {name: str(split.index.file) for name, split in source.items()},
        "names": dict(enumerate(names)),
        "nc": len(names),
        "channels": 3,
        **_keypoints(first),
    }


def _keypoints(index: CocoIndex) -> dict[str, Any]:
    """What Ultralytics' pose trainer asks of a data dictionary; nothing for other tasks."""
    if index.keypoints is None:
        return {}
    number = index.keypoints.shape[1]
    return {"kpt_shape": [number, 3], "flip_idx": flip_order(index.keypoint_names, number)}


def write_data_yaml(args: SimpleNamespace, splits: Sequence[str], folder: Path) -> str:
    """Write the description of COCO-format data into a run's folder: Ultralytics takes data only from such a file.

    Returns:
        The file's path, or `args.data` where that is an ordinary Ultralytics data YAML.
    """
    data = describe(args, splits) if is_coco_format(args.data) else None
    if data is None:
        return str(args.data)
    file = folder / "data.yaml"
    write_text(file, yaml.safe_dump(data, sort_keys=False, allow_unicode=True))
    return str(file)


def build_dataset(
    args: SimpleNamespace,
    data: dict[str, Any],
    split: str,
    names: dict[int, str],
    *,
    train: bool,
    batch: int,
    rect: bool,
    stride: int,
    stretch: bool = False,
) -> CocoDataset:
    """The data set of one split, with Ultralytics' own settings for training or validation.

    Args:
        args: Ultralytics' settings.
        data: A dictionary that `describe` made.
        split: Which of its splits.
        names: The model's class names.
        train: Whether to train on it, with augmentation, or to validate.
        batch: Pictures a batch.
        rect: Whether batches take their pictures' shape.
        stride: The model's largest stride, pixels.
        stretch: Whether pictures are stretched to a square, as RT-DETR takes them.
    """
    return (StretchedCocoDataset if stretch else CocoDataset)(
        index=read_index(data["annotations"][split], args.task),
        names=list(names.values()),
        img_path=Path(data[split]),
        imgsz=args.imgsz,
        batch_size=batch,
        augment=train,
        hyp=args,
        rect=(args.rect or rect) and not stretch,
        cache=args.cache or None,
        stride=stride,
        pad=0.0 if train else 0.5,
        prefix=colorstr(f"{split}: "),
        task=args.task,
        data=data,
        fraction=args.fraction if train else 1.0,
    )
