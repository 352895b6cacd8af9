"""COCO-format data as Ultralytics' trainers and validators want it described."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from ultralytics.utils import RANK, colorstr

from yolo_attn.coco.dataset import subsets as choose
from yolo_attn.coco.dataset.data_keys import OKS_SIGMAS, switched_on
from yolo_attn.coco.dataset.data_report import Examined, examine
from yolo_attn.coco.dataset.dataset import CocoDataset, StretchedCocoDataset
from yolo_attn.coco.dataset.layouts import FILE_NAMES
from yolo_attn.coco.dataset.locations import as_list, is_coco_format, load_source, parts_of, splits_of
from yolo_attn.coco.dataset.paths import as_path, as_text
from yolo_attn.coco.dataset.splits import Split, load_split
from yolo_attn.coco.reading.index import CocoIndex
from yolo_attn.coco.reading.masks_and_keypoints import flip_order
from yolo_attn.errors import UserError
from yolo_attn.files import write_text


class Description(dict[str, Any]):
    """Ultralytics' data dictionary for COCO-format data, and its splits, as they were read; see `describe`.

    `by_option` is whether options say what of the data is used: a run's own data.yaml then stands for the data.
    """

    splits: Mapping[str, Split]
    by_option: bool


def describe(args: SimpleNamespace, splits: Sequence[str]) -> Description | None:
    """Ultralytics' data dictionary for the COCO-format data that `args.data` names.

    It has keys more than Ultralytics knows: `annotations`, a COCO JSON for each split, or a list of them; `categories`,
    the names in the data, also those that are no classes of the model; where the user's data YAML or an option chooses
    what is used of each JSON, `only` and `image_ids`; and `crowds_as_objects`. Classes are in the order of that YAML's
    names, else they are the categories of the first split given, ascending by id. Where options choose, a training
    describes all splits, since its data.yaml then stands for the data.

    Returns:
        The dictionary, or None where `args.data` is an ordinary Ultralytics data YAML, or the task does not learn from
        COCO-format data.

    Raises:
        UserError: If the data cannot be used, or a setting would make COCO's numbers wrong or write beside the data.
    """
    if args.task == "classify":
        _check_folder(args)
    if args.task not in FILE_NAMES:
        return None
    by_option = bool(switched_on())
    if by_option and args.mode == "train" and is_coco_format(args.data):
        having, all_sets = splits_of(args.data, args.task), len(parts_of(args.data))
        splits = [*splits, *(name for name in having if name not in splits and len(having[name]) == all_sets)]
    source = load_source(args.data, splits, args.task)
    if source is None:
        return None
    _check_cache(args)
    first = source[splits[0]]
    names = first.names
    only = {name: [None if n is None else list(n) for n in split.only] for name, split in source.items()}
    image_ids = {name: [i and as_text(i) for i in split.image_ids] for name, split in source.items()}
    described = Description(
        {
            "path": str(source[splits[0]].folders[0]),
            "train": None,
            "val": None,
            **{name: _plain(split.folders) for name, split in source.items()},
            "annotations": {name: _plain(split.index.files) for name, split in source.items()},
            "categories": names,
            **({"only": only} if any(filter(None, first.only)) else {}),
            **({"image_ids": image_ids} if any(filter(None, first.image_ids)) else {}),
            **({"crowds_as_objects": True} if first.crowds_as_objects else {}),
            "names": dict(enumerate(names)),
            "nc": len(names),
            "channels": 3,
            **_keypoints(first),
        }
    )
    described.splits, described.by_option = source, by_option
    return described


def _check_folder(args: SimpleNamespace) -> None:
    """Check that nothing is asked of a classifier's folder that only annotations can give."""
    _check_cache(args)
    if args.single_cls:
        raise UserError("single_cls: a classifier of one class has nothing to tell apart; leave it out")
    if args.classes is not None:
        raise UserError("classes: a classifier's classes are its folders; give it data with the folders of those alone")
    if asked := sorted(switched_on()):
        raise UserError(f"--{asked[0].replace('_', '-')}: is for annotations, and a classifier's folder has none")
    if len(parts := parts_of(args.data)) > 1:
        raise UserError(f"--data: a classifier takes one folder, found {len(parts)}")


def _check_cache(args: SimpleNamespace) -> None:
    """Check that images are not cached beside themselves."""
    if args.cache == "disk":
        raise UserError("cache=disk would write .npy files beside your images; leave it out, or use cache=ram")


def _plain(paths: Sequence[str | Path]) -> str | list[str]:
    """Paths as a data YAML has them: one by itself, several as a list."""
    return str(paths[0]) if len(paths) == 1 else list(map(str, paths))


def split_of(data: dict[str, Any], name: str, task: str) -> Split:
    """One split of what `describe` made, or read anew from what `write_data_yaml` wrote."""
    if isinstance(data, Description):
        return data.splits[name]
    files, folders = data["annotations"][name], data.get("folders", data)[name]
    only = data.get("only", {}).get(name)
    ids = data.get("image_ids", {}).get(name)
    listing = [None if file is None else as_path(file) for file in ids] if ids else None
    places = list(map(as_path, as_list(files))), list(map(as_path, as_list(folders)))
    further = {OKS_SIGMAS: data[OKS_SIGMAS]} if OKS_SIGMAS in data else {}
    return load_split(*places, task, only, listing, data.get("crowds_as_objects", False), further)


def _keypoints(split: Split) -> dict[str, Any]:
    """What Ultralytics' pose trainer asks of a data dictionary; nothing for other tasks."""
    if split.index.keypoints is None:
        return {}
    number = split.index.keypoints.shape[1]
    known = {"kpt_shape": [number, 3], "flip_idx": flip_order(split.index.keypoint_names, number)}
    return {**known, **split.further}


def write_data_yaml(
    args: SimpleNamespace, splits: Sequence[str], folder: Path, described: Description | None = None
) -> str:
    """Write what `describe` makes, or has made, into a run's folder: Ultralytics takes data only from such a file.

    Returns:
        The file's path, or `args.data` where that is an ordinary Ultralytics data YAML.
    """
    described = described or (describe(args, splits) if is_coco_format(args.data) else None)
    if described is None:
        return str(args.data)
    data = dict(described)
    places = {name: _plain(list(map(as_text, as_list(data[name])))) for name in data["annotations"]}
    if places != {name: data[name] for name in places}:  # Ultralytics looks for them, and ours have to be escaped
        data |= {"folders": places, "path": str(folder), **dict.fromkeys(places, str(folder))}
    data["annotations"] = {
        name: _plain(list(map(as_text, as_list(files)))) for name, files in data["annotations"].items()
    }
    file = folder / "data.yaml"
    write_text(file, yaml.safe_dump(data, sort_keys=False, allow_unicode=True))
    return str(file)


def build_dataset(
    args: SimpleNamespace,
    data: dict[str, Any],
    split: str,
    examined: Examined,
    *,
    train: bool,
    batch: int,
    rect: bool,
    stride: int,
    stretch: bool = False,
    folder: Path | None = None,
) -> CocoDataset:
    """The data set of one split of what `describe` made, with Ultralytics' own settings for training or validation.

    `examined` is what the settings leave of it. With `rect`, batches take their images' shape; with `stretch`, images
    become squares, as RT-DETR takes them. data_report.json in `folder` says what was used and what was not.
    """
    dataset = (StretchedCocoDataset if stretch else CocoDataset)(
        examined=examined,
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
    )
    if folder and RANK in {-1, 0}:
        dataset.report.save(folder, split)
    return dataset


def look_through(
    args: SimpleNamespace, data: dict[str, Any], split: str, names: dict[int, str], alone: bool = False
) -> Examined:
    """Find the images of what the settings leave of a split, and make its labels; for the arguments see `chosen`."""
    index, classes, folders = chosen(args, data, split, list(names.values()), alone)
    return examine(index, folders, classes)


def chosen(
    args: SimpleNamespace, data: dict[str, Any], split: str, classes: list[str], alone: bool = False
) -> tuple[CocoIndex, list[str], tuple[Path, ...]]:
    """What the settings leave of a split, the class names that count, and its image folders.

    Args:
        args: Ultralytics' settings. With `classes`, annotations of other classes are as if they were not there; with
            `single_cls`, all are of one class.
        data: A dictionary that `describe` made.
        split: Which of its splits.
        classes: The model's class names.
        alone: Whether it is validated without a training; a `fraction` that is one share is then its own.
    """
    found = split_of(data, split, args.task)
    index = choose.subset(found.index, _fraction_of(args, split, alone), args.seed)
    if args.classes is not None:
        known = data["categories"] if args.single_cls else classes  # a model of one class knows no others
        index = choose.only_classes(index, [known[i] for i in as_list(args.classes)])
    if args.single_cls:
        index, classes = choose.single_class(index), [choose.SINGLE_CLASS]
    return index, classes, found.folders


def _fraction_of(args: SimpleNamespace, split: str, alone: bool) -> float:
    """The share of a split's images that is taken, or above 1 their number; one share is that of the train split."""
    if not isinstance(args.fraction, (list, tuple)):
        return args.fraction if alone or split == "train" else 1.0
    return dict(zip(("train", "val", "test"), args.fraction, strict=False)).get(split, 1.0)
