"""CBAM against its formula in the test's own words, and its ties."""

import pytest
import torch
from formulas import assert_same, max_mean_gate, numbers, randomised, relu, sample, sigmoid

from yolo_attn.layers import CBAM


def by_hand(x, layer, training):
    state = numbers(layer)

    def mlp(v):
        hidden = relu(v @ state["channel.fc1.weight"].T + state["channel.fc1.bias"])
        return hidden @ state["channel.fc2.weight"].T + state["channel.fc2.bias"]

    u = x * sigmoid(mlp(x.mean((2, 3))) + mlp(x.max((2, 3))))[:, :, None, None]
    return u * max_mean_gate(u.max(1), u.mean(1), state, "spatial", training)[:, None]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    ("channels", "options"),
    [(1, {}), (3, {"ratio": 2}), (16, {"kernel_size": 3}), (24, {}), (60, {"ratio": 4, "kernel_size": 1}), (90, {})],
    ids=str,
)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5), (31, 17)])
def test_formula(size, channels, options, training):
    layer = randomised(CBAM(channels, **options)).train(training)
    x = sample(channels, size)
    assert_same(layer, x, by_hand(x, layer, training))


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_ties_share_the_gradient_of_the_maximum(training):
    """On constant planes no pixel is the maximum alone; the value is the formula's, and no pixel is preferred."""
    layer = randomised(CBAM(8, kernel_size=1)).train(training)
    x = sample(8, (1, 1)).repeat(6, 2).repeat(4, 3)
    assert_same(layer, x, by_hand(x, layer, training))
    leaf = torch.from_numpy(x).requires_grad_()
    layer(leaf).sum().backward()
    torch.testing.assert_close(leaf.grad, leaf.grad[:, :, :1, :1].expand_as(leaf))


@pytest.mark.parametrize(("channels", "middle"), [(1, 1), (16, 1), (24, 1), (60, 3), (90, 5), (256, 16)])
def test_width(channels, middle):
    layer = CBAM(channels)
    assert layer.channel.fc1.weight.shape == (middle, channels)
    assert layer.spatial.conv.weight.shape == (1, 2, 7, 7)
