"""Exported YOLOv8n: nodes of its ONNX graph, and the time of a picture in onnxruntime and OpenVINO on a CPU."""

import contextlib
import io
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from ultralytics import YOLO

from speed.models import MODELS, NAIVE, attended
from speed.timing import CallClock, Form, Forms, compared, interleaved
from yolo_attn.engine.export.exporter import export


def onnx_call(file: Path, x: np.ndarray) -> Callable[[], Any]:
    """A picture through onnxruntime on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return partial(session.run, None, {session.get_inputs()[0].name: x})


def openvino_call(folder: Path, x: np.ndarray) -> Callable[[], Any]:
    """A picture through OpenVINO on one thread, in float32."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    (file,) = folder.glob("*.xml")
    return partial(openvino.Core().compile_model(str(file), "CPU", settings), x)


RUNTIMES = {"onnxruntime": ("onnx", onnx_call), "openvino": ("openvino", openvino_call)}


def measure(device: str, smoke: bool, rounds: int) -> Iterator[list[dict[str, Any]]]:
    """The rows of each runtime that is installed: one for each model, with its time in relation to the plain one's."""
    names, size = (("none", "ECA"), 64) if smoke else (tuple(MODELS), 640)
    if device == "cuda":  # whose time is not for a CPU's figures
        names, rounds = (names if smoke else ("none", *NAIVE)), max(2, rounds // 7)
    x = np.random.default_rng(0).random((1, 3, size, size), dtype=np.float32)
    with tempfile.TemporaryDirectory(prefix="bench_exports_") as folder:
        checkpoints = {name: _checkpoint(model, Path(folder, f"{name}.pt")) for name, model in attended("n", names)}
        for runtime, (fmt, call) in RUNTIMES.items():
            if not find_spec(runtime):
                print(f"{runtime} is not installed: its rows are skipped")
                continue
            forms, nodes = Forms(), {}
            for name, checkpoint in checkpoints.items():
                with forms.attempt(name):
                    file = _exported(checkpoint, fmt, size)
                    forms[name] = Form(call(file, x))
                    nodes[name] = {"nodes": _nodes(file)} if fmt == "onnx" else {}
            times = interleaved(forms, "none", rounds, partial(CallClock, block=0))
            about = {"section": "exports", "way": runtime, "scale": "n", "shape": x.shape}
            yield [
                about | {"form": name, **nodes[name]} | compared(times["none"], taken, "cpu")
                for name, taken in times.items()
            ] + forms.failed(about)


def _checkpoint(model: Any, file: Path) -> Path:
    yolo = YOLO("yolov8n.yaml")
    yolo.model = model
    yolo.save(file)
    return file


def _exported(file: Path, fmt: str, size: int) -> Path:
    with contextlib.redirect_stdout(io.StringIO()):
        return export(str(file), fmt, {"imgsz": size})


def _nodes(file: Path) -> int:
    """Nodes that compute something: constants stand in the graph as nodes too."""
    import onnx

    return sum(node.op_type != "Constant" for node in onnx.load(file).graph.node)
