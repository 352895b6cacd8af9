"""ECA against its formula in the test's own words, and its adaptive kernel."""

import numpy as np
import pytest
from formulas import assert_same, numbers, randomised, sample, sigmoid

from yolo_attn.layers import ECA


@pytest.mark.parametrize("kernel_size", [None, 1, 3, 9])
@pytest.mark.parametrize("channels", [1, 3, 16, 24, 60, 90])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5), (31, 17)])
def test_formula(size, channels, kernel_size):
    layer = randomised(ECA(channels, kernel_size=kernel_size))
    x = sample(channels, size)
    taps = numbers(layer)["conv.weight"][0, 0]
    means = np.pad(x.mean((2, 3)), ((0, 0), (len(taps) // 2,) * 2))
    attention = sum(tap * means[:, i : i + channels] for i, tap in enumerate(taps))
    assert_same(layer, x, x * sigmoid(attention)[:, :, None, None])


@pytest.mark.parametrize(
    ("channels", "kernel_size"),
    [(1, 1), (7, 1), (8, 3), (16, 3), (64, 3), (127, 3), (128, 5), (512, 5), (2047, 5), (2048, 7)],
)
def test_adaptive_kernel(channels, kernel_size):
    layer = ECA(channels)
    assert list(layer.state_dict()) == ["conv.weight"]
    assert layer.conv.weight.shape == (1, 1, kernel_size)
