"""Match a run's detections with the ground truth, image by image, and count their kinds of errors."""

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
from numpy.typing import NDArray

from yolo_attn.coco.evaluate import new_evaluation, oks_sigmas
from yolo_attn.errors import UserError, one_line

CHUNK = 250
"""Images whose matches are Python objects at once."""

ERRORS = {
    "Cls": "right place, wrong class",
    "Loc": "right class, wrong place",
    "Both": "wrong place and class",
    "Dupe": "an object found again",
    "Bkg": "background taken for an object",
    "Miss": "objects not found",
}
"""TIDE's kinds of errors (Bolya et al., TIDE: A General Toolbox for Identifying Object Detection Errors, 2020)."""


@dataclass(frozen=True)
class Group:
    """The matches of one category and range of areas, detections by descending score.

    Attributes:
        image: (D,) position of each detection's image.
        right: (T, D) whether it is right, at each of T IoU thresholds.
        counted: (T, D) whether it is right or wrong; the others are ignored.
        truth_image: (G,) position of the image of each object.
    """

    image: NDArray[np.int32]
    right: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    truth_image: NDArray[np.int32]


@dataclass(frozen=True)
class Metric:
    """One of COCO's average precisions: its range of areas, and its IoU threshold's position, None for all."""

    name: str
    area: str
    threshold: int | None


@dataclass(frozen=True)
class Matches:
    """A run's matches.

    Attributes:
        images: Number of images, those without objects included.
        metrics: COCO's average precisions of the task.
        groups: By the name of the range of areas: for each category, by its id, its matches.
        objects: By the name of the category: the number of objects.
        errors: By TIDE's kinds: how much AP50 would gain without these errors, a fraction of 1.
    """

    images: int
    metrics: tuple[Metric, ...]
    groups: dict[str, dict[int, Group]]
    objects: dict[str, int]
    errors: dict[str, float]


def match(truth: Path, predictions: Path, kind: str) -> Matches:
    """Match a run's detections with the ground truth as COCO does, for each image, class, area range and IoU.

    The files are a COCO JSON and COCO results with its ids; the kind is "bbox", "segm" or "keypoints".
    """
    try:
        known = hotcoco.COCO(str(truth))
        found = known.loadRes(str(predictions))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{predictions}: cannot be compared with {truth.name}: {one_line(error)}") from error
    categories = known.loadCats(known.getCatIds())
    stated = next((each["keypoint_sigmas"] for each in categories if each.get("keypoint_sigmas")), ())
    keypoints = len(stated) or max((len(each.get("keypoints") or ()) for each in categories), default=0)
    sigmas = oks_sigmas(stated, keypoints) if kind == "keypoints" else ()
    whole = new_evaluation(known, found, kind, sigmas)
    whole.evaluate()
    errors = whole.tide_errors()["delta_ap"]
    metrics = tuple(
        Metric(d["name"], d["area"], d["iou_thr"] and whole.params.iouThrs.index(d["iou_thr"]))
        for d in whole.metric_defs()
        if d["ap"]
    )
    gc.disable()  # with millions of small lists, looking for cyclic garbage takes longer than all else
    try:
        groups = _groups(known, found, lambda near: new_evaluation(known, near, kind, sigmas))
    finally:
        gc.enable()
    number = {i: len(group.truth_image) for i, group in groups["all"].items()}
    objects = {category["name"]: number.get(category["id"], 0) for category in categories}
    return Matches(len(known.getImgIds()), metrics, groups, objects, {name: errors[name] for name in ERRORS})


def _groups(
    known: hotcoco.COCO, found: hotcoco.COCO, evaluation_of: Callable[[hotcoco.COCO], hotcoco.COCOeval]
) -> dict[str, dict[int, Group]]:
    """Return the matches by range of areas and category.

    The evaluator turns matches into Python objects, which takes far longer than matching. So it gets only detections of
    classes that their image has; all others match nothing.
    """
    ids = sorted(known.getImgIds())
    places = {image_id: place for place, image_id in enumerate(ids)}
    labelled = {(a["image_id"], a["category_id"]) for a in known.loadAnns(known.getAnnIds())}
    near: list[dict[str, Any]] = []
    far: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for each in found.loadAnns(found.getAnnIds()):
        key = each["image_id"], each["category_id"]
        if key in labelled:
            near.append(each)
        elif key[0] in places:
            far.setdefault(key, []).append(each)
    evaluation: Any = evaluation_of(known.loadRes(near))
    labels = dict(zip(map(tuple, evaluation.params.areaRng), evaluation.params.areaRngLbl, strict=True))
    matched: dict[str, dict[int, _Found]] = {label: {} for label in labels.values()}
    for each in _images(evaluation, ids):
        of_category = matched[labels[tuple(each["aRng"])]].setdefault(each["category_id"], _Found())
        of_category.add(places[each["image_id"]], each)
    for (image_id, category_id), detections in far.items():
        for area, label in labels.items():
            if category_id in matched[label]:
                matched[label][category_id].add(places[image_id], _unmatched(detections, area, evaluation.params))
    return {label: {i: each.group() for i, each in by_id.items()} for label, by_id in matched.items()}


def _unmatched(detections: list[dict[str, Any]], area: tuple[float, ...], params: Any) -> dict[str, Any]:
    """Return what the evaluator would for an image without objects of a category: detections in the range are wrong."""
    kept = sorted(detections, key=lambda each: -each["score"])[: params.maxDets[-1]]
    thresholds = len(params.iouThrs)
    return {
        "dtScores": [each["score"] for each in kept],
        "dtMatched": [[False] * len(kept)] * thresholds,
        "dtIgnore": [[not area[0] <= each["area"] <= area[1] for each in kept]] * thresholds,
        "gtInDenominator": [],
    }


class _Found:
    """The matches of one category and range of areas, collected in lists: small arrays take far longer."""

    def __init__(self) -> None:
        self.scores: list[float] = []
        self.image: list[int] = []
        self.truth_image: list[int] = []
        self.matched: list[list[bool]] = []
        self.ignored: list[list[bool]] = []

    def add(self, place: int, each: dict[str, Any]) -> None:
        self.scores += each["dtScores"]
        self.image += [place] * len(each["dtScores"])
        self.truth_image += [place] * sum(each["gtInDenominator"])
        for flags, name in ((self.matched, "dtMatched"), (self.ignored, "dtIgnore")):
            flags.extend([] for _ in range(len(each[name]) - len(flags)))
            for so_far, more in zip(flags, each[name], strict=True):
                so_far += more

    def group(self) -> Group:
        image = np.array(self.image, dtype=np.int32)
        order = np.lexsort((image, -np.array(self.scores, dtype=np.float64)))
        counted = ~np.array(self.ignored, dtype=bool)[:, order]
        return Group(
            image=image[order],
            right=np.array(self.matched, dtype=bool)[:, order] & counted,
            counted=counted,
            truth_image=np.array(self.truth_image, dtype=np.int32),
        )


def _images(evaluation: Any, ids: list[int]) -> Iterator[dict[str, Any]]:
    """Yield each image's matches, in the order of image ids."""
    for start in range(0, len(ids), CHUNK):
        evaluation.params.imgIds = ids[start : start + CHUNK]
        evaluation.evaluate()
        yield from filter(None, evaluation.evalImgs)
