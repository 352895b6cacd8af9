"""Where a COCO-format data set's annotation files and pictures are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from yolo_attn.coco.index import CocoIndex, read_index
from yolo_attn.coco.pictures import displayed_size
from yolo_attn.errors import UserError, one_line

SPLITS = ("train", "val", "test")
FILE_NAMES = {
    "detect": ("instances_{}.json", "instances_{}2017.json"),
    "segment": ("instances_{}.json", "instances_{}2017.json"),
    "pose": ("person_keypoints_{}.json", "person_keypoints_{}2017.json", "keypoints_{}.json"),
}
"""Annotation files of a split, by task, in the order in which they are looked for."""

YAML_FORM = "train: <image folder>, val: <image folder>, annotations: {train: <COCO JSON>, val: <COCO JSON>}"


@dataclass(frozen=True)
class Split:
    """One split of a data set: what its JSON holds, and the folder that its file names start from."""

    index: CocoIndex
    images: Path


def load_source(data: str | Path, splits: Sequence[str], task: str = "detect") -> dict[str, Split] | None:
    """Find and read the given splits of a COCO-format data set.

    Args:
        data: A folder with `annotations/instances_{train,val,test}.json` (or `*2017.json`; for "pose"
            `person_keypoints_*`), or a YAML that is an ordinary Ultralytics data YAML with one more key, `annotations`,
            naming a COCO JSON for each split. Paths in it are relative to its `path`, and that to the YAML's own
            folder.
        splits: Splits wanted, of "train", "val" and "test".
        task: "detect", "segment" or "pose": what is read of the JSONs.

    Returns:
        The splits by name, or None where `data` is an ordinary Ultralytics data YAML.

    Raises:
        UserError: If a file or folder is missing or unreadable, or none of a JSON's pictures can be found.
    """
    data = Path(data).expanduser()
    try:
        there = data.exists()
    except (OSError, ValueError):
        there = False
    if not there:
        raise UserError(f"{data}: no such folder or file; expected a COCO-format folder or a data YAML")
    if data.is_dir():
        names: set[str] = set()
        files = {split: _annotations_in(data, split, task) for split in splits}
        roots = {split: _image_folders(data, split) for split in splits}
    elif data.suffix in {".yaml", ".yml"}:
        described = _read_yaml(data, splits)
        if described is None:
            return None
        files, roots, names = described
    else:
        raise UserError(f"{data}: expected a COCO-format folder or a data YAML, found a {data.suffix or 'plain'} file")
    loaded = {}
    for split in splits:
        index = read_index(files[split], task)
        if names and not names <= set(index.category_names):
            odd = ", ".join(sorted(names - set(index.category_names))[:5])
            raise UserError(f"{data}: names has {odd}, which {index.file} has not; leave names out, the JSON has them")
        loaded[split] = Split(index, _find_images(index, roots[split]))
    return loaded


def is_coco_format(data: object) -> bool:
    """Whether what a user names as data is for `load_source`, if only to say what is wrong with it.

    That is a folder, there or not, and a data YAML with `annotations`. All else is Ultralytics' own to find: names of
    its data sets, links, archives.

    Raises:
        UserError: If it is a YAML file that cannot be read.
    """
    if not isinstance(data, (str, Path)) or "://" in str(data) or not str(data):
        return False
    path = Path(data).expanduser()
    if path.suffix in {".yaml", ".yml"}:
        return path.is_file() and _read_yaml(path, ()) is not None
    return not path.suffix or path.is_dir()


def _annotations_in(folder: Path, split: str, task: str) -> Path:
    names = [name.format(split) for name in FILE_NAMES[task]]
    for name in names:
        if (folder / "annotations" / name).is_file():
            return folder / "annotations" / name
    expected = " or ".join(f"annotations/{name}" for name in names)
    raise UserError(f"{folder}: no annotations for {split!r}; expected {expected}")


def _image_folders(folder: Path, split: str) -> list[Path]:
    return [folder / "images" / split, folder / split, folder / f"{split}2017", folder / "images", folder]


def _read_yaml(file: Path, splits: Sequence[str]) -> tuple[dict[str, Path], dict[str, list[Path]], set[str]] | None:
    """Annotation files, image folders and names that a data YAML gives, or None where it names no annotations."""
    try:
        described = yaml.safe_load(file.read_text(encoding="utf-8", errors="replace"))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{file}: not a readable YAML file: {one_line(error)}") from error
    if not isinstance(described, dict):
        raise UserError(f"{file}: expected keys and values ({YAML_FORM}), found {type(described).__name__}")
    annotations = described.get("annotations")
    of_splits = [described[split] for split in SPLITS if isinstance(described.get(split), dict)]
    if annotations is None and not any("annotations" in split for split in of_splits):
        return None
    root = file.parent / Path(described.get("path") or "").expanduser()
    files, folders = {}, {}
    for split in splits:
        named = annotations.get(split) if isinstance(annotations, dict) else None
        images = described.get(split)
        if not isinstance(named, str) or not isinstance(images, str):
            raise UserError(f"{file}: no annotation file and image folder for {split!r}; expected {YAML_FORM}")
        files[split], folders[split] = root / named, [root / images]
    names = described.get("names") or ()
    return files, folders, {str(name) for name in (names.values() if isinstance(names, dict) else names)}


def _find_images(index: CocoIndex, folders: list[Path]) -> Path:
    """The first of the folders in which most of the JSON's file names, of a sample, are really found."""
    names = index.file_names[:: max(len(index.file_names) // 50, 1)]
    found = [sum((folder / name).is_file() for name in names) for folder in folders]
    if not max(found):
        tried = ", ".join(str(folder) for folder in folders)
        raise UserError(f"{index.file}: its pictures, such as {names[0]!r}, are in none of the places tried: {tried}")
    images = folders[found.index(max(found))].resolve()
    if not any(displayed_size(images / name) for name in index.file_names):
        raise UserError(f"{index.file}: none of its {len(index.file_names)} pictures under {images} can be read")
    return images
