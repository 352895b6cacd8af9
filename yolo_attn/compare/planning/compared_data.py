"""The data sets of a comparison, read as its trainings read them, and a digest that changes with them."""

import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

from ultralytics.data.utils import IMG_FORMATS, check_det_dataset, img2label_paths

from yolo_attn.bounded_reading import chunks, open_plain
from yolo_attn.coco.dataset.data_keys import OKS_SIGMAS
from yolo_attn.coco.dataset.image_files import Finder, NoImageError
from yolo_attn.coco.dataset.locations import as_list, parts_of
from yolo_attn.coco.reading.index import CocoIndex
from yolo_attn.compare.study_folder import Data
from yolo_attn.engine.classification import folder_of
from yolo_attn.engine.data import Description, chosen
from yolo_attn.engine.tasks import TASKS
from yolo_attn.engine.validation.validator import CocoValidator


class DataRead(NamedTuple):
    """The data set of a comparison.

    Attributes:
        data: It, with a digest of what it is learned from: annotations (COCO JSONs, label files and their YAML, or
            the folders of classes), and names and sizes of the images.
        folders: Where it lies.
        truth: The validation split; None where COCO's evaluation does not score it.
        classes: Their number; None for that of the model YAML.
    """

    data: Data
    folders: list[Path]
    truth: CocoIndex | None = None
    classes: int | None = None


def read_data(args: SimpleNamespace, described: Description | None) -> DataRead:
    """Read the data set of a comparison: COCO-format data as it was described, else in Ultralytics' own format."""
    splits = ("train", args.split or "val")
    places = [part for part in parts_of(args.data) if part.is_dir()]
    if args.task == "classify":
        homes = [home for split in splits if (home := folder_of(args.data, split))]
        classes = [place.name for place in sorted(homes[0].iterdir()) if place.is_dir()]
        digest = digest_of([json.dumps(classes).encode(), *_plain_content(args, homes)])
        return DataRead(Data(str(args.data), digest, kind=args.task), [*places, *homes], classes=len(classes))
    if described is None:
        images = _plain_splits(args, splits)
        places += filter(Path.is_dir, images)
        return DataRead(Data(str(args.data), digest_of(_plain_content(args, images))), places)
    used: list[tuple[CocoIndex, list[Finder]]] = []
    for split in splits:
        index, _, folders = chosen(args, described, split, described["categories"])
        used.append((index, list(map(Finder, folders))))
        places += folders
    validator = next(task.validator for task in TASKS if task.name == args.task)
    digest = digest_of(_coco_content(described, used))
    if not issubclass(validator, CocoValidator):
        return DataRead(Data(str(args.data), digest), places)
    data = Data(str(args.data), digest, len(index.image_ids), validator.kind)
    return DataRead(data, places, index, len(index.category_names))


def digest_of(parts: Iterable[bytes]) -> str:
    """Return the SHA-256 of bytes that come in parts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _coco_content(described: Description, splits: Iterable[tuple[CocoIndex, list[Finder]]]) -> Iterator[bytes]:
    keys = ("only", "crowds_as_objects", "flip_idx", OKS_SIGMAS)
    stated = {key: described[key] for key in keys if described.get(key)}
    if stated:
        yield json.dumps(stated).encode()
    for index, finders in splits:
        for file in index.files:
            yield from chunks(file)
        for name, row in zip(index.file_names, index.file_of.tolist(), strict=True):
            try:
                size = finders[row].find(name)[1].st_size
            except NoImageError:
                size = -1
            yield f"{name}\0{size}\0".encode(errors="surrogatepass")


def _plain_splits(args: SimpleNamespace, splits: Iterable[str]) -> list[Path]:
    """Return image folders and image lists of data in Ultralytics' own format with label files."""
    described = check_det_dataset(args.data, autodownload=False)
    return [Path(place) for split in splits for place in as_list(described.get(split))]


def _plain_content(args: SimpleNamespace, places: Iterable[Path]) -> Iterator[bytes]:
    if Path(args.data).is_file():
        yield from chunks(args.data)
    for place in places:
        images = list(_images(place))
        for file in images:
            size = file.stat().st_size if file.is_file() else -1
            yield f"{file}\0{size}\0".encode(errors="surrogateescape")
        for label in map(Path, img2label_paths(list(map(str, images))) if args.task != "classify" else ()):
            yield from chunks(label) if label.is_file() else ()
            yield b"\0"


def _images(place: Path) -> Iterator[Path]:
    """Yield the images of a folder, by name, or of a list, in which ./ means its own folder."""
    if place.is_dir():
        yield from sorted(file for file in place.rglob("*") if file.suffix[1:].lower() in IMG_FORMATS)
        return
    with open_plain(place) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape").read()
    for line in text.split("\n"):
        if line.strip():
            yield place.parent / line.strip() if line.startswith("./") else Path(line.strip())
