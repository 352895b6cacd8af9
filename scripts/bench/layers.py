"""SimAM, NAM and GAM alone: every form of them, in turn, on maps as YOLOv8 has them at P3, P4 and P5."""

import copy
import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bench.naive import naive
from bench.timing import CallClock, CudaClock, Form, compared, interleaved, peak, ratio, saved
from yolo_attn.layers import GAM, NAM, SimAM

LAYERS: dict[str, Callable[[int], SimAM | NAM | GAM]] = {"SimAM": SimAM, "NAM": NAM, "GAM": GAM}
CHANNELS = {"n": (64, 128, 256), "s": (128, 256, 512), "m": (192, 384, 576), "x": (320, 640, 640)}
SIDES = (80, 40, 20)
LEVELS = ("P3", "P4", "P5")
LAYOUTS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}
PASSES = ("forward", "forward + backward")
FLOOR = {
    ("SimAM", "forward"): 2,
    ("SimAM", "forward + backward"): 5,
    ("NAM", "forward"): 2,
    ("NAM", "forward + backward"): 8,
}
"""How often a map must be read or written at least, if statistics of the batch take a pass of their own."""


class Case(NamedTuple):
    """What the forms of a layer are run on. The forward pass alone is that of inference, in eval mode."""

    layer: str
    scale: str
    level: str
    layout: str
    dtype: torch.dtype
    way: str
    batch: int
    compiled: bool

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, C, H, W)."""
        level = LEVELS.index(self.level)
        return self.batch, CHANNELS[self.scale][level], SIDES[level], SIDES[level]

    def described(self) -> dict[str, Any]:
        """What a row of the report says of it."""
        names = {"section": "layers", "dtype": str(self.dtype).removeprefix("torch."), "shape": self.shape}
        return {key: getattr(self, key) for key in ("layer", "scale", "level", "layout", "way")} | names


def cases(device: str, smoke: bool) -> Iterator[Case]:
    """The cases, the more telling ones first; to compile one takes seconds, so not all are."""
    if smoke:
        for layer, way in itertools.product(LAYERS, PASSES):
            yield Case(layer, "n", "P5", "NHWC", torch.float32, way, 1, (layer, way) == ("SimAM", PASSES[0]))
        return
    both = (LAYOUTS, LAYERS, PASSES)
    if device == "cuda":
        for scale, level, half, layout, layer, way in itertools.product("xn", LEVELS, (True, False), *both):
            compiled = level == "P3" and layer != "GAM" and half == (layout == "NHWC")  # as trainings have it
            yield Case(layer, scale, level, layout, torch.float16 if half else torch.float32, way, 32, compiled)
    else:
        for level, layout, layer, way in itertools.product(LEVELS, *both):
            compiled = layer != "GAM" or level == "P4"
            yield Case(layer, "n", level, layout, torch.float32, way, 2, compiled)
        for layout, layer, way in itertools.product(*both):
            yield Case(layer, "n", "P4", layout, torch.bfloat16, way, 2, False)
    for scale, layout, layer, way in itertools.product("sm" if device == "cuda" else "smx", *both):
        yield Case(layer, scale, "P4", layout, torch.float32, way, 32 if device == "cuda" else 2, False)


def measure(device: str, smoke: bool, rounds: int) -> Iterator[list[dict[str, Any]]]:
    """The rows of each case: one for each form, and one for a copy of its map."""
    for case in cases(device, smoke):
        few = max(2, rounds // 3) if case.layer == "GAM" else rounds
        yield list(_rows(case, device, few))
        if device == "cuda":
            torch.cuda.empty_cache()


def _rows(case: Case, device: str, rounds: int) -> Iterator[dict[str, Any]]:
    torch.manual_seed(0)
    torch._dynamo.reset()
    backward = case.way == PASSES[1]
    x = torch.randn(case.shape, device=device).to(case.dtype, memory_format=LAYOUTS[case.layout])
    source, target = x.clone(), torch.empty_like(x)
    x.requires_grad_(backward)
    calls, modes = {}, {}
    for name, (modes[name], module) in _modules(case, device).items():
        module.to(device, memory_format=LAYOUTS[case.layout]).train(backward)
        calls[name] = Pass(module, x, backward)
    _check(case, calls)
    forms = {name: Form(call, modes[name]) for name, call in calls.items()}
    copy_ = Form(lambda: target.copy_(source))
    times = interleaved({**forms, "copy": copy_}, rounds, CudaClock if device == "cuda" else CallClock)
    volume = x.numel() * x.element_size()
    floor = [FLOOR.get((case.layer, case.way), 0) / 2 * t for t in times["copy"].device]
    for name, taken in times.items():
        row = case.described() | {"form": name} | compared(times["naive"], taken, device)
        if name in forms:
            row["peak volumes"] = round(peak(forms[name], device) / volume, 3)
            if backward:
                held = [*calls[name].module.parameters(), *calls[name].module.buffers()]
                row["saved volumes"] = round(saved(calls[name].forward, modes[name], held) / volume, 3)
            if any(floor):
                row["share of copy speed"] = ratio(floor, taken.device).median
        elif any(floor):
            row["ratio at the floor"] = ratio(times["naive"].device, floor).median
        yield row


def _modules(case: Case, device: str) -> dict[str, tuple[str, nn.Module]]:
    """The forms of a layer with equal weights, each with the value of the switch."""
    layer = LAYERS[case.layer](case.shape[1])
    forms: dict[str, tuple[str, nn.Module]] = {"naive": ("0", naive(layer)), "ours": ("auto", copy.deepcopy(layer))}
    if case.layer != "GAM":  # which has no other
        forms["formula"] = ("0", copy.deepcopy(layer))
    if case.way == PASSES[0] and not isinstance(layer, SimAM):
        forms["fused"] = ("auto", copy.deepcopy(layer))
        forms["fused"][1].fuse()
    if case.layer == "SimAM" and device == "cuda":
        forms["Triton"] = ("1", copy.deepcopy(layer))
    for name in ("naive", "ours") if case.compiled else ():
        compiled: Any = torch.compile(copy.deepcopy(forms[name][1]), dynamic=False)
        forms[f"compiled {name}"] = ("auto", compiled)
    return forms


class Pass:
    """A pass through a module: forward in inference, or forward and backward; of half precision under autocast."""

    def __init__(self, module: nn.Module, x: Tensor, backward: bool) -> None:
        self.module, self.x, self.backward = module, x, backward
        self.half = x.dtype if x.dtype != torch.float32 else None
        self.wanted = [x, *module.parameters()]
        self.grad = torch.empty_like(x).copy_(torch.randn(x.shape, generator=torch.Generator().manual_seed(1)))

    def forward(self) -> Tensor:
        """Return the output."""
        with torch.autocast(self.x.device.type, self.half) if self.half else nullcontext():
            return self.module(self.x)

    def __call__(self) -> Tensor:
        """Return the output, or the gradient of x where there is a backward pass."""
        if not self.backward:
            with torch.no_grad():
                return self.forward()
        out = self.forward()
        return torch.autograd.grad(out, self.wanted, self.grad.to(out.dtype))[0]


def _check(case: Case, calls: dict[str, Pass]) -> None:
    """Make sure that all forms do the same; what cannot be compiled on this machine is left out, with a word."""
    tolerance = 1e-3 if case.dtype == torch.float32 else 3e-2
    expected = calls["naive"]().float()
    for name in list(calls):
        try:
            found = calls[name]().float()
        except Exception as error:  # whatever a missing compiler makes it raise
            if not name.startswith("compiled"):
                raise
            print(f"{case}: {name} is left out: {str(error).splitlines()[0]}", file=sys.stderr)
            del calls[name]
            continue
        difference = ((found - expected).abs().max() / expected.abs().max()).item()
        if not difference <= tolerance:
            raise SystemExit(f"{case}: {name} is off by {difference:.1e} of the naive form's largest value")
