"""The packaged model YAMLs: names, rows, headers."""

import functools
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import thop
import torch
import yaml
from support import ROOT, run_python
from tiers import later
from torch import nn
from ultralytics import YOLO
from ultralytics.nn import tasks
from ultralytics.utils.checks import check_yaml as ul_file
from ultralytics.utils.torch_utils import get_num_params

from tools.model_yamls import figures as figures_line
from tools.model_yamls import packaged, render
from yolo_attn import layers
from yolo_attn.engine.preflight.checks import check_cfg, check_model
from yolo_attn.engine.tasks import task_of
from yolo_attn.layers import GAM, NAM, SimAM
from yolo_attn.layers.attended import AttendedConv
from yolo_attn.model.names import MODEL_YAMLS, find_model_yaml

LAYERS = {name.lower(): getattr(layers, name) for name in layers.__all__}
LAYERS["triplet"] = LAYERS.pop("tripletattention")
FAMILIES = ("yolov8", "yolo11", "yolo26")
NECK = [f"{family}-{layer}" for family in FAMILIES for layer in LAYERS]
NECK += [f"yolov5-{layer}" for layer in ("simam", "nam", "gam")]
IN_YOLO = [f"{model}-{layer}" for model in ("yolov8-c2f", "yolo11-c3k2") for layer in ("simam", "nam", "cbam", "eca")]
CLASSIFIERS = [f"resnet50-cls-{layer}" for layer in ("simam", "nam", "gam", "cbam")]
IN_OTHERS = [name.replace("-cls", "") for name in CLASSIFIERS] + ["mobilenetv2-simam", "mobilenetv2-nam"]
OTHER_TASKS = [f"yolov8-{task}-gam" for task in ("seg", "pose", "obb", "cls")]
TOWERS = [f"towernet-cls-{layer}" for layer in LAYERS]
TORCHVISION = [
    f"torchvision-{network}-cls-{layer}"
    for network in ("resnet18", "resnet50", "mobilenetv2", "vgg19")
    for layer in ("simam", "nam", "gam", "se", "cbam", "bam", "triplet")
] + [f"torchvision-resnet50-cifar-cls-{layer}" for layer in ("simam", "nam", "cbam")]
BASES = list(dict.fromkeys(name.rpartition("-")[0] for name in [*TOWERS, *TORCHVISION]))
PLAIN = ["resnet50", "mobilenetv2", *BASES]
ALL = [
    *NECK,
    *OTHER_TASKS,
    "rtdetr-l-gam",
    "yolov8-gam-backbone",
    *IN_YOLO,
    *CLASSIFIERS,
    *IN_OTHERS,
    *TOWERS,
    *TORCHVISION,
    *PLAIN,
]
FIRST = ["yolov8-gam", "yolo26-simam", "yolov8-seg-gam", "yolov8-c2f-nam", "resnet50-cls-gam"]
FAMILY = re.compile(r"(yolov?\d+)(-.*)")
BLOCKS = {"c2f": "C2f", "c3k2": "C3k2", "resnet50": "ResNetLayer", "mobilenetv2": "TorchVision"}


def scaled(name, scale):
    """File name at a scale; ResNet and MobileNet have none."""
    match = FAMILY.fullmatch(name)
    return f"{match[1]}{scale}{match[2]}.yaml" if match else f"{name}.yaml"


def plain(name, scale="n"):
    if name in CLASSIFIERS:
        return "yolov8n-cls-resnet50.yaml"  # Ultralytics' own
    if name in OTHER_TASKS or name == "rtdetr-l-gam":
        return scaled(name.removesuffix("-gam"), scale)
    if name in (*TOWERS, *TORCHVISION):
        return f"{name.rpartition('-')[0]}.yaml"
    match = FAMILY.fullmatch(name)
    return f"{match[1]}{scale}.yaml" if match else f"{name.split('-')[0]}.yaml"


def layer_of(name):
    return LAYERS[name.split("-")[-1]]


def build(file):
    return task_of(tasks.yaml_model_load(file)["head"][-1][2]).model(file, verbose=False)


SIZES = {"towernet": 256, "cifar": 32, "-cls": 224}
"""Pixels that headers count with, by a part of the name."""


@functools.cache
def figures(file):
    """Parameters and GFLOPs as the headers give them.

    Ultralytics' own `get_flops` counts a 32 px picture and scales, so what is done once a map counts 400-fold at
    640 px; here its counter sees the size itself, on the meta device.
    """
    model = build(file)
    size = next((size for part, size in SIZES.items() if part in file), 640)
    parameters, strides = get_num_params(model), model.stride
    model.to("meta").model[-1].stride = strides
    operations = thop.profile(model, inputs=[torch.zeros(1, 3, size, size, device="meta")], verbose=False)[0]
    return f"{size} px: {parameters:,} parameters, {operations * 2 / 1e9:.3f} GFLOPs"


@functools.cache
def rows_of(file):
    """The layers that a model YAML describes, without weights."""
    with torch.device("meta"):
        return tasks.parse_model(tasks.yaml_model_load(file), 3, verbose=False)[0]


def shapes(module):
    return {k: v.shape for k, v in module.state_dict().items()}


@pytest.mark.parametrize("name", later(packaged(), FIRST))
def test_files_are_what_the_command_writes(name):
    """The figures, which take long, are left to test_header_is_true."""
    written = (MODEL_YAMLS / f"{name}.yaml").read_bytes().decode()
    assert written == render(name, written.splitlines()[2])


def test_the_command_writes_the_figures():
    assert figures_line("yolov8-eca") == (MODEL_YAMLS / "yolov8-eca.yaml").read_text().splitlines()[2]


def test_these_files_and_no_others():
    assert sorted(f.stem for f in MODEL_YAMLS.glob("*.yaml")) == sorted(ALL) == sorted([*packaged(), *PLAIN])


@pytest.mark.parametrize("name", later(ALL, FIRST))
def test_header_is_true(name):
    lines = (MODEL_YAMLS / f"{name}.yaml").read_text().splitlines()
    file, base = scaled(name, "n"), plain(name)
    sets = {"-cls": "imagenet", "-obb": "dota.yaml", "-pose": "coco"}
    more = "".join(f" --data path/to/{data}" for task, data in sets.items() if task in name)
    more += "".join(f" --imgsz {SIZES[part]}" for part in ("towernet", "cifar") if part in name)
    assert lines[1] == f"# python scripts/train_det.py --cfg {file}{more}"
    beside = "" if name in PLAIN else f"; plain {base[:-5]}: {figures(base).split(': ')[1]}"
    assert lines[2] == f"# {'n ' if FAMILY.fullmatch(name) else ''}at {figures(file)}{beside}."
    rows = [line for line in lines if line.startswith("  - [")]
    assert [int(re.search(r"# (\d+)", row)[1]) for row in rows] == list(range(len(rows)))


@pytest.mark.parametrize(
    ("name", "scale"),
    later(
        [(n, s) for n in [*NECK, *OTHER_TASKS[:3]] for s in ("nsmlx" if layer_of(n) in (SimAM, NAM, GAM) else "nx")],
        FIRST,
    ),
)
def test_neck_is_the_base_and_attention_before_the_head(name, scale):
    base, ours = rows_of(plain(name, scale)), rows_of(scaled(name, scale))
    n = len(base) - 1
    attention = ours[n : n + 3]
    assert [type(m) for m in attention] == 3 * [layer_of(name)]
    assert [m.f for m in attention] == base[-1].f
    assert ours[-1].f == [n, n + 1, n + 2]
    for mine, theirs in zip([*ours[:n], ours[-1]], base, strict=True):
        assert shapes(mine) == shapes(theirs)


@pytest.mark.parametrize("name", later([*NECK, *OTHER_TASKS[:3], "rtdetr-l-gam"], FIRST))
def test_neck_with_attention_as_identity_is_the_base(name):
    base, model = (build(y).eval() for y in (plain(name), scaled(name, "n")))
    own = [m for m in model.model if type(m) is not layer_of(name)]
    for mine, theirs in zip(own, base.model, strict=True):
        mine.load_state_dict(theirs.state_dict())
    for m in model.modules():
        if isinstance(m, layer_of(name)):
            m.forward = lambda x: x
    x = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        found, expected = model(x), base(x)
    while not isinstance(found, torch.Tensor):
        found, expected = found[0], expected[0]
    assert torch.equal(found, expected)


@pytest.mark.trap(4)
@pytest.mark.parametrize("scale", "nsmlx")
@pytest.mark.parametrize("name", later(IN_YOLO, FIRST))
def test_block_variant_has_the_keys_of_the_base_plus_the_attentions(name, scale):
    base, ours = rows_of(plain(name, scale)), rows_of(scaled(name, scale))
    assert [(m.f, type(m)) for m in ours] == [(m.f, type(m)) for m in base]
    assert shapes(base) == {k: v for k, v in shapes(ours).items() if ".attention." not in k}
    changed = [m for m in ours if m.type.endswith(f"_{layer_of(name).__name__}")]
    assert len(changed) == sum(type(m).__name__ == BLOCKS[name.split("-")[1]] for m in base) == 8
    for m in changed:
        assert any(isinstance(part, layer_of(name)) for part in m.modules())


@pytest.mark.parametrize("name", [*IN_YOLO, *CLASSIFIERS, *IN_OTHERS])
def test_layers_stand_where_the_authors_put_them(name):
    """SimAM between the 3×3 convolution and its batch norm, the others at the end of every residual unit's branch."""
    kind = {"c3k2": "Bottleneck", "c2f": "Bottleneck", "resnet50": "ResNetBlock", "mobilenetv2": "InvertedResidual"}
    model = rows_of(scaled(name, "n"))
    parts = name.split("-")
    unit_kind = kind.get(parts[1]) or kind[parts[0]]
    units = [m for m in model.modules() if type(m).__name__ == unit_kind]
    attention = [m for m in model.modules() if isinstance(m, layer_of(name))]
    assert len(units) == len(attention)
    assert parts[0] not in ("resnet50", "mobilenetv2") or len(units) == {"resnet50": 16, "mobilenetv2": 17}[parts[0]]
    for unit in units:
        if unit_kind == "InvertedResidual" and parts[-1] == "simam":
            depthwise = unit.conv[-3]
            assert [key for key, _ in depthwise.named_children()] == ["0", "attention", "1", "2"]
            assert depthwise[0].groups == depthwise[0].in_channels == depthwise[2].num_features
        elif unit_kind == "InvertedResidual":
            assert [type(m) for m in unit.conv[-2:]] == [nn.BatchNorm2d, layer_of(name)]
        elif parts[-1] == "simam":
            assert isinstance(unit.cv2, AttendedConv)
            assert unit.cv2.conv.kernel_size == (3, 3)
        else:
            last = unit.cv3 if unit_kind == "ResNetBlock" else unit.cv2
            assert isinstance(last.attention, layer_of(name))


def test_backbone_variant_stands_before_sppf():
    model = YOLO("yolov8n-gam-backbone.yaml").model
    assert type(model.model[9]) is GAM
    assert type(model.model[10]).__name__ == "SPPF"
    assert model.model[-1].f == [16, 19, 22]


@pytest.mark.parametrize("name", ["resnet50-nam", "mobilenetv2-simam", "resnet50-cls-cbam"])
def test_names_without_a_scale_are_quiet(name, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = YOLO(f"{name}.yaml")
    assert model.task == ("classify" if "cls" in name else "detect")
    captured = capfd.readouterr()
    assert "no model scale" not in captured.out + captured.err


@pytest.mark.integration
def test_training_takes_every_task():
    for name in ("resnet50", "resnet50-simam", "mobilenetv2-nam"):
        task = check_cfg(f"{name}.yaml")
        model = check_model(f"{name}.yaml", task, classes=3)
        assert (model.model[-1].nc, task.name) == (3, "detect")
    assert [check_cfg(scaled(name, "n")).name for name in OTHER_TASKS] == ["segment", "pose", "obb", "classify"]
    assert check_cfg("resnet50-cls-nam.yaml").name == "classify"
    assert check_cfg("rtdetr-l-gam.yaml").trainer.__name__ == "RTDETRTrainer"


def test_classifier_is_the_base_and_attention_before_the_head():
    base, ours = rows_of("yolov8n-cls.yaml"), rows_of("yolov8n-cls-gam.yaml")
    assert type(ours[-2]) is GAM
    for mine, theirs in zip([*ours[:-2], ours[-1]], base, strict=True):
        assert shapes(mine) == shapes(theirs)


def test_names_resolve_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_model_yaml("yolo11m-nam.yaml") == (MODEL_YAMLS / "yolo11-nam.yaml", "m")
    assert find_model_yaml("yolov8-gam.yaml") == (MODEL_YAMLS / "yolov8-gam.yaml", "")
    assert find_model_yaml("yolov8n.yaml") is None
    assert find_model_yaml("elsewhere/yolov8n-gam.yaml") is None
    (tmp_path / "yolov8n-gam.yaml").write_text("mine: true")
    assert find_model_yaml("yolov8n-gam.yaml") is None  # Ultralytics finds a file of exactly this name
    (tmp_path / "sub2n").mkdir()
    (tmp_path / "sub2n" / "yolov8-own.yaml").write_text("mine: true")
    assert find_model_yaml("sub2n/yolov8x-own.yaml") == (Path("sub2n/yolov8-own.yaml"), "x")


def test_own_names_keep_the_scale_that_ultralytics_reads(tmp_path):
    text = Path(ul_file("yolov8.yaml")).read_text()
    (tmp_path / "my-yolov8s.yaml").write_text(text)
    assert tasks.yaml_model_load(tmp_path / "my-yolov8s.yaml")["scale"] == "s"


@pytest.mark.integration
def test_wheel_and_sdist_carry_the_yamls(tmp_path):
    """Both built, the wheel of the sdist too; each installed elsewhere finds the files."""
    source = tmp_path / "source"
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns(".git", ".venv", "runs", "*cache*", "build", "dist", "__pycache__")
    )
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path / "dist", source],
        check=True,
        capture_output=True,
    )
    (sdist,) = (tmp_path / "dist").glob("*.tar.gz")
    (wheel,) = (tmp_path / "dist").glob("*.whl")  # build makes it from the sdist
    shutil.rmtree(source)
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    names = {n for n in held if n.endswith(".yaml")}
    templates = [*(ROOT / "yolo_attn").glob("**/templates/*")]
    assert {file.parents[1].name for file in templates} == {"report", "maps"}
    assert {"yolo_attn/py.typed", *(str(file.relative_to(ROOT)) for file in templates)} <= held
    assert {name.partition("/")[0].partition("-")[0] for name in held} == {"yolo_attn"}
    assert names == {f"yolo_attn/model_yamls/{f.name}" for f in MODEL_YAMLS.glob("*.yaml")}
    for package in (wheel, sdist):
        home = tmp_path / package.suffix
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", home]
        subprocess.run([*pip, package], check=True, capture_output=True)
        code = "from yolo_attn.model.names import *; print(find_model_yaml('yolo26n-gam.yaml')[0])"
        found = Path(run_python(code, tmp_path, PYTHONPATH=str(home)).stdout.strip())
        assert found.is_relative_to(home)
        assert yaml.safe_load(found.read_text())["nc"] == 80
