"""Triplet attention against its formula in the test's own words."""

import numpy as np
import pytest
from formulas import assert_same, max_mean_gate, numbers, randomised, sample

from yolo_attn.layers import TripletAttention


def by_hand(x, layer, training):
    """Rotate, gate, rotate back, as the paper draws it."""
    state, total = numbers(layer), 0
    for key, axes in {"cw": (0, 2, 1, 3), "hc": (0, 3, 2, 1), "hw": (0, 1, 2, 3)}.items():
        rotated = np.transpose(x, axes)
        gated = rotated * max_mean_gate(rotated.max(1), rotated.mean(1), state, key, training)[:, None]
        total = total + np.transpose(gated, np.argsort(axes))
    return total / 3


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("kernel_size", [3, 7])
@pytest.mark.parametrize("channels", [1, 3, 16, 24, 60, 90])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5), (31, 17)])
def test_formula(size, channels, kernel_size, training):
    if size == (31, 17) and channels > 24:
        size = (11, 6)
    layer = randomised(TripletAttention(kernel_size=kernel_size)).train(training)
    x = sample(channels, size)
    assert_same(layer, x, by_hand(x, layer, training))


def test_keys_do_not_depend_on_channels():
    bn = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    want = [f"{part}.{key}" for part in ("cw", "hc", "hw") for key in ("conv.weight", *(f"bn.{k}" for k in bn))]
    assert list(TripletAttention().state_dict()) == list(TripletAttention(64).state_dict()) == want
