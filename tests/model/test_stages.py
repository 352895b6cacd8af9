"""torchvision's classifiers as rows: against torchvision's own, with attention where the papers have it."""

import math
from pathlib import Path

import pytest
import torch
import torchvision
import yaml
from support import save_noise
from torch import nn
from torch.nn import functional as F
from ultralytics import YOLO
from ultralytics.nn.tasks import ClassificationModel, DetectionModel
from ultralytics.utils.checks import check_yaml

from yolo_attn.cli import main
from yolo_attn.errors import UserError
from yolo_attn.layers import BAM, NAM, SimAM
from yolo_attn.model.names import MODEL_YAMLS
from yolo_attn.networks import Stage
from yolo_attn.weights.checkpoint_files import load_safe

NETWORKS = {
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "resnet50-cifar": "resnet50",
    "mobilenetv2": "mobilenet_v2",
    "vgg19": "vgg19",
}
HEADS = {
    "resnet18": {"linear": "fc"},
    "resnet50": {"linear": "fc"},
    "resnet50-cifar": {"linear": "fc", "0": "conv1", "1": "bn1"},
    "mobilenetv2": {"linear": "classifier.1"},
    "vgg19": {"drop.0": "classifier.0", "drop.3": "classifier.3", "linear": "classifier.6"},
}
"""Our names in the head and in CIFAR's first convolution, and torchvision's."""


def classifier(name, classes=16):
    return ClassificationModel(f"torchvision-{name}.yaml", nc=classes, verbose=False)


def described_by(name):
    return yaml.safe_load((MODEL_YAMLS / f"torchvision-{name}-cls.yaml").read_text())


def untrained(name):
    """torchvision's own network; for CIFAR with a first convolution of 3×3 and stride 1, drawn by the same rule."""
    plain = getattr(torchvision.models, NETWORKS[name])(num_classes=16)
    if "cifar" in name:
        plain.conv1, plain.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
        nn.init.kaiming_normal_(plain.conv1.weight, mode="fan_out", nonlinearity="relu")
    return plain


def torchvisions(name, model):
    """torchvision's network with the weights of ours, attention apart."""
    plain = untrained(name)
    heads, found = HEADS[name], {}
    for key, value in model.state_dict().items():
        row, rest = key.removeprefix("model.").split(".", 1)
        if ".attention." in key or type(model.model[int(row)]) is BAM:
            continue
        renamed = next((rest.replace(mine, own, 1) for mine, own in heads.items() if rest.startswith(f"{mine}.")), None)
        found[renamed or rest.replace("features_", "features.")] = value
    plain.load_state_dict(found)
    return plain


def enliven(model):
    """Batch norms with statistics and factors of a trained model."""
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        for values, low, high in ((norm.running_mean, -0.2, 0.2), (norm.running_var, 0.5, 2), (norm.weight, 0.3, 1)):
            nn.init.uniform_(values, low, high)
    return model.double().eval()


def outputs(model, x):
    with torch.inference_mode():
        found = model(x)
    return found[0] if isinstance(found, tuple) else found


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_are_torchvisions(name):
    torch.manual_seed(0)
    model = enliven(classifier(f"{name}-cls"))
    x = torch.rand(2, 3, 97, 130, dtype=torch.float64)
    plain = torchvisions(name, model).double().eval()
    torch.testing.assert_close(outputs(model, x), outputs(plain, x).softmax(1), rtol=1e-9, atol=1e-12)


def test_logits_and_gradients_of_a_training_are_torchvisions():
    torch.manual_seed(0)
    model = classifier("resnet18-cls").double().train()
    plain = torchvisions("resnet18", model).double().train()
    x = torch.rand(4, 3, 64, 64, dtype=torch.float64)
    for each in (model, plain):
        F.cross_entropy(each(x), torch.tensor([0, 3, 7, 15])).backward()
    torch.testing.assert_close(model.model[0].conv1.weight.grad, plain.conv1.weight.grad, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_initial_weights_are_drawn_as_torchvisions(name):
    """Of every convolution and linear layer the deviation, of every bias and norm the value."""
    torch.manual_seed(0)
    model = classifier(f"{name}-cls")
    ours = torchvisions(name, model).state_dict()
    for key, value in untrained(name).state_dict().items():
        if value.ndim > 1:
            tolerance = max(0.03, 4 / math.sqrt(value.numel()))
            assert ours[key].std().item() == pytest.approx(value.std().item(), rel=tolerance), key
            assert abs(ours[key].mean().item()) < 5 * value.std().item() / math.sqrt(value.numel()) + 1e-9, key
        elif "fc" not in key:
            torch.testing.assert_close(ours[key], value, msg=key)


def test_parameters_are_the_papers():
    """NAM's paper leaves its scales and shifts out."""
    published = {"": 23_705_252, "-simam": 23_705_252, "-cbam": 26_237_844, "-nam": 23_705_252 + 30_208}
    outputs_of_blocks = 3 * [256] + 4 * [512] + 6 * [1024] + 3 * [2048]
    assert 2 * sum(outputs_of_blocks) == 30_208
    for layer, number in published.items():
        model = classifier(f"resnet50-cifar-cls{layer}", classes=100)
        assert sum(p.numel() for p in model.parameters()) == number


def simam(x):
    d = (x - x.mean((2, 3), keepdim=True)) ** 2
    v = d.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3] - 1)
    return x * torch.sigmoid(d / (4 * (v + 1e-4)) + 0.5)


def nam(layer):
    norm = layer.channel.bn

    def forward(x):
        normal = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        share = norm.weight.abs() / norm.weight.abs().sum()
        return x * torch.sigmoid(normal * share[:, None, None])

    return forward


def attended(plain, model, where):
    """torchvision's own network, whose blocks are computed step by step, with attention in them."""
    same = dict(
        zip((m for m in plain.modules() if is_block(m)), (m for m in model.modules() if is_block(m)), strict=True)
    )

    def residual(block):
        own = [m for m in same[block].modules() if isinstance(m, NAM)]
        end = nam(own[0]) if own else (lambda x: x)
        inner = simam if where == "pre_bn" else (lambda x: x)

        def forward(x):
            out = F.relu(block.bn1(block.conv1(x)))
            out = block.bn2(inner(block.conv2(out)))
            if hasattr(block, "conv3"):
                out = block.bn3(block.conv3(F.relu(out)))
            return F.relu(end(out) + (block.downsample(x) if block.downsample else x))

        return forward

    def inverted(block):
        own = [m for m in same[block].modules() if isinstance(m, NAM)]
        *expand, depthwise, project, norm = block.conv
        convolve, normalise, activate = depthwise

        def forward(x):
            out = x
            for each in expand:
                out = each(out)
            out = convolve(out)
            out = activate(normalise(simam(out) if where == "pre_bn" else out))
            out = norm(project(out))
            out = nam(own[0])(out) if own else out
            return x + out if block.use_res_connect else out

        return forward

    for block in same:
        block.forward = inverted(block) if hasattr(block, "use_res_connect") else residual(block)
    return plain


def is_block(module):
    return type(module).__name__ in {"BasicBlock", "Bottleneck", "InvertedResidual"}


@pytest.mark.parametrize(("layer", "where"), [("nam", "end"), ("simam", "pre_bn")])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet50-cifar", "mobilenetv2"])
def test_attention_stands_in_every_block_where_the_papers_have_it(name, layer, where):
    torch.manual_seed(0)
    model = enliven(classifier(f"{name}-cls-{layer}"))
    blocks = sum(map(is_block, model.modules()))
    assert blocks == {"resnet18": 8, "resnet50": 16, "resnet50-cifar": 16, "mobilenetv2": 17}[name]
    assert sum(isinstance(m, NAM | SimAM) for m in model.modules()) == blocks
    before_fusing = outputs(model, x := torch.rand(2, 3, 97, 130, dtype=torch.float64))
    plain = untrained(name)
    own = [v for k, v in model.state_dict().items() if ".attention." not in k]  # in the same order
    plain.load_state_dict(dict(zip(plain.state_dict(), own, strict=True)))
    expected = outputs(attended(plain.double().eval(), model, where), x).softmax(1)
    torch.testing.assert_close(before_fusing, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(outputs(model.fuse(verbose=False), x), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("vgg19-cls-simam", ["Stage", "SimAM"] * 5),
        ("vgg19-cls-bam", ["Stage", *["BAM", "Stage"] * 4]),
        ("resnet50-cls-bam", ["Stage", *["BAM", "Stage"] * 3]),
        ("mobilenetv2-cls-bam", ["Stage", *["BAM", "Stage"] * 3]),
    ],
)
def test_rows_between_stages(name, kinds):
    with torch.device("meta"):
        model = classifier(name)
    assert [type(m).__name__ for m in model.model] == [*kinds, "FC"]
    stages = [m for m in model.model if isinstance(m, Stage)]
    ends = {"resnet50": nn.Sequential, "mobilenetv2": nn.Sequential, "vgg19": nn.MaxPool2d}
    assert all(isinstance(list(stage.children())[-1], ends[name.split("-")[0]]) or "mobile" in name for stage in stages)


@pytest.mark.parametrize(
    ("row", "line"),
    [
        (["resnet51", "conv1"], "network is 'resnet51', expected one of resnet18, resnet34"),
        (["__import__('os')", "conv1"], "network is \"__import__('os')\", expected one of"),
        (["resnet50", "layer5"], "resnet50 has no child 'layer5'; it has conv1, bn1, relu, maxpool, layer1"),
        (["resnet50", "fc"], "resnet50 has no child 'fc'"),
        (["resnet50", "layer3", "layer2"], "layer2 comes before layer3 in resnet50"),
        (["resnet50", "relu"], "relu of resnet50 has no weights"),
        (["resnet50", "layer3"], "layer3 of resnet50 takes a map of 512 channels, and gets one of 3"),
        ([["resnet50"], "conv1"], "network is \"['resnet50']\", expected one of"),
        ([{"network": "resnet50", "fist": "conv1"}], "Stage has no option 'fist' (did you mean first?)"),
    ],
)
def test_wrong_rows_get_a_line(row, line):
    described = described_by("resnet18")
    described["backbone"][0] = [-1, 1, "Stage", row]
    with pytest.raises(UserError) as error:
        ClassificationModel(described, verbose=False)
    assert "row 0: " in str(error.value)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "place", "line"),
    [
        ("vgg19", {"where": "end"}, "where: end means nothing in this Stage; it has no residual unit; write out"),
        ("vgg19", {"where": "out"}, ""),
    ],
)
def test_attention_in_a_stage_without_units(name, place, line):
    described = described_by(name)
    described["backbone"][1][2:] = ["Stage_NAM", [*described["backbone"][1][3], place]]
    with torch.device("meta"):
        if line:
            with pytest.raises(UserError, match=line):
                ClassificationModel(described, verbose=False)
        else:
            assert isinstance(ClassificationModel(described, verbose=False).model[1].attention, NAM)


def test_one_row_may_be_all_of_a_network_and_stand_in_a_detector():
    described = yaml.safe_load(Path(check_yaml("yolov8.yaml")).read_text())
    described["backbone"] = [
        [-1, 1, "Stage", ["mobilenet_v2", "features.0", "features.6"]],
        [-1, 1, "Stage_NAM", ["mobilenet_v2", "features.7", "features.13"]],
        [-1, 1, "Stage", ["mobilenet_v2", "features.14", "features.17"]],
    ]
    described["head"] = [[[0, 1, 2], 1, "Detect", ["nc"]]]
    model = DetectionModel(described, verbose=False)
    assert model.stride.tolist() == [8, 16, 32]
    assert [branch[0].conv.in_channels for branch in model.model[-1].cv2] == [32, 96, 320]


@pytest.mark.integration
def test_a_network_trains_validates_exports_and_is_read_safely(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    for n in range(24):
        save_noise(tmp_path / "set" / ("train", "val")[n % 2] / "abc"[n % 3] / f"{n}.png", (40, 40))
    quick = ["--imgsz", "32", "--batch", "4", "--device", "cpu", "workers=0", "plots=False"]
    given = ["--data", "set", "--epochs", "1", *quick]
    assert main(["train", "--cfg", "torchvision-resnet18-cls-nam.yaml", *given]) == 0
    best = "runs/classify/train/weights/best.pt"
    assert main(["val", "--weights", best, *quick]) == 0
    with caplog.at_level("INFO", logger="ultralytics"):
        assert main(["export", "--weights", best, "--format", "onnx"]) == 0
    assert "verified" in caplog.text
    assert "no:" not in caplog.text.split("verified")[1].splitlines()[0]
    inert, own = load_safe(Path(best)), YOLO(best).model
    assert [type(m) for m in inert.modules()] == [type(m) for m in own.modules()]
    x = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(outputs(inert.float().eval(), x), outputs(own.float().eval(), x))
    transferred = ["--cfg", "torchvision-resnet18-cls-cbam.yaml", "--weights", best]
    assert main(["train", *transferred, *given]) == 0
