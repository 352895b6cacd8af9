"""Several indexes as one, and parts of one."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_attn.coco.reading.index import PER_ANNOTATION, CocoIndex, Origin, Strings
from yolo_attn.coco.reading.problems import Problems
from yolo_attn.errors import UserError

SINGLE_CLASS = "item"
"""Ultralytics' name for the one class of `single_cls`."""


def join(indexes: Sequence[CocoIndex]) -> CocoIndex:
    """Return several JSONs as one index, with categories joined by name and new ids for images and categories.

    Categories are in the first file's order, then those that only later files have.

    Raises:
        UserError: If their keypoints differ.
    """
    first = indexes[0]
    if len(indexes) == 1:
        return first
    names = list(dict.fromkeys(name for index in indexes for name in index.category_names))
    _check_keypoints(indexes)
    number = {name: i for i, name in enumerate(names)}
    starts = np.cumsum([0, *(len(index.image_ids) for index in indexes)])
    places = [np.array([number[n] for n in index.category_names], dtype=np.int32) for index in indexes]
    problems = Problems()
    for index in indexes:
        problems.update(index.problems)

    def together(column: str) -> Any:
        columns = [getattr(index, column) for index in indexes]
        if columns[0] is None:
            return None
        if isinstance(columns[0], Strings):
            return Strings.of(strings.raw(i) for strings in columns for i in range(len(strings)))
        return np.concatenate(columns)

    columns = {column: together(column) for column in ("file_names", "sizes", *PER_ANNOTATION)} | {
        "image_of": np.concatenate([i.image_of + np.int32(n) for i, n in zip(indexes, starts[:-1], strict=True)]),
        "category_of": np.concatenate([place[i.category_of] for i, place in zip(indexes, places, strict=True)]),
    }
    return replace(
        first,
        **columns,
        files=tuple(file for index in indexes for file in index.files),
        category_ids=np.arange(1, len(names) + 1),
        category_names=names,
        image_ids=np.arange(1, starts[-1] + 1),
        file_of=np.repeat(np.arange(len(indexes), dtype=np.int32), np.diff(starts)),
        problems=problems,
        origins=tuple(
            _origin(index, start + 1, place + 1) for index, start, place in zip(indexes, starts, places, strict=False)
        ),
    )


def _check_keypoints(indexes: Sequence[CocoIndex]) -> None:
    """Raise at the first file whose keypoints differ from the first file's."""
    first = indexes[0]
    if first.keypoints is None:
        return
    number = first.keypoints.shape[1]
    for other in indexes[1:]:
        assert other.keypoints is not None
        files, count = f"{first.file} and {other.file}", other.keypoints.shape[1]
        if count != number:
            raise UserError(f"{files}: different numbers of keypoints cannot be joined: {number} and {count}")
        if first.keypoint_names and other.keypoint_names and first.keypoint_names != other.keypoint_names:
            raise UserError(f"{files}: keypoints with other names or in another order cannot be joined")


def _origin(index: CocoIndex, first_image: int, categories: NDArray[np.int32]) -> Origin:
    """Return the ids of one file in a joined index."""
    images, ids = index.image_ids.tolist(), index.category_ids.tolist()
    if index.origins:
        images, ids = (list(known.values()) for known in (index.origins[0].images, index.origins[0].categories))
    named = dict(zip(categories.tolist(), ids, strict=True))
    return Origin(index.files[0], dict(enumerate(images, first_image)), named)


def only_classes(index: CocoIndex, names: Sequence[str]) -> CocoIndex:
    """Return the index with these categories alone; all of its images stay."""
    wanted = set(names)
    chosen = np.array([name in wanted for name in index.category_names])
    kept = np.flatnonzero(chosen[index.category_of])
    ids = index.category_ids[chosen]

    def chosen_of(origin: Origin) -> Origin:
        return replace(origin, categories={i: origin.categories[i] for i in ids.tolist() if i in origin.categories})

    return replace(
        index.of_annotations(kept),
        category_ids=ids,
        category_names=[name for name in index.category_names if name in wanted],
        category_of=(np.cumsum(chosen) - 1)[index.category_of[kept]],
        origins=tuple(map(chosen_of, index.origins)),
    )


def single_class(index: CocoIndex) -> CocoIndex:
    """Return the index with all categories as one, under the first category's id of each file."""
    first = int(index.category_ids[0])
    return replace(
        index,
        category_ids=index.category_ids[:1],
        category_names=[SINGLE_CLASS],
        category_of=np.zeros_like(index.category_of),
        origins=tuple(
            replace(o, categories=dict(zip([first], o.categories.values(), strict=False))) for o in index.origins
        ),
    )


def subset(index: CocoIndex, fraction: float, seed: int) -> CocoIndex:
    """Return a share of the images, or, above 1, a number of them, drawn so that classes keep their shares.

    Images are grouped by the rarest category that they show, those without annotations in a group of their own; of
    each group the same share is drawn. The same seed draws the same images, at least one.
    """
    images = len(index.image_ids)
    wanted = max(1, round(fraction if fraction > 1 else fraction * images))
    if wanted >= images:
        return index
    rarity = np.argsort(np.argsort(np.bincount(index.category_of, minlength=len(index.category_ids)), kind="stable"))
    group = np.full(images, len(rarity))
    np.minimum.at(group, index.image_of, rarity[index.category_of])
    rng = np.random.default_rng(seed)
    order = rng.permutation(images)
    order = order[np.argsort(group[order], kind="stable")]  # group after group, each in random order
    offset = rng.random()
    return _of_images(index, np.sort(order[((np.arange(wanted) + offset) * images / wanted).astype(int)]))


def original_ids(index: CocoIndex) -> list[Any]:
    """Return the ids that the images of one JSON have in it."""
    ids = index.image_ids.tolist()
    return [index.origins[0].images[i] for i in ids] if index.origins else ids


def only_images(index: CocoIndex, ids: Collection[Any]) -> CocoIndex:
    """Return what the index of one JSON has of the images with these ids, and all categories."""
    return _of_images(index, np.flatnonzero([i in ids for i in original_ids(index)]))


def _of_images(index: CocoIndex, kept: NDArray[np.int64]) -> CocoIndex:
    row = np.full(len(index.image_ids), -1, dtype=np.int32)
    row[kept] = np.arange(len(kept), dtype=np.int32)
    part = index.of_annotations(np.flatnonzero(row[index.image_of] >= 0))
    return replace(
        part,
        image_of=row[part.image_of],
        **{column: getattr(index, column)[kept] for column in ("image_ids", "file_names", "file_of", "sizes")},
    )
