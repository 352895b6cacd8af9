"""Reading a COCO JSON into arrays."""

import functools
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yolo_attn.coco import cache
from yolo_attn.coco.decode import Annotation, Category, Content, Image, decode
from yolo_attn.coco.index import LONGEST_NAME, CocoIndex, Origin, pack, shortened, unpack
from yolo_attn.coco.problems import Problems
from yolo_attn.coco.shapes import read_keypoints, read_masks
from yolo_attn.coco.strings import Strings
from yolo_attn.errors import UserError

LARGEST_ID = 2**53
"""Beyond it, ids are not exact in the evaluator's arrays; below 0, it takes none."""


def read_index(file: str | Path, task: str = "detect") -> CocoIndex:
    """Read a COCO JSON; within a process the same unchanged file is read once, and a large one is kept in the cache.

    Args:
        file: The JSON, plain or packed by gzip.
        task: "detect", or "segment" or "pose", for which masks or keypoints are read too.

    Raises:
        UserError: If the file is missing, is not JSON, lacks what a COCO detection file must have, or has no usable
            image or category, or for "pose" has no keypoints or different numbers of them.
    """
    file = Path(file)
    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"{file}: expected a COCO JSON, found a folder or device")
        return _read(file.resolve(), task, found.st_mtime_ns, found.st_size)
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot read it: {getattr(error, 'strerror', None) or error}") from error


@functools.lru_cache(maxsize=8)
def _read(file: Path, task: str, mtime_ns: int, size: int) -> CocoIndex:
    if size < cache.WORTHWHILE:
        return _build(file, decode(file, file.read_bytes(), task), task)
    known = cache.load(cache.key_of(file, f"index-{task}"))
    if known:
        return unpack(file, *known)
    data = file.read_bytes()
    key = cache.key_of(data, f"index-{task}")
    index = _build(file, decode(file, data, task), task)
    cache.save_arrays(key, *pack(index))
    return index


def _build(file: Path, content: Content[Any], task: str) -> CocoIndex:
    problems = Problems()
    images = _usable("image", content.images, "file_name", problems)
    categories = _usable("category", content.categories, "name", problems)
    for name, found in (("image", images), ("category", categories)):
        if not found:
            raise UserError(f"{file}: no usable {name} in it; expected at least one with an id and a name")
    names = {i: _named(c, problems) for i, c in categories.items()}
    category_ids = sorted(names, key=lambda i: (isinstance(i, str), i))
    kept, rows, boxes, areas = _annotations(content.annotations or (), images, category_ids, problems)
    keypoints = _keypoint_names(content.categories) if task == "pose" else ()
    columns = np.array(rows, dtype=np.int32).reshape(-1, 2)
    own = all(isinstance(i, int) and 0 <= i <= LARGEST_ID for i in (*images, *category_ids))
    return CocoIndex(
        files=(file,),
        category_ids=np.array(category_ids if own else range(1, len(names) + 1), dtype=np.int64),
        category_names=_unique_names(names, category_ids),
        image_ids=np.array(list(images) if own else range(1, len(images) + 1), dtype=np.int64),
        file_names=Strings.of(image.file_name for image in images.values()),
        file_of=np.zeros(len(images), dtype=np.int32),
        sizes=np.array([(_number(i.width) or 0, _number(i.height) or 0) for i in images.values()], dtype=np.float64),
        annotation_ids=np.array([_annotation_id(a) for a in kept], dtype=np.int64),
        image_of=columns[:, 0],
        category_of=columns[:, 1],
        boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        areas=np.array(areas, dtype=np.float64),
        crowd=np.array([_is_crowd(a.iscrowd) for a in kept], dtype=bool),
        masks=read_masks(kept, boxes, problems) if task == "segment" else None,
        keypoints=read_keypoints(file, kept, problems, len(keypoints)) if task == "pose" else None,
        keypoint_names=keypoints,
        problems=problems,
        origins=() if own else (Origin(file, dict(enumerate(images, 1)), dict(enumerate(category_ids, 1))),),
    )


def _usable(kind: str, items: Sequence[Any], name: str, problems: Problems) -> dict[Any, Any]:
    """Images or categories by their ids, of which the first of each counts."""
    found: dict[Any, Any] = {}
    nameless, repeated = [], []
    for n, item in enumerate(items):
        item_id = _id(item.id)
        if item_id is None or not isinstance(getattr(item, name), str):
            nameless.append(f"number {n + 1}, id {shortened(repr(item.id))}")
        elif item_id in found:
            repeated.append(f"{kind} {shortened(repr(item_id))}")
        else:
            found[item_id] = item
    problems.add(f"{kind} without a whole number or text as id, or without a {name}, left out", nameless)
    problems.add(f"repeated {kind} id, the first counts", repeated)
    return found


def _annotations(
    annotations: Iterable[Annotation], images: dict[Any, Image], category_ids: list[Any], problems: Problems
) -> tuple[list[Annotation], list[tuple[int, int]], list[list[float]], list[float]]:
    """The usable annotations, the rows of their image and category, their boxes, and their areas."""
    image_row = {image_id: row for row, image_id in enumerate(images)}
    category_row = {category_id: row for row, category_id in enumerate(category_ids)}
    kept, rows, boxes, areas = [], [], [], []
    left_out: dict[str, list[str]] = {"image": [], "category": [], "bbox": []}
    for annotation in annotations:
        box = annotation.bbox if _is_plain_box(annotation.bbox) else _box(annotation.bbox)
        image, category = annotation.image_id, annotation.category_id
        image_at = image_row.get(image if type(image) is int else _id(image))
        category_at = category_row.get(category if type(category) is int else _id(category))
        if image_at is None or category_at is None or box is None:
            lack = "image" if image_at is None else "category" if category_at is None else "bbox"
            found = {"image": image, "category": category, "bbox": annotation.bbox}[lack]
            left_out[lack].append(f"annotation {shortened(repr(annotation.id))}, {lack} {shortened(repr(found))}")
            continue
        area = annotation.area if type(annotation.area) is float else _number(annotation.area)
        kept.append(annotation)
        rows.append((image_at, category_at))
        boxes.append(box)
        areas.append(box[2] * box[3] if area is None or not abs(area) <= sys.float_info.max else area)
    problems.add("annotation of an unknown image, left out", left_out["image"])
    problems.add("annotation of an unknown category, left out", left_out["category"])
    problems.add("annotation without four finite numbers as bbox, left out", left_out["bbox"])
    times = Counter(_id(a.id) for a in kept)
    problems.add(
        "repeated annotation id, each is taken where COCO's own tools take the last one again",
        [f"annotation {shortened(repr(i))}" for i, count in times.items() if count > 1 and i is not None],
    )
    return kept, rows, boxes, areas


def _keypoint_names(categories: list[Category]) -> tuple[str, ...]:
    """The names that the first category which has them gives its keypoints."""
    named = [c.keypoints for c in categories if isinstance(c.keypoints, list) and c.keypoints]
    return tuple(map(str, named[0])) if named else ()


def _named(category: Category, problems: Problems) -> str:
    name = shortened(category.name)
    if name != category.name:
        kind = f"category name of more than {LONGEST_NAME} characters or with control characters, altered"
        problems.add(kind, [f"category {shortened(repr(category.id))}"])
    return name


def _unique_names(categories: dict[Any, str], ids: list[Any]) -> list[str]:
    """Names in the ids' order; one that the JSON repeats carries its id."""
    times = Counter(categories.values())
    names: list[str] = []
    for category_id in ids:
        name = categories[category_id]
        while times[name] > 1 or name in names:
            name += f" ({category_id})"
        names.append(name)
    return names


def _id(value: Any) -> Any:
    """An id that names a thing as Python's dictionaries, and so COCO's own tools, compare it; None for what is none."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, (int, str)) and not isinstance(value, bool) else None


def _annotation_id(annotation: Annotation) -> int:
    value = _id(annotation.id)
    return value if type(value) is int and 0 <= value < LARGEST_ID else -1


def _is_crowd(value: Any) -> bool:
    return value is True or (value != 0 and bool(_number(value)))


def _number(value: Any) -> float | None:
    """A finite number, written as one or as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) <= sys.float_info.max else None


def _is_plain_box(value: Any) -> bool:
    """Whether it is what nearly every box is, four floats of a sensible size."""
    return type(value) is list and len(value) == 4 and all(type(v) is float and -1e9 < v < 1e9 for v in value)


def _box(value: Any) -> list[float] | None:
    numbers = [_number(v) for v in value] if isinstance(value, list) and len(value) == 4 else [None]
    return None if None in numbers else [n for n in numbers if n is not None]
