"""The oldest supported Ultralytics, from a folder in front on PYTHONPATH: train, resume, validate, every task."""

import json
import os
import subprocess
import sys

import pytest
from support import OLDEST, QUICK, ROOT, pycocotools_scores, script


@pytest.fixture
def on_oldest(oldest, tmp_path, monkeypatch):
    """Processes started from here import the oldest Ultralytics."""
    path = [oldest, ROOT / "tests" / "oldest", ROOT]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, path)))
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path / "config"))
    (tmp_path / "config").mkdir()


def test_train_resume_and_validate(on_oldest, small_coco, tmp_path):
    arguments = ["--cfg", "yolov8n-gam.yaml", "--data", small_coco, "--epochs", 3, *QUICK]
    result = script("train_det.py", *arguments, "val=False", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert f"Ultralytics {OLDEST}" in result.stdout + result.stderr
    run = tmp_path / "runs/detect/train"
    lines = (run / "results.csv").read_text().splitlines()
    assert len(lines) == 4
    assert len({line.count(",") for line in lines}) == 1
    assert "metrics/COCO_AP50" in lines[0]
    assert (run / "results.png").exists()

    result = script(
        "val_det.py", "--weights", run / "weights/best.pt", "--split", "train", "--device", "cpu", cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / "runs/detect/val/metrics.json").read_text())
    stats, _ = pycocotools_scores(
        small_coco / "annotations/instances_train.json", tmp_path / "runs/detect/val/predictions.json"
    )
    assert [metrics[m] for m in list(metrics)[:12]] == pytest.approx(list(stats), abs=1e-9)
    assert metrics["versions"]["ultralytics"] == OLDEST


def run_tests(*arguments):
    """The tests' own outcome in a process on the oldest Ultralytics: all passed, none skipped."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--durations=0", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stdout
    assert "skipped" not in result.stdout


def test_detections_come_back_to_the_pictures(on_oldest):
    run_tests("tests/engine/test_validator.py", "-k", "192 and False")


@pytest.mark.slow
def test_every_task(on_oldest):
    run_tests("tests/engine/test_tasks.py", "-m", "not slow")
