"""A COCO JSON, read once into arrays."""

import functools
import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from yolo_attn.coco.shapes import read_keypoints, read_masks
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
        masks: Polygons or run lengths of each annotation as the JSON gives them, its box as a polygon where they are
            unusable; None where the index was not read for "segment".
        keypoints: (annotations, K, 3) x and y, pixels, and visibility (0 not labelled, 1 hidden, 2 visible); None where
            the index was not read for "pose".
        keypoint_names: Names of the K keypoints; empty where the JSON does not name them.
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
    masks: list[Any] | None = None
    keypoints: NDArray[np.float64] | None = None
    keypoint_names: tuple[str, ...] = ()
    problems: Counter[str] = field(default_factory=Counter)


class _Image(msgspec.Struct):
    id: Any = None
    file_name: Any = None
    width: Any = None
    height: Any = None


class _Category(msgspec.Struct):
    id: Any = None
    name: Any = None
    keypoints: Any = None


class _Annotation(msgspec.Struct):
    image_id: Any = None
    category_id: Any = None
    bbox: Any = None
    area: Any = None
    iscrowd: Any = 0


class _MaskAnnotation(_Annotation):
    segmentation: Any = None


class _KeypointAnnotation(_Annotation):
    keypoints: Any = None


A = TypeVar("A", bound=_Annotation)


class _File(msgspec.Struct, Generic[A]):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[A] | None = None


FILE_OF_TASK: dict[str, Any] = {
    "detect": _File[_Annotation],
    "segment": _File[_MaskAnnotation],
    "pose": _File[_KeypointAnnotation],
}
"""What is read of a JSON for each task: a detector's index is not burdened with outlines."""


LARGEST_ID = 2**53
"""Beyond it, ids are not exact in the evaluator's arrays."""


def read_index(file: str | Path, task: str = "detect") -> CocoIndex:
    """Read a COCO JSON; within a process the same unchanged file is read once.

    Args:
        file: The JSON.
        task: One of `FILE_OF_TASK`: whether masks or keypoints are read too.

    Raises:
        UserError: If the file is missing, is not JSON, lacks what a COCO detection file must have, or has no usable
            image or category, or for "pose" has no keypoints or different numbers of them.
    """
    file = Path(file)
    try:
        stat = file.stat()
    except OSError as error:
        raise UserError(f"{file}: cannot read it: {error.strerror}") from error
    return _read(file.resolve(), task, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=8)
def _read(file: Path, task: str, mtime_ns: int, size: int) -> CocoIndex:
    content = _decode(file, FILE_OF_TASK[task])
    problems: Counter[str] = Counter()
    images: dict[int, _Image] = {}
    for image in content.images:
        if not _is_id(image.id) or not isinstance(image.file_name, str):
            problems["image without a whole number as id or without a file_name"] += 1
        elif image.id in images:
            problems["repeated image id"] += 1
        else:
            images[image.id] = image
    categories: dict[int, str] = {}
    for category in content.categories:
        if not _is_id(category.id) or not isinstance(category.name, str):
            problems["category without a whole number as id or without a name"] += 1
        elif category.id in categories:
            problems["repeated category id"] += 1
        else:
            categories[category.id] = category.name
    for name, found in (("image", images), ("category", categories)):
        if not found:
            raise UserError(f"{file}: no usable {name} in it; expected at least one with an id and a name")

    category_ids = sorted(categories)
    image_row = {image_id: row for row, image_id in enumerate(images)}
    category_row = {category_id: row for row, category_id in enumerate(category_ids)}
    rows: list[tuple[int, int, float, bool]] = []
    boxes: list[list[float]] = []
    kept: list[Any] = []
    for annotation in content.annotations or ():
        box = _box(annotation.bbox)
        if not _is_id(annotation.image_id) or annotation.image_id not in image_row:
            problems["annotation of an unknown image"] += 1
        elif not _is_id(annotation.category_id) or annotation.category_id not in category_row:
            problems["annotation of an unknown category"] += 1
        elif box is None:
            problems["annotation without four finite numbers as bbox"] += 1
        else:
            area = _number(annotation.area)
            rows.append(
                (
                    image_row[annotation.image_id],
                    category_row[annotation.category_id],
                    box[2] * box[3] if area is None else area,
                    bool(annotation.iscrowd),
                )
            )
            boxes.append(box)
            kept.append(annotation)
    image_of, category_of, areas, crowds = zip(*rows, strict=True) if rows else ((), (), (), ())
    return CocoIndex(
        file=file,
        category_ids=np.array(category_ids, dtype=np.int64),
        category_names=_unique_names(categories, category_ids),
        image_ids=np.array(list(images), dtype=np.int64),
        file_names=[image.file_name for image in images.values()],
        sizes=np.array([(_number(i.width) or 0, _number(i.height) or 0) for i in images.values()], dtype=np.float64),
        image_of=np.array(image_of, dtype=np.int64),
        category_of=np.array(category_of, dtype=np.int64),
        boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        areas=np.array(areas, dtype=np.float64),
        crowd=np.array(crowds, dtype=bool),
        masks=read_masks(kept, boxes, problems) if task == "segment" else None,
        keypoints=read_keypoints(file, kept, problems) if task == "pose" else None,
        keypoint_names=_keypoint_names(content.categories) if task == "pose" else (),
        problems=problems,
    )


def _keypoint_names(categories: list[_Category]) -> tuple[str, ...]:
    """The names that the first category which has them gives its keypoints."""
    named = [c.keypoints for c in categories if isinstance(c.keypoints, list) and c.keypoints]
    return tuple(map(str, named[0])) if named else ()


def _decode(file: Path, kind: Any) -> Any:
    try:
        text = file.read_bytes()
        try:
            return msgspec.json.decode(text, type=kind)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:  # Python's own reader also takes the NaN that Python's own writer leaves
            return msgspec.convert(json.loads(text), type=kind)
    except OSError as error:
        raise UserError(f"{file}: cannot read it: {error.strerror}") from error
    except msgspec.ValidationError as error:
        raise UserError(f"{file}: not a COCO detection file: {error}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: not valid JSON: {error}") from error


def _unique_names(categories: dict[int, str], ids: list[int]) -> list[str]:
    """Names in the ids' order; one that the JSON repeats carries its id."""
    times = Counter(categories.values())
    names: list[str] = []
    for category_id in ids:
        name = categories[category_id]
        while times[name] > 1 or name in names:
            name += f" ({category_id})"
        names.append(name)
    return names


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST_ID


def _number(value: Any) -> float | None:
    """A finite number as it is; None for anything else."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) <= sys.float_info.max:
        return None
    return float(value)


def _box(value: Any) -> list[float] | None:
    numbers = [_number(v) for v in value] if isinstance(value, list) and len(value) == 4 else [None]
    return None if None in numbers else [n for n in numbers if n is not None]
