"""SimAM's Triton kernels in Triton's interpreter: prints, as JSON, how far each case is from the formula in float64.

A process of its own, because Triton looks at TRITON_INTERPRET when a kernel is defined.
"""

import json
import sys

import torch
from test_fast_simam import layouts, relative

from yolo_attn.kernels import choice, simam

SIZES = [(1, 1), (1, 7), (7, 5), (31, 31), (80, 80), (130, 131)]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def distances(x, gain=1.4):
    """Of output and gradient, from x by the Triton form's own way through autograd."""
    grad = torch.randn(x.shape).to(x.dtype)
    leaf = x.detach().requires_grad_()
    out = simam.simam(leaf, 1e-4, gain)
    out.backward(grad)
    want, mean, inverse = simam.forward(x.double(), 1e-4, gain)
    dx = simam.backward(grad.double(), x.double(), mean, inverse, gain)
    assert out.dtype == leaf.grad.dtype == x.dtype
    if x.is_contiguous(memory_format=torch.channels_last):
        assert out.is_contiguous(memory_format=torch.channels_last)
    return relative(out, want), relative(leaf.grad, dx)


def main():
    simam.runs_triton = lambda x: True
    results = {}
    for dtype in DTYPES:
        for size in SIZES:
            shape = (2, 3 if size[0] < 80 else 1, *size)
            for i, x in enumerate(layouts(shape, dtype)):
                results[f"{str(dtype)[6:]} {size} {i}"] = distances(x)
    results["float32 (641, 480) 0"] = distances(torch.randn(1, 1, 641, 480))
    results["float32 (641, 480) 1"] = distances(torch.randn(1, 9, 64, 48).to(memory_format=torch.channels_last))
    results["float32 mean 1000 0"] = [d / 10 for d in distances(1000 + torch.randn(1, 2, 150, 150))]
    results["float32 constant 0"] = distances(torch.full((2, 3, 6, 5), 1.5))
    assert not choice.runs_triton(torch.ones(1, 1, 1, 1))
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
