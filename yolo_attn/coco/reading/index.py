"""A COCO JSON as arrays."""

import re
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo_attn.coco.reading.problems import Problems

LONGEST_NAME = 100
"""Characters of a category's name; longer ones do not fit into tables and plots."""

_REPR = reprlib.Repr()
_REPR.maxlevel = 6
_REPR.maxlist = _REPR.maxdict = LONGEST_NAME
_REPR.maxstring = _REPR.maxlong = _REPR.maxother = 3 * LONGEST_NAME  # cut in the middle

PER_ANNOTATION = (
    *("annotation_ids", "image_of", "category_of", "boxes", "areas", "crowd"),
    *("masks", "keypoints", "num_keypoints", "corners", "forms"),
)
"""Columns of an index that have a value for each annotation; those of the last line may be None."""

UNPRINTED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, line ends, and halves of characters."""


SURROGATES = "surrogatepass"  # a JSON may name half of a character


class Strings(Sequence[str]):
    """An immutable sequence of strings in one buffer: forked processes share it, and the cache stores it whole.

    An int gives a string, a slice a list of them, an array of rows the `Strings` of these rows. `text` has the bytes of
    all strings, one after the other, `ends` where each ends in it.
    """

    def __init__(self, text: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self.text, self.ends = text, ends

    @classmethod
    def of(cls, strings: Iterable[str | bytes]) -> "Strings":
        """Pack strings, or their bytes in UTF-8."""
        encoded = [s if isinstance(s, bytes) else s.encode(errors=SURROGATES) for s in strings]
        ends = np.cumsum([len(s) for s in encoded], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8), ends)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, np.ndarray):
            return Strings.of(map(self.raw, i.tolist()))
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        return self.raw(range(len(self))[i]).decode(errors=SURROGATES)

    def raw(self, i: int) -> bytes:
        """Return the bytes of one string."""
        start = self.ends[i - 1] if i else 0
        return self.text[start : self.ends[i]].tobytes()


@dataclass(frozen=True)
class Origin:
    """The ids of a JSON where they are not the index's own: its image and category ids by the index's."""

    file: Path
    images: dict[int, Any]
    categories: dict[int, Any]

    @classmethod
    def numbered(cls, file: Path, images: Iterable[Any], categories: Iterable[Any]) -> "Origin":
        """Return the origin of a JSON whose images and categories got the ids 1, 2, … in this order."""
        return cls(file, dict(enumerate(images, 1)), dict(enumerate(categories, 1)))


@dataclass(frozen=True)
class CocoIndex:
    """A COCO JSON as arrays: the same images, boxes and crowds that COCO's own tools evaluate on.

    Attributes:
        files: The JSON, or the JSONs that were joined.
        category_ids: Ids of the categories, ascending.
        category_names: Their names in the same order; a repeated name carries its id.
        image_ids: Id of each image, in the JSON's order.
        file_names: File name of each image.
        file_of: Row in `files` of each image.
        sizes: (images, 2) width and height of each image in the JSON, pixels; 0 where it has none.
        annotation_ids: Id of each annotation; -1 where the JSON has no int.
        image_of: Row in `image_ids` of each annotation.
        category_of: Row in `category_ids` of each annotation.
        boxes: (annotations, 4) left, top, width, height of each annotation, pixels, as in the JSON; those around
            oriented boxes.
        areas: Area of each annotation, pixels²; width × height where the JSON has none.
        crowd: Whether each annotation marks a crowd.
        masks: Polygons or run lengths of each annotation, as JSON, its box as a polygon where they are unusable; None
            unless read for "segment".
        keypoints: (annotations, K, 3) x and y, pixels, and visibility (0 not labelled, 1 hidden, 2 visible); None
            unless read for "pose".
        num_keypoints: How many of them are labelled, by the JSON if it says so; an annotation with 0 counts neither as
            found nor as missed. None where there are no keypoints.
        corners: (annotations, 4, 2) corners of oriented boxes, pixels; None unless read for "obb".
        forms: Row in `FORMS` of how each annotation states its oriented box; None unless read for "obb".
        keypoint_names: Names of the K keypoints; empty where the JSON does not name them.
        oks_sigmas: OKS sigma of each of them where a data YAML has them; empty takes COCO's own, or 1/K.
        problems: What was skipped or suspicious while reading.
        origins: The ids of each of `files`; empty where the ids above are the JSON's own.
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
    corners: NDArray[np.float64] | None = None
    forms: NDArray[np.int8] | None = None
    keypoint_names: tuple[str, ...] = ()
    oks_sigmas: tuple[float, ...] = ()
    problems: Problems = field(default_factory=Problems)
    origins: tuple[Origin, ...] = ()

    @property
    def file(self) -> str:
        """Return what messages call the JSON, or the JSONs that were joined."""
        return " and ".join(map(str, self.files))

    def image_text(self, row: int) -> str:
        """Return what messages call an image."""
        image_id = int(self.image_ids[row])
        if self.origins:
            image_id = self.origins[self.file_of[row]].images[image_id]
        where = f" of {self.files[self.file_of[row]].name}" if len(self.files) > 1 else ""
        return f"image {brief(image_id)} ({shortened(self.file_names[row])}){where}"

    def annotation_text(self, row: int) -> str:
        """Return what messages call an annotation."""
        known = self.annotation_ids[row]
        return f"annotation{'' if known < 0 else f' {known}'} of {self.image_text(self.image_of[row])}"

    def of_annotations(self, rows: NDArray[np.int64]) -> "CocoIndex":
        """Return the index with these annotations alone; all of its images stay."""
        columns = {name: getattr(self, name) for name in PER_ANNOTATION}
        return replace(self, **{name: column[rows] for name, column in columns.items() if column is not None})


def pack(index: CocoIndex) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the arrays of one file's index, and all its other values as JSON, as the cache takes them."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, value in vars(index).items():
        if isinstance(value, Strings):
            arrays |= {f"{name}.text": value.text, f"{name}.ends": value.ends}
        elif isinstance(value, np.ndarray) and name != "file_of":
            arrays[name] = value
    return arrays, {
        "category_names": index.category_names,
        "keypoint_names": list(index.keypoint_names),
        "problems": index.problems.as_json(),
        "origins": [[list(o.images.values()), list(o.categories.values())] for o in index.origins],
    }


def unpack(file: Path, arrays: dict[str, NDArray[Any]], further: dict[str, Any]) -> CocoIndex:
    """Invert `pack`."""
    columns: dict[str, Any] = {name: array for name, array in arrays.items() if "." not in name}
    for name in ("file_names", "masks"):
        if f"{name}.text" in arrays:
            columns[name] = Strings(arrays[f"{name}.text"], arrays[f"{name}.ends"])
    return CocoIndex(
        files=(file,),
        file_of=np.zeros(len(arrays["image_ids"]), dtype=np.int32),
        category_names=further["category_names"],
        keypoint_names=tuple(further["keypoint_names"]),
        problems=Problems.from_json(further["problems"]),
        origins=tuple(Origin.numbered(file, images, categories) for images, categories in further["origins"]),
        **columns,
    )


def brief(value: Any) -> str:
    """Return a value of the JSON, of any size and depth, as text for a message."""
    return shortened(_REPR.repr(value))


def shortened(text: str) -> str:
    """Return a text cut to `LONGEST_NAME` characters that can be written and stays one line."""
    return UNPRINTED.sub("?", text if len(text) <= LONGEST_NAME else text[:LONGEST_NAME] + "…")
