"""Checks of data before a run begins."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import nn
from ultralytics.data.utils import check_det_dataset
from ultralytics.utils import LOGGER

from yolo_attn.coco.dataset.data_report import Examined, SplitReport, shared_images
from yolo_attn.coco.dataset.labels import TINY
from yolo_attn.coco.dataset.locations import as_list
from yolo_attn.engine.classification import ClassFolders, folder_of
from yolo_attn.engine.data import Description, describe, look_through, split_of
from yolo_attn.engine.preflight.checks import one_line
from yolo_attn.errors import UserError, listed, similar


def describe_training(args: SimpleNamespace) -> tuple[Description | None, int]:
    """Describe the data of a training, and put numbers for chosen class names into the settings.

    Returns:
        COCO-format data's description, if it is that, and the number of classes.
    """
    split = args.split or "val"
    data = describe(args, ["train", split])
    _choose_classes(args, data["names"] if data else None)
    return (data, data["nc"]) if data else (None, check_plain_data(args.data, split, args.task))


def examine_training(args: SimpleNamespace, data: Description, strict: bool = False) -> dict[str, Examined]:
    """Check that COCO-format data can be trained on.

    Returns:
        The splits that are used, looked through.
    """
    split = args.split or "val"
    examined = {name: look_through(args, data, name, data["names"]) for name in dict.fromkeys(["train", split])}
    shared = shared_images(examined)
    for line in shared:
        LOGGER.warning(line)
    _check_boxes(examined["train"].report)
    _check_classes(args, data["names"], data, split)
    if strict:
        for found in examined.values():
            check_strictly(found.report)
        if shared:
            raise UserError(f"--strict: {shared[0]}")
    return examined


def describe_validation(args: SimpleNamespace, model: Any, names: dict[int, str]) -> Description | None:
    """Describe the data of a validation, as for a training, and check that the model can be validated on it.

    Of an exported file `model` is the path; `names` are the classes that it knows.
    """
    split = args.split or "val"
    data = describe(args, [split])
    if data is None:
        _choose_classes(args, None)
        check_plain_data(args.data, split, args.task)
        return None
    _choose_classes(args, dict(enumerate(data["categories"])) if args.single_cls else names)
    if isinstance(model, nn.Module):
        _check_classes(args, names, data, split)
    check_keypoints(model, data)
    return data


def check_class_folders(args: SimpleNamespace, names: Mapping[int, str], splits: Iterable[str]) -> None:
    """Check that no image of a classifier's splits would be skipped, and that no class has one image or none.

    Raises:
        UserError: With each kind of problem, how often it was met, and its first item.
    """
    for split in splits:
        folder = folder_of(args.data, split)
        assert folder, split
        found = ClassFolders(folder, args, names, train=split == "train", stretch=False, split=split).problems
        if len(found):
            raise UserError(f"--strict: {folder}: {'; '.join(found.lines())}")


def _choose_classes(args: SimpleNamespace, known: dict[int, str] | None) -> None:
    """Put the numbers of the classes that were chosen, some of them by name, into the settings.

    `known` is None where only data in Ultralytics' own format has their names.

    Raises:
        UserError: If there is no such class, with near names.
    """
    if args.classes is None:
        return
    names = list((known or {}).values())
    number_of = {name: number for number, name in reversed(list(enumerate(names)))}
    numbers = []
    for given in map(str, as_list(args.classes)):
        if given in number_of:
            numbers.append(number_of[given])
        elif given.isdecimal() and (known is None or int(given) < len(names)):
            numbers.append(int(given))
        else:
            near = similar(given, names) or names[:5]
            hint = f"similar names: {', '.join(near)}" if known else "data in Ultralytics' own format takes numbers"
            raise UserError(f"classes {given}: no such class; {hint}")
    args.classes = sorted(set(numbers))


def _check_boxes(report: SplitReport) -> None:
    """Check that there is something to train on.

    Raises:
        UserError: If a train split has no box, or none of more than a pixel.
    """
    if not report.boxes:
        found = f"no box to train on in its {report.usable} images, {report.crowds} annotations are crowds"
        raise UserError("; ".join([f"{report.file}: {found}", *report.problems.lines()]))
    if report.problems[TINY] == report.boxes:
        raise UserError(f"{report.file}: no box is larger than a pixel; {report.problems.line(TINY)}")


def check_strictly(report: SplitReport) -> None:
    """Check that nothing of a split would be skipped, clipped or suspicious.

    Raises:
        UserError: With each kind of problem, how often it was met, and its first item.
    """
    if len(report.problems):
        raise UserError(f"--strict: {report.file}: {'; '.join(report.problems.lines())}")


def _check_classes(args: SimpleNamespace, known: dict[int, str], data: dict[str, Any], split: str) -> None:
    """Check that a model that knows these classes knows at least one category of a split.

    Raises:
        UserError: Naming both sides' first names.
    """
    index = split_of(data, split, args.task).index
    ours, theirs = list(map(str, known.values())), index.category_names
    if not args.single_cls and not set(ours) & set(theirs):
        raise UserError(
            f"{index.file}: its {len(theirs)} categories ({listed(theirs)}) are none of the {len(ours)} "
            f"classes that the model knows ({listed(ours)})"
        )


def check_keypoints(model: Any, data: dict[str, Any]) -> None:
    """Check that a trained pose model has the data's number of keypoints.

    Raises:
        UserError: With both numbers.
    """
    known, found = getattr(model, "kpt_shape", None), data.get("kpt_shape")
    if known and found and known[0] != found[0]:
        file = as_list(next(iter(data["annotations"].values())))[0]
        raise UserError(f"{file}: its annotations have {found[0]} keypoints, and the model knows {known[0]}")


def check_plain_data(data: str, split: str, task: str) -> int:
    """Check that data in Ultralytics' own format can be used as it is; what it would download stays undone.

    Returns:
        The number of classes.

    Raises:
        UserError: With what is expected, or with Ultralytics' own reason.
    """
    if task == "classify":
        splits = dict.fromkeys(("train", split))
        missing = next((name for name in splits if folder_of(data, name) is None), None)
        if missing:
            raise UserError(
                f"{data}: no folder {missing!r} in it; classifiers are trained on a folder for each split, in it a "
                "folder of images for each class"
            )
        classes = sum(folder.is_dir() for folder in Path(data, "train").iterdir())
        if not classes:
            raise UserError(f"{Path(data, 'train')}: no folder in it; expected a folder of images for each class")
        return classes
    try:
        found = check_det_dataset(data, autodownload=False)
    except Exception as error:  # a wrong YAML may make it raise anything
        raise UserError(f"{data}: not usable for {split!r}: {one_line(error)}") from error
    places = as_list(found.get(split))
    if not places:
        raise UserError(f"{data}: not usable for {split!r}: it has no such key")
    for place in places:
        if not Path(place).exists():
            raise UserError(f"{data}: not usable for {split!r}: {place} is missing")
    return int(found["nc"])
