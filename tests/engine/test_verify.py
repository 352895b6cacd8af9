"""How far an output is from another."""

import numpy as np
import pytest

from yolo_attn.engine.verify import difference


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
    assert difference(swapped, expected, unordered=True) == 0
    assert difference(swapped, expected) > 1e-2
    for column in range(6):
        wrong = expected.copy()
        wrong[0, 5, column] += 0.1 * expected[..., column].max()
        assert difference(wrong, expected, unordered=True) > 0.01, column


def test_a_missing_detection_is_seen_at_the_top_and_not_at_the_end():
    expected = detections()
    for lost, small in ((0, False), (20, False), (-1, True)):
        found = np.concatenate([np.delete(expected, lost, 1), expected[:, -1:]], 1)
        found[0, -1, :4] = 1
        assert (difference(found, expected, unordered=True) < 1e-3) is small


def test_detections_that_score_alike_are_compared_by_their_scores():
    """As an untrained model gives them: which of them are the best is then open, their scores are not."""
    alike = detections()
    alike[..., 4] = 0.5
    assert difference(alike[:, ::-1], alike, unordered=True) == 0
    lower = alike.copy()
    lower[..., 4] = 0.4
    assert difference(lower, alike, unordered=True) == pytest.approx(0.2)
