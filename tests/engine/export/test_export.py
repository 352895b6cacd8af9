"""The command `export`: what it writes runs elsewhere and does what the model does, and what does not is not left."""

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from support import enliven, listing, run_python, script
from torch import nn
from ultralytics import YOLO
from ultralytics.nn import tasks
from ultralytics.nn.autobackend import AutoBackend

import yolo_attn
from yolo_attn.cli import main
from yolo_attn.model.registry import LAYERS

ALONE = """
import sys
import numpy as np
sys.modules.update(dict.fromkeys(("yolo_attn", "ultralytics", "torch")))
import onnxruntime
session = onnxruntime.InferenceSession("best.onnx")
(found,) = session.run(None, {session.get_inputs()[0].name: np.load("x.npy")})
np.save("found.npy", found)
"""


@pytest.fixture
def weights(trained, tmp_path):
    work = tmp_path / "work"  # where `refusal` runs commands
    work.mkdir(exist_ok=True)
    return Path(shutil.copy(trained.folder / "weights/best.pt", work))


def run(*arguments):
    return main(["export", *map(str, arguments)])


@pytest.mark.smoke
def test_onnx_file_of_the_script_runs_without_this_package(weights):
    before = listing(weights.parent)
    result = script(
        "scripts/export_det.py", "--weights", weights, "--format", "onnx", "--imgsz", 96, cwd=weights.parent
    )
    output = result.stdout + result.stderr
    assert re.search(rf"exported +{weights.parent}/best\.onnx\n", output)
    assert re.search(r"size +\d+\.\d MB\n", output)
    assert re.search(r"against the model, input 1×3×96×96\n", output)
    assert float(re.search(r"largest difference +(\S+) of a channel's", output)[1]) < 1e-3
    assert sorted(f.name for f in weights.parent.iterdir()) == ["best.onnx", "best.pt"]
    assert set(before) < set(listing(weights.parent))
    x = torch.rand(1, 3, 96, 96)
    np.save(weights.with_name("x.npy"), x.numpy())
    run_python(ALONE, weights.parent)
    with torch.inference_mode():
        expected = YOLO(weights).model.eval()(x)[0].numpy()
    np.testing.assert_allclose(np.load(weights.with_name("found.npy")), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("fmt", "more", "written"),
    [
        ("onnx", ["--dynamic"], "model.onnx"),
        ("onnx", ["--half"], "model.onnx"),
        ("torchscript", ["--batch", 2], "model.torchscript"),
        ("openvino", ["--dynamic", "--half"], "model_openvino_model"),
        ("safetensors", ["--half", "--trust"], "model.safetensors"),
    ],
)
def test_formats(fmt, more, written, weights):
    output = weights.with_name(written)
    for _ in range(2):  # the second takes the place of the first
        assert run("--weights", weights, "--format", fmt, "--imgsz", 64, "--output", output, *more) == 0
        assert sorted(f.name for f in weights.parent.iterdir()) == sorted(["best.pt", written])
    x = torch.rand(2, 3, 64, 64) if fmt == "torchscript" else torch.rand(1, 3, 64, 64)
    if fmt == "safetensors":
        found = yolo_attn.load_safe(output)(x)
    else:
        found = AutoBackend(str(output), device=torch.device("cpu"))(x)
    found = found[0] if isinstance(found, list | tuple) else found
    expected = YOLO(weights).model.eval()(x)[0]
    largest = expected.abs().amax((0, 2), keepdim=True)
    tolerance = 0.05 if "--half" in more else 1e-3
    torch.testing.assert_close(found / largest, expected / largest, rtol=0, atol=tolerance)


@pytest.mark.integration
def test_safetensors_file_is_exported_and_validated(weights, trained, monkeypatch):
    assert run("--weights", weights, "--format", "safetensors") == 0
    weights.unlink()
    tensors = weights.with_suffix(".safetensors")
    assert run("--weights", tensors, "--format", "torchscript", "--imgsz", 64) == 0
    assert weights.with_suffix(".torchscript").is_file()
    arguments = ["--weights", tensors, "--imgsz", 64, "--project", weights.parent / "runs", "--data", trained.data]
    assert main(["val", *map(str, arguments), "--device", "cpu"]) == 0
    assert (weights.parent / "runs/val/metrics.json").is_file()


def test_mistakes(refusal, weights, monkeypatch):
    def mistake(*arguments):
        return refusal("export", "--weights", "best.pt", *arguments)

    (weights.parent / "text.pt").write_text("no checkpoint")
    assert "--format onxx: no such format; did you mean onnx?" in mistake("--format", "onxx")
    assert "did you mean safetensors" in mistake("--format", "safetensor")
    assert "formats are torchscript, onnx, openvino," in mistake("--format", "q")
    assert "required: --format" in mistake()
    assert "--weights gone.pt: no such file" in refusal("export", "--weights", "gone.pt", "--format", "onnx")
    assert "not an Ultralytics checkpoint" in refusal("export", "--weights", "text.pt", "--format", "onnx", "--trust")
    assert "refused, no checkpoint that can be read" in refusal("export", "--weights", "text.pt", "--format", "onnx")
    assert "torchscript files of half precision are made on a GPU" in mistake("--format", "torchscript", "--half")
    assert "--dynamic: means nothing to safetensors" in mistake("--format", "safetensors", "--dynamic")
    assert "quantised files" in mistake("--format", "onnx", "int8=True")
    assert "expected a name that ends in .onnx" in mistake("--format", "onnx", "--output", "model.pb")
    assert "there is no folder" in mistake("--format", "onnx", "--output", "missing/model.onnx")
    assert "Ultralytics has no such setting; did you mean" in mistake("--format", "onnx", "opsett=17")
    assert "Ultralytics cannot export so: " in mistake("--format", "openvino", "opset=17")
    assert "'format=onnx': given more than once" in mistake("--format", "onnx", "format=onnx")
    assert "no such device" in mistake("--format", "onnx", "--device", "foo")


def test_missing_packages_are_named_together(refusal, monkeypatch):
    def mistake(*arguments):
        return refusal("export", "--weights", "best.pt", *arguments)

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert 'needs onnxruntime, not installed here: pip install "yolo_attn[export]"' in mistake("--format", "onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert mistake("--format", "onnx").endswith(
        'needs onnx and onnxruntime, not installed here: pip install "yolo_attn[export]"'
    )
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert "needs openvino, not installed here" in mistake("--format", "openvino")


@pytest.mark.integration
def test_what_else_is_in_the_place_is_kept(refusal, weights):
    (weights.parent / "best.onnx").mkdir()
    assert "best.onnx is there, and is a folder" in refusal("export", "--weights", weights, "--format", "onnx")
    (weights.parent / "best_openvino_model").mkdir()
    (weights.parent / "best_openvino_model/notes.txt").write_text("mine")
    line = refusal("export", "--weights", weights, "--format", "openvino", "--imgsz", 64)
    assert "best_openvino_model is there, with other files: notes.txt" in line


class Cheat(nn.Module):
    """Does nothing where it is traced, as a block does whose export path forgets its attention."""

    def __init__(self, channels):
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), 0.5))

    def forward(self, x):
        return x if torch.jit.is_tracing() else x * self.scale.reshape(1, -1, 1, 1)


@pytest.mark.integration
@pytest.mark.parametrize("fmt", ["onnx", "torchscript", "openvino"])
def test_file_that_disagrees_with_the_model_is_not_left(fmt, refusal, weights):
    LAYERS["Cheat"] = Cheat
    try:
        model = YOLO("yolov8n.yaml")
        d = tasks.yaml_model_load("yolov8n.yaml")
        d["backbone"][4] = [-1, 1, "Cheat", []]
        model.model = tasks.DetectionModel(d, verbose=False)
        enliven(model.model)  # a fresh model's output hardly depends on its picture
        model.save(weights)
        weights.with_suffix(".onnx").write_text("an earlier file")
        line = refusal("export", "--weights", weights, "--format", fmt, "--imgsz", 64, code=1)
    finally:
        del LAYERS["Cheat"]
    assert f"--format {fmt}: the file does not do what the model does: largest difference " in line
    assert weights.with_suffix(".onnx").read_text() == "an earlier file"


@pytest.mark.integration
def test_model_that_cannot_be_traced_is_reported(refusal, weights, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("Unsupported: prim::Something\nmore")

    monkeypatch.setattr(torch.onnx, "export", fail)
    line = refusal("export", "--weights", weights, "--format", "onnx", code=1)
    assert "--format onnx: the export failed: RuntimeError: Unsupported: prim::Something more" in line


@pytest.mark.integration
def test_fused_model_has_no_safetensors_file(refusal, weights):
    model = YOLO(weights)
    model.model = model.model.fuse(verbose=False)
    model.save(weights)
    line = refusal("export", "--weights", weights, "--format", "safetensors", "--trust")
    assert "such a model has no safetensors file" in line


@pytest.mark.integration
@pytest.mark.parametrize("name", ["yolo26n-eca.yaml", "yolov10n-gam.yaml"])
def test_heads_without_nms(name, tmp_path, capfd):
    """As Ultralytics exports them by default, and with their top-k output; scores of a fresh model are all near."""
    d = tasks.yaml_model_load(name.replace("-gam", ""))
    if "gam" in name:
        d["backbone"][4][2] = "C2f_GAM"
    model = YOLO(name.replace("-gam", ""))
    model.model = tasks.DetectionModel(d, verbose=False)
    enliven(model.model, 160)
    model.save(tmp_path / "model.pt")
    for fmt in ("onnx", "openvino"):
        for more in ([], ["nms=False"]):
            assert run("--weights", tmp_path / "model.pt", "--format", fmt, "--imgsz", 160, *more) == 0, (fmt, more)
        head = (
            yaml.safe_load((tmp_path / "model_openvino_model/metadata.yaml").read_text()) if fmt == "openvino" else {}
        )
        assert head.get("end2end", True) is True


@pytest.mark.integration
def test_a_model_that_finds_nothing_is_not_called_verified(weights, caplog):
    """With NMS inside, its output is zeros whatever the layers do."""
    with caplog.at_level("INFO", logger="ultralytics"):
        assert run("--weights", weights, "--format", "onnx", "--imgsz", 64, "nms=True", "conf=0.9") == 0
    assert "no: the model finds nothing in the drawn image" in caplog.text
