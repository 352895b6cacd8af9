"""The two-matrix resizing against F.interpolate."""

import pytest
import torch
import torch.nn.functional as F

from yolo_attn.layers.resize import resize

SIZES = [(1, 1), (1, 9), (5, 7), (6, 6), (7, 5), (20, 20), (31, 17), (80, 52)]


def interpolated(maps, size, antialias):
    return F.interpolate(maps[None], size, mode="bilinear", align_corners=False, antialias=antialias)[0]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)], ids=str)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("grid", SIZES)
def test_values_and_gradient(grid, size, dtype, tolerance):
    maps = torch.randn(3, *grid, dtype=dtype, requires_grad=True)
    cotangent = torch.randn(3, *size, dtype=dtype)
    got = resize(maps, size)
    grows = size[0] >= grid[0] and size[1] >= grid[1]
    for antialias in (True, False) if grows else (True,):
        want = interpolated(maps, size, antialias)
        torch.testing.assert_close(got, want, rtol=0, atol=tolerance)
        (grad,), (want_grad,) = (torch.autograd.grad(t, maps, cotangent, retain_graph=True) for t in (got, want))
        torch.testing.assert_close(grad, want_grad, rtol=0, atol=tolerance * max(1, size[0] * size[1] / 50))


def test_equal_size_is_the_identity():
    maps = torch.randn(2, 7, 5)
    assert resize(maps, (7, 5)) is maps
    assert resize(maps, maps.shape[1:]) is maps


@pytest.mark.filterwarnings("ignore:.torch.jit.trace. is deprecated:FutureWarning")
@pytest.mark.parametrize("size", [(7, 5), (80, 80), (333, 129)])
def test_traced_identity_is_exact(size):
    maps = torch.randn(2, *size)
    traced = torch.jit.trace(lambda m, x: resize(m, x.shape[1:]), (maps, torch.zeros(1, 3, 4)))
    assert torch.equal(traced(maps, maps), maps)


@pytest.mark.filterwarnings("ignore:.torch.jit.trace. is deprecated:FutureWarning")
@pytest.mark.parametrize("size", SIZES)
def test_traced_in_float64(size):
    maps = torch.randn(2, 6, 7, dtype=torch.float64)
    traced = torch.jit.trace(lambda m, x: resize(m, x.shape[1:]), (maps, torch.zeros(1, 3, 4)))
    torch.testing.assert_close(traced(maps, torch.empty(1, *size)), resize(maps, size), rtol=0, atol=1e-14)


@pytest.mark.parametrize("size", SIZES)
def test_constant_stays(size):
    torch.testing.assert_close(resize(torch.full((1, 6, 6), 0.3), size), torch.full((1, *size), 0.3))


def test_autocast_does_not_round():
    maps = torch.randn(2, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        got = resize(maps, (7, 5))
    assert torch.equal(got, resize(maps, (7, 5)))


def test_meta_device():
    assert resize(torch.empty(2, 6, 6, device="meta"), (7, 5)).shape == (2, 7, 5)
