"""The annotations of a COCO JSON, read one by one into columns: all of them as objects would take gigabytes."""

import itertools
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from yolo_attn.coco.reading.index import brief
from yolo_attn.coco.reading.oriented import FIVE_NUMBERS, RADIANS, around, look_like_radians, read_oriented, rotation_in
from yolo_attn.coco.reading.problems import LISTED, Problems
from yolo_attn.coco.reading.values import (
    LARGEST_ID,
    area_in,
    box_in,
    finite_numbers,
    id_in,
    is_crowd,
    is_plain_box,
    number_in,
)


class Annotation(msgspec.Struct, gc=False):
    """An annotation of the JSON."""

    id: Any = msgspec.UNSET
    image_id: Any = None
    category_id: Any = None
    bbox: Any = None
    area: Any = None
    iscrowd: Any = 0
    ignore: Any = 0
    attributes: Any = msgspec.UNSET

    @property
    def called(self) -> str:
        """Return what messages call the annotation."""
        return "annotation without id" if self.id is msgspec.UNSET else f"annotation {brief(self.id)}"


class MaskAnnotation(Annotation, gc=False):
    """An annotation with its segmentation, still JSON."""

    segmentation: msgspec.Raw = msgspec.Raw(b"null")


class KeypointAnnotation(Annotation, gc=False):
    """An annotation with its keypoints, still JSON."""

    keypoints: msgspec.Raw = msgspec.Raw(b"null")
    num_keypoints: Any = None


class OrientedAnnotation(Annotation, gc=False):
    """An annotation with all that may say how its box is rotated."""

    segmentation: msgspec.Raw = msgspec.Raw(b"null")


DECODERS: dict[str, msgspec.json.Decoder[Any]] = {
    "detect": msgspec.json.Decoder(Annotation),
    "segment": msgspec.json.Decoder(MaskAnnotation),
    "pose": msgspec.json.Decoder(KeypointAnnotation),
    "obb": msgspec.json.Decoder(OrientedAnnotation),
}
"""What is read for each task: a detector needs no outlines."""

ROTATED = "attributes.rotation of a box, not used; --task obb and models of oriented boxes read it"

LACKS = {
    "image": "annotation of an unknown image, skipped",
    "category": "annotation of an unknown category, skipped",
    "bbox": "annotation without four finite numbers as bbox, skipped",
    "oriented box": "annotation without four or five finite numbers as bbox and without corners, skipped",
}


def read_annotations(
    texts: Iterable[msgspec.Raw], image_ids: Sequence[Any], category_ids: Sequence[Any], task: str, problems: Problems
) -> tuple[dict[str, Any], list[Any]]:
    """Read annotations, each still JSON, of images and categories that are usable.

    Returns:
        Columns of the usable annotations under their names in `CocoIndex`, and the annotations themselves without
        their boxes, for outlines or keypoints; none for "detect" and "obb".
    """
    image_row = {image_id: row for row, image_id in enumerate(image_ids)}
    category_row = {category_id: row for row, category_id in enumerate(category_ids)}
    decode = DECODERS[task].decode
    ids, image_of, category_of = array("q"), array("i"), array("i")
    boxes, areas, crowd = array("d"), array("d"), array("b")
    corners, forms = array("d"), array("b")
    angles, with_angle = array("d"), []
    other_ids: Counter[Any] = Counter()
    details: list[Any] = []
    for n, text in enumerate(texts, 1):
        try:
            annotation = decode(text)
        except (ValueError, RecursionError) as error:
            problems.add("annotation that cannot be read, skipped", [f"number {n}: {error}"])
            continue
        oriented = None
        if task == "obb":
            oriented = read_oriented(annotation, problems)
            box = around(oriented[0]) if oriented else None
        else:
            box = annotation.bbox if is_plain_box(annotation.bbox) else box_in(annotation.bbox)
        image, category = annotation.image_id, annotation.category_id
        image_at = image_row.get(image if type(image) is int else id_in(image))
        category_at = category_row.get(category if type(category) is int else id_in(category))
        if image_at is None or category_at is None or box is None:
            no_box = "oriented box" if task == "obb" else "bbox"
            lack = "image" if image_at is None else "category" if category_at is None else no_box
            found = {"image": image, "category": category, no_box: annotation.bbox}[lack]
            problems.add(LACKS[lack], [f"{annotation.called}, {lack} {brief(found)}"])
            continue
        known = id_in(annotation.id)
        whole = type(known) is int and 0 <= known < LARGEST_ID
        if not whole and (known is not None or annotation.id is None):
            other_ids[known] += 1
        ids.append(known if whole else -1)
        image_of.append(image_at)
        category_of.append(category_at)
        boxes.extend(box)
        area = annotation.area if type(annotation.area) is float else area_in(annotation.area)
        areas.append(box[2] * box[3] if area is None else area)
        crowd.append(is_crowd(annotation.iscrowd))
        if not (whole and known and area is not None and annotation.iscrowd in (0, 1) and not annotation.ignore):
            for odd in _oddities(annotation, known, area):
                problems.add(odd, [annotation.called])
        if oriented:
            corners.extend(itertools.chain.from_iterable(oriented[0]))
            forms.append(oriented[1])
            if oriented[1] == FIVE_NUMBERS:
                angles.append(finite_numbers(annotation.bbox)[4])
                with_angle += [annotation.called] if len(angles) <= LISTED else []
        elif annotation.attributes is not msgspec.UNSET and rotation_in(annotation.attributes):
            problems.add(ROTATED, [annotation.called])
        if task not in {"detect", "obb"}:
            annotation.bbox = annotation.area = None
            details.append(annotation)
    if look_like_radians(angles):
        problems.add(RADIANS, with_angle, len(angles))
    whole_ids = np.array(ids, dtype=np.int64)
    values, counts = np.unique(whole_ids[whole_ids >= 0], return_counts=True)
    repeated = [*values[counts > 1].tolist(), *(i for i, count in other_ids.items() if count > 1)]
    problems.add(
        "repeated annotation id, each annotation is used; COCO's own tools use the last one again",
        (f"annotation {brief(i)}" for i in repeated),
    )
    columns: dict[str, Any] = {
        "annotation_ids": whole_ids,
        "image_of": np.array(image_of, dtype=np.int32),
        "category_of": np.array(category_of, dtype=np.int32),
        "boxes": np.array(boxes, dtype=np.float64).reshape(-1, 4),
        "areas": np.array(areas, dtype=np.float64),
        "crowd": np.array(crowd, dtype=bool),
    }
    if task == "obb":
        columns["corners"] = np.array(corners, dtype=np.float64).reshape(-1, 4, 2)
        columns["forms"] = np.array(forms, dtype=np.int8)
    return columns, details


def _oddities(annotation: Annotation, known: Any, area: float | None) -> Iterator[str]:
    """Yield what COCO's own tools may read in another way."""
    if known == 0 or number_in(known) == 0:
        yield "annotation id 0, which COCO's own tools read as no match; here it counts"
    if known is None and annotation.id not in (None, msgspec.UNSET):
        yield "annotation id that is neither an int nor text, treated as missing"
    if area is None and annotation.area is not None:
        yield "area that is not a number, width × height of the box used"
    if annotation.iscrowd not in (0, 1, None):
        yield "iscrowd that is neither 0 nor 1, any number other than 0 is a crowd"
    if is_crowd(annotation.ignore):
        yield "annotation with ignore, which COCO's own tools do not use; it counts unless it is a crowd"
