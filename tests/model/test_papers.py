"""Parameters of the ResNet-50 and MobileNetV2 variants against the papers', with the arithmetic.

Ultralytics' Classify head has a 1280 wide convolution of its own, so the backbone is compared: with the papers' fully
connected layer of 2048 inputs, and what a block of C output channels gets. ResNet-50 has 3, 4, 6, 3 blocks of C = 256,
512, 1024, 2048.
"""

import pytest
import torch
import torchvision
from support import ROOT
from torch import nn
from ultralytics.nn import tasks

import yolo_attn  # noqa: F401  registers the row names

OUTPUTS = 3 * [256] + 4 * [512] + 6 * [1024] + 3 * [2048]
IMAGENET, CIFAR100 = (2048 * classes + classes for classes in (1000, 100))
FIRST_OF_CIFAR = 64 * 3 * (7 * 7 - 3 * 3)
"""What a first convolution of 3×3 instead of 7×7, as for CIFAR's 32 px pictures, has less."""


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def rows(file, backbone_options=None):
    d = tasks.yaml_model_load(file)
    for row in d["backbone"]:
        if backbone_options and isinstance(row[3][-1], dict):
            row[3][-1] = backbone_options
    with torch.device("meta"):
        return tasks.parse_model(d, 3, verbose=False)[0]


def backbone(layer, options=None):
    return parameters(rows(f"resnet50-cls-{layer}.yaml", options)[:-1])


@pytest.fixture(scope="module")
def resnet50():
    """torchvision's, without its fully connected layer."""
    with torch.device("meta"):
        model = torchvision.models.resnet50(weights=None)
    return parameters(model) - parameters(model.fc)


def test_backbones_are_the_papers_networks(resnet50):
    assert resnet50 + IMAGENET == 25_557_032
    assert backbone("simam") == resnet50  # without parameters
    detector = rows("resnet50.yaml")
    assert parameters(detector[:5]) == resnet50
    with torch.device("meta"):
        features = torchvision.models.mobilenet_v2(weights=None).features
    assert parameters(rows("mobilenetv2.yaml")[0]) == parameters(features[:-1])


def test_nam_adds_a_pair_of_scales_and_shifts_a_block(resnet50):
    ours = backbone("nam")
    assert ours == resnet50 + sum(2 * c for c in OUTPUTS)
    for first in (0, FIRST_OF_CIFAR):  # 23,743,140 and 23,735,460; the paper: 23.7 M
        assert round((ours - first + CIFAR100) / 1e6, 1) == 23.7


def test_nam_in_mobilenet():
    base, ours = (rows(f"mobilenetv2{name}.yaml")[0] for name in ("", "-nam"))
    outputs = [m.out_channels for m in base.modules() if type(m).__name__ == "InvertedResidual"]
    assert parameters(ours) == parameters(base) + sum(2 * c for c in outputs)


def gam(c, r):
    hidden = c // r
    mlp = (c * hidden + hidden) + (hidden * c + c)
    convolutions = (7 * 7 * c * hidden + hidden) + (7 * 7 * hidden * c + c)
    return mlp + convolutions + 2 * hidden + 2 * c  # and two batch norms


@pytest.mark.parametrize(("ratio", "paper"), [(16, 149.5), (4, 526.8)])
def test_gam_is_of_the_papers_size_with_100_classes(ratio, paper, resnet50):
    """149.5 M is ratio 16 with CIFAR-100's 100 classes; with ImageNet's 1000 it is 151.4 M. Ratio 4 gives 526.8 M."""
    ours = backbone("gam", {"ratio": ratio})
    assert ours == resnet50 + sum(gam(c, ratio) for c in OUTPUTS)
    for first in (0, FIRST_OF_CIFAR):
        assert round((ours - first + CIFAR100) / 1e6, 1) == paper
    assert round((ours + IMAGENET) / 1e6, 1) == {16: 151.4, 4: 528.6}[ratio]


def test_the_yaml_of_gam_has_ratio_16(resnet50):
    assert backbone("gam") == backbone("gam", {"ratio": 16})


def test_cbam_in_resnet(resnet50):
    def cbam(c):
        mlp = (c * (c // 16) + c // 16) + (c // 16 * c + c)
        return mlp + 2 * 7 * 7 + 2  # one convolution without bias and its batch norm

    assert backbone("cbam") == resnet50 + sum(map(cbam, OUTPUTS))


def test_ultralytics_blocks_use_silu_where_the_papers_use_relu():
    """Known difference; a YAML's `activation: torch.nn.ReLU()` takes it away, in the neck too."""
    block = rows("resnet50-nam.yaml")[1].layer[0]
    assert isinstance(block.cv1.act, nn.SiLU)
    d = {**tasks.yaml_model_load("resnet50-nam.yaml"), "activation": "torch.nn.ReLU()"}
    assert isinstance(tasks.parse_model(d, 3, verbose=False)[0][1].layer[0].cv1.act, nn.ReLU)


def test_docs_repeat_the_sizes():
    text = (ROOT / "docs/models.md").read_text()
    for layer, options in (("simam", None), ("nam", None), ("cbam", None), ("gam", None), ("gam", {"ratio": 4})):
        ours = backbone(layer, options)
        assert f"| {ours + IMAGENET:,} | {ours + CIFAR100:,} |" in text
