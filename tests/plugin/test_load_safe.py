"""Reading checkpoints without executing them: models come back whole, and nothing of a wicked file runs."""

import json
import os
import pickle
import subprocess
import sys
import types
import warnings
from pathlib import Path

import pytest
import torch
from support import run_python
from torch import nn, serialization
from ultralytics.nn import modules, tasks
from ultralytics.nn.modules import Detect
from ultralytics.utils import DEFAULT_CFG_DICT, ROOT, IterableSimpleNamespace

import yolo_attn
from yolo_attn.errors import UserError
from yolo_attn.layers import NAM
from yolo_attn.plugin.yamls import MODEL_YAMLS

KINDS = {
    "segment": tasks.SegmentationModel,
    "pose": tasks.PoseModel,
    "obb": tasks.OBBModel,
    "classify": tasks.ClassificationModel,
    "detect": tasks.DetectionModel,
}
OURS = ("yolov8n-nam.yaml", "yolov8n-c2f-simam.yaml", "yolo11n-c3k2-cbam.yaml", "mobilenetv2-nam.yaml")
FAMILIES = (
    *("yolov5n.yaml", "yolov9t.yaml", "yolov10n.yaml", "yolo11n-obb.yaml", "yolo12n.yaml", "rtdetr-l.yaml"),
    *("yolov8n-seg.yaml", "yolov8n-pose.yaml", "yolov8n-cls.yaml", "yolov8n-ghost.yaml", "yolo26n-seg.yaml"),
)
WITHOUT_MODEL = ("yolo26-sem", "yolo26-depth", "yoloe", "world", "yolo11-cls-resnet18")
"""Parts of names of YAMLs of Ultralytics' that are of no task here, or whose building downloads weights."""


def build(name):
    d = tasks.yaml_model_load(name)
    if d.get("scales") and not d.get("scale"):
        d["scale"] = next(iter(d["scales"]))
    task = tasks.guess_model_task(d) or "detect"  # it does not know RT-DETR's head
    kind = tasks.RTDETRDetectionModel if d["head"][-1][2] == "RTDETRDecoder" else KINDS[task]
    model = kind(d, verbose=False)
    model.task = task
    return model


def save(model, file, **more):
    torch.save({"model": model, "ema": None, "train_args": {"imgsz": 96, "data": "cells.yaml"}, **more}, file)
    return file


def test_folded_layers_come_back_whole(tmp_path):
    """The attention layers alone: convolutions that Ultralytics has fused hold a method, which is refused."""
    model = build("yolov8n-nam.yaml").eval()
    for layer in [m for m in model.modules() if isinstance(m, NAM)]:
        layer.fuse()
    loaded = yolo_attn.load_safe(save(model, tmp_path / "fused.pt"))
    assert str(loaded) == str(model)
    assert "FoldedNorm" in str(loaded)
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(loaded(x)[0], model(x)[0])


def check_round_trip(name, folder):
    model = build(name).half()
    loaded = yolo_attn.load_safe(save(model, folder / "model.pt"))
    assert type(loaded) is type(model)
    assert str(loaded) == str(model)
    assert not loaded.training
    assert (loaded.names, loaded.task, loaded.yaml) == (model.names, model.task, model.yaml)
    assert torch.equal(loaded.stride, model.stride.float())
    assert loaded.args["imgsz"] == 96
    assert loaded.pt_path == str(folder / "model.pt")
    state, expected = loaded.state_dict(), model.float().state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) and state[key].dtype == expected[key].dtype for key in state)


@pytest.mark.parametrize("name", [*OURS, *FAMILIES])
def test_models_of_every_kind_come_back_whole(name, tmp_path):
    check_round_trip(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted((ROOT / "cfg/models").rglob("*.yaml")), ids=lambda f: f.stem)
def test_every_model_of_ultralytics_comes_back_whole(file, tmp_path):
    if not any(part in file.stem for part in WITHOUT_MODEL):
        check_round_trip(file, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted(MODEL_YAMLS.glob("*.yaml")), ids=lambda f: f.stem)
def test_every_model_of_ours_comes_back_whole(file, tmp_path):
    check_round_trip(file.name, tmp_path)


def test_averaged_model_comes_first_and_the_trainings_rest_is_left_out(tmp_path):
    model, average = build("yolov8n.yaml"), build("yolov8n-nam.yaml")
    average.args = model.args = {**DEFAULT_CFG_DICT, "model": Path("a.pt")}
    average.criterion = average.init_criterion()
    nowhere = save(model, tmp_path / "epoch.pt", ema=average, optimizer={"state": {0: torch.ones(2)}}, date="today")
    loaded = yolo_attn.load_safe(nowhere)
    assert str(loaded) == str(average)
    loaded.args = IterableSimpleNamespace(**loaded.args)  # as a trainer does
    batch = {"img": torch.rand(1, 3, 64, 64), "cls": torch.zeros(1, 1), "batch_idx": torch.zeros(1)}
    loss, _ = loaded.train().loss({**batch, "bboxes": torch.full((1, 4), 0.5)})
    loss.sum().backward()


class Call:
    """Pickles as the call of a function; functions and arguments may be calls themselves."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __call__(self):
        raise AssertionError

    def __reduce__(self):
        return self.function, self.args


def eval_by_getattr(code):
    """`eval`, by what a function of Ultralytics' can reach."""
    names = Call(getattr, Call(getattr, Call(getattr, Detect, "forward"), "__globals__"), "get")
    builtins = Call(getattr, Call(names, "__builtins__"), "get")
    return Call(Call(builtins, "eval"), code)


def wicked(canary):
    """Files' contents, each of which touches a file if it is unpickled by PyTorch as it is, and what is told of it."""
    command, code = f"touch {canary}", f"open({str(canary)!r}, 'w')"
    activation = {**tasks.yaml_model_load("yolov8n.yaml"), "activation": code}

    def with_attribute(value):
        model = build("yolov8n.yaml")
        model.model[0].conv.note = value
        return {"model": model}

    def with_hook(function):
        model = build("yolov8n.yaml")
        model.model[2]._forward_hooks[0] = function
        return {"model": model, "run": Call(function, command)}

    contents = {
        "system": ({"model": Call(os.system, command)}, "'posix.system'"),
        "eval": ({"model": build("yolov8n.yaml"), "date": Call(eval, code)}, "'builtins.eval'"),
        "nested": (with_attribute(Call(os.system, command)), "'posix.system'"),
        "hook": (with_hook(os.system), "'posix.system'"),
        "getattr": ({"model": eval_by_getattr(code)}, "getattr of"),
        "getattr_nested": (with_attribute([eval_by_getattr(code)]), "getattr of"),
        "module": ({"model": Call(pickle.loads, pickle.dumps(Call(os.system, command)))}, "'pickle.loads'"),
        "constructor": ({"model": Call(tasks.DetectionModel, activation, 3, None, False)}, "has no rows"),
        "constructor_nested": (with_attribute(Call(tasks.DetectionModel, activation, 3, None, False)), ""),
        "program": (with_attribute(Call(subprocess.run, ["touch", str(canary)])), "'commands.run'"),
        "import": ({"model": Call(ImportedByName)}, "'wicked_module.ImportedByName'"),
    }
    if hasattr(modules, "TorchVision"):  # not in the oldest Ultralytics
        contents["download"] = ({"model": Call(modules.TorchVision, "resnet18", "DEFAULT")}, "holds a TorchVision")
    return contents


class ImportedByName:
    pass


ImportedByName.__module__ = "wicked_module"

ATTEMPT = """
import json, socket, torch
from pathlib import Path
canary = Path("canary")
def touch(*args, **kwargs):
    canary.touch()
    raise OSError("touched")
socket.getaddrinfo = socket.socket.connect = touch
import ultralytics
import yolo_attn
from yolo_attn.errors import UserError
canary.unlink(missing_ok=True)  # the oldest Ultralytics asks the network where it is imported
told = {}
for file in sorted(Path().glob("*.pt")):
    try:
        LOAD
        told[file.stem] = "loaded"
    except UserError as error:
        told[file.stem] = str(error)
    except Exception as error:
        told[file.stem] = f"other {type(error).__name__}"
    told[file.stem] = [told[file.stem], canary.exists()]
    canary.unlink(missing_ok=True)
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def wicked_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wicked")
    (folder / "wicked_module.py").write_text("open('canary', 'w')\nclass ImportedByName: pass\n")
    sys.modules["wicked_module"] = types.SimpleNamespace(ImportedByName=ImportedByName)
    contents = wicked(folder / "canary")
    for name, (content, _) in contents.items():
        torch.save(content, folder / f"{name}.pt")
    torch.save(contents["system"][0], folder / "legacy.pt", _use_new_zipfile_serialization=False)
    del sys.modules["wicked_module"]
    assert not (folder / "canary").exists()

    def attempt(load):
        code = ATTEMPT.replace("LOAD", load)
        result = run_python(code, folder, PYTHONPATH=f"{folder}:{os.environ.get('PYTHONPATH', '')}")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout.splitlines()[-1])

    return {name: told for name, (_, told) in contents.items()}, attempt


def test_nothing_of_a_wicked_file_runs(wicked_files):
    expected, attempt = wicked_files
    for name, (told, touched) in attempt("yolo_attn.load_safe(file)").items():
        assert not touched, name
        if name == "constructor_nested":  # the object is there, empty: what was to be run is not
            assert told == "loaded"
            continue
        assert told.startswith(f"{name}.pt: "), told
        assert expected.get(name, "refused") in told
        assert "\n" not in told
        assert len(told) < 400


def test_the_wicked_files_work(wicked_files):
    """Otherwise the test above would see nothing."""
    _, attempt = wicked_files
    touched = attempt("torch.load(file, weights_only=False)")
    assert [name for name, (_, ran) in touched.items() if not ran] == [], touched


def test_broken_files_are_told_in_one_line(tmp_path):
    good = save(build("yolov8n.yaml"), tmp_path / "good.pt").read_bytes()
    contents = {
        "truncated.pt": good[: len(good) // 2],
        "text.pt": b"not a checkpoint\n" * 10,
        "empty.pt": b"",
        "zip.pt": b"PK\x03\x04" + b"\0" * 100,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(nn.Identity(), torch.ones(1)), tmp_path / "script.pt")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "tensor.pt")
    torch.save([1], tmp_path / "list.pt")
    torch.save(nn.Linear(2, 2), tmp_path / "linear.pt")
    (tmp_path / "folder.pt").mkdir()
    hollow = build("yolov8n.yaml")
    del hollow._modules["model"]
    hollow._buffers = 3
    save(hollow, tmp_path / "hollow.pt")
    for file in [*tmp_path.iterdir(), tmp_path / "gone.pt"]:
        if file.name != "good.pt":
            with pytest.raises(UserError) as told:
                yolo_attn.load_safe(file)
            assert str(told.value).startswith(f"{file}: ")
            assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "__import__('os').system('false')"}, 'activation "__import__'),
        ({"activation": "nn.SiLU().__class__"}, "activation 'nn.SiLU().__class__'"),
        ({"activation": "nn.Module(open('x'))"}, "activation"),
        ({"activation": ["nn.SiLU()"]}, "activation"),
        (
            {"head": [[-1, 1, "torch_safe_load", ["x.pt"]]]},
            "row 10 names 'torch_safe_load', which is no layer",
        ),
        (
            {"head": [[-1, 1, "DetectionModel", ["https://example.com/x.yaml"]]]},
            "names 'DetectionModel', which is no layer",
        ),
        ({"head": [[-1, 1, "check_requirements", ["x"]]]}, "no layer"),
        ({"head": [[-1, 1, "nn.factory_kwargs", []]]}, "no layer"),
        ({"head": [[-1, 1, "torchvision.ops.nms", []]]}, "no layer"),
        ({"head": [[-1, 1, ["GAM"], []]]}, "no layer"),
        ({"head": None}, "no rows to build"),
    ],
)
def test_yaml_that_would_run_something_later_is_refused(change, message, tmp_path):
    """A training builds the checkpoint's model anew from it."""
    model = build("yolov8n.yaml")
    model.yaml = {**model.yaml, **change}
    with pytest.raises(UserError) as told:
        yolo_attn.load_safe(save(model, tmp_path / "model.pt"))
    assert message in str(told.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("__import__('os').getpid()", 640), (["7", 8], 640), ([96, 64], [96, 64]), (320, 320), (True, 640), (None, 640)],
)
def test_picture_size_is_numbers(given, expected, tmp_path):
    """Ultralytics 8.3 evaluates one that is text."""
    file = save(build("yolov8n.yaml"), tmp_path / "model.pt", train_args={"imgsz": given, "data": {"a": 1}, "lr0": 0.5})
    args = yolo_attn.load_safe(file).args
    assert (args["imgsz"], args["data"], args["lr0"]) == (expected, None, 0.5)


@pytest.mark.parametrize("activation", ["nn.SiLU()", "torch.nn.LeakyReLU(0.1, inplace=True)", "nn.ReLU6()"])
def test_plain_activations_pass(activation, tmp_path):
    model = build("yolov8n.yaml")
    model.yaml["activation"] = activation
    assert yolo_attn.load_safe(save(model, tmp_path / "model.pt")).yaml["activation"] == activation


def test_the_list_is_in_force_for_the_call_only(tmp_path):
    good = save(build("yolov8n-gam.yaml"), tmp_path / "good.pt")
    torch.save({"model": Call(os.getcwd)}, tmp_path / "bad.pt")
    before = set(serialization.get_safe_globals())
    yolo_attn.load_safe(good)
    with pytest.raises(UserError):
        yolo_attn.load_safe(tmp_path / "bad.pt")
    assert set(serialization.get_safe_globals()) == before
    with pytest.raises(pickle.UnpicklingError):
        torch.load(good, weights_only=True)


def test_lists_of_others_are_not_in_force_in_the_call(tmp_path):
    torch.save({"model": Call(os.path.join, "a", "b")}, tmp_path / "join.pt")
    with serialization.safe_globals([os.path.join]), pytest.raises(UserError, match=r"'posixpath\.join'"):
        yolo_attn.load_safe(tmp_path / "join.pt")


def test_older_pytorch_is_told(tmp_path, monkeypatch):
    monkeypatch.delattr(serialization, "get_unsafe_globals_in_checkpoint")
    with pytest.raises(UserError, match=r"safe loading needs PyTorch 2\.6 or later, found"):
        yolo_attn.load_safe(save(build("yolov8n.yaml"), tmp_path / "model.pt"))


def test_names_of_older_releases(tmp_path, monkeypatch):
    """YOLOv10's and YOLOv9e's checkpoints, and what segmenters and classifiers of earlier versions hold."""
    from torchvision.transforms import InterpolationMode

    old = type("YOLOv10DetectionModel", (tasks.DetectionModel,), {"__module__": tasks.__name__})
    monkeypatch.setattr(tasks, "YOLOv10DetectionModel", old, raising=False)
    model = build("yolov8n.yaml")
    model.__class__ = old
    model.model[-1].detect = Call(getattr, Detect, "forward")
    model.transforms = Call(getattr, InterpolationMode, "BILINEAR")
    loaded = yolo_attn.load_safe(save(model, tmp_path / "model.pt"))
    assert type(loaded) is tasks.DetectionModel
    assert loaded.model[-1].detect is Detect.forward
    assert loaded.transforms is InterpolationMode.BILINEAR


def test_layers_that_were_not_imported_are_named(tmp_path):
    (tmp_path / "my_layers.py").write_text(
        "import torch, yolo_attn\n@yolo_attn.register_layer\nclass Mine(torch.nn.Module):\n"
        "    def __init__(self, channels):\n        super().__init__()\n        self.inner = Inner()\n"
        "    def forward(self, x):\n        return self.inner(x)\n"
        "class Inner(torch.nn.Module):\n    def forward(self, x):\n        return 2 * x\n"
    )
    save_it = (
        "import torch, yolo_attn, my_layers; from ultralytics.nn import tasks; "
        "d = tasks.yaml_model_load('yolov8n.yaml'); d['backbone'][4] = [-1, 1, 'Mine', []]; "
        "torch.save({'model': tasks.DetectionModel(d, verbose=False)}, 'mine.pt')"
    )
    assert run_python(save_it, tmp_path).returncode == 0
    load = "import yolo_attn; {}; print(type(yolo_attn.load_safe('mine.pt').model[4].inner).__name__)"
    assert run_python(load.format("import my_layers"), tmp_path).stdout.split()[-1] == "Inner"
    refused = run_python(load.format("pass"), tmp_path)
    assert "mine.pt: refused, nothing of it has run: it names 'my_layers.Inner' and 1 more" in refused.stderr
