"""Where the annotation files and images of a COCO-format data set are."""

import json
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from yolo_attn.bounded_reading import LARGEST_RECORD, read_plain, read_yaml, repeated_key
from yolo_attn.coco.dataset.data_keys import FEW, OKS_SIGMAS, SPLITS, Keys, read_keys
from yolo_attn.coco.dataset.image_files import MISSING, SAMPLE, Finder, NoImageError, displayed_size, finder_for
from yolo_attn.coco.dataset.layouts import (
    FORM,
    SUFFIXES,
    home_of,
    image_folders,
    named_splits,
    others_of,
    own_json,
    split_of,
    the_one,
)
from yolo_attn.coco.dataset.paths import as_path, as_text, is_there
from yolo_attn.coco.dataset.subsets import join, only_classes, only_images
from yolo_attn.coco.reading.index import CocoIndex, brief, shortened
from yolo_attn.coco.reading.problems import warn_once
from yolo_attn.coco.reading.reader import read_index
from yolo_attn.coco.reading.values import id_in
from yolo_attn.environment import CROWDS_VARIABLE, UNUSED_VARIABLE
from yolo_attn.errors import UserError, listed, one_line
from yolo_attn.files import expanded

SEPARATOR = ","
"""Between several data sets in one text."""

Data = str | Path | Sequence[str | Path]
"""A data set or several: a text with commas between, or a sequence."""

YAML_SUFFIXES = {".yaml", ".yml"}


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
        """Return what it has of these classes.

        Raises:
            UserError: If it has none of them.
        """
        kept = tuple(name for name in self.names if name in names)
        if not kept:
            raise UserError(f"{self.index.file}: no annotation uses any of its {len(self.names):,} categories")
        return replace(self, index=only_classes(self.index, kept), only=(kept,))


def load_source(data: Data, splits: Sequence[str], task: str = "detect") -> dict[str, Split] | None:
    """Find and read the given splits of a COCO-format data set.

    Args:
        data: A folder with `annotations/instances_{train,val,test}.json` (or `*2017.json`; for "pose"
            `person_keypoints_*`), or an ordinary Ultralytics data YAML with one more key, `annotations`, that names a
            COCO JSON for each split. Paths in it are relative to its `path`, and that to the YAML's own folder. Several
            of these are one set with categories joined by name.
        splits: Some of "train", "val" and "test".
        task: "detect", "segment", "pose" or "obb": what is read of the JSONs.

    Returns:
        The splits by name, or None where `data` is an ordinary Ultralytics data YAML.

    Raises:
        UserError: If a file or folder is missing or unreadable, or no image of a JSON can be found.
    """
    sets = [_DataSet(part, task) for part in parts_of(data)]
    ordinary = [found for found in sets if not found.is_coco]
    if len(ordinary) == len(sets):
        return None
    if ordinary:
        reason = "only COCO-format data can be joined; this has labels in Ultralytics' own format"
        raise UserError(f"{ordinary[0].path}: {reason}")
    loaded = [found.load(splits) for found in sets]
    parts = {split: [part for found in loaded for part in found[split]] for split in splits}
    used = _used_in(part.index for each in parts.values() for part in each)
    if any(found.keys.drop_unused for found in sets) and used:
        parts = {split: [part.with_classes(used) for part in each] for split, each in parts.items()}
    together = {split: _together(each) for split, each in parts.items()}
    if "train" in together:
        _report_unused(together["train"], used)
    return together


def _used_in(indexes: Iterable[CocoIndex]) -> set[str]:
    """Return the names of the categories that annotations use."""
    return {index.category_names[row] for index in indexes for row in np.unique(index.category_of)}


def _report_unused(split: Split, used: Collection[str]) -> None:
    unused = [name for name in split.names if name not in used]
    if unused and used:
        found = f"no annotation uses {len(unused):,} of its {len(split.names):,} categories, {listed(unused, FEW)}"
        warn_once(f"{split.index.file}: {found}; --drop-unused leaves out such classes")


def json_alone(data: Path, task: str = "detect") -> Path | None:
    """Return the one JSON of a data set without splits, which is the data itself or all that a folder has."""
    if data.is_file():
        return data if data.name.lower().endswith(SUFFIXES) else None
    if any(own_json(data, split, task) for split in SPLITS):
        return None
    found = others_of(data, task)
    return found[0] if len(found) == 1 and split_of(found[0], data) is None else None


def load_alone(file: Path, task: str = "detect", images: Path | None = None) -> Split:
    """Read a JSON by itself, whose images lie in a folder, or around it.

    Raises:
        UserError: If the JSON cannot be used, or its images are not found.
    """
    index, home = _read(file, task, CROWDS_VARIABLE in choosing_options()), home_of(file)
    split = split_of(file, home) or "train"
    places = [images] if images else [home / "images/default", *image_folders(home, file, split)]
    folder = find_images_folder(index, places)
    return Split(index, (folder,))


def splits_of(data: Data, task: str) -> dict[str, list[Path]]:
    """Return the splits that have annotations, each with the data sets that have it.

    Raises:
        UserError: If a data set has none.
    """
    having: dict[str, list[Path]] = {split: [] for split in SPLITS}
    for found in [_DataSet(part, task) for part in parts_of(data)]:
        if not found.is_coco:
            raise UserError(f"{found.path}: expected COCO-format data, found labels in Ultralytics' own format")
        if not any(map(found.has, SPLITS)):
            found.places(SPLITS[0])  # reports what is missing
        for split in filter(found.has, SPLITS):
            having[split].append(found.path)
    return {split: parts for split, parts in having.items() if parts}


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
        index = _with_images(_read(file, task, crowds_as_objects), ids)
        chosen = None if names is None else tuple(names)
        index = index if chosen is None else only_classes(index, chosen)
        parts.append(Split(index, (folder,), (chosen,), further or {}, (ids,), crowds_as_objects))
    return _together(parts)


def _read(file: Path, task: str, crowds_as_objects: bool) -> CocoIndex:
    index = read_index(file, task)
    return replace(index, crowd=np.zeros_like(index.crowd)) if crowds_as_objects else index


def _with_images(index: CocoIndex, ids: Path | None) -> CocoIndex:
    """Return what an index has of the images that a file lists.

    Raises:
        UserError: If the file is no list of ids, or the JSON has none of them.
    """
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


def choosing_options() -> list[str]:
    """Return the variables of options that choose among the annotations of every data set."""
    return [name for name in (UNUSED_VARIABLE, CROWDS_VARIABLE) if os.environ.get(name) == "1"]


def parts_of(data: Data) -> list[Path]:
    """Return the data sets that a user names; a text with commas is one if it exists, or if none of its parts does."""
    if not isinstance(data, (str, Path)):
        return list(map(as_path, data))
    whole = as_path(data)
    if SEPARATOR not in str(data) or is_there(whole):
        return [whole]
    parts = [as_path(part) for part in str(data).split(SEPARATOR) if part]
    return parts if any(map(is_there, parts)) else [whole]


def as_setting(parts: Sequence[Path]) -> str:
    """Return data sets as Ultralytics' setting `data` holds them: one text, with commas between.

    Raises:
        UserError: If one of several has a comma in its path.
    """
    odd = [part for part in parts if SEPARATOR in str(part)]
    if odd and len(parts) > 1:
        raise UserError(
            f"{odd[0]}: commas separate data sets, so none of several may have one in its path; "
            "use a symbolic link without one"
        )
    return SEPARATOR.join(map(as_text, parts))


def _together(splits: list[Split]) -> Split:
    first: dict[str, Any] = {}
    for split in splits:
        for key, value in split.further.items():
            if first.setdefault(key, value) != value:
                raise UserError(f"{split.index.file}: its data YAML has another {key} than an earlier data set's")
        if split.crowds_as_objects != splits[0].crowds_as_objects:
            raise UserError(f"{split.index.file}: crowds_as_objects holds for all data sets or none; differing here")
    index = join([s.index for s in splits])
    return Split(
        replace(index, keypoint_sigmas=tuple(first[OKS_SIGMAS])) if OKS_SIGMAS in first else index,
        tuple(folder for s in splits for folder in s.folders),
        tuple(names for s in splits for names in s.only),
        first,
        tuple(ids for s in splits for ids in s.image_ids),
        splits[0].crowds_as_objects,
    )


class _DataSet:
    """One data set as a user names it, a folder or a data YAML; of one that `is_coco` is not, nothing more is known."""

    def __init__(self, path: Path, task: str) -> None:
        self.path, self.task = path, task
        self.described: dict[str, Any] = {}
        expected = "expected a COCO-format folder or a data YAML"
        if not is_there(path):
            raise UserError(f"{path}: no such folder or file; {expected}")
        self.is_folder = path.is_dir()
        annotations: dict[str, Any] | None
        if self.is_folder:
            _check_readable(path)
            annotations = {}
        elif path.suffix in YAML_SUFFIXES and path.is_file():
            self.described = _parsed(path)
            annotations = _annotations_of(self.described)
        else:
            raise UserError(f"{path}: {expected}, found a {path.suffix or 'plain'} file")
        self.is_coco, self.annotations = annotations is not None, annotations or {}

    @cached_property
    def keys(self) -> Keys:
        """What a data YAML says besides places, and the options that say it of every data set."""
        keys = Keys()
        if not self.is_folder:
            twice = repeated_key(self.path)
            if twice is not None:
                raise UserError(f"{self.path}: it has the key {shortened(twice)!r} more than once in one place")
            keys = read_keys(self.path, self.described)
        given = choosing_options()
        return replace(
            keys,
            drop_unused=keys.drop_unused or UNUSED_VARIABLE in given,
            crowds_as_objects=keys.crowds_as_objects or CROWDS_VARIABLE in given,
        )

    @cached_property
    def _named(self) -> dict[Path, str | None]:
        """What the names of a folder's JSONs say; looked for only where a split has none of COCO's own names."""
        return named_splits(self.path, self.task)

    def files(self, split: str) -> list[Any]:
        """Return the JSONs of a split: those that a YAML names, or those in a folder that may be meant."""
        if not self.is_folder:
            return as_list(self.annotations.get(split))
        own = own_json(self.path, split, self.task)
        return own or [file for file, said in self._named.items() if said == split]

    def has(self, split: str) -> bool:
        """Return whether it has annotations of a split."""
        return bool(self.files(split))

    def places(self, split: str) -> list[tuple[Path, list[Path]]]:
        """Return the JSONs of a split, each with the folders in which its images may be."""
        files = self.files(split)
        if self.is_folder:
            file = the_one(self.path, split, files, self.task)
            return [(file, image_folders(self.path, file, split))]
        root = self._root()
        ours = self.described.get("folders")
        folders = as_list((ours if isinstance(ours, dict) else self.described).get(split))
        if files and folders and len(files) != len(folders):
            found = f"{len(files)} annotation files and {len(folders)} image folders"
            raise UserError(f"{self.path}: {found} for {split!r}; expected the same number of both")
        if not files or not folders or not all(isinstance(v, str) for v in (*files, *folders)):
            raise UserError(f"{self.path}: no annotation file and image folder for {split!r}; expected {FORM}")
        return [(as_path(root / f), [as_path(root / d)]) for f, d in zip(files, folders, strict=True)]

    def _image_ids(self, split: str) -> list[Path | None]:
        """Return the files that list the images of each JSON of a split; none where all are used."""
        given = self.described.get("image_ids")
        files = as_list(given.get(split)) if isinstance(given, dict) else []
        if (given is not None and not isinstance(given, dict)) or not all(isinstance(file, str) for file in files):
            raise UserError(f"{self.path}: image_ids is {brief(given)}; expected a JSON of image ids for each split")
        if files and len(files) != len(as_list(self.annotations.get(split))):
            raise UserError(f"{self.path}: expected one list of image_ids for each annotation file of {split!r}")
        return [as_path(self._root() / file) for file in files]

    def _root(self) -> Path:
        try:
            return self.path.parent / expanded(str(self.described.get("path") or ""))
        except UserError as error:
            raise UserError(f"{self.path}: path: {error}") from error

    def load(self, splits: Sequence[str]) -> dict[str, list[Split]]:
        """Read splits; each is in parts, one for each JSON."""
        keys, further = self.keys, self.keys.further if self.task == "pose" else {}
        loaded: dict[str, list[Split]] = {}
        listing = {split: self._image_ids(split) for split in splits}
        categories: dict[str, dict[str, None]] = {}
        for split, places in [(split, self.places(split)) for split in splits]:
            read = [
                (_with_images(_read(file, self.task, keys.crowds_as_objects), ids), folders, ids)
                for (file, folders), ids in zip(places, listing[split] or [None] * len(places), strict=True)
            ]
            categories[split] = _names_in(index for index, _, _ in read)
            loaded[split] = [
                Split(
                    keys.applied(index),
                    (find_images_folder(index, folders),),
                    (keys.names,),
                    further,
                    (ids,),
                    keys.crowds_as_objects,
                )
                for index, folders, ids in read
            ]
        used = _used_in(part.index for parts in loaded.values() for part in parts)
        if keys.check_classes(categories, used):
            for split in filter(self.has, set(SPLITS) - set(splits)):
                categories[split] = _names_in(read_index(file, self.task) for file, _ in self.places(split))
            ordered = {split: categories[split] for split in SPLITS if split in categories}
            contradiction = keys.check_classes(ordered, used)
            if contradiction:
                raise UserError(f"{self.path}: {contradiction}")
        return loaded


def is_coco_format(data: object) -> bool:
    """Return whether what a user names as data is for `load_source`, if only to report what is wrong with it.

    That is a folder, existing or not, and a data YAML with `annotations`. All else is for Ultralytics to find: names of
    its data sets, links, archives.

    Raises:
        UserError: If it is a YAML file that cannot be read.
    """
    if not isinstance(data, (str, Path)) or "://" in str(data) or not str(data):
        return False
    return any(
        path.is_file() and _annotations_of(_parsed(path)) is not None
        if path.suffix in YAML_SUFFIXES
        else not path.suffix or path.is_dir()
        for path in parts_of(data)
    )


def _names_in(indexes: Iterable[CocoIndex]) -> dict[str, None]:
    return dict.fromkeys(name for index in indexes for name in index.category_names)


def _parsed(file: Path) -> dict[str, Any]:
    """Return a data YAML's keys and values."""
    described = read_yaml(file)
    if not isinstance(described, dict):
        raise UserError(f"{file}: expected keys and values ({FORM}), found {type(described).__name__}")
    return described


def _annotations_of(described: dict[str, Any]) -> dict[str, Any] | None:
    """Return a data YAML's annotation files of each split; None for an ordinary YAML of Ultralytics.

    They stand under `annotations`, or, as Ultralytics' guide on COCO JSON has them, under `train_json` and `val_json`.
    """
    annotations = described.get("annotations")
    of_guide = {split: described[f"{split}_json"] for split in SPLITS if described.get(f"{split}_json")}
    if of_guide and (annotations is None or isinstance(annotations, dict)):
        return {**of_guide, **(annotations or {})}
    of_splits = [described[split] for split in SPLITS if isinstance(described.get(split), dict)]
    if annotations is None and not any("annotations" in split for split in of_splits):
        return None
    return annotations if isinstance(annotations, dict) else {}


def as_list(value: Any) -> list[Any]:
    """Return several values as a list, one value as a list of it, None as an empty list."""
    return list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]


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
        _check_readable(folder)
    odd = next((lack for found in lacks for lack in found if lack != MISSING), None)
    tried = ", ".join(map(str, folders)) + (f"; found: {odd}" if odd else "")
    raise UserError(f"{index.file}: its images, such as {shortened(names[0])!r}, are in none of these places: {tried}")


def _check_readable(folder: Path) -> None:
    if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
        raise UserError(f"{folder}: cannot read it: Permission denied")


def _lack(finder: Finder, name: str, check: Callable[[str], Any] = str) -> str:
    """Return why an image is not found or does not pass a check; empty if it does."""
    try:
        check(finder.find(name)[0])
    except NoImageError as error:
        return str(error)
    return ""
