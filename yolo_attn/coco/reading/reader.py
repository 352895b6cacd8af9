"""Reading a COCO JSON into arrays."""

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_attn.bounded_reading import open_plain
from yolo_attn.coco.reading import cache
from yolo_attn.coco.reading.annotations import read_annotations
from yolo_attn.coco.reading.index import LONGEST_NAME, CocoIndex, Origin, Strings, brief, pack, shortened, unpack
from yolo_attn.coco.reading.json_text import LARGEST_JSON, Category, Content, Image, decode, read_json
from yolo_attn.coco.reading.masks_and_keypoints import count_keypoints, read_keypoints, read_masks
from yolo_attn.coco.reading.problems import Problems
from yolo_attn.coco.reading.run_lengths import LARGEST_MASK
from yolo_attn.coco.reading.values import LARGEST_ID, LARGEST_SIDE, id_in, name_in, number_in
from yolo_attn.errors import UserError

MOST_CATEGORIES = 25_000
"""Categories of a JSON: COCO's numbers of each take 100 kB, a model's outputs more."""


def read_index(file: str | Path, task: str = "detect") -> CocoIndex:
    """Read a COCO JSON; an unchanged file is read once in a process, a large one is kept in the cache.

    Args:
        file: The JSON, plain or packed by gzip.
        task: "detect"; "segment" reads masks too, "pose" keypoints, "obb" oriented boxes.

    Raises:
        UserError: If the file is missing, is not JSON, lacks what a COCO detection file must have, has no usable image
            or category, or for "pose" no keypoints or different numbers of them.
    """
    file = Path(file)
    try:
        with open_plain(file, LARGEST_JSON) as stream:
            found = os.fstat(stream.fileno())
        return _read(file.resolve(), task, (found.st_mtime_ns, found.st_ctime_ns, found.st_ino), found.st_size)
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot read it: {getattr(error, 'strerror', None) or error}") from error
    except MemoryError as error:
        raise UserError(f"{file}: not enough memory to read its {found.st_size:,} bytes") from error


@functools.lru_cache(maxsize=8)
def _read(file: Path, task: str, written: tuple[int, ...], size: int) -> CocoIndex:
    if size < cache.WORTHWHILE:
        return _build(file, decode(file, read_json(file)), task)
    known = cache.load(cache.key_of(file, f"index-{task}"))
    if known:
        return unpack(file, *known)
    data = read_json(file)
    key = cache.key_of(data, f"index-{task}")  # of the bytes that are decoded: the file may have changed
    index = _build(file, decode(file, data), task)
    cache.save_arrays(key, *pack(index))
    return index


def _build(file: Path, content: Content, task: str) -> CocoIndex:
    problems = Problems()
    images = _usable("image", content.images, problems)
    categories = _usable("category", content.categories, problems)
    for name, found in (("image", images), ("category", categories)):
        if not found:
            raise UserError(f"{file}: no usable {name} in it; expected at least one with an id")
    if len(categories) > MOST_CATEGORIES:
        raise UserError(f"{file}: it has {len(categories):,} categories, expected at most {MOST_CATEGORIES:,}")
    category_ids = sorted(categories, key=lambda i: (isinstance(i, str), i))
    names = _unique_names([_named(i, categories[i], problems) for i in category_ids], category_ids, problems)
    columns, details = read_annotations(content.annotations or (), list(images), category_ids, task, problems)
    keypoint_names = _keypoint_names(content.categories) if task == "pose" else ()
    keypoints = read_keypoints(file, details, problems, len(keypoint_names)) if task == "pose" else None
    own = all(isinstance(i, int) and 0 <= i <= LARGEST_ID for i in (*images, *category_ids))
    return CocoIndex(
        files=(file,),
        category_ids=np.array(category_ids if own else range(1, len(names) + 1), dtype=np.int64),
        category_names=names,
        image_ids=np.array(list(images) if own else range(1, len(images) + 1), dtype=np.int64),
        file_names=Strings.of(map(_file_name, images.values())),
        file_of=np.zeros(len(images), dtype=np.int32),
        sizes=_sizes(images, problems),
        **columns,
        masks=read_masks(details, columns["boxes"], problems) if task == "segment" else None,
        keypoints=keypoints,
        num_keypoints=None if keypoints is None else count_keypoints(details, keypoints, problems),
        keypoint_names=keypoint_names,
        problems=problems,
        origins=() if own else (Origin.numbered(file, images, category_ids),),
    )


def _file_name(image: Image) -> str:
    """The file name; of LVIS, which has links alone, the link's last folder and name, such as train2017/1.jpg."""
    name = name_in(image.file_name)
    return name or "/".join(name_in(image.coco_url).split("/")[-2:])


def _usable(kind: str, items: Sequence[Any], problems: Problems) -> dict[Any, Any]:
    """Return images or categories by id; of a repeated id the first."""
    found: dict[Any, Any] = {}
    for n, item in enumerate(items):
        item_id = id_in(item.id)
        if item_id is None:
            without = f"{kind} without an int or text as id, skipped"
            problems.add(without, [f"number {n + 1}, id {brief(item.id)}"])
        elif item_id in found:
            problems.add(f"repeated {kind} id, the first is used", [f"{kind} {brief(item_id)}"])
        else:
            found[item_id] = item
    return found


def _sizes(images: dict[Any, Image], problems: Problems) -> NDArray[np.float64]:
    """Return (N, 2) width and height of each image, pixels; 0 where the JSON has none."""
    sizes = np.zeros((len(images), 2))
    for row, (image_id, image) in enumerate(images.items()):
        wrong = False
        for column, given in enumerate((image.width, image.height)):
            number = number_in(given)
            if number is not None and 1 <= number <= LARGEST_SIDE:
                sizes[row, column] = number
            else:
                wrong |= given is not None
        if sizes[row].prod() > LARGEST_MASK:
            sizes[row], wrong = 0, True
        if wrong:
            problems.add("width or height that is not a number of pixels, ignored", [f"image {brief(image_id)}"])
    return sizes


def _keypoint_names(categories: list[Category]) -> tuple[str, ...]:
    """Return the names of keypoints of the first category that has some."""
    named = [c.keypoints for c in categories if isinstance(c.keypoints, list) and c.keypoints]
    return tuple(map(str, named[0])) if named else ()


def _named(category_id: Any, category: Category, problems: Problems) -> str:
    given = name_in(category.name)
    if not given:
        problems.add("category without a name, named by its id", [f"category {brief(category_id)}"])
        given = str(category_id)
    name = shortened(given)
    if name != given:
        kind = f"category name of more than {LONGEST_NAME} characters or with control characters, shortened or cleaned"
        problems.add(kind, [f"category {brief(category.id)}"])
    return name


def _unique_names(names: list[str], ids: list[Any], problems: Problems) -> list[str]:
    """Return the names; repeated ones carry their id, the first one apart."""
    unique: dict[str, None] = {}
    for name, category_id in zip(names, ids, strict=True):
        if name in unique:
            problems.add("repeated category name, distinguished by its id", [f"category {brief(category_id)}"])
        while name in unique:
            name += f" ({category_id})"
        unique[name] = None
    return list(unique)
