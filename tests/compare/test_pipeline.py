"""What a comparison refuses before it trains, and that it leaves the user's files alone."""

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
from yolo_attn.compare.execution.runner import Job, run_all
from yolo_attn.compare.pipeline import _check_ours, _checked
from yolo_attn.compare.study_folder import Variant
from yolo_attn.engine.api import Training
from yolo_attn.errors import RunError, UserError

BEST = "{whole}/runs/base/seed-0/weights/best.pt"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--epochs", "2"], "epochs was 1 and is 2 now; choose another --output"),
        (["lr0=0.02", "workers=1"], "manifest.json: lr0 was unset and is 0.02, workers was 0 and is 1 now; choose"),
        (["--base", "yolov8s.yaml"], "base was yolov8n.yaml and is yolov8s.yaml now"),
        (["--weights", BEST], f"weights was None and is {BEST} ("),
    ],
)
def test_another_budget_is_refused(more, message, whole, easy_coco, capfd):
    before = (whole / "manifest.json").read_text()
    assert main(arguments(easy_coco, whole, *(word.format(whole=whole) for word in more))) == 2
    assert message.format(whole=whole) in capfd.readouterr().err
    assert (whole / "manifest.json").read_text() == before


@pytest.mark.parametrize("part", ["weights", "data"])
def test_weights_and_data_that_change_under_their_path_are_another_budget(
    part, whole, easy_coco, tmp_path, monkeypatch, capfd
):
    weights = Path(BEST.format(whole=whole))
    monkeypatch.chdir(weights.parent)
    manifest = json.loads((whole / "manifest.json").read_text())
    path, now, given = easy_coco, manifest["data"]["sha256"], []
    if part == "weights":
        path, now, given = weights, hashlib.sha256(weights.read_bytes()).hexdigest(), ["--weights", "best.pt"]
    manifest[part] = {**(manifest[part] or {}), "path": str(path), "sha256": "0" * 64}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert main(arguments(easy_coco, tmp_path, *given)) == 2
    assert f"{part} was {path} (000000000000) and is {path} ({now[:12]}) now" in capfd.readouterr().err


def test_a_folder_of_the_users_is_left_alone(easy_coco, tmp_path, capfd):
    home = tmp_path / "paper"
    names = ("results.csv", "report.md", "costs.json", "models/yolov8n.yaml", "runs/base/seed-0/thesis.txt")
    for name in names:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("years of work")
    before = contents(home)
    assert main(arguments(easy_coco, home)) == 2
    assert f"--output {home}: it holds files, but no manifest.json of a comparison" in capfd.readouterr().err
    (home / "manifest.json").write_text('{"name": "my browser extension"}')
    assert main(arguments(easy_coco, home)) == 2
    assert f"{home / 'manifest.json'}: " in capfd.readouterr().err
    (home / "manifest.json").unlink()
    assert contents(home)[1] == before[1]


def test_a_comparison_among_its_data_is_refused(easy_coco, capfd):
    before = contents(easy_coco)
    assert main(arguments(easy_coco, easy_coco)) == 2
    assert main(arguments(easy_coco, easy_coco / "study")) == 2
    assert f"--output {easy_coco / 'study'}: it is among the data" in capfd.readouterr().err
    assert contents(easy_coco) == before


def test_a_folder_left_by_an_early_kill_can_be_used(tmp_path):
    _check_ours(tmp_path / "none")
    (tmp_path / ".lock").touch()
    (tmp_path / ".yolo_attn-0123456789abcdef-abcdefg_.part").touch()
    _check_ours(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError):
        _check_ours(tmp_path)


def job(study):
    return Job(study, Variant("base", "yolov8n"), 0, Training("yolov8n.yaml", {"epochs": 1}))


def test_files_of_no_training_are_not_removed(tmp_path):
    (job(tmp_path).folder).mkdir(parents=True)
    (job(tmp_path).folder / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="seed-0: it is not a training of this comparison; move it away"):
        run_all([job(tmp_path)], ["cpu"], 1, lambda *_: None)
    assert (job(tmp_path).folder / "thesis.txt").exists()


@pytest.mark.parametrize("sign", ["log", "failed.json", "metrics.json"])
def test_a_log_or_another_programs_metrics_do_not_make_a_training(tmp_path, sign):
    """Logs outlive their folders, and other programs write a metrics.json, too."""
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
def test_special_files_in_a_comparison_are_not_opened(tmp_path, name, capfd):
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


def test_a_file_that_cannot_be_removed_is_reported(tmp_path, monkeypatch):
    def refuse(file, **_):
        raise OSError(errno.EACCES, "Permission denied", str(file))

    job(tmp_path).folder.mkdir(parents=True)
    (job(tmp_path).folder / "args.yaml").touch()
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(RunError, match=r"args\.yaml: Permission denied; a training cannot start over there"):
        run_all([job(tmp_path)], ["cpu"], 1, lambda *_: None)


def test_settings_are_as_the_manifest_is_read_again(easy_coco, tmp_path):
    shared = {"data": str(easy_coco), "epochs": 3, "freeze": (0, 1), "patience": 3}
    _, settings, _ = _checked(Training("yolov8n.yaml", shared, str(tmp_path / "study")))
    assert settings["freeze"] == [0, 1]
    assert json.loads(json.dumps(settings)) == settings


def test_all_trainings_have_all_their_epochs(easy_coco, tmp_path, capfd):
    assert main(arguments(easy_coco, tmp_path / "study", "--epochs", "3", "patience=2")) == 2
    message = "patience=2: some trainings could stop before the others' 3 epochs; leave it out"
    assert message in capfd.readouterr().err
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


def test_one_process_at_a_time_works_on_a_comparison(whole, easy_coco, capfd):
    with FileLock(whole / ".lock"):
        assert main(arguments(easy_coco, whole)) == 2
    assert "another process works on this comparison" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compare"], "compare needs --base"),
        (["compare", "--base", "yolov8n.yaml"], "compare needs --layers"),
        (["compare", "--report-only"], "--report-only: no comparison under "),
        (["compare", "--report-only", "--base", "yolov9t.yaml"], "runs/compare/yolov9t/manifest.json: not found"),
        (["compare", "--report-only", "--output", "nowhere"], "manifest.json: not found"),
        (["compare", "--report-only", "--output", "nowhere", "lr0=1"], "'lr0=1': unknown to compare --report-only"),
        ([*BASE, "--layers", "GEM"], "no such layer"),
        (
            ["compare", "--base", "yolov8z.yaml", "--layers", "GAM"],
            "error: yolov8z.yaml: no such file, and no model that",
        ),
        ([*BASE, "--layers", "GAM", "--seeds", "1,1"], "expected each seed once"),
        ([*BASE, "--layers", "GAM", "--data", "nowhere"], "no such folder"),
        ([*BASE, "--layers", "GAM", "epoch=3"], "no such setting"),
        ([*BASE, "--layers", "GAM", "time=0.5"], "the budget of a comparison is in epochs"),
        ([*BASE, "--layers", "GAM", "--device", "cpu,77"], "--device 77: no such device here"),
        ([*BASE, "--layers", "GAM", "--device", "0,"], "--device '0,': expected devices separated by commas"),
    ],
)
def test_mistakes_are_reported_before_anything_is_written(words, message, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert message in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.integration
def test_models_of_another_number_of_keypoints_than_cocos_are_compared(small_poses, tmp_path, capfd):
    given = arguments(small_poses, tmp_path / "study", "--base", "yolov8n-pose.yaml", seeds="0")
    assert main(given) == 0, capfd.readouterr().err
    truth = json.loads((tmp_path / "study/ground_truth.json").read_text())
    assert {tuple(category["keypoint_sigmas"]) for category in truth["categories"]} == {(0.2,) * 5}
    assert "objects" in (tmp_path / "study/report.html").read_text()
