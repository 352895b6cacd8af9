"""CBAM against its formula in the test's own words, its ties, and its messages."""

import re

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
def test_width_and_keys(channels, middle):
    shapes = {key: tuple(value.shape) for key, value in CBAM(channels).state_dict().items()}
    bn = {"weight": (1,), "bias": (1,), "running_mean": (1,), "running_var": (1,), "num_batches_tracked": ()}
    assert shapes == {
        "channel.fc1.weight": (middle, channels),
        "channel.fc1.bias": (middle,),
        "channel.fc2.weight": (channels, middle),
        "channel.fc2.bias": (channels,),
        "spatial.conv.weight": (1, 2, 7, 7),
        **{f"spatial.bn.{key}": shape for key, shape in bn.items()},
    }


def test_single_pixel_in_training():
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        CBAM(8)(torch.ones(1, 8, 1, 1))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"channels": 0}, "channels must be a positive int, got 0"),
        ({"ratio": True}, "ratio must be a positive int, got True"),
        ({"ratio": 0}, "ratio must be a positive int, got 0"),
        ({"kernel_size": 6}, "kernel_size must be odd, got 6; allowed: 1, 3, 5, 7, ..."),
        ({"kernel_size": (7, 7)}, "kernel_size must be a positive int, got (7, 7)"),
        ({"kernel_size": None}, "kernel_size must be a positive int, got None"),
    ],
)
def test_wrong_options(options, words):
    with pytest.raises(ValueError, match=f"^CBAM: {re.escape(words)}$"):
        CBAM(**{"channels": 8} | options)


def test_options_are_keyword_only():
    with pytest.raises(TypeError):
        CBAM(64, 16)
