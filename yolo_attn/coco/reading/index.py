"""A COCO JSON as arrays."""

import re
import reprlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_attn.coco.reading.problems import Problems
from yolo_attn.coco.reading.strings import Strings

LONGEST_NAME = 100
"""Characters of a category's name; more would burst every table and plot."""

_REPR = reprlib.Repr()
_REPR.maxlevel = 6
_REPR.maxlist = _REPR.maxdict = LONGEST_NAME
_REPR.maxstring = _REPR.maxlong = _REPR.maxother = 3 * LONGEST_NAME  # what is cut goes from the middle

UNPRINTED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, ends of lines, and halves of characters."""


@dataclass(frozen=True)
class Origin:
    """The ids that a JSON has where they are not the index's own.

    Attributes:
        file: The JSON.
        images: Its id of each image, by the index's.
        categories: Its id of each category, by the index's.
    """

    file: Path
    images: dict[int, Any]
    categories: dict[int, Any]


@dataclass(frozen=True)
class CocoIndex:
    """What a COCO JSON says, as arrays; the same images, boxes and crowds that COCO's own tools evaluate on.

    Attributes:
        files: The JSON, or those that were joined.
        category_ids: Ids of the categories, ascending.
        category_names: Their names in the same order, made unique by the id where the JSON repeats one.
        image_ids: Id of each image, in the JSON's order.
        file_names: File name of each image.
        file_of: Row in `files` of each image.
        sizes: Width and height of each image as the JSON gives them, pixels; 0 where it does not.
        annotation_ids: Id of each annotation; -1 where the JSON gives no whole number.
        image_of: Row in `image_ids` of each annotation.
        category_of: Row in `category_ids` of each annotation.
        boxes: Left, top, width, height of each annotation, pixels, as the JSON gives them.
        areas: Area of each annotation, pixels²; width × height where the JSON gives none.
        crowd: Whether each annotation marks a crowd.
        masks: Polygons or run lengths of each annotation, as JSON, its box as a polygon where they are unusable; None
            where the index was not read for "segment".
        keypoints: (annotations, K, 3) x and y, pixels, and visibility (0 not labelled, 1 hidden, 2 visible); None where
            the index was not read for "pose".
        num_keypoints: How many of them the JSON says are labelled, else how many are; an annotation of which none is
            counts neither as found nor as missed. None where there are no keypoints.
        keypoint_names: Names of the K keypoints; empty where the JSON does not name them.
        problems: What was left out while reading.
        origins: The ids of each of `files`; empty where those above are the JSON's own.
    """

    files: tuple[Path, ...]
    category_ids: NDArray[np.int64]
    category_names: list[str]
    image_ids: NDArray[np.int64]
    file_names: Strings
    file_of: NDArray[np.int32]
    sizes: NDArray[np.float64]
    annotation_ids: NDArray[np.int64]
    image_of: NDArray[np.int32]
    category_of: NDArray[np.int32]
    boxes: NDArray[np.float64]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    masks: Strings | None = None
    keypoints: NDArray[np.float64] | None = None
    num_keypoints: NDArray[np.int64] | None = None
    keypoint_names: tuple[str, ...] = ()
    problems: Problems = field(default_factory=Problems)
    origins: tuple[Origin, ...] = ()

    @property
    def file(self) -> str:
        """What messages call the JSON, or those that were joined."""
        return " and ".join(map(str, self.files))

    def image_text(self, row: int) -> str:
        """What messages call an image."""
        image_id = int(self.image_ids[row])
        if self.origins:
            image_id = self.origins[self.file_of[row]].images[image_id]
        where = f" of {self.files[self.file_of[row]].name}" if len(self.files) > 1 else ""
        return f"image {brief(image_id)} ({shortened(self.file_names[row])}){where}"

    def annotation_text(self, row: int) -> str:
        """What messages call an annotation."""
        known = self.annotation_ids[row]
        return f"annotation{'' if known < 0 else f' {known}'} of {self.image_text(self.image_of[row])}"


ARRAYS = ("category_ids", "image_ids", "sizes", "annotation_ids", "image_of", "category_of", "boxes", "areas", "crowd")


def pack(index: CocoIndex) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The arrays of one file's index, and all else that it holds, as the cache takes them."""
    arrays = {name: getattr(index, name) for name in ARRAYS}
    if index.keypoints is not None and index.num_keypoints is not None:
        arrays |= {"keypoints": index.keypoints, "num_keypoints": index.num_keypoints}
    for name, strings in (("file_names", index.file_names), ("masks", index.masks)):
        if strings is not None:
            arrays |= {f"{name}.text": strings.text, f"{name}.ends": strings.ends}
    return arrays, {
        "category_names": index.category_names,
        "keypoint_names": list(index.keypoint_names),
        "problems": index.problems.as_json(),
        "origins": [[list(o.images.values()), list(o.categories.values())] for o in index.origins],
    }


def unpack(file: Path, arrays: dict[str, NDArray[Any]], further: dict[str, Any]) -> CocoIndex:
    """The inverse of `pack`."""
    masks = Strings(arrays["masks.text"], arrays["masks.ends"]) if "masks.text" in arrays else None
    return CocoIndex(
        files=(file,),
        **{name: arrays[name] for name in ARRAYS},
        category_names=further["category_names"],
        file_names=Strings(arrays["file_names.text"], arrays["file_names.ends"]),
        file_of=np.zeros(len(arrays["image_ids"]), dtype=np.int32),
        masks=masks,
        keypoints=arrays.get("keypoints"),
        num_keypoints=arrays.get("num_keypoints"),
        keypoint_names=tuple(further["keypoint_names"]),
        problems=Problems.from_json(further["problems"]),
        origins=tuple(
            Origin(file, dict(enumerate(images, 1)), dict(enumerate(categories, 1)))
            for images, categories in further["origins"]
        ),
    )


def brief(value: Any) -> str:
    """What a line has room for of a value of the JSON, which may be of any size and depth."""
    return shortened(_REPR.repr(value))


def shortened(text: str) -> str:
    """A text that a line has room for, and that can be written and stays one line."""
    return UNPRINTED.sub("?", text if len(text) <= LONGEST_NAME else text[:LONGEST_NAME] + "…")
