"""Splits of COCO-format data: what is used of their JSONs, and where their images are."""

import json
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from yolo_attn.bounded_reading import LARGEST_RECORD, read_plain
from yolo_attn.coco.dataset.data_keys import OKS_SIGMAS
from yolo_attn.coco.dataset.image_files import MISSING, SAMPLE, Finder, NoImageError, displayed_size, finder_for
from yolo_attn.coco.dataset.subsets import join, only_classes, only_images
from yolo_attn.coco.reading.index import CocoIndex, brief, shortened
from yolo_attn.coco.reading.problems import warn_once
from yolo_attn.coco.reading.reader import read_index
from yolo_attn.coco.reading.values import id_in
from yolo_attn.errors import UserError, one_line


@dataclass(frozen=True)
class Split:
    """One split of a data set.

    Attributes:
        index: What is used of its JSON, or of its JSONs together.
        folders: Folder of the file names of each JSON.
        only: Names of the categories that are used of each JSON, in the order of the classes; None for all.
        further: Ultralytics' keys on keypoints in a data YAML.
        image_ids: Files that list the ids of those images of each JSON that are used; None for all.
        crowds_as_objects: Whether annotations with iscrowd are objects like others.
    """

    index: CocoIndex
    folders: tuple[Path, ...]
    only: tuple[tuple[str, ...] | None, ...] = (None,)
    further: dict[str, Any] = field(default_factory=dict)
    image_ids: tuple[Path | None, ...] = (None,)
    crowds_as_objects: bool = False

    @property
    def names(self) -> list[str]:
        """Return the names of the classes in their order: as data YAMLs say, then by the categories' ids."""
        given = [name for names in self.only for name in names or ()]
        return list(dict.fromkeys([*given, *self.index.category_names]))

    def with_classes(self, names: Collection[str]) -> "Split":
        """Return what it has of these classes."""
        kept = tuple(name for name in self.names if name in names)
        return replace(self, index=only_classes(self.index, kept), only=(kept,))


def load_split(
    files: Sequence[Path],
    folders: Sequence[Path],
    task: str,
    only: Sequence[Sequence[str] | None] | None,
    image_ids: Sequence[Path | None] | None = None,
    crowds_as_objects: bool = False,
    further: dict[str, Any] | None = None,
) -> Split:
    """Read one split whose JSONs and image folders are known, and what is used of each; for `further` see `Split`."""
    parts = []
    none = [None] * len(files)
    for file, folder, names, ids in zip(files, folders, only or none, image_ids or none, strict=True):
        index = read_json(file, task, crowds_as_objects, ids)
        chosen = None if names is None else tuple(names)
        part = Split(
            index if chosen is None else only_classes(index, chosen),
            (folder,),
            only=(chosen,),
            further=further or {},
            image_ids=(ids,),
            crowds_as_objects=crowds_as_objects,
        )
        parts.append(part)
    return joined(parts)


def joined(parts: Sequence[Split]) -> Split:
    """Return the parts of a split, each of one JSON, as one.

    Raises:
        UserError: If their keys on keypoints or crowds differ.
    """
    first = parts[0]
    further: dict[str, Any] = {}
    for part in parts:
        for key, value in part.further.items():
            if further.setdefault(key, value) != value:
                raise UserError(f"{part.index.file}: its data YAML has another {key} than an earlier data set's")
        if part.crowds_as_objects != first.crowds_as_objects:
            ours, theirs = (str(each.crowds_as_objects).lower() for each in (part, first))
            found = f"crowds_as_objects is {ours} here, and {theirs} for {first.index.file}"
            raise UserError(f"{part.index.file}: {found}; expected the same for all data sets")
    index = join([part.index for part in parts])
    return Split(
        replace(index, oks_sigmas=tuple(further[OKS_SIGMAS])) if OKS_SIGMAS in further else index,
        tuple(folder for part in parts for folder in part.folders),
        only=tuple(names for part in parts for names in part.only),
        further=further,
        image_ids=tuple(ids for part in parts for ids in part.image_ids),
        crowds_as_objects=first.crowds_as_objects,
    )


def used_in(indexes: Iterable[CocoIndex]) -> set[str]:
    """Return the names of the categories that annotations use."""
    return {index.category_names[row] for index in indexes for row in np.unique(index.category_of)}


def read_json(file: Path, task: str, crowds_as_objects: bool = False, ids: Path | None = None) -> CocoIndex:
    """Read a JSON, or what it has of the images that a file lists.

    Raises:
        UserError: If the JSON cannot be used, the file is no list of ids, or the JSON has none of them.
    """
    index = read_index(file, task)
    index = replace(index, crowd=np.zeros_like(index.crowd)) if crowds_as_objects else index
    if ids is None:
        return index
    try:
        content = json.loads(read_plain(ids, LARGEST_RECORD))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{ids}: not JSON: {one_line(error)}") from error
    except OSError as error:
        raise UserError(f"{ids}: not readable: {one_line(error)}") from error
    given = content if isinstance(content, list) else []
    odd = next((each for each in given if id_in(each) is None), None if given else content)
    if odd is not None or None in given:
        raise UserError(f"{ids}: expected a list of image ids, such as [1, 2], found {brief(odd)}")
    wanted = set(map(id_in, given))
    part = only_images(index, wanted)
    if not len(part.image_ids):
        raise UserError(f"{ids}: {index.file} has none of its {len(wanted):,} image ids")
    lacking = len(wanted) - len(part.image_ids)
    if lacking:
        warn_once(f"{ids}: {index.file} lacks {lacking:,} of its {len(wanted):,} image ids")
    return part


def find_images_folder(index: CocoIndex, folders: list[Path]) -> Path:
    """Return the first of the folders in which most file names of a sample are found; one image there can be read.

    Raises:
        UserError: If there is no such folder.
    """
    names = index.file_names[:: max(len(index.file_names) // SAMPLE, 1)]
    finders = list(map(Finder, folders))
    if not any(finder.has(name) for finder in finders for name in names):
        finders = [finder_for(index.file_names, folder) for folder in folders]
    lacks = [[lack for name in names if (lack := _lack(finder, name))] for finder in finders]
    fewest = min(lacks, key=len)
    if len(fewest) < len(names):
        images = folders[lacks.index(fewest)].resolve()
        finder = finder_for(index.file_names, images)
        if all(_lack(finder, name, displayed_size) for name in index.file_names):
            raise UserError(f"{index.file}: none of its {len(index.file_names)} images under {images} can be read")
        return images
    for folder in folders:
        check_readable(folder)
    odd = next((lack for found in lacks for lack in found if lack != MISSING), None)
    tried = ", ".join(map(str, folders)) + (f"; found: {odd}" if odd else "")
    raise UserError(f"{index.file}: its images, such as {shortened(names[0])!r}, are in none of these places: {tried}")


def check_readable(folder: Path) -> None:
    """Raise an error if a folder may not be read."""
    if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
        raise UserError(f"{folder}: cannot read it: Permission denied")


def _lack(finder: Finder, name: str, check: Callable[[str], Any] = str) -> str:
    """Return why an image is not found or does not pass a check; empty if it does."""
    try:
        check(finder.find(name)[0])
    except NoImageError as error:
        return str(error)
    return ""
