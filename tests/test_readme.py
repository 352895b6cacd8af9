"""What README.md, rows.md, data.md and demo.md show of Python and YAML runs; tables and figures are what the code says.

Their commands are in tests/test_docs.py.
"""

import ast
import base64
import csv
import hashlib
import inspect
import json
import re
import shutil
import statistics
import sys
from importlib.metadata import distribution

import pytest
import yaml
from scipy.stats import ttest_rel
from support import ROOT, run_python
from torch import nn
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from yolo_attn import layers
from yolo_attn.coco.dataset.locations import load_source
from yolo_attn.model.blocks import UNITS
from yolo_attn.model.registry import LAYERS
from yolo_attn.yaml_edit import PLACES

README = (ROOT / "README.md").read_text()
MODELS, ROWS, DATA, COMMANDS, DEMO = (
    (ROOT / f"docs/{name}.md").read_text() for name in ("models", "rows", "data", "commands", "demo")
)


def blocks(language, page=README):
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", page, re.DOTALL | re.MULTILINE)


def copy_with_test_split(coco, folder):
    shutil.copytree(coco, folder)
    shutil.copytree(folder / "images/val", folder / "images/test")
    annotations = folder / "annotations"
    shutil.copy(annotations / "instances_val.json", annotations / "instances_test.json")


def test_places_on_the_editing_page_are_those_of_the_command():
    page = (ROOT / "docs/editing.md").read_text()
    reported = re.findall(r"`([\w:,]+)`", "".join(re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)))
    assert reported == list(PLACES)


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 200


@pytest.mark.smoke
def test_plain_python_runs(small_coco, tmp_path):
    copy_with_test_split(small_coco, tmp_path / "path/to/bccd")
    first = """
import os
os.environ.pop("PYTEST_CURRENT_TEST")  # under which Ultralytics puts runs beside itself
from ultralytics import settings
settings.update(runs_dir=os.path.abspath("runs"))
"""
    small = "epochs=1, imgsz=64, batch=8, device='cpu', plots=False"
    (lines,), (more,) = blocks("python"), blocks("python", COMMANDS)
    assert len([line for line in lines.splitlines() if line]) == 5
    code = first + lines.replace("epochs=100", small) + more
    run_python(code, tmp_path, YOLO_CONFIG_DIR=str(tmp_path))
    assert "instances_test.json" in (tmp_path / "runs/detect/val/metrics.json").read_text()
    assert (tmp_path / "runs/detect/train/weights/best.onnx").exists()


def test_own_layer_serves_rows_and_blocks(tmp_path, monkeypatch):
    (layer,) = blocks("python", ROWS)
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
    rows, block_rows = blocks("yaml", ROWS)
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


def test_layer_table_gives_the_signatures():
    rows = {m[1]: m[2] for m in re.finditer(r"^\| `(\w+)` \| (`[a-z].*?) \|", ROWS, re.MULTILINE)}
    assert set(rows) >= set(layers.__all__)
    for name in layers.__all__:
        parameters = inspect.signature(getattr(layers, name)).parameters.values()
        defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        reported = dict(yaml.safe_load(option).popitem() for option in re.findall(r"`(.*?)`", rows[name]))
        assert {**{k: str(v) for k, v in reported.items()}, "gain": "1.0"} == {k: str(v) for k, v in defaults.items()}
    assert "All ten also have `gain: 1.0`" in ROWS


def test_data_yaml_of_the_data_page_is_found(tmp_path, small_coco):
    (block,) = blocks("yaml", DATA)
    described = yaml.safe_load(block)
    assert set(described) == {"path", "train", "val", "annotations", "names"}
    home = tmp_path / "cells"
    (home / "pictures").mkdir(parents=True)
    (home / "pictures/val").symlink_to(small_coco / "images/val")
    shutil.copy(small_coco / "annotations/instances_val.json", home / "val.json")
    (tmp_path / "cells.yaml").write_text(yaml.safe_dump({**described, "path": "cells", "names": ["star", "circle"]}))
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


def test_the_readme_counts_the_models():
    assert f"name {len(list((ROOT / 'model_yamls').glob('*.yaml')))} packaged model YAMLs" in README


PAGES = (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))


def test_pages_are_finished():
    for page in PAGES:
        assert not re.search(r"\b(MEASURED|TODO|TBD|FIXME|XXX)\b|@@", page.read_text()), page


def test_links_lead_to_files_and_headings():
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)(.*?)\)", page.read_text()):
            path, _, heading = target.partition("#")
            file = page.parent / path if path else page
            assert file.is_file(), target
            headings = re.findall(r"^#+ (.*)", file.read_text(), re.MULTILINE) if heading else []
            assert not heading or heading in {re.sub(r"[^\w-]", "", h.lower().replace(" ", "-")) for h in headings}


def test_figures_of_the_study_are_those_measured():
    """Means, paired t-intervals and Holm's p, computed by scipy from each training's row."""
    with (ROOT / "docs/measured/study/results.csv").open() as file:
        runs = list(csv.DictReader(file))
    found = {}
    for run in runs:
        found.setdefault(run["label"], []).append(100 * float(run["AP"]))
    base = found["yolov8n"]
    raw = {label: ttest_rel(values, base) for label, values in found.items() if label != "yolov8n"}
    p, largest = {}, 0.0
    for rank, label in enumerate(sorted(raw, key=lambda label: raw[label].pvalue)):
        p[label] = largest = max(largest, min(1, (len(raw) - rank) * raw[label].pvalue))
    for label, values in found.items():
        cells = f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"
        if label == "yolov8n":
            expected = f"| {label} | {cells} | | |"
        else:
            low, high = raw[label].confidence_interval()
            middle = f"{(low + high) / 2:+.2f} ± {(high - low) / 2:.2f}".replace("-", "−")
            expected = f"| {label} | {cells} | {middle} | {p[label]:.2f} |"
        for text in (README, (ROOT / "docs/study.md").read_text()):
            assert expected in text
    section = " ".join(README.split("## What was measured")[1].split("\n## ")[0].split())
    manifest = json.loads((ROOT / "docs/measured/study/manifest.json").read_text())
    assert manifest["calls"][0]["command"] in section
    for key, name in {"ultralytics": "Ultralytics ", "torch": "PyTorch "}.items():
        assert {name + run[key].partition("+")[0] for run in runs} == {re.search(rf"{name}[\d.]+\d", section)[0]}
    assert {run["finished"][:10] for run in runs} == {"2026-11-24"}
    assert "2026-11-24" in section


def test_figures_of_the_demo_are_those_measured():
    run = json.loads((ROOT / "docs/measured/demo.json").read_text())
    minutes, seconds = divmod(run["seconds"], 60)
    section = " ".join(DEMO.split("The demo set, ")[1].split("![")[0].split())
    for figure in (
        f"`{run['command']}`",
        f"{run['epochs']} epochs at {run['imgsz']} px, seed {run['seed']}, one run",
        f"COCO AP {run['AP']:.3f}, AP50 {run['AP50']:.3f}",
        f"{minutes} min {seconds} s of training",
        run["versions"]["torch"].partition("+")[0],
        run["date"],
    ):
        assert figure in section


def test_blocks_of_the_page_are_those_that_take_attention():
    sentence = ROWS.split("Any layer goes into ")[1].split(":\n")[0]
    assert set(re.findall(r"`(\w+)`", sentence)) == {*UNITS} - {"TorchVision"}


@pytest.mark.parametrize("layer", [name.lower().removesuffix("attention") for name in layers.__all__])
def test_each_layer_opens_with_its_sources(layer):
    opening = ast.get_docstring(ast.parse((ROOT / f"yolo_attn/layers/{layer}.py").read_text()))
    assert "Paper: " in opening
    assert "code" in opening


def final_ap(layer, load, identity_init):
    """Mean and standard deviation over seeds of COCO AP after ten epochs, in the measured runs."""
    with (ROOT / "docs/measured/transfer.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["epoch"] == "10" and row["place"] in ("neck", "none")]
    found = [
        float(row["AP"])
        for row in rows
        if (row["layer"], row["load"], row["identity_init"]) == (layer, load, identity_init) and row["seed"] in "012"
    ]
    assert len(found) == 3
    return f"{statistics.mean(found):.3f} ± {statistics.stdev(found):.3f}"


def test_figures_of_the_transfer_are_those_measured():
    ours, stock, plain = (
        final_ap(*start) for start in (("GAM", "ours", "yes"), ("GAM", "stock", "no"), ("none", "ours", "no"))
    )
    page = (ROOT / "docs/pretrained.md").read_text()
    for name, figure in {
        "yolov8n-gam, this package": ours,
        "Ultralytics' own load": stock,
        "no attention": plain,
    }.items():
        assert re.search(rf"{name} \|.*\| {figure} \|$", page, re.MULTILINE)


def test_files_of_ultralytics_are_as_installed():
    DetectionModel("yolov8n-gam.yaml", verbose=False)
    files = [file for file in distribution("ultralytics").files if file.hash and file.suffix in (".py", ".yaml")]
    assert len(files) > 200
    for file in files:
        digest = hashlib.new(file.hash.mode, file.locate().read_bytes()).digest()
        assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == file.hash.value, file


def test_data_is_found_where_the_page_says(tmp_path, small_coco):
    """Under either name of the annotations, in each of the image folders."""
    for annotations in ("instances_{}.json", "instances_{}2017.json"):
        for images in ("images/{}", "{}", "{}2017", "images", "."):
            home = tmp_path / f"{annotations}-{images}".replace("/", "-")
            (home / "annotations").mkdir(parents=True)
            shutil.copy(small_coco / "annotations/instances_val.json", home / "annotations" / annotations.format("val"))
            shutil.copytree(small_coco / "images/val", home / images.format("val"), dirs_exist_ok=True)
            assert load_source(home, ["val"])["val"].folders[0] == (home / images.format("val")).resolve()
