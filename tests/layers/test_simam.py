"""SimAM against its formula in the test's own words, at its edges, and its messages."""

import numpy as np
import pytest
import torch

from yolo_attn.layers import SimAM

SIGMOID_HALF = 1 / (1 + np.exp(-0.5))


def by_hand(x, e_lambda):
    """One plane at a time: inverse energy from the unbiased variance."""
    out = np.empty_like(x)
    for index in np.ndindex(x.shape[:2]):
        plane = x[index]
        variance = plane.var(ddof=1) if plane.size > 1 else 0.0
        inverse_energy = (plane - plane.mean()) ** 2 / (4 * (variance + e_lambda)) + 0.5
        out[index] = plane / (1 + np.exp(-inverse_energy))
    return out


@pytest.mark.parametrize("e_lambda", [1e-4, 0.1, 9])
@pytest.mark.parametrize("channels", [1, 3, 16, 60])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5), (31, 17)])
def test_formula(size, channels, e_lambda):
    x = np.random.default_rng(0).normal(0.5, 2, (2, channels, *size))
    got = SimAM(channels, e_lambda=e_lambda)(torch.from_numpy(x))
    np.testing.assert_allclose(got.numpy(), by_hand(x, e_lambda), rtol=1e-12, atol=1e-14)


@pytest.mark.trap(6)
def test_float16_beyond_the_range_of_its_sum_of_squares():
    torch.manual_seed(0)
    x = (6 * torch.randn(1, 4, 80, 80)).half()
    assert (x - x.mean((2, 3), keepdim=True)).square().sum((2, 3)).isinf().all()
    want = SimAM()(x.float())
    torch.testing.assert_close(SimAM()(x).float(), want, rtol=1e-3, atol=1e-3)
    assert (want - x.float() * SIGMOID_HALF).abs().max() > 5


@pytest.mark.parametrize("e_lambda", [1e-4, 5e-324])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(1, 1), (4, 4)])
def test_constant_plane(size, dtype, e_lambda):
    x = torch.full((2, 3, *size), 1.5, dtype=dtype, requires_grad=True)
    out = SimAM(e_lambda=e_lambda)(x)
    torch.testing.assert_close(out.detach(), torch.full_like(out, 1.5 * SIGMOID_HALF).detach())
    out.sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, SIGMOID_HALF).detach())


def test_large_mean_keeps_the_variance():
    x = 1000 + np.random.default_rng(0).normal(size=(1, 2, 20, 20)).astype("float32")
    got = SimAM()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(got, by_hand(x.astype(float), 1e-4), rtol=1e-4)


def test_gate_range():
    gate = SimAM()(torch.ones(1).expand(1, 1, 5, 5) + torch.eye(5)) / (1 + torch.eye(5))
    assert gate.min() >= SIGMOID_HALF - 1e-6
    assert gate.max() < 1


def test_has_no_state_and_is_the_same_in_both_modes():
    layer, x = SimAM(3), torch.randn(2, 3, 4, 4)
    assert layer.state_dict() == {}
    assert torch.equal(layer.train()(x), layer.eval()(x))


def test_flops_is_ten_for_each_element():
    assert SimAM().flops(torch.empty(2, 3, 5, 7, device="meta")) == 10 * 2 * 3 * 5 * 7


def test_repr():
    assert repr(SimAM()) == "SimAM(e_lambda=0.0001)"
    assert repr(SimAM(64, e_lambda=0.1)) == "SimAM(64, e_lambda=0.1)"


@pytest.mark.parametrize("channels", [0, -1, 1e-4, 64.0, True, "64", [64]])
def test_wrong_channels(channels):
    with pytest.raises(
        ValueError, match=r"SimAM: channels must be a positive int or None, got .*SimAM\(e_lambda="
    ) as e:
        SimAM(channels)
    assert f"got {channels!r};" in str(e.value)


@pytest.mark.parametrize("e_lambda", [0, -1e-4, 10, 1024, 10.0, float("nan"), float("inf"), True, "1e-4", None])
def test_wrong_e_lambda(e_lambda):
    with pytest.raises(ValueError, match=r"SimAM: e_lambda must be .* 0 < e_lambda < 10, got .*constant σ\(0.5\)") as e:
        SimAM(e_lambda=e_lambda)
    assert f"got {e_lambda!r};" in str(e.value)
    assert "channel count" in str(e.value)
    with pytest.raises(ValueError, match=r"constant σ\(0.5\) = 0.62$"):  # it was given
        SimAM(8, e_lambda=e_lambda)
