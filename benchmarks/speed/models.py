"""Whole YOLOv8 models: pictures a second of a training step and of fused inference, plain and with each attention."""

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from ultralytics import YOLO
from ultralytics.cfg import get_cfg

from speed.naive import with_naive
from speed.timing import CallClock, Form, Forms, compared, interleaved, spread
from yolo_attn.kernels.choice import has_triton  # whose package makes the names of the attended models known

MODELS = {"none": "yolov8{}.yaml"} | {
    name: f"yolov8{{}}-{name.removesuffix('Attention').lower()}.yaml"
    for name in ("SimAM", "NAM", "GAM", "SE", "ECA", "CBAM", "BAM", "CoordAtt", "TripletAttention", "EMA")
}
"""Models by the attention at P3, P4 and P5 of their necks."""
NAIVE = ("SimAM", "NAM", "GAM")


def attended(scale: str, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Untrained models by the name of their attention; behind SimAM, NAM and GAM the same with the naive form."""
    for name in names:
        torch.manual_seed(0)
        model: Any = YOLO(MODELS[name].format(scale)).model
        yield name, model
        if name in NAIVE:
            yield f"{name}, naive", with_naive(copy.deepcopy(model))


def measure(device: str, smoke: bool, rounds: int) -> Iterator[list[dict[str, Any]]]:
    """The rows of each of the two ways: one for each model, with its speed in relation to the plain model's."""
    plan: list[tuple[str, int, int, tuple[str, ...]]]
    if smoke:
        plan = [("n", 1, 64, ("none", "SimAM"))]
    elif device == "cuda":
        plan = [(scale, 16, 640, ("none", *NAIVE)) for scale in "nx"]
    else:
        plan = [("n", 2, 640, tuple(MODELS))]
    for scale, batch, size, names in plan:
        x = torch.rand(batch, 3, size, size, device=device)
        models = dict(attended(scale, names))
        for way, prepare in (("training step", _training), ("fused inference", _inference)):
            forms = Forms()
            for name, model in models.items():
                with forms.attempt(name):
                    forms[name] = Form(prepare(model.to(device), x))
            if device == "cuda" and has_triton() and "SimAM" in forms:
                forms["SimAM, Triton"] = Form(forms["SimAM"].call, "1")
            times = interleaved(forms, "none", max(2, rounds // 3), partial(CallClock, block=0))
            about = {"section": "models", "way": way, "scale": scale, "shape": tuple(x.shape)}
            yield [
                about
                | {"form": name, "images/s": spread([batch / t for t in taken.device])}
                | compared(times["none"], taken, "cpu")
                for name, taken in times.items()
            ] + forms.failed(about)


def _training(model: Any, x: Tensor) -> Callable[[], None]:
    """A step of SGD on drawn boxes; on a GPU in bfloat16 and channels_last, where nothing has to be scaled."""
    cuda, boxes = x.is_cuda, 8 * len(x)
    model.train().to(memory_format=torch.channels_last if cuda else torch.contiguous_format)
    model.args = get_cfg()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9)
    random = torch.Generator().manual_seed(0)
    batch = {
        "img": x,
        "cls": torch.randint(80, (boxes, 1), generator=random).float().to(x.device),
        "bboxes": (0.2 + 0.4 * torch.rand(boxes, 4, generator=random)).to(x.device),
        "batch_idx": torch.arange(boxes, device=x.device) // 8,
    }

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16) if cuda else nullcontext():
            loss, _ = model(batch)
        loss.sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _inference(model: Any, x: Tensor) -> Callable[[], None]:
    """A forward pass of the fused model; on a GPU in float16 and channels_last."""
    model = model.eval().fuse(verbose=False)
    if x.is_cuda:
        model, x = model.half().to(memory_format=torch.channels_last), x.half()

    def forward() -> None:
        with torch.inference_mode():
            model(x)

    return forward
