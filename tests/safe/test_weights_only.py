"""Models as safetensors files: what goes in comes out, and what is foreign or wicked is refused in one line."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support import run_python
from torch import nn
from ultralytics.nn import tasks
from ultralytics.utils import DEFAULT_CFG_DICT

import yolo_attn
from yolo_attn.errors import UserError
from yolo_attn.model.registry import LAYERS
from yolo_attn.safe.safetensors_file import write_weights

MODELS = {
    "yolov8n-c2f-nam.yaml": tasks.DetectionModel,
    "yolo26n-eca.yaml": tasks.DetectionModel,
    "mobilenetv2-nam.yaml": tasks.DetectionModel,
    "rtdetr-l.yaml": tasks.RTDETRDetectionModel,
    "yolov8n-pose.yaml": tasks.PoseModel,
    "yolov8n-seg.yaml": tasks.SegmentationModel,
    "yolov8n-cls.yaml": tasks.ClassificationModel,
}


def model(name="yolov8n-c2f-nam.yaml", change=None, **more):
    d = {**tasks.yaml_model_load(name), **more}
    if change:
        change(d)
    built = MODELS.get(name, tasks.DetectionModel)(d, nc=3, verbose=False)
    built.names, built.task = {0: "cell", 1: "Zelle", 2: "細胞"}, "detect"
    built.args = {**DEFAULT_CFG_DICT, "imgsz": 96}
    for m in built.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.weight.data.uniform_(0.5, 1.5)
            m.running_var.uniform_(0.5, 1.5)
            m.num_batches_tracked += 7
    return built.eval()


@pytest.mark.integration
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("half", [False, True])
def test_round_trip(name, half, tmp_path):
    written = model(name)
    if half:
        written.half()  # as best.pt holds it
    write_weights(written, tmp_path / "model.safetensors")
    read = yolo_attn.load_safe(tmp_path / "model.safetensors")
    assert type(read) is type(written)
    assert (read.names, read.task, read.args["imgsz"], read.training) == (written.names, "detect", 96, False)
    state, expected = read.state_dict(), written.float().state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) and state[key].dtype == expected[key].dtype for key in state)
    assert torch.equal(read.stride, written.stride)
    assert read.yaml["nc"] == 3
    tensors = load_file(tmp_path / "model.safetensors")
    kinds = {value.dtype for value in tensors.values() if value.is_floating_point()}
    assert kinds == {torch.float16 if half else torch.float32}
    assert any(value.dtype == torch.int64 and value.item() == 7 for value in tensors.values())


def test_header_says_what_is_in_the_file(tmp_path):
    written = model()
    written.yaml["yaml_file"] = "/home/somebody/yolov8n-c2f-nam.yaml"
    write_weights(written, tmp_path / "model.safetensors", half=True)
    with safe_open(tmp_path / "model.safetensors", "pt") as content:
        about = content.metadata()
    assert about["yolo_attn"] == yolo_attn.__version__
    assert {"ultralytics", "torch"} <= set(about)
    assert (about["task"], about["imgsz"], about["nc"]) == ("detect", "96", "3")
    assert json.loads(about["yaml"])["backbone"] == written.yaml["backbone"]
    assert "somebody" not in str(about)
    assert all(v.dtype != torch.float32 for v in load_file(tmp_path / "model.safetensors").values())
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o044


def test_layers_that_share_tensors(tmp_path):
    class Shared(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.first, self.second = nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels)
            self.again = nn.Conv2d(channels, channels, 1)
            self.again.weight = self.first.weight
            self.register_buffer("mean", self.second.running_mean)
            self.register_buffer("part", self.second.running_var[:2])

        def forward(self, x):
            return self.again(self.second(self.first(x))) * self.part.mean() + self.mean.mean()

    LAYERS["Shared"] = Shared
    try:
        written = model("yolov8n.yaml", lambda d: d["backbone"].__setitem__(4, [-1, 1, "Shared", []]))
        written.model[4].first.weight.data.normal_()
        write_weights(written, tmp_path / "model.safetensors")
        read = yolo_attn.load_safe(tmp_path / "model.safetensors")
    finally:
        del LAYERS["Shared"]
    assert read.model[4].again.weight is read.model[4].first.weight
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(read(x)[0], written(x)[0])


def refused(folder, about, tensors=None):
    save_file(tensors or {"weight": torch.zeros(2)}, folder / "model.safetensors", about)
    with pytest.raises(UserError) as told:
        yolo_attn.load_safe(folder / "model.safetensors")
    assert str(told.value).startswith(f"{folder / 'model.safetensors'}: ")
    assert "\n" not in str(told.value)
    return str(told.value)


def header(folder, **changes):
    write_weights(model(), folder / "good.safetensors")
    with safe_open(folder / "good.safetensors", "pt") as content:
        return {**content.metadata(), **changes}, load_file(folder / "good.safetensors")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"yaml": "{"}, "no header of `yolo-attn export`"),
        ({"yaml": "[" * 100_000}, "no header of `yolo-attn export`: RecursionError"),
        ({"yaml": '{"a":' * 100_000}, "no header of `yolo-attn export`: RecursionError"),
        ({"yaml": f'{{"backbone": {"[" * 500}{"]" * 500}, "head": []}}'}, "deeper than 20"),
        ({"yaml": " " * 5_000_000}, "5,000,000 characters"),
        ({"names": "[" * 100_000}, "RecursionError"),
        ({"yaml": '{"backbone": [[-1, 9000, "nn.Identity", []]], "head": []}'}, "9,000 repeats"),
        ({"yaml": "[]"}, "no rows to build"),
        ({"yaml": '{"backbone": [[-1, 1, "Conv", [16]]], "head": [[-1, 1, "Detect", ["nc"]]]}'}, "make no model"),
        ({"yaml": '{"backbone": [[-1, 1, "GEM", []]], "head": []}'}, "unknown layer 'GEM'; did you mean"),
        ({"model": "torch_safe_load"}, "its model is a 'torch_safe_load'"),
        ({"model": "Conv"}, "its model is a 'Conv'"),
        ({"names": '["cell"]'}, "make no model"),
        ({"imgsz": "many"}, "no header of `yolo-attn export`"),
    ],
)
def test_wrong_headers(changes, message, tmp_path):
    about, tensors = header(tmp_path, **changes)
    assert message in refused(tmp_path, about, tensors)


def test_tensors_that_do_not_fit(tmp_path):
    about, tensors = header(tmp_path)
    message = refused(tmp_path, {**about, "ultralytics": "8.9.9"}, {**tensors, "model.0.conv.weight": torch.zeros(2)})
    assert "written under 8.9.9" in message
    del tensors["model.0.conv.weight"]
    assert "make no model" in refused(tmp_path, about, tensors)


def test_foreign_and_broken_files(tmp_path):
    assert "a file of tensors alone, without the model YAML" in refused(tmp_path, None)
    assert "a file of tensors alone" in refused(tmp_path, {"format": "pt"})
    whole = (tmp_path / "model.safetensors").read_bytes()
    for content in (whole[:-4], whole[:20], b"", b"text\n" * 50, b"PK\x03\x04" + whole):
        (tmp_path / "broken.safetensors").write_bytes(content)
        with pytest.raises(UserError, match=r"broken\.safetensors: no whole safetensors file"):
            yolo_attn.load_safe(tmp_path / "broken.safetensors")


@pytest.mark.integration
def test_nothing_is_downloaded_for_a_model_that_names_pretrained_weights(tmp_path, monkeypatch):
    def ask_for_weights(d):
        d["backbone"][0][3][2:3] = ["DEFAULT"]

    written = model("mobilenetv2-simam.yaml")
    ask_for_weights(written.yaml)
    write_weights(written, tmp_path / "model.safetensors")
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *a, **k: pytest.fail("download"))
    monkeypatch.setattr("socket.getaddrinfo", lambda *a, **k: pytest.fail("network"))
    read = yolo_attn.load_safe(tmp_path / "model.safetensors")
    assert read.yaml["backbone"][0][3][2] is None
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(read(x)[0], written(x)[0])


@pytest.mark.integration
def test_a_file_that_memory_has_no_room_for_is_refused_in_a_line(tmp_path):
    with (tmp_path / "huge.safetensors").open("wb") as stream:
        stream.truncate(2**40)
    code = (
        "import resource; from yolo_attn.cli import main; resource.setrlimit(resource.RLIMIT_AS, (2**37, 2**37)); "
        "exit(main(['val', '--weights', 'huge.safetensors', '--data', 'x']))"
    )
    result = run_python(code, tmp_path, ends=2)
    assert "huge.safetensors: no whole safetensors file: " in result.stderr
    assert "Traceback" not in result.stderr
