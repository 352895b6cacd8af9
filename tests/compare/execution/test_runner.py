"""Whole comparisons with real trainings: interrupted, partly failing, several at once, with the same numbers."""

import csv
import json
import os
import re
import shutil
import signal

import psutil
import pytest
from commands import arguments
from support import Command, contents, script
from users_files import OURS, plant, survive

from yolo_attn.cli import main
from yolo_attn.compare.analysis.verdicts import results_of
from yolo_attn.compare.study_folder import read_study

VARIANTS = ["base", "simam-neck"]


def accuracy(output):
    """The columns of results.csv that do not depend on the machine, and each training's detections."""
    with (output / "results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if re.match(r"variant$|seed$|AP|AR", name)]
    assert {"variant", "seed", "AP", "AP50", "AP75", "AR100"} <= set(names)
    found = {str(file.relative_to(output)): file.read_bytes() for file in output.glob("runs/*/*/predictions.json")}
    assert len(found) == len(rows)
    return [[row[name] for name in names] for row in rows], found


def workers(pid):
    """The processes of a comparison's trainings."""
    return [
        p
        for p in psutil.Process(pid).children()
        if any("yolo_attn.compare.execution.worker" in word for word in p.cmdline())
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
            assert record["parallel"] == 2
    call = manifest["calls"][0]
    assert call["command"].startswith("yolo-attn compare --base yolov8n.yaml")
    assert list(call["devices"]) == ["cpu"]
    assert "CPU cores" in call["devices"]["cpu"]
    assert call["parallel"] == 2
    assert call["versions"] == record["versions"]
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
    assert len(json.loads((whole / "manifest.json").read_text())["calls"]) == 2


def test_the_report_can_be_written_again_from_the_folder(whole, tmp_path, monkeypatch, capfd):
    (tmp_path / "runs/compare").mkdir(parents=True)
    (tmp_path / "runs/compare/yolov8n").symlink_to(whole)
    monkeypatch.chdir(tmp_path)
    for where in (["--output", str(whole)], ["--base", "yolov8n.yaml"], []):
        for name in ("report.html", "report.md", "results.csv"):
            (whole / name).unlink()
        assert main(["compare", "--report-only", *where]) == 0
        title, headings, verdict, page = capfd.readouterr().out.splitlines()
        assert "points of 100" in title
        assert headings.split()[:3] == ["variant", "against", "verdict"]
        assert verdict.startswith("SimAM at neck  yolov8n")
        assert page.endswith("/report.html")
    assert accuracy(whole)


@pytest.mark.parametrize(
    ("sent", "lost", "moment", "finished"),
    [
        (signal.SIGTERM, "base/seed-0", "base/seed-0.log", 3),
        (signal.SIGKILL, "simam-neck/seed-0", "simam-neck/seed-0/weights/last.pt", 3),
        (signal.SIGINT, "simam-neck/seed-1", "simam-neck/seed-1/run.json", 4),
    ],
    ids=["as the first starts", "during a training", "before the report"],
)
def test_a_killed_comparison_is_completed_with_the_same_numbers(
    sent, lost, moment, finished, whole, easy_coco, tmp_path
):
    """One of the trainings is lost with the report, and the command that trains it again is killed."""
    output = shutil.copytree(whole, tmp_path / "study")
    shutil.rmtree(output / "runs" / lost)
    (output / f"runs/{lost}.log").unlink()
    (output / "report.html").unlink()
    words = arguments(easy_coco, output)
    command = Command(tmp_path, *words)
    command.wait_for((output / "runs" / moment).exists)
    trained = workers(command.process.pid)
    os.kill(command.process.pid, sent)
    code, line = command.wait()
    assert code == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[sent]
    if sent != signal.SIGKILL:
        assert line == "yolo-attn: stopped; the same command completes the comparison"
    psutil.wait_procs(trained, timeout=30)
    assert not any(p.is_running() for p in trained)
    assert not (output / "report.html").exists()
    before = {file: file.stat().st_mtime_ns for file in output.glob("runs/*/*/run.json")}
    assert len(before) == finished
    assert main(words) == 0
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert accuracy(output) == accuracy(whole)


def test_lost_metrics_are_trained_again_and_other_files_stay(whole, easy_coco, tmp_path):
    """By itself, a training gives the same numbers as two at once on a device."""
    output = shutil.copytree(whole, tmp_path / "study")
    lost, other = output / "runs/simam-neck/seed-1", output / "runs/base/seed-1"
    (lost / "metrics.json").unlink()
    (lost / "predictions.json").unlink()
    planted = {}
    for n, place in enumerate((output, output / "models", output / "runs", lost, lost / "weights", other)):
        planted |= plant(place, tmp_path / f"outside{n}")
    for place in (output, output / "models", other):
        (place / OURS).write_text("half of it")
    (output / "runs" / OURS).write_text("no place of ours")
    assert main(arguments(easy_coco, output)) == 0
    assert accuracy(output) == accuracy(whole)
    assert survive(planted)
    assert [str(file.relative_to(output)) for file in output.rglob(OURS) if "below" not in file.parts] == [
        f"runs/{OURS}"
    ]


@pytest.mark.parametrize("name", ["seed-1", "seed-1.log", "seed-1/weights"])
def test_no_training_starts_behind_a_link(whole, easy_coco, tmp_path, capsys, name):
    output = shutil.copytree(whole, tmp_path / "study")
    place = output / "runs/simam-neck" / name
    (output / "runs/simam-neck/seed-1/run.json").unlink()
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    before = contents(tmp_path / "elsewhere") if place.is_dir() else place.read_bytes()
    assert main(arguments(easy_coco, output)) == 2
    assert f"{place}: it is a link" in capsys.readouterr().err
    assert (contents(tmp_path / "elsewhere") if place.is_dir() else place.read_bytes()) == before


def test_a_report_does_not_need_the_costs(whole, easy_coco, tmp_path):
    output = shutil.copytree(whole, tmp_path / "study")
    (output / "costs.json").unlink()
    for file in output.glob("runs/*/*/weights/best.pt"):
        file.unlink()
    (output / "runs/base/seed-1/weights/best.pt").write_text("no checkpoint")
    assert main(arguments(easy_coco, output)) == 0
    assert accuracy(output) == accuracy(whole)
    report = (output / "report.md").read_text()
    assert "The cost of yolov8n and SimAM at neck was not measured" in report
    assert "no checkpoint that can be read" in report


@pytest.mark.integration
def test_several_data_sets_are_compared_image_by_image(easy_coco, small_coco, tmp_path):
    data = ["--data", easy_coco, small_coco]
    assert main(arguments(easy_coco, tmp_path / "study", *data, seeds="0")) == 0
    study = read_study(tmp_path / "study")
    images = results_of(study).images
    assert images.problems == ()
    assert images.number == 16
    assert set(images.drawn) == {("base", 0), ("simam-neck", 0)}
    assert study.runs[0].scores["AP"] > 0


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
            raise RuntimeError("no luck today\\nCompile with advice to enable assertions.")
        return self.scale(x)
"""


@pytest.mark.integration
def test_a_failed_training_does_not_stop_the_others_and_is_tried_again(easy_coco, tmp_path, monkeypatch):
    """The second command names neither the layer nor its module, which are in the manifest."""
    (tmp_path / "faulty.py").write_text(FAULTY)
    monkeypatch.setenv("FAULTY", "1")
    words = arguments(easy_coco, "study", "--import", "faulty", layers="Faulty,SimAM", seeds="0")
    ended = script("scripts/compare_det.py", *words[1:], cwd=tmp_path, ends=1)
    line = ended.stderr.splitlines()[-1]
    assert line.startswith("yolo-attn: error: 1 of 3 trainings failed, first Faulty at neck, seed 0: see ")
    failed = tmp_path / "study/runs/faulty-neck/seed-0/failed.json"
    error = "RuntimeError: no luck today Compile with advice to enable assertions."
    assert json.loads(failed.read_text()) == {"error": error}
    assert (tmp_path / "study/runs/simam-neck/seed-0/run.json").exists()
    assert "no luck today" in (tmp_path / "study/report.html").read_text()
    again = arguments(easy_coco, "study", seeds="0")
    monkeypatch.setenv("FAULTY", "")
    script("scripts/compare_det.py", *again[1:], cwd=tmp_path)
    assert not failed.exists()
    assert len(accuracy(tmp_path / "study")[0]) == 3
    assert len(json.loads((tmp_path / "study/costs.json").read_text())["variants"]) == 3
    commands = [call["command"] for call in json.loads((tmp_path / "study/manifest.json").read_text())["calls"]]
    assert ["--import" in command for command in commands] == [True, False]
