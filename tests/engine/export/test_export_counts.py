"""How many operations a row adds to an exported file: constants are folded, and nothing is cast to what it is.

Constants are not counted, which stand in ONNX graphs as nodes too. That the files do what the model does is checked by
the export itself, and in test_exported_layers.py.
"""

from collections import Counter

import onnx
import onnxruntime
import pytest
import torch
from support import randomise
from ultralytics import YOLO
from ultralytics.nn import tasks

from yolo_attn.engine.export.exporter import export

ROWS = {
    "none": None,
    "SimAM": ("SimAM", {}),
    "SimAM gain": ("SimAM", {"gain": 1.5}),
    "NAM": ("NAM", {}),
    "NAM gain": ("NAM", {"weight_norm": "mean", "gain": 1.5}),
    "NAM spatial": ("NAM", {"spatial": True, "grid": 12}),
    "GAM": ("GAM", {}),
    "GAM grouped": ("GAM", {"groups": 2}),
}
MOST = {
    "SimAM": {"onnx": 11, "onnx dynamic": 20, "torchscript": 17},  # dynamic: H · W is computed
    "SimAM gain": {"onnx": 12, "onnx dynamic": 21, "torchscript": 18},
    "NAM": {"onnx": 4, "onnx dynamic": 4, "torchscript": 6},
    "NAM gain": {"onnx": 5, "onnx dynamic": 5, "torchscript": 7},
    "NAM spatial": {"onnx": 43, "onnx dynamic": 63, "torchscript": 72},  # all but 9 of them on constants
    "GAM": {"onnx": 10, "onnx dynamic": 10, "torchscript": 10},
    "GAM grouped": {"onnx": 13, "onnx dynamic": 23, "torchscript": 15},
}


def operations(file):
    """Operations of an exported file, without constants and what unpacks lists and attributes."""
    if file.suffix == ".onnx":
        return Counter(node.op_type for node in onnx.load(file).graph.node if node.op_type != "Constant")
    nodes = torch.jit.load(file).inlined_graph.nodes()
    return Counter(node.kind() for node in nodes if not node.kind().startswith("prim::"))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A small model with a row, exported; made once."""
    made = {}

    def make(name, fmt):
        if (name, fmt) not in made:
            rows = [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [32, 3, 2]], [-1, 1, "Conv", [32, 3, 2]]]
            if ROWS[name]:
                layer, options = ROWS[name]
                rows.append([-1, 1, layer, [options] if options else []])
            yolo = YOLO("yolov8n.yaml")
            described = {"nc": 4, "backbone": rows, "head": [[[-1], 1, "Detect", ["nc"]]]}
            yolo.model = randomise(tasks.DetectionModel(described, verbose=False))
            file = tmp_path_factory.mktemp("counted") / "model.pt"
            yolo.save(file)
            kind, _, dynamic = fmt.partition(" ")
            made[name, fmt] = export(str(file), kind, {"imgsz": 64, "dynamic": bool(dynamic)})
        return made[name, fmt]

    return make


@pytest.mark.integration
@pytest.mark.parametrize("fmt", ["onnx", "onnx dynamic", "torchscript"])
@pytest.mark.parametrize("name", MOST)
def test_operations_that_a_row_adds(name, fmt, exported):
    added = operations(exported(name, fmt))
    added.subtract(operations(exported("none", fmt)))
    assert sum(added.values()) <= MOST[name][fmt], +added


@pytest.mark.integration
@pytest.mark.parametrize(("name", "most"), [("SimAM", 11), ("NAM", 4), ("NAM spatial", 9), ("GAM", 10)])
def test_operations_that_onnxruntime_keeps(name, most, exported, tmp_path):
    """Whatever depends on weights and sizes alone is computed when a file of fixed size is loaded."""
    found = []
    for case in ("none", name):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(tmp_path / f"{case}.onnx")
        onnxruntime.InferenceSession(str(exported(case, "onnx")), options, providers=["CPUExecutionProvider"])
        found.append(operations(tmp_path / f"{case}.onnx").total())
    assert found[1] - found[0] <= most
