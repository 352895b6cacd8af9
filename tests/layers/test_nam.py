"""NAM against its formula in the test's own words, its norm, its edges, and its messages."""

import copy
import pickle

import numpy as np
import pytest
import torch
from formulas import numbers, randomised
from torch import nn

from yolo_attn.layers import NAM
from yolo_attn.layers.nam import SCALE_NORMS


def drawn(channels, **options):
    """A layer with no neutral start value, and the numbers of its norm."""
    layer = randomised(NAM(channels, **options))
    return layer, {key.rpartition(".")[2]: value for key, value in numbers(layer).items()}


def by_hand(x, bn, training, eps=1e-5, weight_norm="sum"):
    """Channel by channel: normalise, weigh by the share of |γ|, squash, scale. Also what γ's gradient of Σ out is."""
    out, gamma_grad = np.empty_like(x), np.empty(x.shape[1])
    share = np.abs(bn["weight"]) / np.abs(bn["weight"]).sum()
    if weight_norm == "mean":
        share = share * x.shape[1]
    for c in range(x.shape[1]):
        values = x[:, c]
        mean, var = (values.mean(), values.var()) if training else (bn["running_mean"][c], bn["running_var"][c])
        unit = (values - mean) / np.sqrt(var + eps)
        gate = 1 / (1 + np.exp(-share[c] * (bn["weight"][c] * unit + bn["bias"][c])))
        out[:, c] = values * gate
        gamma_grad[c] = (values * gate * (1 - gate) * share[c] * unit).sum()
    return out, gamma_grad


@pytest.mark.parametrize("weight_norm", ["sum", "mean"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("channels", [1, 3, 16, 60])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5), (31, 17)])
def test_formula(size, channels, training, weight_norm):
    layer, bn = drawn(channels, weight_norm=weight_norm)
    x = np.random.default_rng(1).normal(0.5, 2, (3, channels, *size))
    want, gamma_grad = by_hand(x, bn, training, weight_norm=weight_norm)
    out = layer.train(training)(torch.from_numpy(x))
    np.testing.assert_allclose(out.detach().numpy(), want, rtol=1e-11, atol=1e-13)
    out.sum().backward()
    np.testing.assert_allclose(layer.channel.bn.weight.grad.numpy(), gamma_grad, rtol=1e-9, atol=1e-11)
    if training:
        count = x.size // channels
        moved = 0.9 * bn["running_var"] + 0.1 * x.var((0, 2, 3)) * count / (count - 1)
        np.testing.assert_allclose(layer.channel.bn.running_var.numpy(), moved, rtol=1e-12)


def test_attached_weights_change_only_the_gradient_of_gamma():
    x = torch.randn(2, 6, 5, 5, dtype=torch.float64)
    results = []
    for detach_weights in (True, False):
        layer = randomised(NAM(6, detach_weights=detach_weights))
        out = layer(x)
        out.sum().backward()
        results.append((out, layer.channel.bn.bias.grad, layer.channel.bn.weight.grad))
    (out, bias, gamma), (out_attached, bias_attached, gamma_attached) = results
    assert torch.equal(out, out_attached)
    assert torch.equal(bias, bias_attached)
    assert not torch.allclose(gamma, gamma_attached)


def test_norms_keep_eps_and_momentum_inside_ultralytics():
    """What initialize_weights overwrites is exactly a BatchNorm2d; what escapes weight decay is any norm layer."""
    layer = NAM(4, spatial=True, grid=(2, 5), eps=1e-4, momentum=0.2)
    twin = pickle.loads(pickle.dumps(layer))
    assert "grid=(2, 5)" in str(twin)
    for one in (layer, twin):
        norms = [m for m in one.modules() if isinstance(m, SCALE_NORMS)]
        assert norms == [one.channel.bn, one.spatial.bn]
        for bn, parent in zip(norms, (nn.BatchNorm2d, nn.BatchNorm1d), strict=True):
            assert type(bn) is not parent
            assert isinstance(bn, parent)
            assert (bn.eps, bn.momentum) == (1e-4, 0.2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_survives_conversion_to_sync_batch_norm(dtype):
    layer = randomised(NAM(6, spatial=True, grid=4)).to(dtype).eval()
    twin = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(layer))
    assert isinstance(twin.channel.bn, nn.SyncBatchNorm)
    assert isinstance(twin.spatial.bn, nn.SyncBatchNorm)
    x = torch.randn(2, 6, 5, 5).to(dtype)
    assert torch.equal(twin(x), layer(x))


@pytest.mark.trap(16)
@pytest.mark.parametrize("detach_weights", [True, False])
@pytest.mark.parametrize("gamma", [0.0, 1e-45])
def test_vanished_scales(gamma, detach_weights):
    layer = NAM(4, detach_weights=detach_weights)
    nn.init.constant_(layer.channel.bn.weight, gamma)
    nn.init.constant_(layer.channel.bn.bias, 5.0)
    x = (100 * torch.randn(2, 4, 5, 5)).requires_grad_()
    out = layer(x)
    torch.testing.assert_close(out, 0.5 * x)
    out.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in (x, *layer.parameters()))


def test_small_scales_are_exact():
    layer, bn = drawn(6)
    layer.channel.bn.weight.data *= 1e-30
    x = np.random.default_rng(1).normal(size=(2, 6, 4, 4))
    want, _ = by_hand(x, bn | {"weight": bn["weight"] * 1e-30}, training=True)
    np.testing.assert_allclose(layer(torch.from_numpy(x)).detach().numpy(), want, rtol=1e-12)
    shares = layer.channel.weights(torch.float32)
    torch.testing.assert_close(shares.sum(), torch.tensor(1.0))


def test_half_precision_gate_keeps_its_resolution():
    """At C = 1024 the start gate is 0.5 ± 2e-4: a float16 gate would have one or two values."""
    layer = NAM(1024).half().eval()
    x = torch.linspace(-4, 4, 64).half().reshape(1, 1, 8, 8).expand(1, 1024, 8, 8)
    x = torch.where(x == 0, 1, x)
    gate = 1 / (1 + np.exp(-x[0, 0].double().numpy() / np.sqrt(1 + 1e-5) / 1024))
    want = torch.from_numpy(x[0, 0].double().numpy() * gate).half()
    assert torch.equal(layer(x)[0, 0], want)


def test_half_precision_training_moves_the_statistics():
    layer = NAM(4).half()
    x = (3 + 2 * torch.randn(8, 4, 9, 9)).half()
    layer(x)
    bn = layer.channel.bn
    assert bn.num_batches_tracked == 1
    torch.testing.assert_close(bn.running_mean, (0.1 * x.float().mean((0, 2, 3))).half())
    assert not bn.running_mean.requires_grad


def test_single_value_per_channel():
    layer, x = NAM(4), torch.randn(1, 4, 1, 1)
    with pytest.raises(ValueError, match=r"NAM: batch statistics need more than one value per channel.*\(1, 4, 1, 1\)"):
        layer(x)
    assert layer.eval()(x).isfinite().all()
    layer.train()
    layer.channel.bn.eval()  # a frozen norm needs no batch statistics
    assert layer(x).isfinite().all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weight_norm": "max"}, ["weight_norm='max'", "'sum', 'mean'"]),
        ({"weight_norm": None}, ["weight_norm=None", "'sum', 'mean'"]),
        ({"detach_weights": 1}, ["detach_weights", "True or False", "got 1"]),
        ({"eps": 0}, ["eps", "> 0", "got 0"]),
        ({"eps": float("nan")}, ["eps", "> 0", "got nan"]),
        ({"eps": float("inf")}, ["eps", "finite", "got inf"]),
        ({"eps": True}, ["eps", "got True"]),
        ({"momentum": None}, ["momentum", "0 < momentum <= 1", "got None"]),
        ({"momentum": 0}, ["momentum", "0 < momentum <= 1", "got 0"]),
        ({"momentum": 1.5}, ["momentum", "0 < momentum <= 1", "got 1.5"]),
        ({"momentum": float("nan")}, ["momentum", "got nan"]),
        ({"momentum": True}, ["momentum", "got True"]),
    ],
)
def test_wrong_options(options, words):
    with pytest.raises(ValueError, match=r"^NAM: ") as e:
        NAM(**{"channels": 8} | options)
    for word in words:
        assert word in str(e.value)


def test_limits_are_allowed_and_shown():
    layer = NAM(1, weight_norm="mean", detach_weights=False, eps=1, momentum=1)
    assert "weight_norm='mean', detach_weights=False" in repr(layer)
    assert "ScaleNorm(1, eps=1, momentum=1" in repr(layer)
