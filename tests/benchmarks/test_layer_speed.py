"""The measuring script of the layers on a few tiny cases: every form gives its row, and they make tables and a plot."""

import json
import subprocess
import sys

import pytest
import torch
from support import ROOT

pytestmark = pytest.mark.integration

COMPILED = {"compiled naive", "compiled ours", "compiled closed form"}
FORMS = {
    "SimAM": {"naive", "formula", "ours", "copy", *COMPILED, *["Triton"] * torch.cuda.is_available()},
    "NAM": {"naive", "formula", "ours", "fused", "copy"},
    "GAM": {"naive", "ours", "fused", "copy", "convolutions"},
}
BROKEN = """
import runpy, sys
import torch
from yolo_attn.kernels import nam, simam
script = sys.argv[1]
sys.path.insert(0, script.rpartition("/")[0])
import speed.naive

def zeros(x, e_lambda, gain):
    return torch.zeros_like(x), x.mean((2, 3), True), x.mean((2, 3), True)

def doubled(*args, parts=nam._parts):
    return tuple(2 * part for part in parts(*args))

def failing(self, x):
    raise RuntimeError("out of memory\\nand a long story")

simam.forward, nam._parts, speed.naive.NaiveGAM.forward = zeros, doubled, failing
del sys.argv[0]
runpy.run_path(script, run_name="__main__")
"""


def call(cwd, *arguments):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


def run(cwd, *arguments):
    result = call(cwd, ROOT / "benchmarks/layers.py", *arguments)
    assert "Traceback" not in result.stderr, result.stderr
    return result


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("measured")
    return folder / "out", run(folder, "--smoke", "--out", folder / "out")


def test_every_form_gives_its_rows(measured):
    folder, result = measured
    report = json.loads((folder / "performance.json").read_text())
    rows, failed = report["rows"], {row["form"] for row in report["failures"]}
    assert failed in (set(), COMPILED)  # a machine may have no compiler
    assert result.returncode == bool(failed)
    assert {row["section"] for row in rows} == {"models", "exports", "layers"}
    for layer, forms in FORMS.items():
        found = {row["form"] for row in rows if row.get("layer") == layer}
        assert found == forms - failed
    assert all(row["ratio"][1] <= row["ratio"][0] <= row["ratio"][2] for row in rows)
    saved = {(row["layer"], row["form"]): row["saved volumes"] for row in rows if "saved volumes" in row}
    assert saved["SimAM", "naive"] > 3.9
    assert max(saved["SimAM", "ours"], saved["NAM", "ours"]) < 1.1
    assert all(row["peak volumes"] >= 1 for row in rows if "peak volumes" in row)
    peaks = {
        (row["layer"], row["form"]): row["peak volumes"]
        for row in rows
        if "peak volumes" in row and row["way"] == "forward"
    }
    assert all(peaks[layer, "ours"] < peaks[layer, "naive"] for layer in ("SimAM", "NAM", "GAM"))
    assert all(row["GB/s"][0] > 0 for row in rows if row["form"] == "copy")
    bounds = {(row["layer"], row["form"]) for row in rows if "ratio at the floor" in row}
    assert bounds == {("SimAM", "copy"), ("NAM", "copy"), ("GAM", "convolutions")}
    assert {row["rounds"] for row in rows} == {2}
    assert report["versions"]["torch"]
    assert report["tf32"] is False


def test_what_fails_is_skipped_and_listed(tmp_path):
    """SimAM's output and NAM's gradients are wrong, and naive GAM raises."""
    (tmp_path / "broken.py").write_text(BROKEN)
    script = ROOT / "benchmarks/layers.py"
    result = call(tmp_path, "broken.py", script, "--smoke", "--sections", "layers", "--out", tmp_path)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr, result.stderr
    report = json.loads((tmp_path / "performance.json").read_text())
    forward, training = "forward", "forward + backward"
    failures = {(row["layer"], row["way"], row["form"]): row["failure"] for row in report["failures"]}
    assert failures.keys() >= {
        ("SimAM", forward, "ours"),
        ("SimAM", training, "ours"),
        ("NAM", training, "ours"),
        ("GAM", forward, "naive"),
        ("GAM", training, "naive"),
    }
    assert "output off by 1.0e+00" in failures["SimAM", forward, "ours"]
    assert "gradient of x off by" in failures["NAM", training, "ours"]
    assert failures["GAM", forward, "naive"] == "RuntimeError: out of memory and a long story"
    rows = {(row["layer"], row["way"], row["form"]) for row in report["rows"]}
    assert rows >= {(layer, way, "formula") for layer in ("SimAM", "NAM") for way in (forward, training)}
    assert ("NAM", forward, "ours") in rows
    assert not rows & failures.keys()
    assert "GAM" not in {layer for layer, _, _ in rows}
    assert "RuntimeError: out of memory" in result.stdout
    assert (tmp_path / "performance.md").exists()
    assert (tmp_path / "performance.png").exists()


def test_table_and_plot_are_made_again_from_the_rows(measured):
    folder, result = measured
    text, image = (folder / "performance.md").read_text(), (folder / "performance.png").read_bytes()
    assert text in result.stdout
    assert {line.split(" |")[0][2:] for line in text.splitlines()} >= {"SimAM", "NAM", "GAM", "none", "ECA"}
    assert image.startswith(b"\x89PNG")
    (folder / "performance.md").unlink()
    assert run(folder, "--show", folder / "performance.json").stdout.strip() == text.strip()
    assert (folder / "performance.md").read_text() == text
    assert (folder / "performance.png").stat().st_size == len(image)


def test_time_that_is_up(tmp_path):
    result = run(tmp_path, "--smoke", "--sections", "models", "--minutes", 0, "--out", tmp_path)
    assert "0 minutes are over" in result.stdout
    rows = json.loads((tmp_path / "performance.json").read_text())["rows"]
    assert {row["way"] for row in rows} == {"training step"}


def test_cases_that_are_missing_leave_their_places_in_the_plot_empty(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from speed import report

    shown = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, *_, **__: shown.append(figure))
    cases = [("SimAM", "P3", "NCHW", 2.0), ("NAM", "P3", "NCHW", 4.0), ("NAM", "P3", "NHWC", 8.0)]
    about = {"section": "layers", "scale": "n", "dtype": "float32", "way": "forward", "shape": [1, 8, 8, 8]}
    rows = [
        about | {"layer": layer, "level": level, "layout": layout, "form": form, "ratio": [value] * 3}
        for layer, level, layout, ours in cases
        for form, value in (("naive", 1.0), ("ours", ours))
    ]
    report.plot(rows, "", tmp_path / "plot.png")
    first, second = shown[0].axes
    assert [label.get_text() for label in second.get_xticklabels()] == ["SimAM\nP3", "NAM\nP3"]
    places = [
        [(round(bar.get_x() + bar.get_width() / 2, 6), bar.get_height()) for bar in a.patches] for a in (first, second)
    ]
    assert places == [[(0, 1), (1, 3)], [(1, 7)]]
