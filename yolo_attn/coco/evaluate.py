"""COCO's numbers for detections: boxes, masks and keypoints."""

import contextlib
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hotcoco
import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from yolo_attn.coco.reading.index import CocoIndex, Origin
from yolo_attn.coco.reading.masks_and_keypoints import COCO_KEYPOINTS, read_mask
from yolo_attn.coco.reading.run_lengths import LARGEST_MASK
from yolo_attn.coco.reading.values import LARGEST_SIDE
from yolo_attn.files import write_bytes

KEYPOINT_METRICS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
RECALLS = ("AR1", "AR10", "AR100")
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", *RECALLS, "ARs", "ARm", "ARl")

COCO_SIGMAS = tuple(hotcoco.COCOeval(hotcoco.COCO(), hotcoco.COCO(), "keypoints").params.kpt_oks_sigmas)
"""COCO's own OKS sigmas of its 17 keypoints."""

HUGE = 1e10
"""Pixels², COCO's bound of large objects."""


@dataclass(frozen=True)
class Rules:
    """What an evaluation counts by; empty is COCO's own.

    Attributes:
        max_dets: How many detections of an image and category count, ascending. Three numbers for boxes and masks: each
            AR takes one of them, all other numbers the last; COCO's own are 1, 10 and 100. One for keypoints: 20.
        area_ranges: Areas in pixels² up to which an object is small, and medium. COCO's own are 32² and 96².
    """

    max_dets: tuple[int, ...] = ()
    area_ranges: tuple[float, ...] = ()


COCO_RULES = Rules()
COCOS_OWN = {"max_dets": ((1, 10, 100), (20,)), "area_ranges": ((32**2, 96**2),)}


@dataclass(frozen=True)
class CocoScores:
    """COCO's numbers, as fractions of 1; -1 where COCO defines none, as for a size without ground truth.

    Attributes:
        evaluator: The library, its release, and its settings.
        metrics: The numbers by name: `METRICS` for boxes and masks, `KEYPOINT_METRICS` for keypoints. The ARs of other
            numbers of detections are called by these.
        per_class: AP and AP50 of each category by its name.
        boxes: COCO's numbers of the boxes beside these of masks or keypoints; None for boxes themselves.
        own_rules: What is not COCO's own, by name; empty where the numbers are COCO's.
    """

    evaluator: str
    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]]
    boxes: "CocoScores | None" = None
    own_rules: dict[str, list[float]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Return what the numbers are called."""
        return "COCO-style" if self.own_rules else "COCO"


class Detections:
    """Detections of a validation, as arrays in exactly the precision in which they are saved."""

    def __init__(self) -> None:
        self._of_image: dict[int, NDArray[np.float64]] = {}
        self._shapes: dict[int, list[Any]] = {}

    def add(
        self,
        image_id: int,
        boxes: ArrayLike,
        scores: ArrayLike,
        category_ids: ArrayLike,
        shapes: dict[str, list[Any]] | None = None,
    ) -> None:
        """Add one image's detections.

        Args:
            image_id: The JSON's image id.
            boxes: (N, 4) left, top, width, height in pixels of the image; kept to 1/1000 pixel.
            scores: (N,) confidence; kept to six decimals.
            category_ids: (N,) the JSON's category ids.
            shapes: Under COCO's name N run lengths, "segmentation", or N lists of 3 K numbers, "keypoints".
        """
        boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        part = np.empty((len(boxes), 7))
        part[:, 0] = image_id
        part[:, 1:5] = boxes.round(3)
        part[:, 5] = np.asarray(scores, dtype=np.float64).round(6)
        part[:, 6] = category_ids
        self._of_image[image_id] = part
        if shapes:
            ((name, values),) = shapes.items()
            self._shapes[image_id] = [{name: value} for value in values]

    def extend(self, other: "Detections") -> None:
        """Add the detections of another process; of an image that both have seen, one copy stays."""
        self._of_image.update(other._of_image)
        self._shapes.update(other._shapes)

    def countable(self, index: CocoIndex) -> "Detections":
        """Return the detections of classes that their image's JSON has; others are neither right nor wrong."""
        countable = Detections()
        for origin in index.origins:
            for image_id in self._of_image.keys() & origin.images.keys():
                part = self._of_image[image_id]
                kept = np.isin(part[:, 6], list(origin.categories))
                countable._of_image[image_id] = part[kept]
                if image_id in self._shapes:
                    shapes = zip(self._shapes[image_id], kept, strict=True)
                    countable._shapes[image_id] = [shape for shape, keep in shapes if keep]
        return countable if index.origins else self

    def mask_size(self, image_id: int) -> tuple[int, int] | None:
        """Return width and height of an image's masks, pixels; None if it has none."""
        for shape in self._shapes.get(image_id, ())[:1]:
            if "segmentation" in shape:
                height, width = shape["segmentation"]["size"]
                return width, height
        return None

    def array(self) -> NDArray[np.float64]:
        """Return (N, 7): image id, left, top, width, height, score, category id."""
        return np.concatenate([np.empty((0, 7)), *self._of_image.values()])

    def rows(self, origin: Origin | None = None) -> Iterator[dict[str, Any]]:
        """Yield each detection in COCO's results format: those of a JSON under its ids, else all under the index's."""
        for image_id, part in self._of_image.items():
            if origin and image_id not in origin.images:
                continue
            named = origin.images[image_id] if origin else image_id
            for i, row in enumerate(part.tolist()):
                category_id = origin.categories[int(row[6])] if origin else int(row[6])
                shape = self._shapes[image_id][i] if image_id in self._shapes else {}
                yield {"image_id": named, "category_id": category_id, "bbox": row[1:5], "score": row[5], **shape}

    def save(self, file: Path, index: CocoIndex | None = None) -> None:
        """Write COCO's results format with the ids of the JSON; several JSONs get each a file, with a number more."""
        origins: tuple[Origin | None, ...] = (index.origins if index else ()) or (None,)
        countable = self.countable(index) if index else self
        for n, origin in enumerate(origins, 1):
            target = file if len(origins) == 1 else file.with_stem(f"{file.stem}-{n}")
            encoded = b",\n".join(map(msgspec.json.encode, countable.rows(origin)))
            write_bytes(target, b"[\n" + encoded + b"\n]\n")


def coco_scores(index: CocoIndex, detections: Detections, kind: str = "bbox", rules: Rules = COCO_RULES) -> CocoScores:
    """Compare detections with the ground truth of all of an index's images.

    The ground truth is what COCO's own tools read: crowds are ignored, nothing is clipped.

    Args:
        index: The ground truth, with masks for "segm" and keypoints for "keypoints".
        detections: With "segmentation" or "keypoints" for these.
        kind: "bbox", "segm" or "keypoints".
        rules: What it counts by.

    Returns:
        The numbers, without those of boxes beside masks or keypoints.
    """
    detections = detections.countable(index)
    truth = _truth(index, detections)
    found = detections.array() if kind == "bbox" else list(detections.rows())
    sigmas = _sigmas_of(index) if kind == "keypoints" else ()
    evaluation = new_evaluation(truth, truth.loadRes(found), kind, sigmas)
    own_rules = {name: list(value) for name, value in vars(rules).items() if value and value not in COCOS_OWN[name]}
    if rules.max_dets:
        evaluation.params.maxDets = list(rules.max_dets)
    if rules.area_ranges:
        small, medium = rules.area_ranges
        of_size = {"all": [0, HUGE], "small": [0, small], "medium": [small, medium], "large": [medium, HUGE]}
        evaluation.params.areaRng = [of_size[label] for label in evaluation.params.areaRngLbl]
    text = f"hotcoco {hotcoco.__version__}, COCO {kind} evaluation, at most {evaluation.params.maxDets[-1]} detections"
    text += " an image and category"
    if sigmas and index.oks_sigmas:
        own_rules["kpt_sigmas"] = list(sigmas)
    elif sigmas:
        text += f", OKS sigma 1/{len(sigmas)} for each of {len(sigmas)} keypoints"
    if own_rules:
        text += f", not COCO's own: {', '.join(own_rules)}"
    evaluation.evaluate()
    evaluation.accumulate()
    with contextlib.redirect_stdout(None), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluation.summarize()  # prints and warns of other sigmas; nothing else computes the numbers
    values = evaluation.results()["metrics"]
    curves: Any = evaluation.eval
    precision = np.asarray(curves["precision"])[:, :, :, 0, -1]  # IoU, recall, category; all sizes, most detections
    per_class = {
        name: {"AP": _mean_defined(precision[:, :, k]), "AP50": _mean_defined(precision[0, :, k])}
        for k, name in enumerate(index.category_names)
    }
    names = KEYPOINT_METRICS if kind == "keypoints" else METRICS
    counted = () if kind == "keypoints" else rules.max_dets
    called = dict(zip(RECALLS, (f"AR{number}" for number in counted), strict=False))
    return CocoScores(
        text, {called.get(name, name): float(values[name]) for name in names}, per_class, own_rules=own_rules
    )


def write_truth(file: Path, index: CocoIndex) -> None:
    """Write the ground truth of `coco_scores` as a COCO JSON."""
    write_bytes(file, msgspec.json.encode(_truth(index, Detections()).dataset))


def new_evaluation(
    truth: hotcoco.COCO, found: hotcoco.COCO, kind: str, sigmas: Sequence[float] = ()
) -> hotcoco.COCOeval:
    """Return an evaluation to be run, with the OKS sigmas of keypoints where they are not COCO's."""
    evaluation = hotcoco.COCOeval(truth, found, kind)
    if sigmas:
        evaluation.params.kpt_oks_sigmas = list(sigmas)
    return evaluation


def oks_sigmas(stated: Sequence[float], number: int) -> Sequence[float]:
    """Return the OKS sigmas of so many keypoints: those that are stated, else the same for each; none for COCO's."""
    if stated:
        return () if number == COCO_KEYPOINTS and np.allclose(stated, COCO_SIGMAS, rtol=1e-9) else stated
    return () if number in {0, COCO_KEYPOINTS} else (1 / number,) * number


def _sigmas_of(index: CocoIndex) -> Sequence[float]:
    return oks_sigmas(index.oks_sigmas, 0 if index.keypoints is None else index.keypoints.shape[1])


def _truth(index: CocoIndex, detections: Detections) -> hotcoco.COCO:
    sizes = _sizes(index, detections).tolist()
    images = [{"id": i, "width": w, "height": h} for i, (w, h) in zip(index.image_ids.tolist(), sizes, strict=True)]
    sigmas = list(_sigmas_of(index))
    of_keypoints = {"keypoint_sigmas": sigmas} if sigmas else {}
    categories = [
        {"id": int(i), "name": n, **of_keypoints} for i, n in zip(index.category_ids, index.category_names, strict=True)
    ]
    ids, crowd = (index.image_ids[index.image_of], index.category_ids[index.category_of]), index.crowd.astype(np.int64)
    if index.keypoints is None or index.num_keypoints is None:
        masks = index.masks
        further = {} if masks is None else {"segmentation": [read_mask(masks.raw(i)) for i in range(len(masks))]}
        return hotcoco.COCO.from_arrays(
            images, categories, *ids, index.boxes, area=index.areas, iscrowd=crowd, **further
        )
    points = index.keypoints.reshape(len(index.keypoints), 3 * index.keypoints.shape[1])
    names = ("image_id", "category_id", "bbox", "area", "iscrowd", "keypoints", "num_keypoints")
    columns = (*ids, index.boxes, index.areas, crowd, points, index.num_keypoints)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    annotations = [{"id": n, **dict(zip(names, row, strict=True))} for n, row in enumerate(rows, 1)]
    return hotcoco.COCO({"images": images, "categories": categories, "annotations": annotations})


def _sizes(index: CocoIndex, detections: Detections) -> NDArray[np.int64]:
    """Return width and height of each image, pixels, which masks need.

    Without them in the JSON, they are those of detected masks, else of the area that the boxes reach.
    """
    sizes = index.sizes.astype(np.int64)
    if index.masks is None:
        return sizes
    lacking = (sizes <= 0).any(1)
    if not lacking.any():
        return sizes
    reach = np.ones_like(sizes)
    with np.errstate(over="ignore"):
        ends = np.ceil(index.boxes[:, :2] + index.boxes[:, 2:]).clip(1, LARGEST_SIDE)
    np.maximum.at(reach, index.image_of, ends.astype(np.int64))
    reach[reach.prod(1) > LARGEST_MASK] = math.isqrt(LARGEST_MASK)
    for row in np.flatnonzero(lacking):
        sizes[row] = detections.mask_size(int(index.image_ids[row])) or reach[row]
    return sizes


def score_text(score: float) -> str:
    """Return a score to three decimals, or "-" where COCO defines none."""
    return "-" if score < 0 else f"{score:.3f}"


def _mean_defined(precision: NDArray[np.float64]) -> float:
    defined = precision[precision > -1]
    return float(defined.mean()) if defined.size else -1.0
