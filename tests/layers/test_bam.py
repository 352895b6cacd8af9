"""BAM against its formula in the test's own words, and one image in training."""

import copy

import pytest
import torch
from formulas import assert_same, conv, norm, numbers, randomised, relu, sample, sigmoid
from torch import nn

from yolo_attn.layers import BAM


def by_hand(x, layer, training, dilation=4, channel_training=None):
    state = numbers(layer)
    v = x.mean((2, 3)) @ state["channel.fc1.weight"].T + state["channel.fc1.bias"]
    v = relu(norm(v, state, "channel.bn", training if channel_training is None else channel_training))
    v = v @ state["channel.fc2.weight"].T + state["channel.fc2.bias"]
    s = x
    for part, spread in (("reduce", 1), ("dil1", dilation), ("dil2", dilation)):
        s = conv(s, state[f"spatial.{part}.weight"], state[f"spatial.{part}.bias"], dilation=spread)
        s = relu(norm(s, state, f"spatial.bn_{part}", training))
    s = conv(s, state["spatial.final.weight"], state["spatial.final.bias"])
    return x + x * sigmoid(v[:, :, None, None] * s)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    ("channels", "options"),
    [(1, {}), (3, {"ratio": 2, "dilation": 2}), (16, {}), (24, {"ratio": 8}), (60, {}), (90, {"dilation": 1})],
    ids=str,
)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5), (31, 17)])
def test_formula(size, channels, options, training):
    layer = randomised(BAM(channels, **options)).train(training)
    x = sample(channels, size, batch=3)
    assert_same(layer, x, by_hand(x, layer, training, options.get("dilation", 4)))


def test_one_image_in_training_uses_the_running_statistics_of_the_channel_part():
    layer = randomised(BAM(24, ratio=4))
    x = sample(24, (7, 5), batch=1)
    before = copy.deepcopy(layer.channel.bn.state_dict())
    assert_same(layer, x, by_hand(x, layer, training=True, channel_training=False))
    assert all(torch.equal(value, before[key]) for key, value in layer.channel.bn.state_dict().items())
    assert layer.spatial.bn_reduce.num_batches_tracked == 1
    layer(torch.from_numpy(x)).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


def test_synchronised_norm_is_left_to_itself(monkeypatch):
    """Its other ranks wait for this one, whatever it holds."""
    layer = nn.SyncBatchNorm.convert_sync_batchnorm(BAM(8))
    monkeypatch.setattr(layer.channel.bn, "forward", lambda y: calls.append(len(y)) or y)
    calls = []
    layer.channel(torch.ones(1, 8, 2, 2))
    assert calls == [1]


@pytest.mark.parametrize(("channels", "middle"), [(1, 1), (16, 1), (24, 1), (60, 3), (90, 5), (256, 16)])
def test_width(channels, middle):
    layer = BAM(channels)
    assert layer.channel.fc1.weight.shape == (middle, channels)
    assert layer.spatial.reduce.weight.shape == (middle, channels, 1, 1)
    assert layer.spatial.dil2.weight.shape == (middle, middle, 3, 3)
    assert (layer.spatial.dil1.dilation, layer.spatial.dil1.padding) == ((4, 4), (4, 4))
