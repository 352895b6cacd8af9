"""The packaged model YAMLs: names, rows, headers."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from support import run_python
from ultralytics import YOLO
from ultralytics.nn import tasks
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.checks import check_yaml as ul_file
from ultralytics.utils.torch_utils import get_flops, get_num_params

from yolo_attn.layers import GAM, NAM, SimAM
from yolo_attn.plugin.yamls import MODEL_YAMLS, find_model_yaml

ROOT = Path(__file__).resolve().parents[2]
LAYERS = {"simam": SimAM, "nam": NAM, "gam": GAM}
NECK = [f"{family}-{layer}" for family in ("yolov5", "yolov8", "yolo11", "yolo26") for layer in LAYERS]
FAMILY = re.compile(r"(yolov?\d+)(-.*)")


def scaled(name, scale):
    family, rest = FAMILY.fullmatch(name).groups()
    return f"{family}{scale}{rest}.yaml"


def plain(name, scale="n"):
    return f"{FAMILY.fullmatch(name)[1]}{scale}.yaml"


def test_these_files_and_no_others():
    assert sorted(f.stem for f in MODEL_YAMLS.glob("*.yaml")) == sorted([*NECK, "yolov8-gam-backbone"])


@pytest.mark.parametrize("name", [*NECK, "yolov8-gam-backbone"])
def test_header_is_true(name):
    lines = (MODEL_YAMLS / f"{name}.yaml").read_text().splitlines()
    model, base = (DetectionModel(y, verbose=False) for y in (scaled(name, "n"), plain(name)))
    assert lines[1] == f"# python scripts/train_det.py --cfg {scaled(name, 'n')}"
    assert lines[2] == (
        f"# n at 640 px: {get_num_params(model):,} parameters, {get_flops(model, 640):.3f} GFLOPs; plain "
        f"{plain(name)[:-5]}: {get_num_params(base):,} parameters, {get_flops(base, 640):.3f} GFLOPs."
    )
    rows = [line for line in lines if line.startswith("  - [")]
    assert [int(re.search(r"# (\d+)", row)[1]) for row in rows] == list(range(len(rows)))


def rows_of(name):
    """The layers that a model YAML describes, without weights."""
    with torch.device("meta"):
        return tasks.parse_model(tasks.yaml_model_load(name), 3, verbose=False)[0]


@pytest.mark.parametrize("name", NECK)
@pytest.mark.parametrize("scale", "nsmlx")
def test_neck_is_the_base_and_attention_before_the_head(name, scale):
    base, ours = rows_of(plain(name, scale)), rows_of(scaled(name, scale))
    n = len(base) - 1
    attention = ours[n : n + 3]
    assert [type(m) for m in attention] == 3 * [LAYERS[name.split("-")[1]]]
    assert [m.f for m in attention] == base[-1].f
    assert ours[-1].f == [n, n + 1, n + 2]
    for mine, theirs in zip([*ours[:n], ours[-1]], base, strict=True):
        assert {k: v.shape for k, v in mine.state_dict().items()} == {
            k: v.shape for k, v in theirs.state_dict().items()
        }


@pytest.mark.parametrize("name", NECK)
def test_with_attention_as_identity_it_is_the_base(name):
    base, model = (DetectionModel(y, verbose=False).eval() for y in (plain(name), scaled(name, "n")))
    own = [m for m in model.model if type(m) not in LAYERS.values()]
    for mine, theirs in zip(own, base.model, strict=True):
        mine.load_state_dict(theirs.state_dict())
    for m in model.model:
        if type(m) in LAYERS.values():
            m.forward = lambda x: x
    x = torch.rand(1, 3, 64, 96)
    assert torch.equal(model(x)[0], base(x)[0])


def test_backbone_variant_stands_before_sppf():
    model = YOLO("yolov8n-gam-backbone.yaml").model
    assert type(model.model[9]) is GAM
    assert type(model.model[10]).__name__ == "SPPF"
    assert model.model[-1].f == [16, 19, 22]


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
        names = {n for n in archive.namelist() if n.endswith(".yaml")}
    assert names == {f"yolo_attn/model_yamls/{f.name}" for f in MODEL_YAMLS.glob("*.yaml")}
    for package in (wheel, sdist):
        home = tmp_path / package.suffix
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", home]
        subprocess.run([*pip, package], check=True, capture_output=True)
        code = "from yolo_attn.plugin.yamls import *; print(find_model_yaml('yolo26n-gam.yaml')[0])"
        found = Path(run_python(code, tmp_path, PYTHONPATH=str(home)).stdout.strip())
        assert found.is_relative_to(home)
        assert yaml.safe_load(found.read_text())["nc"] == 80
