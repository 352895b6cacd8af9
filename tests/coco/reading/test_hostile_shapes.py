"""Masks and keypoints as they should not be: their boxes, or nothing, in their place."""

import copy

import pytest
from hostile import BASE, read, told_of

from yolo_attn.coco.evaluate import Detections, evaluate

SQUARE = [[5, 5, 25, 5, 25, 25, 5, 25]]


MASKS = {
    "compressed run lengths": ({"size": [48, 64], "counts": "PQ1d0P2"}, True),
    "run lengths": ({"size": [48, 64], "counts": [1000, 72, 2000]}, True),
    "run lengths of another size": ({"size": [10, 10], "counts": [40, 60]}, True),
    "run lengths that are too short": ({"size": [48, 64], "counts": [40, 60]}, False),
    "run lengths of huge numbers": ({"size": [48, 64], "counts": [2**70, 5]}, False),
    "run lengths of a huge picture": ({"size": [2**20, 2**20], "counts": [2**40]}, False),
    "run lengths of true": ({"size": [1, True], "counts": [1]}, False),
    "polygon of two points": ([[1, 2, 3, 4]], False),
    "polygon of an odd number": ([[1, 2, 3, 4, 5, 6, 7]], False),
    "polygon of one place": ([[5, 5] * 4], True),
    "polygon far outside": ([[1e8, -1e8, -1e8, 1e8, 1e8, 1e8]], True),
    "polygon farther outside": ([[1e300, 2, 3, 4, 5, 6]], False),
    "polygon of numbers as text": ([["1", "2", "3", "4", "5", "6"]], True),
    "polygon of text": ([["a", "b", "c", "d", "e", "f"]], False),
    "one list": ([1, 2, 3, 4, 5, 6], True),
    "one list of four": ([1, 2, 3, 4], False),
    "nothing": ([], False),
    "text": ("polygon", False),
    "null": (None, False),
}


@pytest.mark.parametrize("box", [[5, 5, 20, 20], [1e300, -1e300, 1e308, 1e308], [5, 5, -20, 0]])
@pytest.mark.parametrize("case", MASKS)
def test_mask(written, case, box):
    mask, usable = MASKS[case]
    content = copy.deepcopy(BASE)
    for n, item in enumerate(content["annotations"]):
        item["segmentation"] = mask if n == 0 else SQUARE
    content["annotations"][0]["bbox"] = box
    index, examined = read(written(content), "segment")
    assert ("annotation without a usable segmentation" in told_of(examined)) != usable
    for label in examined.labels:
        assert all(len(segment) >= 3 and segment.min() >= 0 and segment.max() <= 1 for segment in label["segments"])
    detections, whole = Detections(), {"size": [48, 64], "counts": [48 * 64]}
    detections.add(1, [[0, 0, 64, 48]], [0.5], [7], {"segmentation": [whole]})
    evaluate(index, detections, "segm")


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
    assert ("annotation without usable keypoints" in told_of(examined)) == unusable
    assert [label["keypoints"].shape[1:] for label in examined.labels] == [(1, 3)] * 3
    evaluate(index, Detections(), "keypoints")
