"""Where a COCO-format folder has its JSONs and images, as tools lay it out.

COCO's own names come first. Else a JSON is of the split that its name, or a folder's above it, says: Roboflow's
`train/_annotations.coco.json`, LVIS's `lvis_v1_train.json`, `annotations/val.json`.
"""

import gzip
import itertools
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from yolo_attn.bounded_reading import CHUNK, chunks, open_plain
from yolo_attn.coco.reading.problems import warn_once
from yolo_attn.errors import UserError, listed

FILE_NAMES = {
    "detect": ("instances_{}.json", "instances_{}2017.json"),
    "segment": ("instances_{}.json", "instances_{}2017.json"),
    "obb": ("instances_{}.json", "instances_{}2017.json"),
    "pose": ("person_keypoints_{}.json", "person_keypoints_{}2017.json", "keypoints_{}.json"),
}
"""Annotation files of a split, by task, in the order in which they are looked for."""

WITHOUT_ANNOTATIONS = ("image_info_{}.json", "image_info_{}2017.json", "image_info_{}-dev2017.json")
"""What COCO ships for its test split, for every task: images and categories alone."""

OF_OTHERS = {
    "detect": re.compile(r"(captions|panoptic|stuff|image_info|person_keypoints|keypoints)_"),
    "segment": re.compile(r"(captions|panoptic|stuff|image_info|person_keypoints|keypoints)_"),
    "obb": re.compile(r"(captions|panoptic|stuff|image_info|person_keypoints|keypoints)_"),
    "pose": re.compile(r"(captions|panoptic|stuff|image_info|instances)_"),
}
"""By task, beginnings of COCO's names for what the task does not read."""

WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""What names call each split."""

DEEPEST = 3
"""Folders above a JSON that are looked into, the data set's own among them."""

SUFFIXES = (".json", ".json.gz")

HEAD = 2**20
"""Bytes of a packed JSON's text that are looked at to know it."""

GZIP = b"\x1f\x8b"
"""How a packed file begins."""

MOST_CHUNKS = 8 * 2**30 // CHUNK
"""Of a JSON that are looked at, as many as the largest that is read has."""

KEYS = (b'"images"', b'"annotations"', b'"categories"')

FORM = "train: <image folder>, val: <image folder>, annotations: {train: <COCO JSON>, val: <COCO JSON>}"
"""A data YAML that names everything."""


def names_of(split: str, task: str) -> list[str]:
    """The names that a split's annotation file has in COCO's own layout."""
    names = FILE_NAMES[task] + (WITHOUT_ANNOTATIONS if split == "test" else ())
    return [f"annotations/{name.format(split)}" for name in names]


def own_json(folder: Path, split: str, task: str) -> list[Path]:
    """The JSON of a split under the first of COCO's own names, in a list; an empty one where there is none."""
    return list(filter(Path.is_file, map(folder.joinpath, names_of(split, task))))[:1]


def named_splits(folder: Path, task: str) -> dict[Path, str | None]:
    """The split that the name of each COCO JSON in a folder says; those of no one split are reported."""
    said = {file: split_of(file, folder) for file in others_of(folder, task)}
    unsaid = [str(file.relative_to(folder)) for file, split in said.items() if split is None]
    if unsaid and any(said.values()):
        warn_once(f"{folder}: not used, since no one split is in the name: {listed(unsaid, 5)}")
    return said


def home_of(file: Path) -> Path:
    """The folder of a JSON's data set: that of the JSON, or of the annotations/ that it lies in."""
    return file.parent.parent if file.parent.name == "annotations" else file.parent


def in_its_set(file: Path) -> str:
    """A JSON's place in its data set, such as annotations/instances_val.json."""
    return file.relative_to(home_of(file)).as_posix()


def others_of(folder: Path, task: str) -> list[Path]:
    """The COCO JSONs in a folder, apart from those that COCO names as another task's."""
    return sorted(
        file for file in _jsons(folder, DEEPEST) if not OF_OTHERS[task].match(file.name) and _looks_coco(file)
    )


def split_of(file: Path, folder: Path) -> str | None:
    """The split that a JSON's name says, or the name of the innermost folder that says one; None where none does."""
    for part in reversed(file.relative_to(folder).with_suffix("").parts):
        splits = [split for split, words in WORDS.items() if set(_words(part)) & set(words)]
        if splits:
            return splits[0] if len(splits) == 1 else None
    return None


def the_one(folder: Path, split: str, files: list[Path], task: str) -> Path:
    """The JSON of a split.

    Raises:
        UserError: If there is none or several, with what is there, and the YAML that names one.
    """
    if len(files) == 1:
        return files[0]
    there = files or others_of(folder, task)
    names = listed([str(file.relative_to(folder)) for file in there], 5)
    if files:
        raise UserError(f"{folder}: several JSONs may be of {split!r}: {names}; name one in a data YAML: {FORM}")
    expected = " or ".join(names_of(split, task))
    of_others = {other: own_json(folder, split, other) for other in ("detect", "pose") if not there}
    for other, own in of_others.items():
        if own:
            found = f"{own[0].relative_to(folder)}, which is for models of the task {other}, or --task {other}"
            raise UserError(f"{folder}: no annotations for {split!r}; expected {expected}; found {found}")
    way_on = f"; found {names}, which a data YAML can name: {FORM}" if there else ""
    way_on += f"; yolo-attn split {there[0]} -o FOLDER divides one" if len(there) == 1 else ""
    raise UserError(f"{folder}: no annotations for {split!r}; expected {expected}{way_on}")


def image_folders(folder: Path, file: Path, split: str) -> list[Path]:
    """Where the images of a split's JSON may be, the likelier first."""
    usual = [folder / "images" / split, folder / split, folder / f"{split}2017", folder / "images", folder]
    home = home_of(file)
    beside = [home / "images" / split, home / split, home / "images", home] if home != folder else []
    others = [
        place
        for above in dict.fromkeys([home / "images", home, folder / "images", folder])
        for place in _folders(above)
        if set(_words(place.name)) & set(WORDS[split])
    ]
    return list(dict.fromkeys([*filter(Path.is_dir, beside), *usual, *others]))


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry) for entry in entries if entry.is_dir())
    except OSError:
        return []


def _words(name: str) -> list[str]:
    return re.findall("[a-z]+", name.lower())


def _jsons(folder: Path, depth: int) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            known = [
                (entry.is_dir(), Path(entry))
                for entry in entries
                if entry.name.lower().endswith(SUFFIXES) or (depth > 1 and entry.is_dir())
            ]
    except OSError:
        return
    for is_folder, path in known:
        if not is_folder and path.is_file():
            yield path
        elif is_folder and depth > 1:
            yield from _jsons(path, depth - 1)


def _looks_coco(file: Path) -> bool:
    """Whether a JSON has keys of COCO's; one that cannot be looked into may be one, and reading it says why."""
    found: set[bytes] = set()
    before = b""
    try:
        with open_plain(file) as stream:
            if stream.read(2) == GZIP:
                stream.seek(0)
                with gzip.open(stream) as text:
                    begin = text.read(HEAD)
                return any(key in begin for key in KEYS)
        for part in itertools.islice(chunks(file), MOST_CHUNKS):
            text_of_part = before + part
            found.update(key for key in KEYS if key in text_of_part)
            if len(found) > 1:
                return True
            before = part[-max(map(len, KEYS)) :]
    except (OSError, EOFError, zlib.error):
        return True
    return False
