"""SimAM as two Triton kernels, a forward and a backward one. Untried on a GPU: off unless YOLO_ATTN_KERNELS=1.

A program holds ROWS planes, adjacent channels of channels_last tensors, and walks over them in TILES tiles; a plane of
one tile stays in registers and is read once. Tensors come with a stride for batch, channel and pixel, so one source
serves NCHW, channels_last and views. Arithmetic is float32; each tile's variance is taken about its own mean, and tiles
are merged by Chan's formula. No two programs write to one place, so a result is the same each time. The formulas are
those of kernels/simam.py.

The kernels' arguments stay in lines by kind: pointers and sizes, strides, constants.
"""

import contextlib
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

ELEMENTS = {"forward": 16384, "backward": 8192}
"""Most elements of a tile, over all its planes: what fits into the registers of a program."""

PER_THREAD = {"forward": 32, "backward": 16}


@triton.jit
def _sigmoid(y):
    """1 / (1 + e^−y) without a division, which takes more instructions than all the rest."""
    t = 1.0 + tl.exp2(y * -1.4426950408889634)
    return tl.rsqrt(t * t)


@triton.jit
def _tile(base, i, rows, count, stride, ROWS: tl.constexpr, TILE: tl.constexpr):
    """Pointers and mask of a tile of each plane."""
    pixel = i * TILE + tl.arange(0, TILE)
    return base[:, None] + (pixel * stride)[None, :], rows[:, None] & (pixel < count)[None, :]


@triton.jit
def forward_kernel(
    x_ptr, out_ptr, mean_ptr, inverse_ptr, planes, channels, count, n, e_lambda, gain,
    xb, xc, xp, ob, oc, op,
    ROWS: tl.constexpr, TILE: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    rows = row < planes
    b, c = (row // channels).to(tl.int64), (row % channels).to(tl.int64)
    x_base, out_base = x_ptr + b * xb + c * xc, out_ptr + b * ob + c * oc
    at, mask = _tile(x_base, 0, rows, count, xp, ROWS, TILE)
    x = tl.load(at, mask=mask, other=0.0).to(tl.float32)
    seen = tl.minimum(count, TILE).to(tl.float32)
    mean = tl.sum(x, 1) / seen
    d = tl.where(mask, x - mean[:, None], 0.0)
    squares = tl.sum(d * d, 1)
    for i in range(1, TILES):
        at, mask = _tile(x_base, i, rows, count, xp, ROWS, TILE)
        x = tl.load(at, mask=mask, other=0.0).to(tl.float32)
        size = tl.minimum(count - i * TILE, TILE).to(tl.float32)
        own = tl.sum(x, 1) / size
        d = tl.where(mask, x - own[:, None], 0.0)
        off = own - mean
        share = size / (seen + size)
        squares += tl.sum(d * d, 1) + off * off * (seen * share)
        mean += off * share
        seen += size
    inverse = 1.0 / (4.0 * (squares / n + e_lambda))
    tl.store(mean_ptr + row, mean, mask=rows)
    tl.store(inverse_ptr + row, inverse, mask=rows)
    for i in range(TILES):
        at, mask = _tile(x_base, i, rows, count, xp, ROWS, TILE)
        if TILES > 1:
            x = tl.load(at, mask=mask, other=0.0).to(tl.float32)
        d = x - mean[:, None]
        out = x * _sigmoid(d * d * inverse[:, None] + 0.5) * gain
        at, mask = _tile(out_base, i, rows, count, op, ROWS, TILE)
        tl.store(at, out.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _parts(x_base, grad_base, i, rows, count, xp, gp, mean, inverse, gain, ROWS: tl.constexpr, TILE: tl.constexpr):
    """Return g · s, a · d and d of a tile."""
    at, mask = _tile(x_base, i, rows, count, xp, ROWS, TILE)
    x = tl.load(at, mask=mask, other=0.0).to(tl.float32)
    at, mask = _tile(grad_base, i, rows, count, gp, ROWS, TILE)
    g = tl.load(at, mask=mask, other=0.0).to(tl.float32) * gain
    d = x - mean
    s = _sigmoid(d * d * inverse + 0.5)
    gs = g * s
    return gs, gs * (1.0 - s) * x * d, d  # the first two are 0 outside of the mask, where g is


@triton.jit
def backward_kernel(
    x_ptr, grad_ptr, dx_ptr, mean_ptr, inverse_ptr, planes, channels, count, n, gain,
    xb, xc, xp, gb, gc, gp, db, dc, dp,
    ROWS: tl.constexpr, TILE: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    rows = row < planes
    b, c = (row // channels).to(tl.int64), (row % channels).to(tl.int64)
    x_base, grad_base, dx_base = x_ptr + b * xb + c * xc, grad_ptr + b * gb + c * gc, dx_ptr + b * db + c * dc
    mean = tl.load(mean_ptr + row, mask=rows, other=0.0)[:, None]
    inverse = tl.load(inverse_ptr + row, mask=rows, other=0.0)[:, None]
    first = tl.zeros((ROWS,), tl.float32)
    second = tl.zeros((ROWS,), tl.float32)
    for i in range(TILES):
        gs, ad, d = _parts(x_base, grad_base, i, rows, count, xp, gp, mean, inverse, gain, ROWS, TILE)
        first += tl.sum(ad, 1)
        second += tl.sum(ad * d, 1)
        if TILES == 1:
            _store(dx_base, 0, rows, count, dp, gs, ad, d, first, second, inverse, n, dx_ptr, ROWS, TILE)
    if TILES > 1:
        for i in range(TILES):
            gs, ad, d = _parts(x_base, grad_base, i, rows, count, xp, gp, mean, inverse, gain, ROWS, TILE)
            _store(dx_base, i, rows, count, dp, gs, ad, d, first, second, inverse, n, dx_ptr, ROWS, TILE)


@triton.jit
def _store(
    base, i, rows, count, stride, gs, ad, d, first, second, inverse, n, dx_ptr,
    ROWS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Write dx of a tile."""
    mean_ad = (first / count)[:, None]
    factor = (second * 4.0 / n)[:, None] * inverse
    dx = gs + 2.0 * inverse * (ad - mean_ad - factor * d)
    at, mask = _tile(base, i, rows, count, stride, ROWS, TILE)
    tl.store(at, dx.to(dx_ptr.dtype.element_ty), mask=mask)


def forward(x: Tensor, e_lambda: float, gain: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return out, μ and 1/D of an x in float32 or narrower, as kernels/simam.py has them."""
    x, strides = _collapsed(x)
    out, out_strides = _collapsed(torch.empty_like(x))
    mean = torch.empty((*x.shape[:2], 1, 1), dtype=torch.float32, device=x.device)
    inverse = torch.empty_like(mean)
    count = x.shape[2] * x.shape[3]
    e_lambda = max(e_lambda, torch.finfo(torch.float32).tiny)
    numbers = (mean.numel(), x.shape[1], count, float(max(count - 1, 1)), e_lambda, float(gain))
    _launch(forward_kernel, "forward", x, (x, out, mean, inverse, *numbers, *strides, *out_strides))
    return out, mean, inverse


def backward(grad: Tensor, x: Tensor, mean: Tensor, inverse: Tensor, gain: float) -> Tensor:
    """Return dx of x's dtype."""
    (x, xs), (grad, gs) = _collapsed(x), _collapsed(grad)
    dx, ds = _collapsed(torch.empty_like(x))
    count = x.shape[2] * x.shape[3]
    numbers = (mean.numel(), x.shape[1], count, float(max(count - 1, 1)), float(gain))
    _launch(backward_kernel, "backward", x, (x, grad, dx, mean, inverse, *numbers, *xs, *gs, *ds))
    return dx


def plan(x: Tensor, way: str) -> dict[str, int]:
    """Return ROWS, TILE, TILES and the number of warps for a tensor of collapsed pixels."""
    count, planes = x.shape[2] * x.shape[3], x.shape[0] * x.shape[1]
    whole = triton.next_power_of_2(count)
    if x.shape[1] > 1 and x.stride(1) == 1 and count > 1:
        rows = 32 // x.element_size()  # adjacent channels, together what memory hands out at once
        tile = min(whole, 4096 // rows)
    else:
        tile = min(whole, ELEMENTS[way])
        rows = max(1, min(2048 // tile, 16))
    rows = min(rows, triton.next_power_of_2(planes))
    warps = max(1, min(16, rows * tile // (32 * PER_THREAD[way])))
    return {"ROWS": rows, "TILE": tile, "TILES": triton.cdiv(count, tile), "num_warps": warps}


def _launch(kernel: Any, way: str, x: Tensor, arguments: tuple[Any, ...]) -> None:
    chosen = plan(x, way)
    grid = (triton.cdiv(x.shape[0] * x.shape[1], chosen["ROWS"]),)
    with torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext():
        kernel[grid](*arguments, **chosen)


def _collapsed(x: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
    """Return x, copied if its pixels have no common stride, and the strides of batch, channel and pixel."""
    height, width = x.shape[2:]
    b, c, h, w = x.stride()
    pixel = h if width == 1 else w
    if (height > 1 and width > 1 and h != width * w) or pixel * height * width >= 2**31:
        x = x.contiguous()
        return x, (x.stride(0), x.stride(1), 1)
    return x, (b, c, pixel)
