"""Whole comparisons, with real trainings: cut off anywhere, failing in part, several at once, finished all the same."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import psutil
import pytest
from commands import BASE, arguments
from filelock import FileLock
from support import ROOT, Command

from yolo_attn.cli import main

VARIANTS = ["base", "simam-neck"]


def accuracy(output):
    """All of results.csv that does not depend on the machine's speed, and each training's detections."""
    with (output / "results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if re.match(r"variant$|seed$|AP|AR", name)]
    assert {"variant", "seed", "AP", "AP50", "AP75", "AR100"} <= set(names)
    found = {str(file.relative_to(output)): file.read_bytes() for file in output.glob("runs/*/*/predictions.json")}
    assert len(found) == len(rows)
    return [[row[name] for name in names] for row in rows], found


def workers(pid):
    """The trainings that a comparison has started."""
    return [
        p for p in psutil.Process(pid).children() if any("yolo_attn.compare.worker" in word for word in p.cmdline())
    ]


def test_all_is_trained_and_reported(whole):
    manifest = json.loads((whole / "manifest.json").read_text())
    assert [variant["name"] for variant in manifest["variants"]] == VARIANTS
    assert manifest["data"]["images"] == 8
    for variant in VARIANTS:
        for seed in (0, 1):
            record = json.loads((whole / f"runs/{variant}/seed-{seed}/run.json").read_text())
            assert (record["variant"], record["seed"], record["epochs"]) == (variant, seed, 1)
            assert record["seconds"] > 0
            assert record["memory_mb"] > 100
    costs = json.loads((whole / "costs.json").read_text())["variants"]
    assert set(costs) == set(VARIANTS)
    assert all(cost["latency_ms"] > 0 for cost in costs.values())
    assert "SimAM at neck" in (whole / "report.md").read_text()
    assert (whole / "report.html").exists()


def test_the_same_command_again_trains_nothing(whole, easy_coco):
    files = {file: file.stat().st_mtime_ns for file in whole.glob("runs/*/*/run.json")}
    costs = (whole / "costs.json").read_text()
    assert main(arguments(easy_coco, whole)) == 0
    assert {file: file.stat().st_mtime_ns for file in whole.glob("runs/*/*/run.json")} == files
    assert (whole / "costs.json").read_text() == costs


def test_the_report_is_made_anew_from_the_folder_alone(whole, capfd):
    for name in ("report.html", "report.md", "results.csv"):
        (whole / name).unlink()
    assert main(["compare", "--output", str(whole), "--report-only"]) == 0
    assert capfd.readouterr().out.strip().endswith("report.html")
    assert accuracy(whole)


@pytest.mark.parametrize(
    ("sent", "moment", "finished"),
    [
        (signal.SIGTERM, "runs/base/seed-0.log", 0),
        (signal.SIGKILL, "runs/simam-neck/seed-0/weights/last.pt", 1),
        (signal.SIGINT, "runs/simam-neck/seed-1/run.json", 4),
    ],
    ids=["as the first begins", "amid a training", "before the report"],
)
def test_a_comparison_that_is_killed_goes_on_to_the_same_numbers(sent, moment, finished, whole, easy_coco, tmp_path):
    output, words = tmp_path / "study", arguments(easy_coco, tmp_path / "study")
    command = Command(tmp_path, *words)
    command.wait_for((output / moment).exists)
    trained = workers(command.process.pid)
    os.kill(command.process.pid, sent)
    code, told = command.wait()
    assert code == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[sent]
    if sent != signal.SIGKILL:
        assert told == "yolo-attn: stopped; the same command goes on with the trainings that are left"
    psutil.wait_procs(trained, timeout=30)
    assert not any(p.is_running() for p in trained)
    assert not (output / "report.html").exists()
    before = {file: file.stat().st_mtime_ns for file in output.glob("runs/*/*/run.json")}
    assert len(before) == finished
    assert main(words) == 0
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert accuracy(output) == accuracy(whole)


def test_two_at_once_on_a_device_give_the_same_numbers(whole, easy_coco, tmp_path):
    assert main(arguments(easy_coco, tmp_path / "study", "--parallel", "2")) == 0
    assert accuracy(tmp_path / "study") == accuracy(whole)


FAULTY = """
import os
from torch import nn
from yolo_attn import register_layer

@register_layer
class Faulty(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.scale = nn.Conv2d(channels, channels, 1, groups=channels)

    def forward(self, x):
        if os.environ.get("FAULTY") and x.shape[0] == 8:
            raise RuntimeError("no luck today")
        return self.scale(x)
"""


def test_a_training_that_fails_does_not_stop_the_rest_and_is_tried_again(easy_coco, tmp_path):
    (tmp_path / "faulty.py").write_text(FAULTY)
    words = arguments(easy_coco, "study", "--import", "faulty", layers="Faulty,SimAM", seeds="0")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, "-m", "yolo_attn", *words]
    ended = subprocess.run(command, cwd=tmp_path, env={**env, "FAULTY": "1"}, capture_output=True, text=True)
    assert ended.returncode == 1
    told = ended.stderr.splitlines()[-1]
    assert told.startswith("yolo-attn: error: 1 of 3 trainings failed, the first is Faulty at neck, seed 0: see ")
    failed = tmp_path / "study/runs/faulty-neck/seed-0/failed.json"
    assert json.loads(failed.read_text()) == {"error": "RuntimeError: no luck today"}
    assert (tmp_path / "study/runs/simam-neck/seed-0/run.json").exists()
    assert "no luck today" in (tmp_path / "study/report.html").read_text()
    assert subprocess.run(command, cwd=tmp_path, env=env, capture_output=True).returncode == 0
    assert not failed.exists()
    assert len(accuracy(tmp_path / "study")[0]) == 3


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--epochs", "2"], "epochs is 1 there and 2 now; choose another --output"),
        (["lr0=0.02"], "patience=0, workers=0 there and batch=8, conf=1e-05, imgsz=64, lr0=0.02, patience=0"),
        (["--base", "yolov8s.yaml"], "base is yolov8n.yaml there and yolov8s.yaml now"),
    ],
)
def test_another_budget_is_refused(more, told, whole, easy_coco, capfd):
    before = (whole / "manifest.json").read_text()
    assert main(arguments(easy_coco, whole, *more)) == 2
    assert told in capfd.readouterr().err
    assert (whole / "manifest.json").read_text() == before


def test_other_weights_are_another_budget(whole, easy_coco, capfd):
    weights = whole / "runs/base/seed-0/weights/best.pt"
    assert main(arguments(easy_coco, whole, "--weights", weights)) == 2
    assert f"weights is None there and {weights} now" in capfd.readouterr().err


def test_strict_refuses_data_in_which_anything_is_clipped(easy_coco, tmp_path, capfd):
    data = shutil.copytree(easy_coco, tmp_path / "data")
    file = data / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"][2] = 9999
    file.write_text(json.dumps(content))
    assert main(arguments(data, tmp_path / "study", "--strict")) == 2
    assert "--strict: " in capfd.readouterr().err
    assert not (tmp_path / "study").exists()


def test_other_data_under_the_same_name_is_refused(whole, easy_coco, tmp_path, capfd):
    data = shutil.copytree(easy_coco, tmp_path / "data")
    assert main(arguments(data, whole)) == 2
    assert "data is" in capfd.readouterr().err


def test_one_process_at_a_time_works_on_a_comparison(whole, easy_coco, capfd):
    with FileLock(whole / ".lock"):
        assert main(arguments(easy_coco, whole)) == 2
    assert "another process works on this comparison" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["compare"], "compare needs --base"),
        (["compare", "--base", "yolov8n.yaml"], "compare needs --layers"),
        (["compare", "--report-only"], "--report-only needs --output"),
        (["compare", "--report-only", "--output", "nowhere"], "manifest.json: not found"),
        (["compare", "--report-only", "--output", "nowhere", "lr0=1"], "'lr0=1': unknown to compare --report-only"),
        ([*BASE, "--layers", "GEM"], "no such layer"),
        ([*BASE, "--layers", "GAM@"], "expected LAYER:option=value@PLACE"),
        ([*BASE, "--layers", "GAM", "--seeds", "1,1"], "expected each seed once"),
        ([*BASE, "--layers", "GAM", "--data", "nowhere"], "no such folder"),
        ([*BASE, "--layers", "GAM", "epoch=3"], "no such setting"),
        ([*BASE, "--layers", "GAM", "time=0.5"], "the budget of a comparison is in epochs"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(words, told, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert told in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []
