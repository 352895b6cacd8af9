"""SE against its formula in the test's own words."""

import pytest
from formulas import assert_same, numbers, randomised, relu, sample, sigmoid

from yolo_attn.layers import SE


def by_hand(x, layer):
    state = numbers(layer)
    hidden = relu(x.mean((2, 3)) @ state["fc1.weight"].T)
    return x * sigmoid(hidden @ state["fc2.weight"].T)[:, :, None, None]


@pytest.mark.parametrize(("channels", "ratio"), [(1, 16), (3, 2), (16, 16), (24, 16), (60, 4), (90, 16)])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5), (31, 17)])
def test_formula(size, channels, ratio):
    layer = randomised(SE(channels, ratio=ratio))
    x = sample(channels, size)
    assert_same(layer, x, by_hand(x, layer))


@pytest.mark.parametrize(("channels", "middle"), [(1, 1), (3, 1), (16, 1), (24, 1), (60, 3), (90, 5), (256, 16)])
def test_width(channels, middle):
    assert {key: tuple(value.shape) for key, value in SE(channels).state_dict().items()} == {
        "fc1.weight": (middle, channels),
        "fc2.weight": (channels, middle),
    }
