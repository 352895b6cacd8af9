"""The fast form of SimAM against the formula of its layer."""

import pytest
import torch

from yolo_attn.layers import SimAM

SIZES = [(1, 1), (1, 7), (7, 5), (31, 31), (80, 80)]
TOLERANCES = {torch.float64: 1e-12, torch.float32: 3e-6, torch.float16: 7e-4, torch.bfloat16: 6e-3}

every_dtype = pytest.mark.parametrize("dtype", TOLERANCES, ids=str)


def layouts(shape, dtype, scale=2.0, offset=0.5, device="cpu"):
    """One input in several layouts: as it comes, channels last, a slice of a larger one, transposed, expanded."""
    x = (torch.randn(*shape) * scale + offset).to(device, dtype)
    batch, channels, height, width = shape
    wide = torch.zeros(batch, channels + 1, height + 2, 2 * width, dtype=dtype, device=device)
    wide[:, 1:, 2:, ::2] = x
    yield x
    yield x.to(memory_format=torch.channels_last)
    yield wide[:, 1:, 2:, ::2]
    yield x.transpose(2, 3).contiguous().transpose(2, 3)
    yield x[:1].expand(batch, -1, -1, -1)


def results(layer, x, grad, mode, monkeypatch):
    monkeypatch.setenv("YOLO_ATTN_KERNELS", mode)
    leaf = x.detach().requires_grad_()
    out = layer(leaf)
    return out, *torch.autograd.grad(out, leaf, grad)


def relative(got, want):
    return ((got.double() - want.double()).abs().max() / want.double().abs().max().clamp(min=1)).item()


@every_dtype
@pytest.mark.parametrize("options", [{}, {"e_lambda": 0.1, "gain": 1.4}], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_same_as_the_formula_in_float64(size, options, dtype, monkeypatch):
    layer = SimAM(**options)
    for x in layouts((2, 3, *size), dtype):
        grad = torch.randn_like(x)
        got = results(layer, x, grad, "auto", monkeypatch)
        want = results(layer, x.double(), grad.double(), "0", monkeypatch)
        for a, b in zip(got, want, strict=True):
            assert a.dtype == dtype
            assert relative(a, b) <= TOLERANCES[dtype]


@every_dtype
def test_inference_gives_the_same_and_leaves_its_input(dtype):
    layer = SimAM(gain=1.4)
    for x in layouts((2, 3, 7, 5), dtype):
        before, version = x.clone(), x._version
        with torch.no_grad():
            out = layer(x)
        assert torch.equal(out, layer(x.detach().requires_grad_()))
        assert torch.equal(x, before)
        assert x._version == version


def test_layouts_are_kept_and_gradients_come_in_any(monkeypatch):
    x = torch.randn(2, 4, 6, 5, dtype=torch.float64)
    grad = torch.randn_like(x)
    want = results(SimAM(), x, grad, "0", monkeypatch)
    for a in (torch.contiguous_format, torch.channels_last):
        for b in (torch.contiguous_format, torch.channels_last):
            got = results(SimAM(), x.to(memory_format=a), grad.to(memory_format=b), "auto", monkeypatch)
            assert all(t.is_contiguous(memory_format=a) for t in got)
            torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_bfloat16_autocast(monkeypatch):
    x = torch.randn(2, 4, 9, 7)
    want = results(SimAM(), x, torch.ones_like(x), "0", monkeypatch)
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", torch.bfloat16):
            got = results(SimAM(), x.to(dtype), torch.ones_like(x, dtype=dtype), "auto", monkeypatch)
        assert {t.dtype for t in got} == {dtype}
        assert max(relative(a, b) for a, b in zip(got, want, strict=True)) <= TOLERANCES[dtype] * 2


@pytest.mark.parametrize("e_lambda", [1e-4, 1e-45, 5e-324, 9.0])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-3, 1e4])
def test_extreme_values(scale, e_lambda, monkeypatch):
    for offset in (0.0, 300.0):
        x = next(layouts((2, 3, 6, 5), torch.float32, scale, offset))
        got = results(SimAM(e_lambda=e_lambda), x, torch.ones_like(x), "auto", monkeypatch)
        want = results(SimAM(e_lambda=e_lambda), x, torch.ones_like(x), "0", monkeypatch)
        assert all(t.isfinite().all() for t in got)
        torch.testing.assert_close(got[0], want[0], rtol=1e-5, atol=0)


def test_without_a_batch():
    """The formula takes the (C, H, W) of one picture, and so must the layer in any mode."""
    x = torch.randn(3, 7, 5)
    torch.testing.assert_close(SimAM()(x), SimAM()(x[None])[0])


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 5)], ids=str)
def test_gradcheck(size):
    for x in list(layouts((2, 3, *size), torch.float64))[:4]:
        assert torch.autograd.gradcheck(SimAM(e_lambda=0.1, gain=1.4), (x.detach().requires_grad_(),))
