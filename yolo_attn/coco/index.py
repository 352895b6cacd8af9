"""A COCO JSON, read once into arrays."""

import functools
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from yolo_attn.errors import UserError


@dataclass(frozen=True)
class CocoIndex:
    """What a COCO JSON says, as arrays; the same images, boxes and crowds that COCO's own tools evaluate on.

    Attributes:
        file: The JSON.
        category_ids: Ids of the categories, ascending.
        category_names: Their names in the same order, made unique by the id where the JSON repeats one.
        image_ids: Id of each image, in the JSON's order.
        file_names: File name of each image.
        sizes: Width and height of each image as the JSON gives them, pixels; 0 where it does not.
        image_of: Row in `image_ids` of each annotation.
        category_of: Row in `category_ids` of each annotation.
        boxes: Left, top, width, height of each annotation, pixels, as the JSON gives them.
        areas: Area of each annotation, pixels²; width × height where the JSON gives none.
        crowd: Whether each annotation marks a crowd.
        problems: What was left out while reading, with how often.
    """

    file: Path
    category_ids: NDArray[np.int64]
    category_names: list[str]
    image_ids: NDArray[np.int64]
    file_names: list[str]
    sizes: NDArray[np.float64]
    image_of: NDArray[np.int64]
    category_of: NDArray[np.int64]
    boxes: NDArray[np.float64]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    problems: Counter[str] = field(default_factory=Counter)


class _Image(msgspec.Struct):
    id: int
    file_name: str
    width: float | None = None
    height: float | None = None


class _Category(msgspec.Struct):
    id: int
    name: str


class _Annotation(msgspec.Struct):
    image_id: int
    category_id: int
    bbox: Any = None
    area: Any = None
    iscrowd: Any = 0


class _File(msgspec.Struct):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Annotation] = []


def read_index(file: str | Path) -> CocoIndex:
    """Read a COCO JSON; within a process the same unchanged file is read once.

    Raises:
        UserError: If the file is missing, is not JSON, lacks what a COCO detection file must have, or has no image.
    """
    file = Path(file)
    try:
        stat = file.stat()
    except OSError as error:
        raise UserError(f"{file}: cannot read it: {error.strerror}") from error
    return _read(file.resolve(), stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=8)
def _read(file: Path, mtime_ns: int, size: int) -> CocoIndex:
    try:
        content = msgspec.json.decode(file.read_bytes(), type=_File)
    except OSError as error:
        raise UserError(f"{file}: cannot read it: {error.strerror}") from error
    except msgspec.ValidationError as error:
        raise UserError(f"{file}: not a COCO detection file: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{file}: not valid JSON: {error}") from error
    if not content.images or not content.categories:
        missing = "images" if not content.images else "categories"
        raise UserError(f"{file}: its list of {missing} is empty; expected at least one")

    problems: Counter[str] = Counter()
    images = {image.id: image for image in reversed(content.images)}
    problems["repeated image id"] += len(content.images) - len(images)
    images = dict(reversed(images.items()))
    categories = {category.id: category.name for category in reversed(content.categories)}
    problems["repeated category id"] += len(content.categories) - len(categories)
    category_ids = sorted(categories)
    names = Counter(categories.values())
    category_names = [categories[i] if names[categories[i]] == 1 else f"{categories[i]} ({i})" for i in category_ids]

    image_row = {image_id: row for row, image_id in enumerate(images)}
    category_row = {category_id: row for row, category_id in enumerate(category_ids)}
    rows: list[tuple[int, int, float, bool]] = []
    boxes: list[list[float]] = []
    for annotation in content.annotations:
        box = annotation.bbox
        if annotation.image_id not in image_row:
            problems["annotation of an unknown image"] += 1
        elif annotation.category_id not in category_row:
            problems["annotation of an unknown category"] += 1
        elif not _is_box(box):
            problems["annotation without four finite numbers as bbox"] += 1
        else:
            area = annotation.area if _is_number(annotation.area) else box[2] * box[3]
            crowd = annotation.iscrowd in (1, True)
            rows.append((image_row[annotation.image_id], category_row[annotation.category_id], area, crowd))
            boxes.append(box)
    image_of, category_of, areas, crowds = zip(*rows, strict=True) if rows else ((), (), (), ())
    return CocoIndex(
        file=file,
        category_ids=np.array(category_ids, dtype=np.int64),
        category_names=category_names,
        image_ids=np.array(list(images), dtype=np.int64),
        file_names=[image.file_name for image in images.values()],
        sizes=np.array([(image.width or 0, image.height or 0) for image in images.values()], dtype=np.float64),
        image_of=np.array(image_of, dtype=np.int64),
        category_of=np.array(category_of, dtype=np.int64),
        boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        areas=np.array(areas, dtype=np.float64),
        crowd=np.array(crowds, dtype=bool),
        problems=+problems,
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))
