"""What the README says can be typed, typed: smaller, on a drawn set."""

import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from support import ROOT, run_python
from torch import nn
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel, yaml_model_load
from ultralytics.utils.checks import check_yaml

from yolo_attn import layers
from yolo_attn.coco.source import load_source
from yolo_attn.editing import PLACES
from yolo_attn.plugin.registry import LAYERS

README = (ROOT / "README.md").read_text()
MODELS = (ROOT / "docs/models.md").read_text()
LARGE = re.compile(r"--(epochs|imgsz|batch) \d+ ?")
SMALL = "--imgsz 64 --device cpu"


def blocks(language, page=README):
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", page, re.DOTALL | re.MULTILINE)


def commands(page=README):
    lines = [line.split("#")[0].strip() for block in blocks("bash", page) for line in block.splitlines()]
    return [line for line in lines if line]


def run(command, cwd):
    """Type a command of ours, made small, where path/to is."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    if "model=" in command:
        command = command.replace("epochs=100", "epochs=1 batch=8") + " imgsz=64 device=cpu"
    elif "train" in command.split("--")[0] and "ls" not in command:
        command = LARGE.sub("", command) + f" --epochs 1 --batch 8 {SMALL}"
    elif "compare" in command:
        command = LARGE.sub("", command).replace("SimAM,NAM,GAM,CBAM", "SimAM").replace("SimAM,NAM,GAM", "SimAM")
        command = command.replace("0,1,2", "0") + f" --epochs 1 --batch 8 {SMALL}"
    elif "val_det" in command or "attn val" in command:
        command += f" {SMALL}"
    environment = {**os.environ, "PATH": path}
    result = subprocess.run(command, shell=True, cwd=cwd, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, (command, result.stderr)


def test_make_targets_exist():
    makes = [c for c in commands() if c.startswith("make ")]
    assert makes == ["make demo", "make test"]
    for command in makes:
        subprocess.run([*command.split(), "--dry-run"], cwd=ROOT, check=True, capture_output=True)


def copy_with_test_split(coco, folder):
    shutil.copytree(coco, folder)
    shutil.copytree(folder / "images/val", folder / "images/test")
    annotations = folder / "annotations"
    shutil.copy(annotations / "instances_val.json", annotations / "instances_test.json")


def test_quick_start_runs_in_its_order(small_coco, tmp_path):
    copy_with_test_split(small_coco, tmp_path / "path/to/bccd")
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    (tmp_path / "path/to/coco").symlink_to(small_coco)
    ours = [command for command in commands() if not command.startswith(("make ", "pip "))]
    assert len(ours) == 12
    for command in ours:
        run(command, tmp_path)
    assert (tmp_path / "runs/detect/val/predictions.json").exists()
    assert (tmp_path / "runs/segment/train/predictions.json").exists()
    assert len(list((tmp_path / "runs/predict").glob("*.jpg"))) == 8


@pytest.mark.slow
def test_commands_for_other_tasks_run(small_coco, small_poses, tmp_path):
    data = tmp_path / "path/to/coco"
    shutil.copytree(small_coco, data)
    shutil.copytree(small_poses / "annotations", data / "annotations", dirs_exist_ok=True)
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    for command in commands((ROOT / "docs/tasks.md").read_text()):
        run(command, tmp_path)
    assert {f.parent.name for f in tmp_path.glob("runs/*/train")} == {"segment", "pose", "detect"}


@pytest.mark.slow
def test_commands_of_the_data_page_run(small_coco, tmp_path):
    for name in ("coco", "more"):
        shutil.copytree(small_coco, tmp_path / "path/to" / name)
    for command in commands((ROOT / "docs/data.md").read_text()):
        run(command.replace("person", "circle").replace("car", "star"), tmp_path)
    assert (tmp_path / "suspects/data_report.json").exists()
    assert len(list(tmp_path.glob("runs/detect/*/data_report.json"))) == 6


def test_command_of_the_comparison_page_runs(small_coco, tmp_path):
    (tmp_path / "path/to").mkdir(parents=True)
    (tmp_path / "path/to/bccd").symlink_to(small_coco)
    (command,) = commands((ROOT / "docs/compare.md").read_text())
    run(command, tmp_path)
    assert (tmp_path / "runs/compare/yolov8n/report.html").exists()


def test_commands_of_the_export_page_run(small_coco, tmp_path, monkeypatch):
    page = (ROOT / "docs/export.md").read_text()
    (tmp_path / "path/to").mkdir(parents=True)
    (tmp_path / "path/to/coco").symlink_to(small_coco)
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    weights = tmp_path / "runs/detect/train/weights"
    weights.mkdir(parents=True)
    model = YOLO("yolov8n-gam.yaml")
    names = load_source(small_coco, ["val"])["val"].index.category_names
    model.model = DetectionModel("yolov8n-gam.yaml", nc=len(names), verbose=False)
    model.model.names = dict(enumerate(names))
    model.save(weights / "best.pt")
    for command in commands(page):
        run(command.replace("--imgsz 640", "") + (f" {SMALL}" if "export" in command else ""), tmp_path)
    assert {f.name for f in weights.iterdir()} == {"best.pt", "best.onnx", "best.safetensors"}
    monkeypatch.chdir(weights)
    (code,) = blocks("python", page)
    exec(code, {})


@pytest.mark.slow
def test_commands_of_the_pretrained_page_run(small_coco, tmp_path, monkeypatch):
    page = (ROOT / "docs/pretrained.md").read_text()
    (tmp_path / "path/to").mkdir(parents=True)
    (tmp_path / "path/to/bccd").symlink_to(small_coco)
    network = DetectionModel("yolov8n.yaml", nc=3, verbose=False)
    torch.save({"model": network.half(), "train_args": {}}, tmp_path / "best.pt")
    for command in commands(page):
        run(command, tmp_path)
    assert len(list(tmp_path.glob("runs/detect/*/transfer.json"))) == 2
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python", page)
    exec(code, {})


def test_commands_of_the_maps_page_run(small_coco, tmp_path, monkeypatch):
    page = (ROOT / "docs/maps.md").read_text()
    (tmp_path / "path/to").mkdir(parents=True)
    (tmp_path / "path/to/bccd").symlink_to(small_coco)
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    for file, cfg in {"runs/detect/train/weights/best.pt": "yolov8n-simam.yaml", "base.pt": "yolov8n.yaml"}.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        torch.save({"model": DetectionModel(cfg, nc=3, verbose=False), "train_args": {"imgsz": 64}}, tmp_path / file)
    for command in commands(page):
        run(f"{command} --pictures 1 --device cpu", tmp_path)
    for folder in ("runs/attention-maps", "maps"):
        told = set(re.findall(r"`(index.html|gates.\w+)`", page))
        assert told == {f.name for f in (tmp_path / folder).iterdir() if not f.name.startswith("001-")}
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python", page)
    exec(code, {})


def test_commands_of_the_editing_page_run(tmp_path, monkeypatch):
    page = (ROOT / "docs/editing.md").read_text()
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    port = Path(check_yaml("yolov8.yaml")).read_text().replace("SPPF, [1024, 5]", "SimAM, [1024]")
    (tmp_path / "yolov8n-port.yaml").write_text(port)
    for command in commands(page):
        run(command, tmp_path)
    assert YOLO(tmp_path / "yolov8n-ours.yaml").model.yaml["backbone"][9] == [-1, 1, "SimAM", []]
    assert (tmp_path / "yolov8n-plain.yaml").read_bytes() == Path(check_yaml("yolov8.yaml")).read_bytes()
    kinds = [type(m).__name__ for m in YOLO(tmp_path / "yolo11s-mine.yaml").model.model]
    assert [i for i, kind in enumerate(kinds) if kind == "NAM"] == [5, 8]
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python", page)
    exec(code, {})


def test_places_on_the_editing_page_are_those_of_the_command():
    page = (ROOT / "docs/editing.md").read_text()
    told = re.findall(r"`([\w:,]+)`", "".join(re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)))
    assert told == list(PLACES)


def test_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, names, _ = blocks("python")
    exec(names, {})


def test_plain_python_runs(small_coco, tmp_path):
    copy_with_test_split(small_coco, tmp_path / "path/to/bccd")
    first = """
import os
os.environ.pop("PYTEST_CURRENT_TEST")  # under which Ultralytics puts runs beside itself
from ultralytics import settings
settings.update(runs_dir=os.path.abspath("runs"))
"""
    small = "epochs=1, imgsz=64, batch=8, device='cpu', plots=False"
    code = first + blocks("python")[0].replace("epochs=100", small)
    result = run_python(code, tmp_path, YOLO_CONFIG_DIR=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert "instances_test.json" in (tmp_path / "runs/detect/val/metrics.json").read_text()
    assert (tmp_path / "runs/detect/train/weights/best.onnx").exists()


def test_own_layer_serves_rows_and_blocks(tmp_path, monkeypatch):
    *_, layer = blocks("python")
    assert len(layer.splitlines()) <= 12
    (tmp_path / "my_layers.py").write_text(layer)
    monkeypatch.syspath_prepend(tmp_path)
    import my_layers

    d = yaml_model_load("yolov8n.yaml")
    d["backbone"][2] = [-1, 3, "C2f_Scale", [128, True]]
    d["backbone"][9] = [-1, 1, "Scale", []]
    model = DetectionModel(d, verbose=False)
    assert sum(isinstance(m, my_layers.Scale) for m in model.modules()) == 2
    del LAYERS["Scale"], sys.modules["my_layers"]


def test_rows_build():
    data, rows, block_rows = blocks("yaml")
    for row in yaml.safe_load(block_rows):
        d = yaml_model_load("yolov8n.yaml")
        d["backbone"][2] = row
        assert any(type(m).__name__ == row[2].split("_")[1] for m in DetectionModel(d, verbose=False).modules())
    for row in yaml.safe_load(rows):
        d = yaml_model_load("yolov8n.yaml")
        d["backbone"] = [*d["backbone"][:9], row]
        d["head"] = [[[4, 6, 9], 1, "Detect", ["nc"]]]
        layer = DetectionModel(d, verbose=False).model[9]
        assert type(layer[0] if isinstance(layer, nn.Sequential) else layer).__name__ == row[2]
    assert set(yaml.safe_load(data)) == {"path", "train", "val", "annotations"}


def test_layer_table_gives_the_signatures():
    rows = {m[1]: m[2] for m in re.finditer(r"^\| `(\w+)` \| (`[a-z].*?) \|", README, re.MULTILINE)}
    assert set(rows) >= set(layers.__all__)
    for name in layers.__all__:
        parameters = inspect.signature(getattr(layers, name)).parameters.values()
        defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        told = dict(yaml.safe_load(option).popitem() for option in re.findall(r"`(.*?)`", rows[name]))
        assert {**{k: str(v) for k, v in told.items()}, "gain": "1.0"} == {k: str(v) for k, v in defaults.items()}
    assert "All ten also have `gain: 1.0`" in README


def test_data_yaml_of_the_readme_is_found(tmp_path, small_coco):
    described = yaml.safe_load(blocks("yaml")[0])
    home = tmp_path / "cells"
    home.mkdir()
    (home / "pictures").symlink_to(small_coco / "images/val")
    shutil.copy(small_coco / "annotations/instances_val.json", home / "val.json")
    (tmp_path / "cells.yaml").write_text(yaml.safe_dump({**described, "path": "cells"}))
    assert load_source(tmp_path / "cells.yaml", ["val"])["val"].folders[0] == (small_coco / "images/val").resolve()


def table_row(file):
    """How a table shows the figures of a model YAML's header, behind what it says of the attention."""
    header = file.read_text().splitlines()[2]
    found = re.search(r"px: (\S+) parameters, (\S+) GFLOPs(; plain ([\w-]+): (\S+) parameters, (\S+) GFLOPs)?", header)
    parameters, flops, with_base, plain, base_parameters, base_flops = found.groups()
    if with_base:
        return f"| {parameters} ({plain}: {base_parameters}) | {flops} ({base_flops}) |"
    return f"| {parameters} | {flops} |"


@pytest.mark.parametrize("file", sorted((ROOT / "model_yamls").glob("*.yaml")), ids=lambda f: f.stem)
def test_model_table_repeats_the_headers(file):
    (row,) = [line for line in MODELS.splitlines() if line.startswith(f"| `{file.name}` |")]
    assert row.endswith(table_row(file))


def test_excerpt_of_the_model_table():
    rows = [line for line in README.splitlines() if re.match(r"\| `[\w-]+.yaml` \| .* at the neck|.* in every ", line)]
    assert len(rows) == 7
    assert set(rows) < set(MODELS.splitlines())
    assert f"seven of {len(list((ROOT / 'model_yamls').glob('*.yaml')))};" in README


def test_pages_are_finished():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        assert not re.search(r"\b(MEASURED|TODO|TBD|FIXME|XXX)\b|@@", page.read_text()), page


def test_links_lead_to_files():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!http)(.*?)\)", page.read_text()):
            assert (page.parent / target).is_file(), target


def test_figures_name_their_run():
    """Every measured AP in the README stands in a section that gives command, seed, machine and date."""
    section = README.split("## What was measured")[1].split("\n## ")[0]
    for word in ("python scripts/train_det.py", "seed 0", "one run each", "CPU", "2026-"):
        assert word in section


def test_pictures_are_there():
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / picture).is_file()
