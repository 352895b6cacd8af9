"""The data set of a comparison: what its trainings validate on, and a digest that tells another set from it."""

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from yolo_attn.coco.index import CocoIndex
from yolo_attn.coco.pictures import Finder, NoPictureError
from yolo_attn.compare.study import Data
from yolo_attn.engine.data import chosen, describe, fraction_of
from yolo_attn.engine.tasks import TASKS

NOT_FOUND = -1
"""Stands for the size of a picture that is not there."""


def read_data(args: SimpleNamespace) -> tuple[Data, CocoIndex | None]:
    """Describe a data set.

    Args:
        args: Ultralytics' settings of the trainings.

    Returns:
        The description, whose digest is over the JSONs' bytes and the names and sizes of their pictures, of other data
        over the YAML's bytes alone; and what is validated, None for data that is not COCO-format.
    """
    splits = ("train", args.split or "val")
    described = describe(args, splits)
    digest = hashlib.sha256()
    if described is None:
        file = Path(args.data)
        digest.update(file.read_bytes() if file.is_file() else str(args.data).encode())
        return Data(str(args.data), digest.hexdigest()), None
    for split in splits:
        index, _, folders = chosen(args, described, split, described["categories"], fraction_of(args, split))
        for file in index.files:
            digest.update(file.read_bytes())
        finders = [Finder(folder) for folder in folders]
        for name, row in zip(index.file_names, index.file_of.tolist(), strict=True):
            digest.update(f"{name}\0{_size(finders[row], name)}\0".encode(errors="surrogatepass"))
    kind: Any = next(task.validator for task in TASKS if task.name == args.task)
    return Data(str(args.data), digest.hexdigest(), len(index.image_ids), kind.kind), index


def _size(finder: Finder, name: str) -> int:
    try:
        return finder.find(name)[1].st_size
    except NoPictureError:
        return NOT_FOUND
