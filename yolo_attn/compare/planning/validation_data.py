"""The data set of a comparison: its validation images, and a digest that changes with the data."""

import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ultralytics.data.utils import IMG_FORMATS, check_det_dataset, img2label_paths

from yolo_attn.coco.dataset.image_files import Finder, NoImageError
from yolo_attn.coco.dataset.locations import as_list, parts_of
from yolo_attn.coco.reading.index import CocoIndex
from yolo_attn.compare.study_folder import Data
from yolo_attn.engine.data import chosen, describe, fraction_of
from yolo_attn.engine.tasks import TASKS
from yolo_attn.reading import chunks, open_plain

NOT_FOUND = -1
"""Stands for the size of a missing file."""


@dataclass(frozen=True)
class Examined:
    """A data set that was read.

    Attributes:
        data: Its description. The digest covers the annotations (COCO JSONs, or label files and their YAML), and the
            names and sizes of the images.
        folders: Its folders.
        index: The validation split; None for data that is not in COCO format.
    """

    data: Data
    folders: tuple[Path, ...]
    index: CocoIndex | None = None


def read_data(args: SimpleNamespace) -> Examined:
    """Describe the data set that Ultralytics' settings `args` name."""
    splits = ("train", args.split or "val")
    described = describe(args, splits)
    digest = hashlib.sha256()
    whole = tuple(part for part in parts_of(args.data) if part.is_dir())
    if described is None:
        places = _plain_splits(args, splits)
        for part in _plain_content(args, places):
            digest.update(part)
        return Examined(Data(str(args.data), digest.hexdigest()), (*whole, *filter(Path.is_dir, places)))
    places = []
    stated = {key: described[key] for key in ("only", "flip_idx") if described.get(key)}
    if stated:
        digest.update(json.dumps(stated).encode())
    for split in splits:
        index, _, folders = chosen(args, described, split, described["categories"], fraction_of(args, split))
        for file in index.files:
            for part in chunks(file):
                digest.update(part)
        finders = [Finder(folder) for folder in folders]
        for name, row in zip(index.file_names, index.file_of.tolist(), strict=True):
            digest.update(f"{name}\0{_size_of(finders[row], name)}\0".encode(errors="surrogatepass"))
        places += folders
    kind: Any = next(task.validator for task in TASKS if task.name == args.task)
    data = Data(str(args.data), digest.hexdigest(), len(index.image_ids), kind.kind)
    return Examined(data, (*whole, *places), index)


def _size_of(finder: Finder, name: str) -> int:
    try:
        return finder.find(name)[1].st_size
    except NoImageError:
        return NOT_FOUND


def _plain_splits(args: SimpleNamespace, splits: Iterable[str]) -> list[Path]:
    """Return image folders and image lists of data in Ultralytics' own format."""
    if args.task == "classify":
        return [Path(args.data, split) for split in splits]
    described = check_det_dataset(args.data, autodownload=False)
    return [Path(place) for split in splits for place in as_list(described.get(split))]


def _plain_content(args: SimpleNamespace, places: Iterable[Path]) -> Iterator[bytes]:
    """Yield the bytes to digest of data in Ultralytics' own format."""
    if Path(args.data).is_file():
        yield from chunks(args.data)
    for place in places:
        images = list(_images(place))
        for file in images:
            size = file.stat().st_size if file.is_file() else NOT_FOUND
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
