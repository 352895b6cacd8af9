"""Mutated JSONs: the numbers are pycocotools' own, or a line of the report says what is read otherwise."""

import copy
import json
import random
import resource
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from support import pycocotools_scores

from yolo_attn.coco.evaluate import Detections, coco_scores
from yolo_attn.coco.reading import cache
from yolo_attn.coco.reading.reader import _read, read_index
from yolo_attn.errors import UserError

pytestmark = pytest.mark.integration

KINDS = {"detect": "bbox", "segment": "segm", "pose": "keypoints"}
WIDTH, HEIGHT = 64, 48
MEMORY = 6 * 2**30
"""Bytes that pycocotools may map: it asks for what a mutated size says."""

SECONDS = 20
"""What pycocotools may take for an example: some hundredths for nearly all."""


def rectangle(x, y, w, h):
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def person(rng, x, y, w, h):
    """Seventeen keypoints in a box, some of them not labelled."""
    points = []
    for _ in range(17):
        labelled = rng.random() < 0.7
        points += [x + rng.random() * w, y + rng.random() * h, rng.choice([1, 2])] if labelled else [0, 0, 0]
    return points


def base():
    """A small set with boxes, polygons, run lengths, crowds and keypoints."""
    rng = random.Random(0)
    images = [{"id": n, "file_name": f"{n}.jpg", "width": WIDTH, "height": HEIGHT} for n in (4, 2, 9)]
    annotations = []
    for n in range(12):
        x, y, w, h = rng.randint(0, 30), rng.randint(0, 20), rng.randint(4, 30), rng.randint(4, 25)
        mask = [rectangle(x, y, w, h)] if n % 3 else [rectangle(x, y, w // 2, h), rectangle(x + w // 2, y, w // 2, h)]
        if n % 4 == 3:
            mask = coco_mask.merge(coco_mask.frPyObjects(mask, HEIGHT, WIDTH))
            mask = {"size": mask["size"], "counts": mask["counts"].decode()}
        points = person(rng, x, y, w, h)
        annotations.append(
            {
                **{"id": n + 1, "image_id": rng.choice([4, 2, 9]), "category_id": rng.choice([7, 3]), "iscrowd": 0},
                **{"bbox": [x, y, w, h], "area": w * h * rng.choice([1, 0.7]), "segmentation": mask},
                **{"keypoints": points, "num_keypoints": sum(v > 0 for v in points[2::3])},
            }
        )
    for n, mask in ((5, {"size": [HEIGHT, WIDTH], "counts": [500, 900, 1672]}), (7, None)):
        annotations[n] |= {"iscrowd": 1, "segmentation": mask or annotations[n]["segmentation"]}
    categories = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]
    return {"images": images, "categories": categories, "annotations": annotations}


NUMBERS = [0, 1, -1, 2, 3, 7, 9, 0.5, -0.0, 40, 1e4, 1e-300, 1e300, 2**31, 2**53 + 1, 2**63, 2**70, 1e5**2, 1e10 + 1]
ODD = [
    *(None, True, False, "", "0", "1", "2", "7", " 3 ", "1e1", "NaN", "x", "a\nb", "\u00e9", [], {}, [[]], [None]),
    [0] * 4,
    *(float("nan"), float("inf"), -float("inf"), ["1", "2", "30", "40"], [1, 2, 30, 40], {"x": 1}, "[1, 2, 3, 4]"),
    *(rectangle(3, 3, 20, 20), [rectangle(3, 3, 20, 20)], [list(map(str, rectangle(3, 3, 20, 20)))], [[1, 2, 3, 4]]),
    *([rectangle(3, 3, 20, 20), [1, 2]], [[1, 2, 9, 9, 4, 9, 7]], [0] * 51, [30, 20, 2] * 17, [30, 20, 2] * 16),
    *({"size": [HEIGHT, WIDTH], "counts": [72, 3000]}, {"size": [HEIGHT, WIDTH], "counts": "PQ1d0P2"}),
    *({"size": [HEIGHT, WIDTH], "counts": [72]}, {"size": [30, 30], "counts": [100, 800]}),
    *({"size": [HEIGHT, WIDTH], "counts": ["72", "3000"]}, {"size": ["48", "64"], "counts": [72, 3000]}),
]
ACTIONS = [*["replace"] * 4, *["inside"] * 2, "delete", "text", "double", "drop", "swap", "everywhere"]


def mutated(rng):
    """The small set with a value replaced, deleted, doubled or put elsewhere, then with up to three more."""
    content = copy.deepcopy(base())
    for step in range(rng.randint(1, 4)):
        if step:
            yield copy.deepcopy(content)
        items = content[rng.choice(["images", "categories", *["annotations"] * 4])]
        if not items:
            continue
        item = rng.choice(items)
        key = rng.choice([*item, "ignore", "score"])
        action = rng.choice(ACTIONS)
        value = copy.deepcopy(rng.choice(NUMBERS if rng.random() < 0.4 else ODD))
        if action == "replace":
            item[key] = value
        elif action == "inside" and isinstance(item.get(key), list) and item[key]:
            inner = item[key][0] if isinstance(item[key][0], list) and item[key][0] else item[key]
            inner[rng.randrange(len(inner))] = value
        elif action == "delete":
            item.pop(key, None)
        elif action == "text":
            item[key] = as_text(item.get(key))
        elif action == "double":
            items.insert(rng.randrange(len(items) + 1), {**copy.deepcopy(item), key: value})
        elif action == "drop":
            items.remove(item)
        elif action == "swap":
            item[key] = copy.deepcopy(rng.choice(items).get(key))
        elif action == "everywhere":
            hows = [as_text, lambda v: v + 1, lambda v: v - 1, float, lambda v, new=value: new, lambda v: v * -1]
            how = rng.choice(hows)
            for other in items:
                try:
                    other[key] = how(other[key])
                except (KeyError, TypeError, ValueError, OverflowError):
                    continue
    yield content


def as_text(value):
    """A value with its numbers written as text."""
    return list(map(as_text, value)) if isinstance(value, list) else value if isinstance(value, dict) else str(value)


def found_in(index, seed):
    """Detections near the ground truth, and some that are not."""
    rng = np.random.default_rng(seed)
    detections = Detections()
    for row, image_id in enumerate(index.image_ids.tolist()):
        mine = np.flatnonzero(index.image_of == row)
        boxes = np.nan_to_num(index.boxes[mine]).clip(0, WIDTH - 4) + rng.normal(0, 1, (len(mine), 4))
        boxes = np.concatenate([boxes, rng.uniform(0, 40, (2, 4))]).clip(1, WIDTH)
        classes = np.concatenate([index.category_of[mine], rng.integers(0, len(index.category_ids), 2)])
        shapes = None
        if index.masks is not None:
            boxes[:, 2:] = np.minimum(boxes[:, 2:] + boxes[:, :2], (WIDTH, HEIGHT)) - boxes[:, :2]
            rles = coco_mask.frPyObjects([rectangle(*box) for box in boxes.tolist()], HEIGHT, WIDTH)
            shapes = {"segmentation": [{"size": r["size"], "counts": r["counts"].decode()} for r in rles]}
        if index.keypoints is not None:
            points = np.nan_to_num(index.keypoints[mine]).clip(0, WIDTH) + rng.normal(0, 1, index.keypoints[mine].shape)
            others = rng.uniform(0, 40, (2, *points.shape[1:]))
            shapes = {"keypoints": np.concatenate([points, others]).reshape(len(boxes), -1).round(3).tolist()}
        detections.add(image_id, boxes, rng.random(len(boxes)), index.category_ids[classes], shapes)
    return detections


SAID = (
    "annotation id 0",
    "annotation id that is neither an int nor text",
    "annotation of an unknown image",
    "annotation of an unknown category",
    "annotation that cannot be read",
    "annotation without four finite numbers as bbox",
    "annotation without a usable segmentation",
    "annotation without usable keypoints",
    "area that is not a number",
    "category without an int or text as id",
    "image without an int or text as id",
    "iscrowd that is neither 0 nor 1",
    "num_keypoints that is not an int",
    "polygon without three corners",
    "repeated image id",
    "repeated category id",
    "repeated annotation id",
    "width or height that is not a number of pixels",
)
"""Problems by which the numbers may differ from pycocotools'."""


class Judge:
    """pycocotools in a process of its own, which a mutated JSON may end."""

    def __init__(self):
        self.pool = None

    def scores(self, *arguments):
        """Its numbers, or the name of the error where it cannot read the JSON."""
        self.pool = self.pool or ProcessPoolExecutor(
            1, get_context("spawn"), resource.setrlimit, (resource.RLIMIT_AS, (MEMORY, MEMORY))
        )
        try:
            return self.pool.submit(quiet_scores, *arguments).result(SECONDS)
        except (BrokenProcessPool, TimeoutError) as error:
            self.close()
            return type(error).__name__

    def close(self):
        if self.pool:
            for process in list((self.pool._processes or {}).values()):
                process.kill()
            self.pool.shutdown()
        self.pool = None


def quiet_scores(*arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return pycocotools_scores(*arguments)[0]
        except Exception as error:
            return type(error).__name__


@pytest.fixture
def judge():
    judge = Judge()
    yield judge
    judge.close()


def outcome(folder, judge, task, seed):
    """How the most mutated JSON of a seed that pycocotools reads too was read, and what was reported."""
    for content in reversed([*mutated(random.Random(f"{task} {seed}"))]):
        how, lines = outcome_of(content, folder, judge, task, seed)
        if how != "unread":
            break
    return how, lines


def outcome_of(content, folder, judge, task, seed):
    file = folder / "truth.json"
    file.write_text(json.dumps(content))
    texts = []
    for _ in range(2):  # the second is of the cache
        _read.cache_clear()
        try:
            index = read_index(file, task)
        except UserError as error:
            texts.append(str(error))
            continue
        detections = found_in(index, seed)
        ours = list(coco_scores(index, detections, KINDS[task]).metrics.values())
        texts.append(json.dumps([ours, index.problems.as_json()]))
    assert texts[0] == texts[1]
    if not texts[0].startswith("["):
        return "refused", [texts[0]]
    detections.save(folder / "predictions.json", index)
    theirs = judge.scores(file, folder / "predictions.json", KINDS[task])
    if isinstance(theirs, str):
        return "unread", [theirs]
    if np.allclose(ours, theirs, rtol=0, atol=1e-9):
        return "same", index.problems.lines()
    said = [line for line in index.problems.lines() if line.partition(" × ")[2].startswith(SAID)]
    return "said" if said else "silent", [*index.problems.lines(), f"{ours} {theirs.tolist()}"]


@pytest.mark.parametrize("seeds", [50, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("task", KINDS)
def test_the_numbers_are_pycocotools_or_the_report_says_why(tmp_path, judge, monkeypatch, task, seeds):
    monkeypatch.setenv("YOLO_ATTN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "WORTHWHILE", 0)
    outcomes = {seed: outcome(tmp_path, judge, task, seed) for seed in range(seeds)}
    assert {seed: lines for seed, (how, lines) in outcomes.items() if how == "silent"} == {}
    counts = Counter(how if how != "unread" else lines[0] for how, lines in outcomes.values())
    assert counts["same"] + counts["said"] > 0.7 * seeds, counts
    assert counts["said"] < 0.15 * seeds, counts
    assert counts["TimeoutError"] < 0.02 * seeds, counts
