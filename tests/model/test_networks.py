"""Rows of networks beside attention: TowerNet against plain PyTorch, its parameters by a closed form, wrong rows."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml
from support import ROOT, save_noise
from torch import nn
from ultralytics import YOLO
from ultralytics.nn.tasks import ClassificationModel, DetectionModel, yaml_model_load

from yolo_attn import layers
from yolo_attn.cli import main
from yolo_attn.engine.preflight.checks import check_maps
from yolo_attn.errors import UserError
from yolo_attn.model.names import MODEL_YAMLS
from yolo_attn.networks import FC, Inception
from yolo_attn.weights.checkpoint_files import load_safe

QUICK = ["--imgsz", "128", "--batch", "4", "--device", "cpu", "workers=0", "plots=False"]
FOUR = (64, (64, 128), (16, 32), 32)


def convolution(inputs, outputs, kernel, bias=True):
    return inputs * outputs * kernel**2 + outputs * bias


def inception_parameters(inputs, one, three, five, pool):
    return (
        convolution(inputs, one, 1)
        + convolution(inputs, three[0], 1)
        + convolution(three[0], three[1], 3)
        + convolution(inputs, five[0], 1)
        + convolution(five[0], five[1], 5)
        + convolution(inputs, pool, 1)
    )


def tower_parameters(classes):
    """The closed form: four convolutions without bias with their norms, three Inceptions, a linear layer."""
    widths = [3, 64, 128, 256, 256]
    norms = sum(2 * width for width in widths[1:])
    convolutions = sum(convolution(a, b, 3, bias=False) for a, b in pairwise(widths))
    return convolutions + norms + 3 * inception_parameters(256, *FOUR) + 256 * classes + classes


def test_parameters_are_those_of_the_closed_form():
    assert tower_parameters(16) == 1_361_472
    assert tower_parameters(16) + sum([64, 128, 256, 256]) == 1_362_176  # with the tutorial's biases before its norms
    for classes in (16, 101):
        model = ClassificationModel("towernet-cls.yaml", nc=classes, verbose=False)
        assert sum(p.numel() for p in model.parameters()) == tower_parameters(classes)


class PlainInception(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.a = nn.Conv2d(inputs, 64, 1)
        self.b = nn.ModuleList([nn.Conv2d(inputs, 64, 1), nn.Conv2d(64, 128, 3, padding=1)])
        self.c = nn.ModuleList([nn.Conv2d(inputs, 16, 1), nn.Conv2d(16, 32, 5, padding=2)])
        self.d = nn.Conv2d(inputs, 32, 1)

    def forward(self, x):
        b = self.b[1](self.b[0](x).relu()).relu()
        c = self.c[1](self.c[0](x).relu()).relu()
        return torch.cat([self.a(x).relu(), b, c, self.d(nn.functional.max_pool2d(x, 3, 1, 1)).relu()], 1)


def simam(x):
    d = (x - x.mean((2, 3), keepdim=True)) ** 2
    v = d.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3] - 1)
    return x * torch.sigmoid(d / (4 * (v + 1e-4)) + 0.5)


class PlainTower(nn.Module):
    """The tutorial's network, as the issue's description has it."""

    def __init__(self, classes, attention):
        super().__init__()
        widths = [3, 64, 128, 256, 256]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, 2 if a == 3 else 1, 1, bias=False) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, eps=1e-3) for width in widths[1:])
        self.inceptions = nn.ModuleList(PlainInception(256) for _ in range(3))
        self.linear = nn.Linear(256, classes)
        self.attention = attention

    def forward(self, x):
        pool = nn.functional.max_pool2d
        for n, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = pool(norm(conv(x)).relu(), 2)
            x = self.attention(x) if n > 1 else x
        x = self.attention(pool(self.inceptions[0](x), 2))
        x = self.attention(pool(self.inceptions[1](x), 2))
        return self.linear(nn.functional.avg_pool2d(self.inceptions[2](x), 2).flatten(1))


@pytest.mark.parametrize(("name", "attention"), [("towernet-cls", nn.Identity()), ("towernet-cls-simam", simam)])
def test_outputs_are_those_of_plain_pytorch(name, attention):
    torch.manual_seed(0)
    model = ClassificationModel(f"{name}.yaml", nc=16, verbose=False).double()
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_var, 0.5, 2)
        nn.init.normal_(norm.running_mean)
        nn.init.normal_(norm.bias)
    plain = PlainTower(16, attention).double()
    ours = [value for key, value in model.state_dict().items() if "num_batches" not in key]
    own = plain.state_dict()
    convs = [key for key in own if key.startswith("convs")]
    norms = [[key for key in own if key.startswith(f"norms.{n}.") and "num_batches" not in key] for n in range(4)]
    order = [key for conv, norm in zip(convs, norms, strict=True) for key in (conv, *norm)]
    order += [key for key in own if key.startswith(("inceptions", "linear"))]
    plain.load_state_dict({**own, **dict(zip(order, ours, strict=True))})
    x = torch.rand(2, 3, 256, 256, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(model.train()(x), plain.train()(x), rtol=1e-9, atol=1e-9)
        found = model.eval()(x)
        found = found[0] if isinstance(found, tuple) else found
        torch.testing.assert_close(found, plain.eval()(x).softmax(1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("layer", layers.__all__)
def test_every_layer_stands_in_the_four_places(layer):
    short = next(
        f.stem for f in MODEL_YAMLS.glob("towernet-cls-*.yaml") if f" {layer} " in f.read_text().splitlines()[0]
    )
    model = ClassificationModel(f"{short}.yaml", nc=4, verbose=False)
    assert [i for i, m in enumerate(model.model) if type(m).__name__ == layer] == [6, 9, 12, 15]
    assert model.train()(torch.rand(2, 3, 256, 256)).shape == (2, 4)


def test_inception_stands_in_any_model_and_is_not_scaled():
    described = yaml_model_load("yolov8n.yaml")
    described["backbone"][4] = [-1, 1, "Inception", [24, [8, 40], [4, 12], 20]]
    model = DetectionModel(described, verbose=False)
    made = model.model[4]
    assert isinstance(made, Inception)
    assert made.type == "yolo_attn.networks.towernet.Inception"
    assert (model.model[3].conv.out_channels, model.model[5].conv.in_channels) == (64, 24 + 40 + 12 + 20)
    assert sum(p.numel() for p in made.parameters()) == inception_parameters(64, 24, (8, 40), (4, 12), 20)


def test_attention_behind_it_knows_its_channels_and_its_map():
    described = yaml.safe_load((MODEL_YAMLS / "towernet-cls.yaml").read_text())
    described["backbone"].insert(9, [8, 1, "NAM", [{"spatial": True}]])
    layer = ClassificationModel(described, verbose=False).model[9]
    assert layer.channel.bn.num_features == 256
    assert layer.spatial.grid == (20, 20)  # at 640 px


def test_rows_of_ultralytics_resnet_are_its_own_beside_them():
    described = yaml_model_load("yolov8n-cls.yaml")
    described["backbone"][1] = [-1, 1, "ResNetLayer", [16, 8, 2, False, 2]]
    described["backbone"][2] = [-1, 1, "Inception", []]
    model = ClassificationModel(described, verbose=False)
    assert type(model.model[1]).__name__ == "ResNetLayer"
    assert model.model[1].type == "ultralytics.nn.modules.block.ResNetLayer"
    assert model.model[2].one[0].in_channels == 32


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ([-1, 2, "Inception", []], "row 8: repeats is 2, expected 1; write [-1, 1, Inception, []] or"),
        ([-1, 1, "Inception", [64, [64]]], "row 8: three is [64], expected two ints, such as [64, 128]"),
        ([-1, 1, "Inception", [{"oen": 3}]], "row 8: Inception has no option 'oen' (did you mean one?)"),
        ([-1, 1, "ConvBNReLU", [-3]], "row 8: outputs has -3, expected an int above 0"),
        ([-1, 1, "ConvBNReLU", [{"std": -1}]], "row 8: std is -1, expected a number of at least 0 or null"),
        ([-1, 1, "ConvBNReLU", [{"std": True}]], "row 8: std is True, expected a number of at least 0 or null"),
        ([-1, 1, "ConvBNReLU", [8, 0]], "row 8: stride has 0, expected an int above 0"),
        ([-1, 1, "Inceptoin", []], "row 8: unknown layer 'Inceptoin'; did you mean Inception"),
        ([-1, 1, "FC", ["nc", {"hidden": 3}]], "row 8: found ['nc', {'hidden': 3}], expected options by position or"),
    ],
)
def test_wrong_rows_get_a_line(row, line, tmp_path):
    described = yaml.safe_load((ROOT / "model_yamls/towernet-cls.yaml").read_text())
    described["backbone"][8] = row
    with pytest.raises(UserError) as error:
        ClassificationModel(described, verbose=False)
    assert line in str(error.value)


def test_a_head_as_vggs():
    head = FC(8, classes=5, hidden=[12, 6], pool=7, dropout=0.5)
    assert [type(m).__name__ for m in head.drop] == ["Linear", "ReLU", "Dropout"] * 2
    assert (head.drop[0].in_features, head.linear.in_features, head.drop[2].p) == (8 * 49, 6, 0.5)
    x = torch.rand(2, 8, 14, 14)
    assert head.train()(x).shape == (2, 5)
    with pytest.raises(ValueError, match="dropout is 1"):
        FC(8, classes=5, dropout=1)


@pytest.mark.parametrize(
    ("size", "line"),
    [
        (96, "imgsz=96: row 14 (MaxPool2d) cannot take a map of 1×1 pixels; give larger images"),
        (128, "imgsz=128: row 15 (SimAM) sees a map of one pixel"),
        (224, "imgsz=224: row 15 (SimAM) sees a map of one pixel"),
        (256, ""),
    ],
)
def test_images_that_are_small_are_reported_or_refused(size, line, caplog):
    model = ClassificationModel("towernet-cls-simam.yaml", verbose=False)
    with caplog.at_level("WARNING", logger="ultralytics"):
        if size < 128:
            with pytest.raises(UserError, match=re.escape(line)):
                check_maps(model, size)
        else:
            check_maps(model, size)
    reported = [record.message for record in caplog.records if record.message.startswith("imgsz")]
    assert reported == ([line] * bool(line) if size >= 128 else ["imgsz=96: row 12 (SimAM) sees a map of one pixel"])


@pytest.fixture
def pictures(tmp_path):
    for split in ("train", "val"):
        for name in ("cat", "dog", "owl"):
            for n in range(4):
                save_noise(tmp_path / "pictures" / split / name / f"{n}.png", (140, 130))
    return str(tmp_path / "pictures")


@pytest.mark.integration
def test_a_towernet_trains_validates_exports_and_is_transferred(pictures, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    given = ["--cfg", "towernet-cls-nam.yaml", "--data", pictures, "--epochs", "1", *QUICK]
    assert main(["train", *given]) == 0
    best = "runs/classify/train/weights/best.pt"
    assert main(["val", "--weights", best, *QUICK]) == 0
    with caplog.at_level("INFO", logger="ultralytics"):
        assert main(["export", "--weights", best, "--format", "onnx"]) == 0
    assert "verified" in caplog.text
    assert "no:" not in caplog.text.split("verified")[1].splitlines()[0]
    assert "to be resized to a square" in caplog.text
    inert, own = load_safe(Path(best)), YOLO(best).model
    assert inert.yaml["stretch"] is True
    for (key, value), other in zip(inert.state_dict().items(), own.state_dict().values(), strict=True):
        torch.testing.assert_close(value, other.float() if value.is_floating_point() else other, msg=key)
    again = ["--cfg", "towernet-cls-gam.yaml", "--weights", best, "--data", pictures, "--epochs", "1", *QUICK]
    assert main(["train", *again]) == 0
    (report,) = Path("runs/classify").glob("train*/transfer.json")
    assert json.loads(report.read_text())
