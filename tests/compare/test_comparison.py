"""What a comparison refuses before anything is trained, and what of a user's it leaves alone."""

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from commands import BASE, arguments
from filelock import FileLock
from support import ROOT, contents

from yolo_attn.cli import main
from yolo_attn.compare.comparison import Comparison, _check_ours, _checked
from yolo_attn.compare.execution.runner import Job, run_all
from yolo_attn.compare.study import Variant
from yolo_attn.engine.api import Training
from yolo_attn.errors import RunError, UserError


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--epochs", "2"], "epochs is 1 there and 2 now; choose another --output"),
        (["lr0=0.02", "workers=1"], "manifest.json: lr0 is unset there and 0.02, workers is 0 there and 1 now; choose"),
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
    (tmp_path / ".yolo_attn-0123456789abcdef-abcdefg_.part").touch()
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


@pytest.mark.parametrize("sign", ["log", "failed.json", "metrics.json"])
def test_no_sign_but_a_training_of_ours_lets_files_go(tmp_path, sign):
    """A log beside it outlives folders, and other programs write a metrics.json, too."""
    folder = job(tmp_path).folder
    (folder / "weights").mkdir(parents=True)
    (folder / "weights/best.pt").write_text("years of work")
    (folder / "results.csv").write_text("years of work")
    if sign == "log":
        job(tmp_path).log.write_text("an earlier training")
    else:
        (folder / sign).write_text('{"error": "memory", "versions": [1, 2]}')
    before = contents(folder)
    with pytest.raises(UserError, match=r"move (it|the file) away"):
        run_all([job(tmp_path)], ["cpu"], 1, lambda *_: None)
    assert contents(folder) == before


@pytest.mark.parametrize(
    "name", ["manifest.json", "costs.json", *(f"runs/base/seed-0/{n}.json" for n in ("run", "metrics"))]
)
def test_files_of_a_comparison_that_are_not_plain_are_not_waited_for(tmp_path, name, capfd):
    shutil.copy(ROOT / "docs/measured/study/manifest.json", tmp_path / "manifest.json")
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    if "metrics" in name:
        (file.parent / "run.json").write_text('{"variant": "base", "seed": 0, "epochs": 1, "seconds": 1}')
    os.mkfifo(file)
    assert main(["compare", "--base", "yolov8n.yaml", "--report-only", "--output", str(tmp_path)]) in (0, 2)
    output = capfd.readouterr()
    assert "FIFO" in output.out + output.err + "".join(f.read_text() for f in tmp_path.glob("report.md"))


def test_what_cannot_be_removed_is_told(tmp_path, monkeypatch):
    def refuse(file, **_):
        raise OSError(errno.EACCES, "Permission denied", str(file))

    job(tmp_path).folder.mkdir(parents=True)
    (job(tmp_path).folder / "args.yaml").touch()
    monkeypatch.setattr(Path, "unlink", refuse)
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
        (
            ["compare", "--base", "yolov8z.yaml", "--layers", "GAM"],
            "error: yolov8z.yaml: no such file, and no model that",
        ),
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
