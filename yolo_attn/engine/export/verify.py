"""Runs exported files by their own runtimes and holds their outputs against the model's."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from ultralytics.nn.modules import RTDETRDecoder

from yolo_attn.compat import gives_queries, is_settable, with_nms

HEAD_SETTINGS = ("export", "format", "dynamic", "max_det", "end2end", "xyxy", "agnostic_nms")
"""What an exporter sets in a head, and what shapes its output."""


def run_onnx(file: Path, x: Tensor) -> list[np.ndarray]:
    """Outputs of an ONNX file for images x, (B, C, H, W), by onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (wanted,) = session.get_inputs()
    return session.run(None, {wanted.name: (x.half() if "float16" in wanted.type else x).numpy()})


def run_torchscript(file: Path, x: Tensor) -> list[np.ndarray]:
    """Outputs of a TorchScript file for images x, (B, C, H, W), on the CPU."""
    module = torch.jit.load(str(file), map_location="cpu")
    halved = any(p.dtype == torch.float16 for p in module.parameters())
    with torch.inference_mode():
        return flatten(module(x.half() if halved else x))


def run_openvino(folder: Path, x: Tensor) -> list[np.ndarray]:
    """Outputs of an OpenVINO folder for images x, (B, C, H, W), on the CPU in float32."""
    import openvino

    (file,) = folder.glob("*.xml")
    compiled = openvino.Core().compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    result = compiled(x.numpy())
    return [result[output] for output in compiled.outputs]


RUNTIMES: dict[str, Callable[[Path, Tensor], list[np.ndarray]]] = {
    "onnx": run_onnx,
    "torchscript": run_torchscript,
    "openvino": run_openvino,
}
"""Formats that are verified, and what runs them; none of it knows this package."""


def largest_difference(file: Path, exporter: Any, model: Any, shapes: list[tuple[int, ...]]) -> float | None:
    """How far an exported file is from the model, as `difference` counts it.

    Args:
        file: File or folder, of a format in `RUNTIMES`.
        exporter: Ultralytics' exporter after its work; its head says which form the output has.
        model: The model as it was before: not fused, without the exporter's changes in blocks.
        shapes: Shapes of the images to try, (B, C, H, W).

    Returns:
        The difference; None where nothing could be compared: with NMS inside, a model that finds nothing gives zeros.
    """
    exported, original = exporter.model.model[-1], deepcopy(model).float().eval().cpu()
    head = original.model[-1]
    for name in HEAD_SETTINGS:
        if hasattr(exported, name) and is_settable(head, name):
            setattr(head, name, getattr(exported, name))
    run = with_nms(original, exporter.args) or original
    scores = BEST_SCORE if run is not original else score_columns(head)
    largest, anything = 0.0, False
    for shape in shapes:
        x = image(shape)
        with torch.inference_mode():
            expected = flatten(run(x))
        found = RUNTIMES[exporter.args.format](file, x)
        if len(found) != len(expected):
            return float("inf")
        for i, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
            largest = max(largest, difference(ours, theirs, None if i else scores))
            anything |= bool(theirs.any())
    return largest if anything or largest else None


def difference_of_models(found: Any, expected: Any) -> float:
    """How far a model's output is from another's on a small image; infinite unless they hold the same tensors."""
    ours, theirs = found.state_dict(), expected.state_dict()
    if ours.keys() != theirs.keys() or not all(torch.equal(ours[name], theirs[name]) for name in ours):
        return float("inf")
    x = image((1, expected.yaml.get("channels", 3), 64, 64))
    with torch.inference_mode():
        return difference(flatten(found(x))[0], flatten(expected(x))[0], score_columns(expected.model[-1]))


BEST_SCORE = slice(4, 5)
"""Column of the score in detections that are sorted, behind the box."""


def score_columns(head: Any) -> slice | None:
    """Columns of the scores where a head's output is its best detections; None where it is one value for each place."""
    if gives_queries(head):
        return slice(4, None)
    return BEST_SCORE if getattr(head, "end2end", False) or isinstance(head, RTDETRDecoder) else None


def image(shape: tuple[int, ...]) -> Tensor:
    """Images that have large and small structure, the same for the same shape, in 0 … 1."""
    rng = torch.Generator().manual_seed(0)
    coarse = F.interpolate(torch.rand(*shape[:2], 6, 6, generator=rng), shape[2:], mode="bicubic")
    return (coarse + 0.1 * torch.randn(shape, generator=rng)).clamp(0, 1)


def flatten(outputs: Any) -> list[np.ndarray]:
    """All tensors in nested outputs, in order, as arrays."""
    return [tensor.detach().cpu().numpy() for tensor in _tensors(outputs)]


def _tensors(outputs: Any) -> Iterator[Tensor]:
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, list | tuple | dict):
        for value in outputs.values() if isinstance(outputs, dict) else outputs:
            yield from _tensors(value)


SMALLEST = 1e-3
"""Size below which a channel counts as 0: Ultralytics validates scores from here, and onnxruntime's sigmoid is
3e-8 off, which is much of a score of 1e-6."""


def difference(found: np.ndarray, expected: np.ndarray, scores: slice | None = None) -> float:
    """The largest difference of two outputs, each channel's as a share of its largest expected value.

    Args:
        found: An output.
        expected: What it should be.
        scores: Columns of the scores, where it is (B, N, columns) of the N best detections. Their order may change
            where scores are nearly equal, so every row is compared with the one that is nearest in the other output,
            and those that score hardly more than the worst are skipped, since another may have taken their place;
            where none scores more, the scores are compared alone.

    Returns:
        The difference; infinite where shapes differ or a value is not finite.
    """
    if found.shape != expected.shape or not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return float("inf")
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    channel = expected.ndim - 1 if scores else min(1, expected.ndim - 1) if expected.ndim > 2 else -1
    others = tuple(axis for axis in range(expected.ndim) if axis != channel)
    scale = np.abs(expected).max(axis=others if channel >= 0 else None, keepdims=True)
    scale = np.maximum(scale, SMALLEST)
    found, expected = found / scale, expected / scale
    if not scores:
        return float(np.abs(found - expected).max())
    return max(_nearest(ours, theirs, scores) for ours, theirs in zip(found, expected, strict=True))


SAME_SCORE = 1e-3
"""Difference of scores, as a share of the best, up to which the order of detections is open."""


def _nearest(found: np.ndarray, expected: np.ndarray, scores: slice) -> float:
    """The largest distance from a row of either to the nearest of the other."""
    distance = np.abs(found[:, None] - expected[None]).max(-1)
    ours, theirs = (rows[:, scores].max(1) for rows in (found, expected))
    worst = max(ours.min(), theirs.min()) + SAME_SCORE
    sure = [distance.min(axis)[best > worst] for axis, best in ((1, ours), (0, theirs))]
    if not any(part.size for part in sure):
        return float(np.abs(np.sort(ours) - np.sort(theirs)).max())
    return float(max(part.max(initial=0.0) for part in sure))
