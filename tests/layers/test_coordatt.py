"""Coordinate attention against its formula in the test's own words."""

import numpy as np
import pytest
from formulas import assert_same, norm, numbers, randomised, sample, sigmoid

from yolo_attn.layers import CoordAtt


def by_hand(x, layer, training):
    state = numbers(layer)

    def pixelwise(key, v):
        return np.einsum("oc,bcn->bon", state[f"{key}.weight"][:, :, 0, 0], v) + state[f"{key}.bias"][:, None]

    f = norm(pixelwise("conv1", np.concatenate([x.mean(3), x.mean(2)], 2)), state, "bn1", training)
    f = f * np.clip(f + 3, 0, 6) / 6
    rows, columns = np.split(f, [x.shape[2]], 2)
    return x * sigmoid(pixelwise("conv_h", rows))[..., None] * sigmoid(pixelwise("conv_w", columns))[:, :, None]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(("channels", "ratio"), [(1, 32), (3, 32), (16, 1), (24, 2), (60, 32), (90, 4)])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5), (31, 17)])
def test_formula(size, channels, ratio, training):
    layer = randomised(CoordAtt(channels, ratio=ratio)).train(training)
    x = sample(channels, size)
    assert_same(layer, x, by_hand(x, layer, training))


@pytest.mark.parametrize(("channels", "middle"), [(1, 8), (16, 8), (90, 8), (256, 8), (512, 16)])
def test_width(channels, middle):
    assert CoordAtt(channels).conv1.weight.shape == (middle, channels, 1, 1)


def test_one_image_of_one_pixel_can_be_trained_on():
    x = sample(16, (1, 1), batch=1)
    layer = randomised(CoordAtt(16))
    assert_same(layer, x, by_hand(x, layer, training=True))
