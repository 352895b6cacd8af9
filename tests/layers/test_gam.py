"""GAM against its formula in the test's own words, its fold, and its messages."""

import copy

import numpy as np
import pytest
import torch
from formulas import assert_same, check_fuse, conv, norm, numbers, randomised, relu, sample, sigmoid
from torch import nn

from yolo_attn.layers import GAM


def by_hand(x, layer, training, groups, channel_act):
    """The MLP on the last axis, as in the paper's figure; then two convolutions with the groups interleaved between."""
    state = numbers(layer)
    w1, w2 = (state[f"channel.fc{i}.weight"][:, :, 0, 0] for i in (1, 2))
    pixels = np.moveaxis(x, 1, -1)
    hidden = relu(pixels @ w1.T + state["channel.fc1.bias"])
    attention = np.moveaxis(hidden @ w2.T + state["channel.fc2.bias"], -1, 1)
    u = x * (sigmoid(attention) if channel_act == "sigmoid" else attention)
    a = conv(u, state["spatial.conv1.weight"], state["spatial.conv1.bias"], groups)
    a = relu(norm(a, state, "spatial.bn1", training))
    each = a.shape[1] // groups
    a = a[:, [g * each + i for i in range(each) for g in range(groups)]]
    a = conv(a, state["spatial.conv2.weight"], state["spatial.conv2.bias"], groups)
    return u * sigmoid(norm(a, state, "spatial.bn2", training))


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    ("channels", "options"),
    [
        (1, {"ratio": 1}),
        (3, {"ratio": 3, "channel_act": "none"}),
        (16, {}),
        (16, {"ratio": 2, "groups": 4, "kernel_size": 3}),
        (60, {"groups": 5, "kernel_size": 1}),
        (60, {"ratio": 10, "groups": 3}),
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5), (31, 17)])
def test_formula(size, channels, options, training):
    layer = randomised(GAM(channels, **options)).train(training)
    x = sample(channels, size)
    want = by_hand(x, layer, training, options.get("groups", 1), options.get("channel_act", "sigmoid"))
    assert_same(layer, x, want)


def test_shuffle_lets_every_output_see_every_group():
    layer = randomised(GAM(16, ratio=2, groups=2)).eval()
    x = torch.randn(1, 16, 5, 5, dtype=torch.float64, requires_grad=True)
    for channel in (0, 15):
        (grad,) = torch.autograd.grad(layer.spatial(x)[0, channel].sum(), x)
        assert (grad.abs().sum((0, 2, 3)) > 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_gates_are_formed_in_float32(dtype):
    """σ(1) has no bfloat16 value: a gate formed in bfloat16 would be off by 6e-4, and so would be some products."""
    layer = GAM(4)
    nn.init.zeros_(layer.channel.fc2.weight)
    nn.init.ones_(layer.channel.fc2.bias)
    nn.init.zeros_(layer.spatial.bn2.weight)
    nn.init.ones_(layer.spatial.bn2.bias)
    x = torch.randn(2, 4, 9, 9).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    gate = torch.tensor(1.0).sigmoid()
    assert torch.equal(out, ((x.float() * gate).to(dtype).float() * gate).to(dtype))


OPTIONS = [{}, {"groups": 2}, {"channel_act": "none", "kernel_size": 3}]


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-5), (torch.float16, 4e-3)], ids=str
)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_fuse(options, dtype, tolerance):
    check_fuse(randomised(GAM(8, **options)).to(dtype).eval(), torch.randn(2, 8, 7, 5).to(dtype), tolerance)


def test_fuse_rounds_once():
    layer = randomised(GAM(8)).half()
    conv, bn = layer.spatial.conv1, layer.spatial.bn1
    factor = bn.weight.double() / (bn.running_var.double() + bn.eps).sqrt()
    weight = conv.weight.double() * factor[:, None, None, None]
    bias = (conv.bias.double() - bn.running_mean.double()) * factor + bn.bias.double()
    layer.fuse()
    assert torch.equal(conv.weight, weight.half())
    assert torch.equal(conv.bias, bias.half())


def test_fuse_then_half():
    layer = randomised(GAM(8)).float().eval()
    x = torch.randn(2, 8, 7, 5)
    want = layer(x)
    folded = copy.deepcopy(layer)
    folded.fuse()
    assert torch.equal(layer(x), want)
    torch.testing.assert_close(folded.half()(x.half()).float(), want, rtol=0.01, atol=0.01)


def test_fuse_keeps_layout_and_trainability():
    layer = randomised(GAM(8)).float().to(memory_format=torch.channels_last)
    layer.spatial.conv1.requires_grad_(False)
    layer.fuse()
    assert layer.spatial.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert not layer.spatial.conv1.weight.requires_grad
    assert layer.spatial.conv2.weight.requires_grad
    assert layer.spatial.conv2.weight.is_leaf


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ratio": 5}, ["ratio=5 does not divide channels=64; allowed: 1, 2, 4, 8, 16, 32, 64"]),
        ({"ratio": 128}, ["ratio=128 does not divide channels=64; allowed: 1, 2"]),
        ({"groups": 3}, ["groups=3", "channels=64", "channels/ratio=16; allowed: 1, 2, 4, 8, 16"]),
        ({"groups": 32}, ["groups=32", "channels/ratio=16; allowed: 1, 2, 4, 8, 16"]),
        ({"channel_act": "relu"}, ["channel_act='relu'", "allowed: 'sigmoid', 'none'"]),
        ({"channel_act": None}, ["channel_act=None", "allowed: 'sigmoid', 'none'"]),
    ],
)
def test_wrong_options(options, words):
    with pytest.raises(ValueError, match=r"^GAM: ") as e:
        GAM(**{"channels": 64} | options)
    for word in words:
        assert word in str(e.value)


def test_defaults_and_repr():
    layer = GAM(64)
    assert (layer.channel.fc1.out_channels, layer.spatial.conv1.kernel_size, layer.spatial.groups) == (16, (7, 7), 1)
    assert "channel_act='sigmoid'" in repr(layer)
    assert "channel_act='none'" in repr(GAM(64, channel_act="none"))
