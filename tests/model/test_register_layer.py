"""A user's own layer as a row name and an in-block suffix."""

import importlib
import os
import subprocess
import sys
import textwrap

import pytest
import torch
import yaml
from support import QUICK, USERS_LAYER, listing, run_python, run_worker, script, users_folder
from torch import nn
from ultralytics import YOLO
from ultralytics.nn import tasks
from ultralytics.utils.torch_utils import get_flops

import yolo_attn
from yolo_attn.engine.preflight.checks import check_importable
from yolo_attn.errors import UserError
from yolo_attn.model.registry import LAYERS
from yolo_attn.model.rows import RowError


@pytest.fixture
def scale(tmp_path, monkeypatch):
    """A user's module, importable, its layer registered for the test."""
    (tmp_path / "my_layers.py").write_text(USERS_LAYER)
    monkeypatch.syspath_prepend(tmp_path)
    import my_layers

    yield my_layers.Scale
    del LAYERS["Scale"], sys.modules["my_layers"]


def model(*rows):
    d = tasks.yaml_model_load("yolov8n.yaml")
    for index, row in rows:
        d["backbone"][index] = row
    return tasks.DetectionModel(d, verbose=False)


def test_row_and_suffix(scale):
    built = model((4, [-1, 1, "Scale", [{"start": 0.5}]]), (6, [-1, 6, "C2f_Scale", [512, True, {"start": 2.0}]]))
    assert type(built.model[4]) is scale
    assert built.model[4].weight.tolist() == [0.5] * 64
    assert [m.cv2.attention.weight[0].item() for m in built.model[6].m] == [2, 2]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([-1, 1, "Scale", [{"strat": 1}]], "no option 'strat' (did you mean start?)"),
        ([-1, 1, "Scale", [512]], "512 looks like a channel count"),
        ([-1, 1, "Scael", []], "did you mean Scale"),
    ],
)
def test_the_same_checks(scale, row, message):
    with pytest.raises(RowError) as raised:
        model((4, row))
    assert message in str(raised.value)


@pytest.mark.integration
def test_checkpoint_in_a_fresh_process(scale, tmp_path):
    yolo = YOLO("yolov8n.yaml")
    yolo.model = model((4, [-1, 1, "Scale", []]))
    yolo.save(tmp_path / "scale.pt")
    code = "from ultralytics import YOLO; m = YOLO('scale.pt'); print(type(m.model.model[4]).__name__)"
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    for first, safe in (("", "0"), ("import yolo_attn, my_layers; ", "1"), ("import ultralytics, my_layers; ", "1")):
        result = run_python(first + code, tmp_path, PYTHONPATH=path, ULTRALYTICS_SAFE_LOAD=safe)
        assert result.stdout.split()[-1] == "Scale", result.stderr


@pytest.mark.integration
def test_training_by_the_script(tmp_path, small_coco):
    users_folder(tmp_path)
    (tmp_path / "modules/my_layers.py").rename(tmp_path / "my_layers.py")
    arguments = ["--cfg", "yolov8n-scale.yaml", "--data", small_coco, "--epochs", 1, *QUICK, "plots=False"]
    result = script("scripts/train_det.py", *arguments, "--import", "my_layers", cwd=tmp_path)
    assert "my_layers.Scale" in result.stdout + result.stderr
    weights = ["--weights", "runs/detect/train/weights/best.pt", "--device", "cpu"]
    script("scripts/val_det.py", *weights, "--import", "my_layers", cwd=tmp_path)
    for way in (["scripts/val_det.py", *weights], ["scripts/train_det.py", "--resume", weights[1]]):
        lacking = script(*way, cwd=tmp_path, ends=2)
        assert "give --import my_layers, from its folder" in lacking.stderr.splitlines()[-1]
    lacking = script("scripts/train_det.py", *arguments, cwd=tmp_path, ends=2)
    assert "unknown layer 'Scale'" in lacking.stderr
    wrong = script("scripts/train_det.py", *arguments, "--import", "no_such_module", cwd=tmp_path, ends=2)
    assert "--import no_such_module: ModuleNotFoundError" in wrong.stderr.splitlines()[-1]


@pytest.mark.integration
def test_worker_of_a_multi_gpu_run_imports_the_layer(tmp_path):
    """That of our own trainer."""
    run_worker(users_folder(tmp_path), "yolo_attn.engine.training.trainer", "DetectionTrainer")
    assert (tmp_path / "worker/metrics.json").exists()


def test_layers_that_count_their_own_operations(scale):
    built = model((4, [-1, 1, "Scale", []]))
    before = get_flops(built, 64)
    scale.flops = lambda self, x: 5 * x.numel()
    yolo_attn.register_layer(scale)
    assert get_flops(built, 64) - before == pytest.approx(5 * 64 * 8 * 8 / 1e9)
    del scale.flops


def raising(error):
    def forward(self, x):
        raise error

    return forward


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda self, x: x.double(), "Scale makes torch.float64 of torch.float32, expected the same dtype"),
        (
            lambda self, x: x[:, 1:],
            r"Scale makes \(2, (63, 16, 16\) of \(2, 64|31, 16, 16\) of \(2, 32), 16, 16\), expected the same shape",
        ),
        (lambda self, x: 3, r"Scale makes no tensor of \(2, \d+, 16, 16\), expected the same shape"),
        (lambda self, x: (x, x), r"Scale makes no tensor of \(2, \d+, 16, 16\), expected the same shape"),
        (lambda self, x, mask: x, "Scale raised TypeError: .*'mask'; expected forward"),
        (raising(RuntimeError("one\n  two")), "Scale raised RuntimeError: one two; expected forward"),
        (raising(KeyError("k")), "Scale raised KeyError: 'k'"),
    ],
)
def test_forward_that_fails_is_reported_with_its_row(scale, monkeypatch, forward, message):
    monkeypatch.setattr(scale, "forward", forward)
    for row in ([-1, 1, "Scale", []], [-1, 6, "C2f_Scale", [256, True]]):
        with pytest.raises(RowError, match=f"row 4: {message}"):
            model((4, row))


def test_layer_that_needs_a_larger_map_is_taken(scale, monkeypatch):
    def forward(self, x):
        assert x.shape[-1] > 16, f"a map of {x.shape[-1]} pixels"
        return x

    monkeypatch.setattr(scale, "forward", forward)
    assert isinstance(model((2, [-1, 1, "Scale", []])).model[2], scale)


def test_layer_for_gpus_alone_is_left_to_ultralytics(scale, monkeypatch):
    monkeypatch.setattr(scale, "forward", raising(RuntimeError("found a CPU tensor")))
    with pytest.raises(RuntimeError, match="found a CPU tensor"):  # no RowError
        model((4, [-1, 1, "Scale", []]))


def test_constructors_text_becomes_one_line(scale, monkeypatch):
    def init(self, channels, *, start=1.0):
        raise ValueError("wrong:\n  start\n")

    monkeypatch.setattr(scale, "__init__", init)
    with pytest.raises(RowError, match=r"^yolov8n\.yaml, row 4: wrong: start; write"):
        model((4, [-1, 1, "Scale", []]))


def test_second_layer_of_a_name_in_one_module_is_refused_and_reloading_is_not(scale, tmp_path):
    module = sys.modules["my_layers"]
    again = importlib.reload(module).Scale
    assert LAYERS["Scale"] is again is not scale
    (tmp_path / "my_layers.py").write_text(USERS_LAYER.replace("1.0", "2.0"))
    assert importlib.reload(module).Scale is LAYERS["Scale"] is not again
    (tmp_path / "twice.py").write_text(USERS_LAYER.replace("Scale", "Twice") * 2)
    try:
        with pytest.raises(ValueError, match="Twice: a layer of this name is registered already"):
            importlib.import_module("twice")
    finally:
        LAYERS.pop("Twice")


def test_twice_is_once_and_another_of_the_name_is_refused(scale):
    assert yolo_attn.register_layer(scale) is scale
    other = type("Scale", (nn.Module,), {"__init__": lambda self, channels: None, "__module__": "elsewhere"})
    with pytest.raises(ValueError, match="Scale: a layer of this name is registered already"):
        yolo_attn.register_layer(other)
    assert LAYERS["Scale"] is scale


def make(name="Mine", init=lambda self, channels: None, base=nn.Module):
    return type(name, (base,), {"__init__": init, "__module__": "elsewhere"})


@pytest.mark.parametrize(
    ("layer", "error", "message"),
    [
        (make(base=object), TypeError, "takes a class of nn.Module"),
        (lambda channels: None, TypeError, "takes a class of nn.Module"),
        (None, TypeError, "found None; as a decorator it has no brackets"),
        (make(init=lambda self, width: None), TypeError, "first parameter must be channels, found width"),
        (make(init=lambda self, channels, k=3: None), TypeError, "behind a [*], with defaults; found k=3"),
        (make(init=lambda self, *, channels: None), TypeError, "must be an ordinary first parameter"),
        (make(init=lambda self, channels, *, k: None), TypeError, "with defaults; found k"),
        (make(init=lambda self, channels, *, where=1: None), TypeError, "option named where cannot be given in blocks"),
        (make("C2f_Mine"), ValueError, "are those of their attention variants"),
        (make("Conv"), ValueError, "Ultralytics has a layer of this name"),
        (make("GAM"), ValueError, "GAM: a layer of this name is registered already"),
    ],
)
def test_what_cannot_be_registered(layer, error, message):
    before = dict(LAYERS)
    with pytest.raises(error, match=message):
        yolo_attn.register_layer(layer)
    assert before == LAYERS


def test_names_with_underscores_and_errors_of_any_kind():
    class My_Layer(nn.Identity):  # noqa: N801  such a name is what is tested
        def __init__(self, channels, *, k=1):
            super().__init__()
            assert k == 1, "k is 1"

    My_Layer.__qualname__, My_Layer.__module__ = "My_Layer", "elsewhere"
    yolo_attn.register_layer(My_Layer)
    try:
        built = model((2, [-1, 3, "C2f_My_Layer", [128, True]]))
        assert isinstance(built.model[2].m[0].cv2.attention, My_Layer)
        with pytest.raises(RowError, match="row 4: My_Layer raised AssertionError: k is 1"):
            model((4, [-1, 1, "My_Layer", [{"k": 2}]]))
    finally:
        del LAYERS["My_Layer"]


def test_layer_that_nothing_else_can_import_is_warned_about():
    class Local(nn.Module):
        def __init__(self, channels):
            super().__init__()

        def forward(self, x):
            return torch.relu(x)

    with pytest.warns(UserWarning, match="Local works in this process only: checkpoints and multi-GPU workers cannot"):
        yolo_attn.register_layer(Local)
    assert isinstance(model((4, yaml.safe_load("[-1, 1, Local, []]"))).model[4], Local)
    del LAYERS["Local"]


UNIMPORTABLE = """
import sys, torch, yolo_attn
from ultralytics import YOLO
from yolo_attn.cli import main

{layer}

if sys.argv[1] == "python":
    model = YOLO("yolov8n-own.yaml")
    print(model.predict(torch.rand(1, 3, 64, 64), verbose=False)[0].boxes.data.shape)
    model.train(data="data.yaml", epochs=1, imgsz=64, device="cpu", project="runs")
elif sys.argv[1] == "yolo":
    sys.exit(main(["train", "model=yolov8n-own.yaml", "data=data.yaml", "epochs=1", "imgsz=64", "project=runs"]))
else:
    sys.exit(main(["train", "--cfg", "yolov8n-own.yaml", "--data", "data.yaml", "--epochs", "1", "--project", "runs"]))
"""
LOCAL = f"""
def make():
{textwrap.indent(USERS_LAYER, "    ")}
    return Scale

make()
"""


@pytest.mark.integration
@pytest.mark.parametrize("way", ["python", "yolo", "script"])
@pytest.mark.parametrize("layer", [USERS_LAYER, LOCAL], ids=["main", "local"])
def test_training_a_layer_that_nothing_else_can_import_is_refused(tmp_path, layer, way):
    """It can be tried, and nothing is written."""
    home = users_folder(tmp_path)
    (home / "yolov8n-scale.yaml").rename(home / "yolov8n-own.yaml")
    (home / "run.py").write_text(UNIMPORTABLE.format(layer=layer))
    before = listing(home)
    result = subprocess.run([sys.executable, "run.py", way], cwd=home, capture_output=True, text=True, timeout=200)
    assert "Scale works in this process only" in result.stderr
    line = result.stderr.splitlines()[-1]
    assert "Scale: no other process can import it from __main__." in line
    assert "--import my_layers" in line
    assert (
        (result.returncode, line.split(":")[0]) == (1, "yolo_attn.errors.UserError")
        if way == "python"
        else (2, "yolo-attn")
    )
    assert ("torch.Size" in result.stdout) == (way == "python")
    assert listing(home) == before


def test_part_of_a_layer_that_nothing_else_can_import(scale, monkeypatch):
    class Part(nn.Identity):
        pass

    built = model((4, [-1, 6, "C2f_Scale", [256, True]]))
    check_importable(built)
    built.model[4].m[0].cv2.attention.part = Part()
    with pytest.raises(UserError, match=r"^Part: no other process can import it from .*<locals>\.Part"):
        check_importable(built)
