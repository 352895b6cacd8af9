"""EMA against its formula in the test's own words, and its groups."""

import numpy as np
import pytest
import torch
from formulas import assert_same, conv, numbers, randomised, sample, sigmoid, softmax

from yolo_attn.layers import EMA


def by_hand(x, layer, groups):
    """Image by image and group by group, with the mean of the normalised planes taken, not known."""
    state, out = numbers(layer), np.empty_like(x)
    width, height = x.shape[1] // groups, x.shape[2]
    kernel = state["conv1x1.weight"][:, :, 0, 0]
    for index in np.ndindex(len(x), groups):
        part = slice(index[1] * width, (index[1] + 1) * width)
        u = x[index[0], part]
        strips = kernel @ np.concatenate([u.mean(2), u.mean(1)], 1) + state["conv1x1.bias"][:, None]
        p = u * sigmoid(strips[:, :height, None]) * sigmoid(strips[:, None, height:])
        p = (p - p.mean((1, 2), keepdims=True)) / np.sqrt(p.var((1, 2), keepdims=True) + 1e-5)
        p = p * state["gn.weight"][:, None, None] + state["gn.bias"][:, None, None]
        q = conv(u[None], state["conv3x3.weight"], state["conv3x3.bias"])[0]
        s = np.tensordot(softmax(p.mean((1, 2))), q, 1) + np.tensordot(softmax(q.mean((1, 2))), p, 1)
        out[index[0], part] = u * sigmoid(s)
    return out


@pytest.mark.parametrize(
    ("channels", "asked", "groups"),
    [(1, 32, 1), (3, 2, 1), (16, 32, 16), (24, 5, 4), (60, 32, 30), (64, 32, 32), (90, 8, 6), (31, 8, 1)],
)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5), (31, 17)])
def test_formula(size, channels, asked, groups):
    layer = randomised(EMA(channels, groups=asked))
    assert layer.groups == groups
    x = sample(channels, size)
    assert_same(layer, x, by_hand(x, layer, groups))


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_single_value(training):
    layer = randomised(EMA(3, groups=1)).train(training)
    x = sample(3, (1, 1), batch=1)
    assert_same(layer, x, by_hand(x, layer, 1))


def test_repr():
    assert "groups=32" in repr(EMA(64))
    assert "groups=30" in repr(EMA(60))


def test_autocast_does_not_round_the_sums():
    """1 + 1/256 has no bfloat16 value."""
    layer = EMA(4)
    for parameter, value in ((layer.conv3x3.weight, 0), (layer.conv3x3.bias, 1 / 256), (layer.gn.weight, 0)):
        torch.nn.init.constant_(parameter, value)
    torch.nn.init.ones_(layer.gn.bias)
    x = torch.randn(2, 4, 5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    torch.testing.assert_close(out, x * torch.tensor(1 + 1 / 256).sigmoid(), rtol=1e-6, atol=0)
