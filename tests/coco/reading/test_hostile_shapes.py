"""Masks and keypoints as they should not be: what of them is usable, else their boxes, or nothing, in their place."""

import copy
import json

import numpy as np
import pytest
from hostile import BASE, read, reported

from yolo_attn.coco.evaluate import Detections, coco_scores

SQUARE, GOOD = [[5, 5, 25, 5, 25, 25, 5, 25]], [1, 2, 3, 4.5, 5, 6]
AS_IT_IS, BOX = object(), object()

MASKS = {
    "compressed run lengths": ({"size": [48, 64], "counts": "PQ1d0P2"}, AS_IT_IS),
    "run lengths": ({"size": [48, 64], "counts": [1000, 72, 2000]}, AS_IT_IS),
    "run lengths of another size": ({"size": [10, 10], "counts": [40, 60]}, AS_IT_IS),
    "run lengths that are too short": ({"size": [48, 64], "counts": [40, 60]}, BOX),
    "run lengths of huge numbers": ({"size": [48, 64], "counts": [2**70, 5]}, BOX),
    "run lengths of a huge image": ({"size": [2**20, 2**20], "counts": [2**40]}, BOX),
    "run lengths of true": ({"size": [1, True], "counts": [1]}, BOX),
    "run lengths below 0": ({"size": [2, 2], "counts": [1, -1, 4]}, BOX),
    "no run lengths": ({"size": [2, 2], "counts": []}, BOX),
    "run lengths without a size": ({"counts": [3, 4]}, BOX),
    "a size below 0": ({"size": [2, -2], "counts": [4]}, BOX),
    "compressed run lengths of a huge image": ({"size": [10**5, 10**9], "counts": "abc"}, BOX),
    "compressed run lengths of an absurd image": ({"size": [2**40, 2**40], "counts": "abc"}, BOX),
    "compressed run lengths that are none": ({"size": [4, 4], "counts": "nonsense"}, BOX),
    "polygon of two points": ([[1, 2, 3, 4]], BOX),
    "polygon of an odd number": ([[1, 2, 3, 4, 5, 6, 7]], BOX),
    "polygon of one place": ([[5, 5] * 4], AS_IT_IS),
    "polygon far outside": ([[1e8, -1e8, -1e8, 1e8, 1e8, 1e8]], AS_IT_IS),
    "polygon farther outside": ([[1e300, 2, 3, 4, 5, 6]], BOX),
    "polygon of NaN": ([[float("nan")] * 6], BOX),
    "polygon of numbers as text": ([["1", "2", " 3", "4.5", "5e0", "6"]], [GOOD]),
    "polygon of text": ([["a", "b", "c", "d", "e", "f"]], BOX),
    "polygon of some text": ([[1, 2, "3px", 4, 5, 6]], BOX),
    "polygon of NaN as text": ([["1", "2", "NaN", "4", "5", "6"]], BOX),
    "one list": (GOOD, [GOOD]),
    "one list, numbers as text": (["1", 2, 3, 4.5, 5, 6], [GOOD]),
    "one list with null": ([1, 2, 3, 4, 5, None], BOX),
    "one list of four": ([1, 2, 3, 4], BOX),
    "a short polygon and a good one": ([[1, 2], GOOD], [GOOD]),
    "a polygon of text and a good one": ([["a", 2, 3, 4, 5, 6], GOOD], [GOOD]),
    "text and a good polygon": (["polygon", GOOD], [GOOD]),
    "nothing": ([], BOX),
    "text": ("polygon", BOX),
    "null": (None, BOX),
}


@pytest.mark.parametrize("box", [[5, 5, 20, 20], [1e300, -1e300, 1e308, 1e308], [5, 5, -20, 0]])
@pytest.mark.parametrize("case", MASKS)
def test_mask(written, case, box):
    mask, expected = MASKS[case]
    content = copy.deepcopy(BASE)
    for n, item in enumerate(content["annotations"]):
        item["segmentation"] = mask if n == 0 else SQUARE
    content["annotations"][0]["bbox"] = box
    index, examined = read(written(content), "segment")
    (x, y, w, h), problems = box, reported(examined)
    corners = np.clip([x, y, x + w, y, x + w, y + h, x, y + h], -1e9, 1e9).tolist()
    assert json.loads(index.masks.raw(0)) == (
        mask if expected is AS_IT_IS else [corners] if expected is BOX else expected
    )
    assert ("annotation without a usable segmentation" in problems) == (expected is BOX)
    assert ("polygon without three corners of finite numbers" in problems) == (expected == [GOOD] and len(mask) == 2)
    for label in examined.labels:
        assert all(len(segment) >= 3 and segment.min() >= 0 and segment.max() <= 1 for segment in label["segments"])
    detections, whole = Detections(), {"size": [48, 64], "counts": [48 * 64]}
    detections.add(1, [[0, 0, 64, 48]], [0.5], [7], {"segmentation": [whole]})
    coco_scores(index, detections, "segm")


@pytest.mark.parametrize("box", [[5, 5, 20, 20], [1e300, -1e300, 1e308, 1e308, 1e308], [5, 5, -20, 0]])
@pytest.mark.parametrize("case", MASKS)
def test_oriented_box(written, case, box):
    content = copy.deepcopy(BASE)
    content["annotations"][0] |= {"segmentation": MASKS[case][0], "bbox": box, "attributes": {"rotation": 1e300}}
    index, examined = read(written(content), "obb")
    assert len(index.corners) == len(content["annotations"])
    assert np.isfinite(index.corners).all()
    for label in examined.labels:
        assert all(np.isfinite(corners).all() and np.ptp(corners, axis=0).all() for corners in label["segments"])
        assert label["bboxes"].shape == (len(label["segments"]), 4)
        assert label["bboxes"].size == 0 or 0 <= label["bboxes"].min() <= label["bboxes"].max() <= 1


KEYPOINTS = {
    "text": ("1 2 3", True),
    "numbers as text": (["1", "2", "2"], False),
    "huge": ([10**400 // 10**80, 2, 2], True),
    "beyond 32 bits": ([1e308, -1e308, 2], True),
    "outside": ([-1e6, 1e6, 2], False),
    "null": ([None, 1, 2], True),
    "a dictionary": ({"x": 1}, True),
    "lists in each other": ([[[[1]]], 2], True),
    "two numbers": ([1, 2], True),
    "odd visibility": ([1, 2, -7], False),
}


@pytest.mark.parametrize("case", KEYPOINTS)
def test_keypoints(written, case):
    points, unusable = KEYPOINTS[case]
    content = copy.deepcopy(BASE)
    for n, item in enumerate(content["annotations"]):
        item["keypoints"] = points if n == 0 else [4, 5, 2]
    index, examined = read(written(content, "annotations/person_keypoints_val.json"), "pose")
    assert ("annotation without usable keypoints" in reported(examined)) == unusable
    assert [label["keypoints"].shape[1:] for label in examined.labels] == [(1, 3)] * 3
    coco_scores(index, Detections(), "keypoints")
