"""Where the annotation files and images of a COCO-format data set are."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yolo_attn.coco.dataset.data_keys import SPLITS, Keys, read_keys
from yolo_attn.coco.dataset.image_files import MISSING, Finder, NoImageError, displayed_size
from yolo_attn.coco.dataset.paths import as_path, as_text, is_there
from yolo_attn.coco.dataset.subsets import join, only_classes
from yolo_attn.coco.reading.index import CocoIndex, shortened
from yolo_attn.coco.reading.reader import read_index
from yolo_attn.errors import UserError
from yolo_attn.files import expanded
from yolo_attn.reading import read_yaml, repeated_key

FILE_NAMES = {
    "detect": ("instances_{}.json", "instances_{}2017.json"),
    "segment": ("instances_{}.json", "instances_{}2017.json"),
    "pose": ("person_keypoints_{}.json", "person_keypoints_{}2017.json", "keypoints_{}.json"),
}
"""Annotation files of a split, by task, in the order in which they are looked for."""

WITHOUT_ANNOTATIONS = ("image_info_{}.json", "image_info_{}2017.json", "image_info_{}-dev2017.json")
"""What COCO ships for its test split, for every task: images and categories alone."""

SEPARATOR = ","
"""Between several data sets in one text."""

Data = str | Path | Sequence[str | Path]
"""A data set or several: a text with commas between, or a sequence."""

YAML_SUFFIXES = {".yaml", ".yml"}
YAML_FORM = "train: <image folder>, val: <image folder>, annotations: {train: <COCO JSON>, val: <COCO JSON>}"


@dataclass(frozen=True)
class Split:
    """One split of a data set.

    Attributes:
        index: What is used of its JSON, or of its JSONs together.
        folders: Folder of the file names of each JSON.
        only: Names of the categories that are used of each JSON, in the order of the classes; None for all.
        further: Ultralytics' keys on keypoints in a data YAML.
    """

    index: CocoIndex
    folders: tuple[Path, ...]
    only: tuple[tuple[str, ...] | None, ...] = (None,)
    further: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Return the names of the classes in their order: as data YAMLs say, then by the categories' ids."""
        given = [name for names in self.only for name in names or ()]
        return list(dict.fromkeys([*given, *self.index.category_names]))


def load_source(data: Data, splits: Sequence[str], task: str = "detect") -> dict[str, Split] | None:
    """Find and read the given splits of a COCO-format data set.

    Args:
        data: A folder with `annotations/instances_{train,val,test}.json` (or `*2017.json`; for "pose"
            `person_keypoints_*`), or an ordinary Ultralytics data YAML with one more key, `annotations`, that names a
            COCO JSON for each split. Paths in it are relative to its `path`, and that to the YAML's own folder. Several
            of these are one set with categories joined by name.
        splits: Some of "train", "val" and "test".
        task: "detect", "segment" or "pose": what is read of the JSONs.

    Returns:
        The splits by name, or None where `data` is an ordinary Ultralytics data YAML.

    Raises:
        UserError: If a file or folder is missing or unreadable, or no image of a JSON can be found.
    """
    parts = parts_of(data)
    sets = [_load(part, splits, task) for part in parts]
    known = [found for found in sets if found is not None]
    if not known:
        return None
    if len(known) < len(sets):
        ordinary = parts[sets.index(None)]
        raise UserError(f"{ordinary}: only COCO-format data can be joined; this has labels in Ultralytics' own format")
    return {split: _together([part for found in known for part in found[split]]) for split in splits}


def splits_of(data: Data, task: str) -> dict[str, list[Path]]:
    """Return the splits that have annotations, each with the data sets that have it.

    Raises:
        UserError: If a data set has none.
    """
    having: dict[str, list[Path]] = {split: [] for split in SPLITS}
    for part in parts_of(data):
        found = [split for split in SPLITS if _has(part, split, task)]
        if not found:
            _load(part, SPLITS[:1], task)  # reports what is wrong, unless labels are in another format
            raise UserError(f"{part}: expected COCO-format data, found labels in Ultralytics' own format")
        for split in found:
            having[split].append(part)
    return {split: parts for split, parts in having.items() if parts}


def _has(data: Path, split: str, task: str) -> bool:
    if not is_there(data):
        return False
    if data.is_dir():
        return any((data / "annotations" / name).is_file() for name in _names_of(split, task))
    return data.suffix in YAML_SUFFIXES and data.is_file() and bool((_annotations_of(_parsed(data)) or {}).get(split))


def load_split(
    files: Sequence[str | Path],
    folders: Sequence[str | Path],
    task: str,
    only: Sequence[Sequence[str] | None] | None = None,
) -> Split:
    """Read one split whose JSONs and image folders are known, and the names of the categories used of each."""
    parts = []
    for file, folder, names in zip(files, folders, only or [None] * len(files), strict=True):
        index = read_index(file, task)
        chosen = None if names is None else tuple(names)
        parts.append(Split(index if chosen is None else only_classes(index, chosen), (Path(folder),), (chosen,)))
    return _together(parts)


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
    return Split(
        join([s.index for s in splits]),
        tuple(folder for s in splits for folder in s.folders),
        tuple(names for s in splits for names in s.only),
        first,
    )


def _load(data: Path, splits: Sequence[str], task: str) -> dict[str, list[Split]] | None:
    if not is_there(data):
        raise UserError(f"{data}: no such folder or file; expected a COCO-format folder or a data YAML")
    loaded: dict[str, list[Split]] = {split: [] for split in splits}
    if data.is_dir():
        _check_readable(data)
        keys = Keys()
        sources = {
            s: [(_annotations_in(data, s, task), [data / d for d in (f"images/{s}", s, f"{s}2017", "images", "")])]
            for s in splits
        }
    elif data.suffix in YAML_SUFFIXES and data.is_file():
        described = _parsed(data)
        annotations = _annotations_of(described)
        if annotations is None:
            return None
        twice = repeated_key(data)
        if twice is not None:
            raise UserError(f"{data}: it has the key {shortened(twice)!r} more than once in one place")
        keys = read_keys(data, described)
        sources = _places_in(data, described, annotations, splits)
    else:
        raise UserError(f"{data}: expected a COCO-format folder or a data YAML, found a {data.suffix or 'plain'} file")
    categories: dict[str, dict[str, None]] = {split: {} for split in splits}
    for split, places in sources.items():
        for file, folders in places:
            index = read_index(file, task)
            categories[split] |= dict.fromkeys(index.category_names)
            images = _find_images(index, folders)
            further = {} if index.keypoints is None else keys.further
            loaded[split].append(Split(keys.applied(index), (images,), (keys.names,), further))
    if keys.check_classes(categories):
        others = [split for split in SPLITS if split not in splits and _has(data, split, task)]
        for split, places in _places_in(data, described, annotations or {}, others).items():
            names = [name for file, _ in places for name in read_index(file, task).category_names]
            categories[split] = dict.fromkeys(names)
        contradiction = keys.check_classes({split: categories[split] for split in SPLITS if split in categories})
        if contradiction:
            raise UserError(f"{data}: {contradiction}")
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


def _names_of(split: str, task: str) -> list[str]:
    return [name.format(split) for name in FILE_NAMES[task] + (WITHOUT_ANNOTATIONS if split == "test" else ())]


def _annotations_in(folder: Path, split: str, task: str) -> Path:
    names = _names_of(split, task)
    found = next(filter(Path.is_file, (folder / "annotations" / name for name in names)), None)
    if found:
        return found
    expected = " or ".join(f"annotations/{name}" for name in names)
    raise UserError(f"{folder}: no annotations for {split!r}; expected {expected}")


Places = list[tuple[Path, list[Path]]]
"""JSONs of a split, each with the folders in which its images may be."""


def _parsed(file: Path) -> dict[str, Any]:
    """Return a data YAML's keys and values."""
    described = read_yaml(file)
    if not isinstance(described, dict):
        raise UserError(f"{file}: expected keys and values ({YAML_FORM}), found {type(described).__name__}")
    return described


def _annotations_of(described: dict[str, Any]) -> dict[str, Any] | None:
    """Return a data YAML's annotation files of each split; None for an ordinary YAML of Ultralytics."""
    annotations = described.get("annotations")
    of_splits = [described[split] for split in SPLITS if isinstance(described.get(split), dict)]
    if annotations is None and not any("annotations" in split for split in of_splits):
        return None
    return annotations if isinstance(annotations, dict) else {}


def _places_in(
    file: Path, described: dict[str, Any], annotations: dict[str, Any], splits: Sequence[str]
) -> dict[str, Places]:
    """Return the annotation files and image folders of each split of a data YAML."""
    try:
        root = file.parent / expanded(str(described.get("path") or ""))
    except UserError as error:
        raise UserError(f"{file}: path: {error}") from error
    ours = described.get("folders")
    images = ours if isinstance(ours, dict) else described
    places: dict[str, Places] = {}
    for split in splits:
        files, folders = as_list(annotations.get(split)), as_list(images.get(split))
        if files and folders and len(files) != len(folders):
            found = f"{len(files)} annotation files and {len(folders)} image folders"
            raise UserError(f"{file}: {found} for {split!r}; expected the same number of both")
        if not files or not folders or not all(isinstance(v, str) for v in (*files, *folders)):
            raise UserError(f"{file}: no annotation file and image folder for {split!r}; expected {YAML_FORM}")
        places[split] = [(as_path(root / f), [as_path(root / d)]) for f, d in zip(files, folders, strict=True)]
    return places


def as_list(value: Any) -> list[Any]:
    """Return several values as a list, one value as a list of it, None as an empty list."""
    return list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]


def _find_images(index: CocoIndex, folders: list[Path]) -> Path:
    """Return the first of the folders in which most file names of a sample are found."""
    names = index.file_names[:: max(len(index.file_names) // 50, 1)]
    lacks = [[lack for name in names if (lack := _lack(finder, name))] for finder in map(Finder, folders)]
    fewest = min(lacks, key=len)
    if len(fewest) == len(names):
        for folder in folders:
            _check_readable(folder)
        odd = next((lack for found in lacks for lack in found if lack != MISSING), None)
        tried = ", ".join(str(folder) for folder in folders) + (f"; found: {odd}" if odd else "")
        example = repr(shortened(names[0]))
        raise UserError(f"{index.file}: its images, such as {example}, are in none of these places: {tried}")
    images = folders[lacks.index(fewest)].resolve()
    finder = Finder(images)
    if all(_lack(finder, name, displayed_size) for name in index.file_names):
        raise UserError(f"{index.file}: none of its {len(index.file_names)} images under {images} can be read")
    return images


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
