"""Times SimAM, NAM and GAM on a CPU against the code of papers and blogs: medians of interleaved runs, one thread.

python scripts/bench_layers.py [runs]
"""

import copy
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import yolo_attn
from yolo_attn.layers import GAM, NAM, SimAM

SHAPES = [(2, 64, 80, 80), (2, 128, 40, 40), (2, 256, 20, 20)]


class NaiveSimAM(nn.Module):
    """As it is usually written."""

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        d = (x - x.mean((2, 3), keepdim=True)).pow(2)
        n = x.shape[2] * x.shape[3] - 1
        return x * torch.sigmoid(d / (4 * (d.sum((2, 3), keepdim=True) / n + 1e-4)) + 0.5)


class NaiveNAM(nn.Module):
    """As it is usually written, with the weights along the last dimension."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        scale = self.bn.weight.detach().abs()
        z = self.bn(x).permute(0, 2, 3, 1).contiguous() * (scale / scale.sum())
        return torch.sigmoid(z.permute(0, 3, 1, 2).contiguous()) * x


class NaiveGAM(nn.Module):
    """As it is usually written, with linear layers between permutes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        middle = channels // 4
        self.mlp = nn.Sequential(nn.Linear(channels, middle), nn.ReLU(inplace=True), nn.Linear(middle, channels))
        first, second = (nn.Conv2d(*c, 7, padding=3) for c in ((channels, middle), (middle, channels)))
        norms = nn.BatchNorm2d(middle), nn.BatchNorm2d(channels)
        self.space = nn.Sequential(first, norms[0], nn.ReLU(inplace=True), second, norms[1])

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        batch, channels, height, width = x.shape
        attention = self.mlp(x.permute(0, 2, 3, 1).reshape(batch, -1, channels)).view(batch, height, width, channels)
        u = x * attention.permute(0, 3, 1, 2).sigmoid()
        return u * self.space(u).sigmoid()


def competitors(name: str, channels: int, inference: bool) -> dict[str, tuple[str, nn.Module]]:
    """The forms of a layer, each with the switch's value."""
    naive = {"SimAM": lambda c: NaiveSimAM(), "NAM": NaiveNAM, "GAM": NaiveGAM}[name](channels)
    layer: nn.Module = {"SimAM": SimAM, "NAM": NAM, "GAM": GAM}[name](channels)
    forms = {"naive": ("0", naive), "formula": ("0", layer)}
    if name != "GAM":
        forms["fast"] = ("auto", copy.deepcopy(layer))
    if inference and name != "SimAM":
        forms["fused"] = ("auto", copy.deepcopy(layer))
        forms["fused"][1].fuse()  # type: ignore[operator]
    return {key: (mode, module.train(not inference)) for key, (mode, module) in forms.items()}


def measure(name: str, shape: tuple[int, ...], layout: torch.memory_format, inference: bool, runs: int) -> str:
    """A row: the time of the naive code, and how many times as fast the others are."""
    forms = competitors(name, shape[1], inference)
    x = torch.randn(shape).to(memory_format=layout).requires_grad_(not inference)
    grad = torch.randn(shape).to(memory_format=layout)
    times: dict[str, list[float]] = {key: [] for key in forms}
    for _ in range(runs + 3):
        for key, (mode, module) in forms.items():
            yolo_attn.set_kernels(mode)
            times[key].append(timed(module.to(memory_format=layout), x, None if inference else grad))
    medians = {key: statistics.median(values[3:]) for key, values in times.items()}
    ratios = [
        f"{medians['naive'] / medians[key]:.2f}" if key in medians else "" for key in ("formula", "fast", "fused")
    ]
    kind, order = "inference" if inference else "training", "NCHW" if layout == torch.contiguous_format else "NHWC"
    return " | ".join(
        [f"| {name}", "×".join(map(str, shape)), order, kind, f"{medians['naive'] * 1e3:.2f}", *ratios, ""]
    )


def timed(call: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor | None) -> float:
    """Seconds of a forward pass, with its backward pass where a gradient is given."""
    start = time.perf_counter()
    with torch.set_grad_enabled(grad is not None):
        out = call(x)
    if grad is not None:
        out.backward(grad)
        x.grad = None
    return time.perf_counter() - start


if __name__ == "__main__":
    torch.set_num_threads(1)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 51
    print("| layer | x | layout | | naive, ms | formula | fast | fused |\n|---|---|---|---|---|---|---|---|")
    for layer in ("SimAM", "NAM", "GAM"):
        for size in SHAPES if layer != "GAM" else SHAPES[1:]:
            for memory in (torch.contiguous_format, torch.channels_last):
                for mode in (True, False):
                    print(measure(layer, size, memory, mode, count if layer != "GAM" else count // 5), flush=True)
