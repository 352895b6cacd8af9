"""Where the annotation files and images of a COCO-format data set are."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from yolo_attn.bounded_reading import read_yaml, repeated_key
from yolo_attn.coco.dataset.data_keys import FEW, SPLITS, Keys, read_keys, switched_on
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
from yolo_attn.coco.dataset.splits import Split, check_readable, find_images_folder, joined, read_json, used_in
from yolo_attn.coco.reading.index import CocoIndex, brief, shortened
from yolo_attn.coco.reading.problems import warn_once
from yolo_attn.errors import UserError, listed
from yolo_attn.files import expanded

SEPARATOR = ","
"""Between several data sets in one text."""

Data = str | Path | Sequence[str | Path]
"""A data set or several: a text with commas between, or a sequence."""

YAML_SUFFIXES = {".yaml", ".yml"}


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
    drop = any(found.keys.drop_unused for found in sets)
    used = {name for found in sets for name in found.used()} if drop or "train" in splits else set()
    if drop and used:
        parts = {split: [part.with_classes(used) for part in each] for split, each in parts.items()}
    together = {split: joined(each) for split, each in parts.items()}
    if "train" in together and used:
        _report_unused(together["train"], used)
    return together


def _report_unused(split: Split, used: Collection[str]) -> None:
    unused = [name for name in split.names if name not in used]
    if unused:
        found = f"no annotation uses {len(unused):,} of its {len(split.names):,} categories, {listed(unused, FEW)}"
        warn_once(f"{split.index.file}: {found}; --drop-unused, or drop_unused: true in a data YAML, skips them")


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
    crowds_as_objects = "crowds_as_objects" in switched_on()
    index, home = read_json(file, task, crowds_as_objects), home_of(file)
    split = split_of(file, home) or "train"
    places = [images] if images else [home / "images/default", *image_folders(home, file, split)]
    folder = find_images_folder(index, places)
    return Split(index, (folder,), crowds_as_objects=crowds_as_objects)


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
            check_readable(path)
            annotations = {}
        elif path.suffix in YAML_SUFFIXES and path.is_file():
            self.described = _parsed(path)
            annotations = _annotations_of(self.described)
        else:
            raise UserError(f"{path}: {expected}, found a {path.suffix or 'plain'} file")
        self.is_coco, self.annotations = annotations is not None, annotations or {}
        self._indexes: dict[str, list[CocoIndex]] = {}

    @cached_property
    def keys(self) -> Keys:
        """What a data YAML says besides places, and the options that say it of every data set."""
        keys = Keys()
        if not self.is_folder:
            twice = repeated_key(self.path)
            if twice is not None:
                raise UserError(f"{self.path}: it has the key {shortened(twice)!r} more than once in one place")
            keys = read_keys(self.path, self.described)
        on = switched_on()
        return replace(
            keys,
            drop_unused=keys.drop_unused or "drop_unused" in on,
            crowds_as_objects=keys.crowds_as_objects or "crowds_as_objects" in on,
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

    def places(self, split: str) -> list[tuple[Path, list[Path], Path | None]]:
        """Return the JSONs of a split, each with the folders in which its images may be, and a file of image ids."""
        files = self.files(split)
        if self.is_folder:
            file = the_one(self.path, split, files, self.task)
            return [(file, image_folders(self.path, file, split), None)]
        root = self._root()
        listing = self._image_ids(split) or [None] * len(files)
        ours = self.described.get("folders")
        folders = as_list((ours if isinstance(ours, dict) else self.described).get(split))
        if files and folders and len(files) != len(folders):
            found = f"{len(files)} annotation files and {len(folders)} image folders"
            raise UserError(f"{self.path}: {found} for {split!r}; expected the same number of both")
        if not files or not folders or not all(isinstance(v, str) for v in (*files, *folders)):
            raise UserError(f"{self.path}: no annotation file and image folder for {split!r}; expected {FORM}")
        return [(as_path(root / f), [as_path(root / d)], i) for f, d, i in zip(files, folders, listing, strict=True)]

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

    def indexes(self, split: str) -> list[CocoIndex]:
        """Return what is used of each JSON of a split, with all of its categories."""
        if split not in self._indexes:
            crowds = self.keys.crowds_as_objects
            self._indexes[split] = [read_json(file, self.task, crowds, ids) for file, _, ids in self.places(split)]
        return self._indexes[split]

    def used(self) -> set[str]:
        """Return the names of the categories that annotations of the train and val split use, or of all it has."""
        splits = list(filter(self.has, SPLITS))
        counted = [split for split in splits if split != "test"] or splits
        return used_in(index for split in counted for index in self.indexes(split))

    def load(self, splits: Sequence[str]) -> dict[str, list[Split]]:
        """Read splits; each is in parts, one for each JSON."""
        keys, places = self.keys, {split: self.places(split) for split in splits}
        loaded = {
            split: [
                Split(
                    keys.applied(index),
                    (find_images_folder(index, folders),),
                    only=(keys.names,),
                    further=keys.further if self.task == "pose" else {},
                    image_ids=(ids,),
                    crowds_as_objects=keys.crowds_as_objects,
                )
                for index, (_, folders, ids) in zip(self.indexes(split), places[split], strict=True)
            ]
            for split in splits
        }
        self._check_classes(splits)
        return loaded

    def _check_classes(self, splits: Sequence[str]) -> None:
        """Check names and nc against the JSONs of these splits, and of all if they do not have what is named.

        Raises:
            UserError: With what contradicts them.
        """
        used = self.used() if self.keys.drop_unused else set()
        categories = {split: _names_in(self.indexes(split)) for split in splits}
        if self.keys.check_classes(categories, used):
            known = [split for split in SPLITS if split in splits or self.has(split)]
            categories = {split: _names_in(self.indexes(split)) for split in known}
            contradiction = self.keys.check_classes(categories, used)
            if contradiction:
                raise UserError(f"{self.path}: {contradiction}")


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
