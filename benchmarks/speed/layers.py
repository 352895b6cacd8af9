"""SimAM, NAM and GAM alone: every form of them, in turn, on maps as YOLOv8 has them at P3, P4 and P5."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

from speed.forms import Pass, check, convolutions, layer_forms
from speed.memory import peak, saved
from speed.timing import CallClock, CudaClock, Form, Forms, compared, interleaved, ratio, spread
from yolo_attn.errors import one_line
from yolo_attn.layers import GAM, NAM, SimAM

LAYERS: dict[str, Callable[[int], SimAM | NAM | GAM]] = {"SimAM": SimAM, "NAM": NAM, "GAM": GAM}
CHANNELS = {"n": (64, 128, 256), "s": (128, 256, 512), "m": (192, 384, 576), "x": (320, 640, 640)}
SIDES = (80, 40, 20)
LEVELS = ("P3", "P4", "P5")
LAYOUTS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}
PASSES = ("forward", "forward + backward")
FLOOR = {
    ("SimAM", PASSES[0]): ("copy", 1.0),
    ("SimAM", PASSES[1]): ("copy", 2.5),
    ("NAM", PASSES[0]): ("copy", 1.0),
    ("NAM", PASSES[1]): ("copy", 4.0),
    ("GAM", PASSES[0]): ("convolutions", 1.0),
    ("GAM", PASSES[1]): ("convolutions", 1.0),
}
"""What bounds a layer, and how often. A copy reads and writes a map; statistics of a batch take a pass of their own."""

HALF_TOLERANCE = {"SimAM": 0.03, "NAM": 0.03, "GAM": 0.1}
"""How far forms may be apart in half precision, in which GAM's convolutions round what its ReLU then cuts."""


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
    """The cases, the more telling ones first; to compile one takes seconds, so not all are.

    On CUDA 120 cases of 7 forms, with 21 rounds of two blocks of 5 ms and 0.1 s to make ready, are 4 minutes, and 30
    compilations are 2.
    """
    if smoke:
        for layer, way in itertools.product(LAYERS, PASSES):
            yield Case(layer, "n", "P5", "NHWC", torch.float32, way, 1, (layer, way) == ("SimAM", PASSES[1]))
        return
    both = (LAYOUTS, LAYERS, PASSES)
    if device == "cuda":
        for level, scale, half, layout, layer, way in itertools.product(LEVELS, "xn", (True, False), *both):
            usual = half == (layout == "NHWC")
            compiled = usual and level == "P3" and layer != "GAM" and (half or scale == "x")
            if usual or level == "P3":
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
    """The rows of each case: one for each form, for a copy of its map, and for the convolutions of GAM alone."""
    for case in cases(device, smoke):
        few = max(2, rounds // 3) if case.layer == "GAM" else rounds
        try:
            yield _rows(case, device, few)
        except Exception as error:  # of what comes before the forms, or of the naive one
            yield [case.described() | {"form": "naive", "failure": one_line(error)}]
        if device == "cuda":
            torch.cuda.empty_cache()


def _rows(case: Case, device: str, rounds: int) -> list[dict[str, Any]]:
    torch.manual_seed(0)
    torch._dynamo.reset()
    backward = case.way == PASSES[1]
    x = torch.randn(case.shape, device=device).to(case.dtype, memory_format=LAYOUTS[case.layout])
    source, target, grad = x.clone(), torch.empty_like(x), torch.randn_like(x) if backward else None
    x.requires_grad_(backward)
    layer = LAYERS[case.layer](case.shape[1])
    forms = layer_forms(layer, x, grad, case.compiled)
    check(forms, 1e-3 if case.dtype == torch.float32 else HALF_TOLERANCE[case.layer])
    volumes = _volumes(forms, device)
    forms["copy"] = Form(lambda: target.copy_(source))
    if isinstance(layer, GAM):
        forms["convolutions"] = Form(Pass(convolutions(layer), x, grad))
    times = interleaved(forms, "naive", rounds, CudaClock if device == "cuda" else CallClock)
    bound, often = FLOOR[case.layer, case.way]
    floor = [often * t for t in times[bound].device] if bound in times else []
    rows = []
    for name, taken in times.items():
        row = case.described() | {"form": name} | compared(times["naive"], taken, device) | volumes.get(name, {})
        if name == "copy":
            row["GB/s"] = spread([2 * source.nbytes / 1e9 / t for t in taken.device])
        if floor and name == bound:
            row["ratio at the floor"] = ratio(times["naive"].device, floor).median
        elif floor and bound == "copy" and name in volumes:
            row["share of copy speed"] = ratio(floor, taken.device).median
        rows.append(row)
    return rows + forms.failed(case.described())


def _volumes(forms: Forms, device: str) -> dict[str, dict[str, float]]:
    """What each form holds at its fullest and keeps for its backward pass, in sizes of x."""
    found: dict[str, dict[str, float]] = {}
    for name in list(forms):
        with forms.attempt(name):
            call: Any = forms[name].call
            volume = call.x.numel() * call.x.element_size()
            found[name] = {"peak volumes": round(peak(call, device) / volume, 3)}
            if call.grad is not None:
                own = [*call.module.parameters(), *call.module.buffers()]
                found[name]["saved volumes"] = round(saved(call.forward, own) / volume, 3)
    return found
