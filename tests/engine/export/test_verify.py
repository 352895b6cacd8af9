"""How far an output is from another."""

import numpy as np
import pytest
import torch
from ultralytics.nn import tasks

from yolo_attn.engine.export.verify import BEST_SCORE, difference, score_columns


def maps():
    rng = np.random.default_rng(0)
    boxes, scores = rng.uniform(0, 640, (2, 4, 50)), rng.uniform(1e-3, 1e-2, (2, 3, 50))
    return np.concatenate([boxes, scores], 1).astype(np.float32)


def detections(count=40):
    rng = np.random.default_rng(1)
    scores = np.sort(rng.uniform(0.1, 0.9, (1, count, 1)), 1)[:, ::-1]
    return np.concatenate([rng.uniform(0, 640, (1, count, 4)), scores, rng.integers(0, 80, (1, count, 1))], 2)


def test_each_channel_counts_by_its_own_size():
    """Scores of 1e-2 stand beside boxes of 640 pixels."""
    expected, found = maps(), maps()
    assert difference(found, expected) == 0
    found[1, 6, 7] += 0.1 * expected[:, 6].max()
    assert difference(found, expected) == pytest.approx(0.1, rel=1e-3)
    found = maps()
    found[0, 0, 0] += 0.2 * expected[:, 0].max()
    assert difference(found, expected) == pytest.approx(0.2, rel=1e-3)


def test_values_and_shapes_that_have_no_difference():
    expected = maps()
    for wrong in (expected[:1], np.where(expected == expected.max(), np.nan, expected), expected * np.inf):
        assert difference(wrong, expected) == float("inf")
    assert difference(np.zeros((2, 3)), np.zeros((2, 3))) == 0
    assert difference(np.ones((2, 3)), np.zeros((2, 3))) == 1000


def test_scores_that_nobody_sees_count_little():
    tiny = maps() * 1e-6
    assert difference(tiny + 3e-8, tiny) < 1e-4
    assert difference(tiny + 1e-5, tiny) > 1e-3


def test_order_of_detections_is_open_and_nothing_else():
    expected = detections()
    swapped = expected.copy()
    swapped[:, [3, 4]] = swapped[:, [4, 3]]
    assert difference(swapped, expected, BEST_SCORE) == 0
    assert difference(swapped, expected) > 1e-2
    for column in range(6):
        wrong = expected.copy()
        wrong[0, 5, column] += 0.1 * expected[..., column].max()
        assert difference(wrong, expected, BEST_SCORE) > 0.01, column


def test_a_missing_detection_is_seen_at_the_top_and_not_at_the_end():
    expected = detections()
    for lost, small in ((0, False), (20, False), (-1, True)):
        found = np.concatenate([np.delete(expected, lost, 1), expected[:, -1:]], 1)
        found[0, -1, :4] = 1
        assert (difference(found, expected, BEST_SCORE) < 1e-3) is small


def test_detections_that_score_alike_are_compared_by_their_scores():
    """As an untrained model gives them: which of them are the best is then open, their scores are not."""
    alike = detections()
    alike[..., 4] = 0.5
    assert difference(alike[:, ::-1], alike, BEST_SCORE) == 0
    lower = alike.copy()
    lower[..., 4] = 0.4
    assert difference(lower, alike, BEST_SCORE) == pytest.approx(0.2)


def test_every_class_counts_where_each_has_a_score():
    """As RT-DETR's queries come under old versions: the best of them may score nothing as class 0."""
    expected = np.concatenate([detections()[..., :4], np.full((1, 40, 1), 1e-4), detections()[..., 4:5]], 2)
    wrong = expected.copy()
    wrong[0, 3, 0] += 100
    assert difference(expected[:, ::-1], expected, slice(4, None)) == 0
    assert difference(wrong, expected, slice(4, None)) > 0.1


@pytest.mark.parametrize("name", ["yolov8n.yaml", "yolov10n.yaml", "rtdetr-l.yaml"])
def test_where_the_scores_of_a_head_are(name):
    """Told by the width of its output: boxes and a score for each of the 5 classes, or the best one's and its class."""
    kind = tasks.RTDETRDetectionModel if "rtdetr" in name else tasks.DetectionModel
    model = kind(name, nc=5, verbose=False).eval()
    model.model[-1].end2end = name == "yolov10n.yaml"
    with torch.inference_mode():
        shape = model(torch.rand(1, 3, 160, 160))[0].shape
    expected = {6: BEST_SCORE, 9: slice(4, None)}.get(shape[-1])
    assert score_columns(model.model[-1]) == expected
    assert (expected is None) == (name == "yolov8n.yaml")
