"""Reading checkpoints without executing them: models come back whole, and nothing of a wicked file runs."""

import copy
import functools
import os
import re
import warnings
from pathlib import Path

import pytest
import torch
from support import randomise, run_python
from tiers import later
from torch import nn, serialization
from ultralytics.nn import tasks
from ultralytics.nn.modules import Conv, Detect
from ultralytics.utils import DEFAULT_CFG_DICT, ROOT, IterableSimpleNamespace
from ultralytics.utils.torch_utils import initialize_weights

import yolo_attn
from yolo_attn.errors import UserError
from yolo_attn.model.names import MODEL_YAMLS

KINDS = {
    "segment": tasks.SegmentationModel,
    "pose": tasks.PoseModel,
    "obb": tasks.OBBModel,
    "classify": tasks.ClassificationModel,
    "detect": tasks.DetectionModel,
}
LOAD = getattr(tasks, "load_checkpoint", None) or tasks.attempt_load_one_weight
OURS = ("yolov8n-nam.yaml", "yolov8n-c2f-simam.yaml", "yolo11n-c3k2-cbam.yaml", "mobilenetv2-nam.yaml")
FAMILIES = (
    *("yolov5n.yaml", "yolov9t.yaml", "yolov10n.yaml", "yolo11n-obb.yaml", "yolo12n.yaml", "rtdetr-l.yaml"),
    *("yolov8n-seg.yaml", "yolov8n-pose.yaml", "yolov8n-cls.yaml", "yolov8n-ghost.yaml", "yolo26n-seg.yaml"),
)
WITHOUT_MODEL = ("yolo26-sem", "yolo26-depth", "yoloe", "world", "yolo11-cls-resnet18")
"""Parts of names of YAMLs of Ultralytics' that are of no task here, or whose building downloads weights."""


@pytest.fixture(autouse=True)
def own_activation(monkeypatch):
    """The parser of 8.3 leaves the activation of one YAML to all models that are built after it."""
    monkeypatch.setattr(Conv, "default_act", Conv.default_act)


@functools.cache
def built(name):
    d = tasks.yaml_model_load(name)
    if d.get("scales") and not d.get("scale"):
        d["scale"] = next(iter(d["scales"]))
    task = tasks.guess_model_task(d) or "detect"  # it does not know RT-DETR's head
    kind = tasks.RTDETRDetectionModel if d["head"][-1][2] == "RTDETRDecoder" else KINDS[task]
    model = kind(d, verbose=False)
    model.task = task
    return model


def build(name):
    return copy.deepcopy(built(name))


def save(model, file, **more):
    args = {"imgsz": 96, "data": "cells.yaml", "task": getattr(model, "task", "detect")}  # as a training writes them
    torch.save({"model": model, "ema": None, "train_args": args, **more}, file)
    return file


def outputs(found):
    """All tensors in what a model returns."""
    if isinstance(found, torch.Tensor):
        return [found]
    parts = found.values() if isinstance(found, dict) else found if isinstance(found, list | tuple) else []
    return [tensor for part in parts for tensor in outputs(part)]


def check_equal_to_ultralytics_own(file, size=64):
    """A file's model computes bit for bit what it does where Ultralytics unpickles it."""
    ours, (theirs, _) = yolo_attn.load_safe(file), LOAD(file)
    x = torch.rand(2, theirs.yaml.get("channels", 3), size, size)
    with torch.no_grad():
        found, expected = outputs(ours(x)), outputs(theirs(x))
    assert len(found) == len(expected) > 0
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert (type(ours), ours.names, ours.task) == (type(theirs), theirs.names, theirs.task)


def check_round_trip(name, folder):
    model = build(name).half()
    loaded = yolo_attn.load_safe(save(model, folder / "model.pt"))
    assert type(loaded) is type(model)
    assert str(loaded) == str(model)
    assert not loaded.training
    assert (loaded.names, loaded.task) == (model.names, model.task)
    assert [row[2] for row in loaded.yaml["backbone"]] == [row[2] for row in model.yaml["backbone"]]
    assert torch.equal(loaded.stride, model.stride.float())
    assert loaded.args["imgsz"] == 96
    assert loaded.pt_path == str(folder / "model.pt")
    state, expected = loaded.state_dict(), model.float().state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) and state[key].dtype == expected[key].dtype for key in state)


@pytest.mark.parametrize("name", later([*OURS, *FAMILIES], [*OURS, "yolo26n-seg.yaml"]))
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


@pytest.mark.integration
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


def test_broken_files_are_told_in_one_line(tmp_path):
    good = save(build("yolov8n.yaml"), tmp_path / "good.pt").read_bytes()
    contents = (good[: len(good) // 2], b"not a checkpoint\n" * 10, b"", b"PK\x03\x04" + b"\0" * 100)
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.pt").write_bytes(content)
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
    os.mkfifo(tmp_path / "fifo.pt")
    for file in [*tmp_path.iterdir(), tmp_path / "gone.pt"]:
        if file.name != "good.pt":
            with pytest.raises(UserError) as told:
                yolo_attn.load_safe(file)
            assert str(told.value).startswith(f"{file}: ")
            assert "\n" not in str(told.value)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("given", "expected"),
    [("__import__('os').getpid()", 640), (["7", 8], 640), ([96, 64], [96, 64]), (320, 320)]
    + [(wrong, 640) for wrong in (True, None, -32, 10**6)],
)
def test_picture_size_is_numbers(given, expected, tmp_path):
    """Ultralytics 8.3 evaluates one that is text."""
    file = save(build("yolov8n.yaml"), tmp_path / "model.pt", train_args={"imgsz": given, "data": {"a": 1}, "lr0": 0.5})
    args = yolo_attn.load_safe(file).args
    assert (args["imgsz"], args["data"], args["lr0"]) == (expected, None, 0.5)


@pytest.mark.parametrize("activation", ["nn.SiLU()", "torch.nn.LeakyReLU(0.1, inplace=True)", "nn.ReLU6()"])
def test_plain_activations_pass(activation, tmp_path):
    before = Conv.default_act
    try:
        model = tasks.DetectionModel({**tasks.yaml_model_load("yolov8n.yaml"), "activation": activation}, verbose=False)
    finally:
        Conv.default_act = before  # 8.3 keeps it
    loaded = yolo_attn.load_safe(save(model, tmp_path / "model.pt"))
    assert loaded.yaml["activation"] == activation
    assert str(loaded) == str(model)
    assert Conv.default_act is before


@pytest.mark.integration
def test_lists_of_pytorch_are_neither_used_nor_changed(tmp_path, monkeypatch):
    """Another thread may load by them meanwhile."""
    good = save(build("yolov8n-gam.yaml"), tmp_path / "good.pt")
    for name in ("add_safe_globals", "clear_safe_globals", "get_safe_globals", "load"):
        monkeypatch.setattr(serialization, name, lambda *_, **__: pytest.fail("PyTorch's own reading"), raising=False)
    yolo_attn.load_safe(good)


@pytest.mark.integration
def test_names_of_older_releases(tmp_path, monkeypatch):
    """YOLOv10's and YOLOv9e's checkpoints."""
    old = type("YOLOv10DetectionModel", (tasks.DetectionModel,), {"__module__": tasks.__name__})
    silence = type("Silence", (nn.Identity,), {"__module__": nn.Identity.__module__})
    monkeypatch.setattr(tasks, "YOLOv10DetectionModel", old, raising=False)
    monkeypatch.setattr(nn.modules.linear, "Silence", silence, raising=False)
    d = tasks.yaml_model_load("yolov9e.yaml")
    model = tasks.DetectionModel(d, verbose=False)
    model.model[0].__class__ = silence
    model.__class__ = old
    loaded = yolo_attn.load_safe(save(model, tmp_path / "model.pt"))
    assert type(loaded) is tasks.DetectionModel
    assert type(loaded.model[0]) is nn.Identity


@pytest.mark.integration
@pytest.mark.skipif(not hasattr(Detect, "legacy"), reason="this Ultralytics has one form of head")
@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("name", ["yolov8n.yaml", "yolo11n.yaml", "yolov8n-seg.yaml"])
def test_heads_of_other_releases_and_widths_come_back(name, legacy, tmp_path):
    """As 8.3.0 builds them for YOLOv8, and as a training of few classes begins from a checkpoint of many."""
    model = build(name)
    head = model.model[-1]
    inputs = [branch[0].conv.in_channels for branch in head.cv2]
    head.cv3 = type("Detect", (Detect,), {"legacy": legacy})(80, ch=inputs).cv3
    initialize_weights(head.cv3)
    for branch in head.cv3:
        branch[-1] = nn.Conv2d(branch[-1].in_channels, 3, 1)
    head.nc, head.no, model.yaml["nc"], model.names = 3, 3 + 64, 3, {0: "a", 1: "b", 2: "c"}
    check_equal_to_ultralytics_own(save(randomise(model), tmp_path / "model.pt"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.fuse(verbose=False), "it is fused"),
        (lambda m: setattr(m.model[0], "act", nn.ReLU()), "model.0.act is a ReLU, and SiLU by its YAML"),
        (lambda m: setattr(m.model[0].bn, "eps", 0.1), "model.0.bn.eps is 0.1, and 0.001 by its YAML"),
        (lambda m: m.model[0].add_module("more", nn.Linear(1, 1)), "tensors have no counterpart"),
        (lambda m: m.model[0].add_module("more", nn.ReLU()), "model.0.more is a ReLU, and Identity by its YAML"),
        (lambda m: m.model[0].__delattr__("act"), "model.0.act is not in the file, and a SiLU by its YAML"),
        (lambda m: setattr(m.model[4].m[0], "add", False), "model.4.m.0.add is False, and True by its YAML"),
        (lambda m: m.__setattr__("yaml", None), "it has no rows to build"),
        (lambda m: m.__setattr__("yaml", [nn.Module()]), "expected plain data"),
        (lambda m: m.model[0].bn.register_buffer("running_mean", torch.zeros(16, dtype=torch.complex64)), "no plain"),
        (lambda m: m.model[0].bn.register_buffer("num_batches_tracked", torch.tensor(0.5)), "expected torch.int64"),
        (lambda m: m.model[0].bn.register_buffer("running_var", torch.ones(1).expand(16)), "is no plain one"),
        (lambda m: setattr(m, "__class__", tasks.BaseModel), "its model is a 'BaseModel'"),
        (lambda m: setattr(m, "names", dict.fromkeys(range(1, 81), "x")), "its 80 class names are not one"),
        (lambda m: setattr(m, "names", {-1: "x"}), "its 1 class names are not one for each of the classes 0, 1"),
        (lambda m: setattr(m, "names", {}), "its 0 class names are not"),
    ],
)
def test_models_that_their_yaml_does_not_build_are_refused(change, message, tmp_path):
    model = build("yolov8n.yaml").eval()
    change(model)
    with pytest.raises(UserError, match=re.escape(message)) as told:
        yolo_attn.load_safe(save(model, tmp_path / "model.pt"))
    assert str(told.value).startswith(f"{tmp_path / 'model.pt'}: ")
    assert len(str(told.value)) < 400


@pytest.mark.integration
def test_branch_that_predicts_comes_back(tmp_path):
    model = build("yolov10n.yaml")
    model.model[-1]._end2end = True
    check_equal_to_ultralytics_own(save(randomise(model), tmp_path / "model.pt"))


def test_other_channels_and_keypoints_come_back(tmp_path):
    d = {**tasks.yaml_model_load("yolov8n-pose.yaml"), "kpt_shape": (5, 2), "nc": 2}
    model = tasks.PoseModel(d, ch=1, verbose=False)
    model.task = "pose"
    check_equal_to_ultralytics_own(save(randomise(model), tmp_path / "model.pt"))


@pytest.mark.integration
@pytest.mark.parametrize("name", ["yolov8n-nam.yaml", "yolov8n-seg.yaml", "yolo11n-c3k2-cbam.yaml", "yolov8n-cls.yaml"])
def test_outputs_are_those_of_ultralytics_own_loading(name, tmp_path):
    check_equal_to_ultralytics_own(save(randomise(build(name)).half(), tmp_path / "model.pt"))


def test_state_dicts_are_no_models(tmp_path):
    torch.save(build("yolov8n.yaml").state_dict(), tmp_path / "tensors.pt")
    with pytest.raises(UserError, match="a state dict, without its model YAML"):
        yolo_attn.load_safe(tmp_path / "tensors.pt")


@pytest.mark.integration
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
    run_python(save_it, tmp_path)
    load = "import yolo_attn; {}; print(type(yolo_attn.load_safe('mine.pt').model[4].inner).__name__)"
    assert run_python(load.format("import my_layers"), tmp_path).stdout.split()[-1] == "Inner"
    refused = run_python(load.format("pass"), tmp_path, ends=1)
    assert "mine.pt: " in refused.stderr
    assert (
        "for layers of your own give --import my_layers, from its folder or with that on PYTHONPATH" in refused.stderr
    )


@pytest.mark.parametrize(
    "key", ["model." + "9" * 5_000 + ".w", "model.0.a.", "model.0..w", "model.0." + "a." * 99 + "w"]
)
def test_tensors_whose_names_are_no_rows_are_no_state_dict(key, tmp_path):
    torch.save({key: torch.ones(2)}, tmp_path / "x.pt")
    with pytest.raises(UserError, match="it holds tensors named model"):
        yolo_attn.load_safe(tmp_path / "x.pt")


def test_an_entry_whose_name_cannot_be_decoded_is_a_broken_file(tmp_path):
    """The zip file's directory has a good name for it."""
    file = save(build("yolov8n.yaml"), tmp_path / "model.pt")
    content = bytearray(file.read_bytes())
    local, central = (content.index(b"/data/0", start) for start in (0, content.index(b"PK\x01\x02")))
    content[local] = 0xFF
    for flags in (content.rindex(b"PK\x03\x04", 0, local) + 7, content.rindex(b"PK\x01\x02", 0, central) + 9):
        content[flags] |= 8  # its names are UTF-8
    file.write_bytes(content)
    with pytest.raises(UserError, match="its tensors cannot be read"):
        yolo_attn.load_safe(file)
