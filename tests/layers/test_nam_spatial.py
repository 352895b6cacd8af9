"""NAM's spatial part against its definition with F.interpolate, at its grid and elsewhere, its edges, its messages."""

import copy
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from formulas import randomised
from torch import nn

from yolo_attn.layers import NAM

GRIDS = [(1, 1), (4, 4), (3, 8)]
SIZES = [(1, 1), (1, 9), (3, 8), (4, 4), (7, 5), (31, 17)]


def resized(values, have, want):
    if have == want:
        return values.reshape(want)
    maps = values.reshape(1, 1, *have)
    return F.interpolate(maps, want, mode="bilinear", align_corners=False, antialias=True)[0, 0]


def by_hand(x, bn, grid, training, weight_norm, detach_weights, eps=1e-5, momentum=0.1):
    """The output, and what the running statistics are afterwards."""
    size, count = tuple(x.shape[2:]), x.shape[0] * x.shape[1]
    scale, shift = resized(bn["weight"], grid, size), resized(bn["bias"], grid, size)
    running = bn["running_mean"], bn["running_var"]
    if training:
        columns = x.reshape(count, *size)
        mean, var = columns.mean(0), columns.var(0, correction=0)
        new = (resized(v.detach(), size, grid).flatten() for v in (mean, columns.var(0)))
        running = tuple((1 - momentum) * old + momentum * v for old, v in zip(running, new, strict=True))
    else:
        mean, var = (resized(v, grid, size) for v in running)
    share = (scale.detach() if detach_weights else scale).abs()
    share = share / share.mean()
    if weight_norm == "sum":
        share = share / (grid[0] * grid[1])
    z = (x - mean) / (var + eps).sqrt() * scale + shift
    return x * torch.sigmoid(share * z), running


def build(grid, channels=3, **options):
    return randomised(NAM(channels, spatial=True, grid=grid, **options))


@pytest.mark.parametrize("detach_weights", [True, False], ids=["detached", "attached"])
@pytest.mark.parametrize("weight_norm", ["sum", "mean"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_formula(grid, size, training, weight_norm, detach_weights):
    part = build(grid, weight_norm=weight_norm, detach_weights=detach_weights).spatial.train(training)
    bn = {key: value.clone() for key, value in part.bn.state_dict().items()}
    bn["weight"].requires_grad_()
    bn["bias"].requires_grad_()
    x = (0.5 + 2 * torch.randn(2, 3, *size, dtype=torch.float64)).requires_grad_()
    want, running = by_hand(x, bn, grid, training, weight_norm, detach_weights)
    out = part(x)
    close = {"rtol": 1e-9, "atol": 1e-11}
    torch.testing.assert_close(out, want, **close)
    cotangent = torch.randn_like(out)
    got_grads = torch.autograd.grad(out, (x, part.bn.weight, part.bn.bias), cotangent)
    torch.testing.assert_close(got_grads, torch.autograd.grad(want, (x, bn["weight"], bn["bias"]), cotangent), **close)
    torch.testing.assert_close((part.bn.running_mean, part.bn.running_var), running, **close)
    assert part.bn.num_batches_tracked == bn["num_batches_tracked"] + training


def test_statistics_are_those_of_batch_norm_at_the_grid():
    part, twin = build((4, 5)).spatial, nn.BatchNorm1d(20).double()
    twin.load_state_dict(part.bn.state_dict())
    for _ in range(3):
        x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
        part(x)
        twin(x.reshape(6, 20))
    torch.testing.assert_close(part.bn.state_dict(), twin.state_dict())


def test_channel_part_comes_first():
    layer = build((4, 4)).eval()
    x = torch.randn(2, 3, 7, 5, dtype=torch.float64)
    assert torch.equal(layer(x), layer.spatial(layer.channel(x)))
    assert not torch.allclose(layer(x), layer.channel(layer.spatial(x)))


@pytest.mark.parametrize("weight_norm", ["sum", "mean"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_constant_scales_give_the_analytic_gate_at_every_size(size, weight_norm):
    layer = NAM(3, spatial=True, grid=(5, 6), weight_norm=weight_norm).double().eval()
    for key, value in {"weight": -1.5, "bias": 0.25, "running_mean": 0.5, "running_var": 4.0}.items():
        getattr(layer.spatial.bn, key).data.fill_(value)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    share = 1 / 30 if weight_norm == "sum" else 1
    gate = torch.sigmoid(share * (-1.5 * (x - 0.5) / np.sqrt(4 + 1e-5) + 0.25))
    torch.testing.assert_close(layer.spatial(x), x * gate, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("weight_norm", "mean"), [("sum", 1 / 48), ("mean", 1)])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_strength_of_the_gate_does_not_depend_on_the_size(size, weight_norm, mean):
    part = build((6, 8), weight_norm=weight_norm).spatial
    scale = part._resized((part.bn.weight,), size, torch.float64)[0]
    w = part.weights(scale)
    assert w.shape == size
    torch.testing.assert_close(w.mean(), torch.tensor(mean, dtype=torch.float64))


def test_smooth_scales_give_nearly_the_same_output_on_a_finer_map():
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 20), torch.linspace(0, 1, 20), indexing="ij")
    layer = NAM(4, spatial=True, grid=20, weight_norm="mean").eval()
    layer.spatial.bn.weight.data = (1 + rows + columns**2).flatten()
    x = torch.randn(1, 4, 20, 20)
    fine = layer(x.repeat_interleave(2, 2).repeat_interleave(2, 3))
    coarse = fine.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5))
    torch.testing.assert_close(coarse, layer(x), rtol=0.02, atol=0.01)


@pytest.mark.parametrize("detach_weights", [True, False])
@pytest.mark.parametrize("size", [(4, 4), (7, 5)], ids=str)
@pytest.mark.parametrize("scale", [0.0, 1e-45])
def test_vanished_scales(scale, size, detach_weights):
    layer = NAM(4, spatial=True, grid=4, detach_weights=detach_weights)
    nn.init.constant_(layer.spatial.bn.weight, scale)
    nn.init.constant_(layer.spatial.bn.bias, 5.0)
    x = (100 * torch.randn(2, 4, *size)).requires_grad_()
    out = layer.spatial(x)
    torch.testing.assert_close(out, 0.5 * x)
    out.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in (x, *layer.spatial.parameters()))


def test_half_precision_gate_keeps_its_resolution():
    """At 80×80 the start gate is 0.5 ± 1e-4: a float16 gate would have two values."""
    part = NAM(1, spatial=True, grid=80).half().eval().spatial
    x = torch.linspace(-4, 4, 6400).half().reshape(1, 1, 80, 80)
    gate = 1 / (1 + np.exp(-x.double().numpy() / np.sqrt(1 + 1e-5) / 6400))
    assert len(np.unique(gate.astype("float16"))) < 4
    assert torch.equal(part(x), torch.from_numpy(x.double().numpy() * gate).half())


def test_half_precision_rounds_once_and_moves_the_statistics():
    layer, exact = (NAM(4, spatial=True, grid=3) for _ in range(2))
    x = (3 + 2 * torch.randn(8, 4, 5, 5)).half()
    assert torch.equal(layer.half()(x), exact(x.float()).half())
    for got, want in zip(layer.buffers(), exact.buffers(), strict=True):
        assert torch.equal(got, want.to(got.dtype))
        assert not got.requires_grad


def test_large_mean_keeps_the_variance():
    layer = NAM(4, spatial=True, grid=5, weight_norm="mean")
    x = 1000 + torch.randn(4, 4, 7, 7)
    want = copy.deepcopy(layer).double().spatial(x.double()).float()
    torch.testing.assert_close(layer.spatial(x), want, rtol=1e-4, atol=0)


def test_single_value_per_pixel():
    layer, x = NAM(1, spatial=True, grid=4), torch.randn(1, 1, 5, 3)
    with pytest.raises(ValueError, match=r"NAM: batch statistics need more than one value per pixel.*\(1, 1, 5, 3\)"):
        layer(x)
    assert layer.spatial.bn.num_batches_tracked == 0
    assert layer.eval()(x).isfinite().all()
    layer.train()
    layer.spatial.bn.eval()  # a frozen norm needs no batch statistics
    assert layer(x).isfinite().all()


def test_frozen_norm_keeps_its_statistics():
    layer = NAM(4, spatial=True, grid=4)
    layer.spatial.bn.eval()
    layer(torch.randn(2, 4, 5, 3))
    assert layer.spatial.bn.num_batches_tracked == 0
    assert torch.equal(layer.spatial.bn.running_mean, torch.zeros(16))


def test_meta_device():
    layer = NAM(4, spatial=True, grid=4).to("meta")
    for training in (True, False):
        assert layer.train(training)(torch.empty(2, 4, 7, 5, device="meta")).shape == (2, 4, 7, 5)


@pytest.mark.parametrize(("grid", "want"), [(3, (3, 3)), ((3, 4), (3, 4)), ([3, 4], (3, 4)), (1, (1, 1))])
def test_forms_of_the_grid(grid, want):
    assert NAM(4, spatial=True, grid=grid).spatial.grid == want


ONE_OR_TWO = "grid must be a positive int or two of them, (H, W), got"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"spatial": 1}, "spatial must be True or False, got 1"),
        ({"spatial": None}, "spatial must be True or False, got None"),
        ({"spatial": True}, "spatial=True needs grid, the (H, W) of the map in the usual training: grid=40 for a map"),
        ({"grid": 20}, "grid=20 has no meaning without spatial=True"),
        ({"spatial": True, "grid": 0}, f"{ONE_OR_TWO} 0"),
        ({"spatial": True, "grid": True}, f"{ONE_OR_TWO} True"),
        ({"spatial": True, "grid": 20.0}, f"{ONE_OR_TWO} 20.0"),
        ({"spatial": True, "grid": (20,)}, f"{ONE_OR_TWO} (20,)"),
        ({"spatial": True, "grid": [20, 20, 20]}, f"{ONE_OR_TWO} [20, 20, 20]"),
        ({"spatial": True, "grid": (20, -1)}, f"{ONE_OR_TWO} (20, -1)"),
        ({"spatial": True, "grid": (20, True)}, f"{ONE_OR_TWO} (20, True)"),
        ({"spatial": True, "grid": "20"}, f"{ONE_OR_TWO} '20'"),
    ],
    ids=str,
)
def test_wrong_options(options, words):
    with pytest.raises(ValueError, match=f"^NAM: {re.escape(words)}"):
        NAM(8, **options)
