"""Classifiers' images: read from a folder for each class, cropped by Ultralytics or stretched to a square."""

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

from torch import nn
from ultralytics.data import ClassificationDataset
from ultralytics.nn.autobackend import check_class_names
from ultralytics.utils import LOCAL_RANK, LOGGER, NUM_THREADS

from yolo_attn.coco.dataset.dataset import LOST
from yolo_attn.coco.dataset.image_files import NoImageError, displayed_size
from yolo_attn.coco.reading.problems import Problems
from yolo_attn.compat import val_folders
from yolo_attn.errors import RunError, UserError, listed, one_line

KEY = "stretch"
"""Key of a model YAML: true for a classifier whose images are resized to a square, and not cropped."""


def folder_of(data: str | Path, split: str) -> Path | None:
    """Return the folder of a classifier's split; None where there is none."""
    names = val_folders() if split == "val" else [split]
    return next((place for name in names if (place := Path(data, name)).is_dir()), None)


def stretches(model: Any) -> bool:
    """Return whether a model is a classifier that takes images stretched to a square."""
    return isinstance(model, nn.Module) and getattr(model, "yaml", {}).get(KEY) is True


class ClassFolders(ClassificationDataset):
    """Images of one split, in a folder for each class; nothing is written beside them, and none is repaired.

    Images that cannot be read, and those of folders that are no class of the model, are skipped. These and classes with
    one image or none are counted and reported.

    Args:
        root: The split's folder.
        args: Ultralytics' settings.
        names: The model's classes by number. A folder belongs to the class of its name, whichever others are there.
        train: Whether images are augmented.
        stretch: Whether images are resized to a square, and not cropped.
        split: Its name in messages.

    Raises:
        UserError: If no folder is a class of the model.
    """

    samples: list[Any]
    torch_transforms: Any

    def __init__(
        self, root: str | Path, args: Any, names: Mapping[int, str], *, train: bool, stretch: bool, split: str
    ) -> None:
        self._names, self._train, self.problems = names, train, Problems()
        self._gone: set[str] = set()
        super().__init__(str(root), args, augment=train, prefix=split)
        self.samples = [[file, self._number[number], *rest] for file, number, *rest in self.samples]
        degrees = args.degrees if train else 0.0
        self.torch_transforms = adapted(self.torch_transforms, args.imgsz, stretch, degrees)
        found = Counter(number for _, number, *_ in self.samples)
        self.problems.add("class without images", [names[n] for n in sorted(names) if not found[n]])
        self.problems.add("class of one image", [names[n] for n in sorted(names) if train and found[n] == 1])
        if LOCAL_RANK in {-1, 0}:
            for line in self.problems.lines():
                LOGGER.warning(f"{self.prefix}{line}")

    def verify_images(self) -> list[tuple[str, int]]:
        """Return the files of classes that the model knows and that can be read, each with its folder's number."""
        folders = self.base.classes
        self._number = classes_of(folders, self._names)
        if folders and not self._number:
            known = list(map(str, self._names.values()))
            raise UserError(
                f"{self.root}: its {len(folders)} folders ({listed(folders)}) are none of the {len(known)} "
                f"classes that the model knows ({listed(known)})"
            )
        others = Counter(folders[number] for _, number in self.samples if number not in self._number)
        self.problems.add("image of a class that the model does not know, skipped", others, others.total())
        samples = [(file, number) for file, number in self.samples if number in self._number]
        with ThreadPool(NUM_THREADS) as pool:
            reasons = pool.map(_unreadable, [file for file, _ in samples], chunksize=64)
        for (file, _), reason in zip(samples, reasons, strict=True):
            if reason:
                kind, detail = reason
                self.problems.add(kind, [f"{self.path_of(file)}{detail}"])
        return [sample for sample, reason in zip(samples, reasons, strict=True) if not reason]

    def __getitem__(self, i: int) -> dict[str, Any]:
        """Return an image, its class's number, and its file.

        In training, the next one stands in for one that can no longer be read, which is reported once.

        Raises:
            RunError: If it can no longer be read in a validation, or so many in a row in training that all are gone.
        """
        tried = range(i, i + (min(LOST, len(self)) if self._train else 1))
        for number in tried:
            file = self.samples[number % len(self)][0]
            try:
                return {**super().__getitem__(number % len(self)), "im_file": file}
            except Exception as error:  # a decoder may raise anything on a file that has changed
                reason = one_line(error)
            if self._train and file not in self._gone:
                LOGGER.warning(f"{self.prefix}{file}: cannot be read any more, skipped: {reason}")
            self._gone.add(file)
        if not self._train:
            raise RunError(f"{file}: cannot be read any more: {reason}")
        raise RunError(f"{file}: the data is gone; images in a row that cannot be read: {len(tried)}")

    def path_of(self, file: str) -> str:
        """Return an image's path below the split's folder."""
        return Path(file).relative_to(self.root).as_posix()


def classes_of(folders: list[str], names: Mapping[int, str]) -> dict[int, int]:
    """Return the class's number for each folder's number; ImageNet's codes may have their words as names."""
    if not folders:
        return {}
    words = dict(enumerate(folders))
    with contextlib.suppress(KeyError):  # early releases raise it where the first begins as a code, and another is none
        words = check_class_names(list(folders))
    numbers = {str(name): number for number, name in names.items()}
    found = [numbers.get(folder, numbers.get(word)) for folder, word in zip(folders, words.values(), strict=True)]
    return {number: known for number, known in enumerate(found) if known is not None}


def _unreadable(file: str) -> tuple[str, str] | None:
    """Return what is wrong with an image and why; None if it can be read."""
    try:
        displayed_size(file)
    except NoImageError as error:
        return str(error), error.detail
    return None


def adapted(transforms: Any, size: int, stretch: bool, degrees: float = 0.0) -> Any:
    """Return Ultralytics' transforms of a classifier with what its settings do not offer.

    Args:
        transforms: torchvision's, as Ultralytics composes them for training or validation.
        size: Of the square, pixels.
        stretch: Whether images are resized to the square, in place of every crop.
        degrees: By how much images are rotated at random, at most; the corners become black.
    """
    import torchvision.transforms as T

    steps = list(transforms.transforms)
    if stretch:
        crops = (T.RandomResizedCrop, T.Resize, T.CenterCrop)
        steps = [T.Resize((size, size)), *(step for step in steps if not isinstance(step, crops))]
    if degrees:
        steps.insert(1, T.RandomRotation(degrees))
    return T.Compose(steps)


def preprocess(run: Callable[..., Any], predictor: Any, images: Any) -> Any:
    """Ultralytics' `ClassificationPredictor.preprocess`, with images stretched where the model takes them so."""
    network = getattr(predictor.model, "model", None)
    if stretches(network):
        from ultralytics.data.augment import classify_transforms

        size = max(predictor.imgsz)
        predictor.transforms = adapted(classify_transforms(size), size, stretch=True)
        predictor.device_transform = None  # of Ultralytics' own crop
    return run(predictor, images)
