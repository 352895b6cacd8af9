"""Whole comparisons, with real trainings: cut off anywhere, failing in part, several at once, finished all the same."""

import csv
import errno
import hashlib
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
from support import ROOT, Command, contents

from yolo_attn.cli import main
from yolo_attn.compare.comparison import Comparison, _check_ours, _checked
from yolo_attn.compare.images import look
from yolo_attn.compare.runner import Job, run_all
from yolo_attn.compare.study import Variant, read_study
from yolo_attn.engine.run import Training
from yolo_attn.errors import RunError, UserError

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
            assert record["parallel"] == 1
    call = manifest["calls"][0]
    assert call["command"].startswith("yolo-attn compare --base yolov8n.yaml")
    assert list(call["devices"]) == ["cpu"]
    assert "CPU cores" in call["devices"]["cpu"]
    assert call["parallel"] == 1
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
        assert told == "yolo-attn: stopped; the same command goes on with what is left"
    psutil.wait_procs(trained, timeout=30)
    assert not any(p.is_running() for p in trained)
    assert not (output / "report.html").exists()
    before = {file: file.stat().st_mtime_ns for file in output.glob("runs/*/*/run.json")}
    assert len(before) == finished
    assert main(words) == 0
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert accuracy(output) == accuracy(whole)


def test_a_training_whose_numbers_are_lost_is_trained_again_to_the_same(whole, easy_coco, tmp_path):
    output = shutil.copytree(whole, tmp_path / "study")
    lost = output / "runs/simam-neck/seed-1"
    (lost / "metrics.json").unlink()
    (lost / "predictions.json").unlink()
    (output / ".report.html.abc.part").write_text("half of it")
    assert main(arguments(easy_coco, output)) == 0
    assert accuracy(output) == accuracy(whole)
    assert not (output / ".report.html.abc.part").exists()


def test_a_report_does_not_need_the_costs(whole, easy_coco, tmp_path):
    output = shutil.copytree(whole, tmp_path / "study")
    (output / "costs.json").unlink()
    for file in output.glob("runs/*/*/weights/best.pt"):
        file.unlink()
    (output / "runs/base/seed-1/weights/best.pt").write_text("no checkpoint")
    assert main(arguments(easy_coco, output)) == 0
    assert accuracy(output) == accuracy(whole)
    report = (output / "report.md").read_text()
    assert "The cost was not measured of yolov8n and SimAM at neck" in report
    assert "not an Ultralytics checkpoint" in report


def test_two_at_once_on_a_device_give_the_same_numbers(whole, easy_coco, tmp_path):
    assert main(arguments(easy_coco, tmp_path / "study", "--parallel", "2")) == 0
    assert accuracy(tmp_path / "study") == accuracy(whole)


def test_several_data_sets_are_looked_at_image_by_image(easy_coco, small_coco, tmp_path):
    data = ["--data", easy_coco, small_coco]
    assert main(arguments(easy_coco, tmp_path / "study", *data, seeds="0")) == 0
    study = read_study(tmp_path / "study")
    images = look(study)
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


def test_a_training_that_fails_does_not_stop_the_rest_and_is_tried_again(easy_coco, tmp_path):
    """The second command names neither the layer nor its module, which the comparison knows."""
    (tmp_path / "faulty.py").write_text(FAULTY)
    compare = [sys.executable, ROOT / "scripts/compare_det.py"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "FAULTY": "1"}
    words = arguments(easy_coco, "study", "--import", "faulty", layers="Faulty,SimAM", seeds="0")
    ended = subprocess.run([*compare, *words[1:]], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert ended.returncode == 1
    told = ended.stderr.splitlines()[-1]
    assert told.startswith("yolo-attn: error: 1 of 3 trainings failed, the first is Faulty at neck, seed 0: see ")
    failed = tmp_path / "study/runs/faulty-neck/seed-0/failed.json"
    error = "RuntimeError: no luck today Compile with advice to enable assertions."
    assert json.loads(failed.read_text()) == {"error": error}
    assert (tmp_path / "study/runs/simam-neck/seed-0/run.json").exists()
    assert "no luck today" in (tmp_path / "study/report.html").read_text()
    again = arguments(easy_coco, "study", seeds="0")
    ended = subprocess.run([*compare, *again[1:]], cwd=tmp_path, env={**env, "FAULTY": ""}, capture_output=True)
    assert ended.returncode == 0, ended.stderr
    assert not failed.exists()
    assert len(accuracy(tmp_path / "study")[0]) == 3
    assert len(json.loads((tmp_path / "study/costs.json").read_text())["variants"]) == 3
    commands = [call["command"] for call in json.loads((tmp_path / "study/manifest.json").read_text())["calls"]]
    assert ["--import" in command for command in commands] == [True, False]


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
    assert f"weights is None there and {weights} (" in capfd.readouterr().err


def test_weights_that_change_under_their_path_are_another_budget(whole, easy_coco, tmp_path, monkeypatch, capfd):
    output, weights = tmp_path / "study", whole / "runs/base/seed-0/weights/best.pt"
    output.mkdir()
    manifest = json.loads((whole / "manifest.json").read_text())
    manifest["weights"] = {"path": str(weights), "sha256": "0" * 64}
    (output / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.chdir(weights.parent)
    assert main(arguments(easy_coco, output, "--weights", "best.pt")) == 2
    now = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert f"weights is {weights} (000000000000) there and {weights} ({now[:12]}) now" in capfd.readouterr().err


def test_a_folder_of_the_users_is_left_alone(easy_coco, tmp_path, capfd):
    home = tmp_path / "paper"
    names = ("results.csv", "report.md", "costs.json", "models/yolov8n.yaml", "runs/base/seed-0/thesis.txt")
    for name in names:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("years of work")
    before = contents(home)
    assert main(arguments(easy_coco, home)) == 2
    assert f"--output {home}: it holds files already, and no manifest.json of a comparison" in capfd.readouterr().err
    (home / "manifest.json").write_text('{"name": "my browser extension"}')
    assert main(arguments(easy_coco, home)) == 2
    assert f"{home / 'manifest.json'}: " in capfd.readouterr().err
    (home / "manifest.json").unlink()
    assert contents(home)[1] == before[1]


def test_a_comparison_does_not_lie_among_its_data(easy_coco, capfd):
    before = contents(easy_coco)
    assert main(arguments(easy_coco, easy_coco)) == 2
    assert main(arguments(easy_coco, easy_coco / "study")) == 2
    assert f"--output {easy_coco / 'study'}: it is among the data" in capfd.readouterr().err
    assert contents(easy_coco) == before


def test_a_folder_that_a_kill_left_at_once_is_gone_on_in(tmp_path):
    _check_ours(tmp_path / "none")
    (tmp_path / ".lock").touch()
    (tmp_path / ".manifest.json.abc.part").touch()
    _check_ours(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError):
        _check_ours(tmp_path)


def job(study):
    return Job(study, Variant("base", "yolov8n"), 0, Training("yolov8n.yaml", {"epochs": 1}))


def test_what_no_training_has_left_is_not_removed_for_one(tmp_path):
    (job(tmp_path).folder).mkdir(parents=True)
    (job(tmp_path).folder / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="seed-0: it holds no training, and one is to lie there; move it away"):
        run_all([job(tmp_path)], ["cpu"], 1, lambda *_: None)
    assert (job(tmp_path).folder / "thesis.txt").exists()


def test_what_cannot_be_removed_is_told(tmp_path, monkeypatch):
    def refuse(folder):
        raise OSError(errno.EACCES, "Permission denied", str(folder / "args.yaml"))

    job(tmp_path).folder.mkdir(parents=True)
    job(tmp_path).log.touch()
    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(RunError, match=r"args\.yaml: Permission denied; a training is to begin anew there"):
        run_all([job(tmp_path)], ["cpu"], 1, lambda *_: None)


def test_settings_are_the_same_when_they_are_read_again(easy_coco, tmp_path):
    shared = {"data": str(easy_coco), "epochs": 3, "freeze": (0, 1), "patience": 3}
    _, settings = _checked(Comparison("yolov8n.yaml", [], [0], shared, tmp_path / "study"))
    assert settings["freeze"] == [0, 1]
    assert json.loads(json.dumps(settings)) == settings


def test_all_trainings_have_all_their_epochs(easy_coco, tmp_path, capfd):
    assert main(arguments(easy_coco, tmp_path / "study", "--epochs", "3", "patience=2")) == 2
    told = "patience=2: it would give some trainings fewer of the 3 epochs than others; leave it out"
    assert told in capfd.readouterr().err
    assert not (tmp_path / "study").exists()


def test_strict_refuses_data_in_which_anything_is_clipped(easy_coco, tmp_path, capfd):
    data = shutil.copytree(easy_coco, tmp_path / "data")
    file = data / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"][2] = 9999
    file.write_text(json.dumps(content))
    assert main(arguments(data, tmp_path / "study", "--strict")) == 2
    assert "--strict: " in capfd.readouterr().err
    assert not (tmp_path / "study").exists()


def test_data_that_changes_under_its_path_is_refused(whole, easy_coco, tmp_path, capfd):
    data, output = shutil.copytree(easy_coco, tmp_path / "data"), tmp_path / "study"
    output.mkdir()
    manifest = json.loads((whole / "manifest.json").read_text())
    manifest["data"]["path"] = str(data)
    (output / "manifest.json").write_text(json.dumps(manifest))
    next(data.glob("images/val*/*")).write_bytes(b"another")
    assert main(arguments(data, output)) == 2
    assert f"data is {data} ({manifest['data']['sha256'][:12]}) there and {data} (" in capfd.readouterr().err


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
        ([*BASE, "--layers", "GAM", "--device", "cpu,77"], "--device 77: no such device here"),
        ([*BASE, "--layers", "GAM", "--device", "0,"], "--device '0,': expected devices with commas between"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(words, told, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert told in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []
