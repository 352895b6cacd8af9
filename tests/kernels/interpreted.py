"""SimAM's Triton kernels in Triton's interpreter: prints, as JSON, how far each case is from the formula in float64.

A process of its own, because Triton looks at TRITON_INTERPRET when a kernel is defined.
"""

import json
import sys

import torch
from test_fast_simam import layouts, relative

from yolo_attn.kernels import choice, simam, simam_triton

SIZES = [(1, 1), (1, 7), (7, 5), (31, 31), (80, 80), (130, 131)]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def gradients(x):
    """Gradients in several layouts; the last are those of a sum and of a mean over pixels."""
    yield from layouts(x.shape, x.dtype)
    yield torch.ones((), dtype=x.dtype).expand(x.shape)
    yield torch.randn(*x.shape[:2], 1, 1).to(x.dtype).expand(x.shape)


def distances(x, grad, gain=1.4):
    """Of output and gradient, from x by the Triton form's own way through autograd."""
    leaf = x.detach().requires_grad_()
    out = simam.simam(leaf, 1e-4, gain)
    out.backward(grad)
    want, mean, inverse = simam.forward(x.double(), 1e-4, gain)
    dx = simam.backward(grad.double(), x.double(), mean, inverse, gain)
    assert out.dtype == leaf.grad.dtype == x.dtype
    if x.is_contiguous(memory_format=torch.channels_last):
        assert out.is_contiguous(memory_format=torch.channels_last)
    return relative(out, want), relative(leaf.grad, dx)


def far_apart():
    """Of the output, where channels lie 2³⁰ elements apart, in memory that is never touched in between."""
    x = torch.empty(2**31 + 64, dtype=torch.float16).as_strided((1, 3, 4, 4), (0, 2**30, 4, 1))
    x.copy_(torch.randn(x.shape))
    return relative(simam_triton.forward(x, 1e-4, 1.0)[0], simam.forward(x.double(), 1e-4, 1.0)[0])


def main():
    simam.runs_triton = lambda x: True
    results = {}
    for dtype in DTYPES:
        for size in SIZES:
            shape = (2, 3 if size[0] < 80 else 1, *size)
            for i, x in enumerate(layouts(shape, dtype)):
                every = size[0] < 31 and dtype == torch.float32
                for j, grad in enumerate(gradients(x) if every else [torch.randn(shape).to(dtype)]):
                    results[f"{str(dtype)[6:]} {size} {i} {j}"] = distances(x, grad)
    others = {
        "(641, 480)": torch.randn(1, 1, 641, 480),
        "channels last": torch.randn(1, 9, 64, 48).to(memory_format=torch.channels_last),
        "constant": torch.full((2, 3, 6, 5), 1.5),
    }
    for name, x in others.items():
        results[f"float32 {name}"] = distances(x, torch.randn(x.shape))
    x = 250 + torch.randn(1, 2, 150, 150)  # the mean itself has units of 1.5e-5
    results["float32 mean 250"] = [d / 10 for d in distances(x, torch.randn(x.shape))]
    results["float16 far apart"] = [far_apart(), 0.0]
    assert not choice.runs_triton(torch.ones(1, 1, 1, 1))
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
