"""The measuring script of the layers on a few tiny cases: every form gives its row, and they make tables and a plot."""

import json
import subprocess
import sys

import pytest
from support import ROOT

COMPILED = {"compiled naive", "compiled ours"}
FORMS = {
    "SimAM": {"naive", "formula", "ours", "copy", *COMPILED},
    "NAM": {"naive", "formula", "ours", "fused", "copy"},
    "GAM": {"naive", "ours", "fused", "copy"},
}


def run(cwd, *arguments):
    command = [sys.executable, ROOT / "scripts/bench_layers.py", *map(str, arguments)]
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("measured")
    return folder / "out", run(folder, "--smoke", "--out", folder / "out")


def test_every_form_gives_its_rows(measured):
    report = json.loads((measured[0] / "performance.json").read_text())
    rows = report["rows"]
    assert {row["section"] for row in rows} == {"models", "exports", "layers"}
    for layer, forms in FORMS.items():
        found = {row["form"] for row in rows if row.get("layer") == layer}
        assert found in (forms, forms - COMPILED)  # a machine may have no compiler
    assert all(row["ratio"][1] <= row["ratio"][0] <= row["ratio"][2] for row in rows)
    saved = {(row["layer"], row["form"]): row["saved volumes"] for row in rows if "saved volumes" in row}
    assert saved["SimAM", "naive"] > 3.9
    assert max(saved["SimAM", "ours"], saved["NAM", "ours"]) < 1.1
    assert all(row["peak volumes"] >= 1 for row in rows if "peak volumes" in row)
    assert report["versions"]["torch"]


def test_table_and_plot_are_made_again_from_the_rows(measured):
    folder, output = measured
    text, image = (folder / "performance.md").read_text(), (folder / "performance.png").read_bytes()
    assert text in output
    assert {line.split(" |")[0][2:] for line in text.splitlines()} >= {"SimAM", "NAM", "GAM", "none", "ECA"}
    assert image.startswith(b"\x89PNG")
    (folder / "performance.md").unlink()
    assert run(folder, "--show", folder / "performance.json").strip() == text.strip()
    assert (folder / "performance.md").read_text() == text
    assert (folder / "performance.png").stat().st_size == len(image)


def test_time_that_is_up(tmp_path):
    output = run(tmp_path, "--smoke", "--sections", "models", "--minutes", 0, "--out", tmp_path)
    assert "0 minutes are over" in output
    rows = json.loads((tmp_path / "performance.json").read_text())["rows"]
    assert {row["way"] for row in rows} == {"training step"}
