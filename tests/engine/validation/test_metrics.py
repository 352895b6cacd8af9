"""COCO's numbers in results.csv and among the metrics that trackers read."""

import csv
import json
import math
import re
import shutil

import polars
import pytest
from support import QUICK, TINY, results_rows
from ultralytics import YOLO

from yolo_attn.cli import main
from yolo_attn.coco.evaluate import KEYPOINT_METRICS, METRICS, CocoScores
from yolo_attn.engine.validation.metrics import coco_columns, coco_numbers, columns_before

NAMES = ['dog, "brown"', " blanks ", "a/b", "a,b", "a_b", "猫", "triangle: loss?"]
MLFLOW = re.compile(r"[/\w.\- ]*")
"""What MLflow takes as a metric's name."""


def scores_of(names, boxes=None):
    per_class = {name: {"AP": n / 100, "AP50": 0.5} for n, name in enumerate(names)}
    return CocoScores("", {name: n / 10 for n, name in enumerate(METRICS)}, per_class, boxes)


def test_columns_have_every_number_once_and_aps_of_up_to_a_hundred_classes():
    columns = columns_before("bbox", NAMES)
    assert len(columns) == len(set(columns.values())) == 12 + len(NAMES)
    assert list(columns)[:3] == ["metrics/COCO_AP", "metrics/COCO_AP50", "coco/AP75"]
    assert f"coco/AP/{NAMES[0]}" in columns
    assert len(columns_before("segm", NAMES)) == 24 + len(NAMES)
    assert len(columns_before("keypoints", NAMES)) == len(KEYPOINT_METRICS) + 12 + len(NAMES)
    assert len(columns_before("bbox", [str(n) for n in range(100)])) == 112
    assert len(columns_before("bbox", [str(n) for n in range(101)])) == 12


def test_only_two_columns_of_coco_are_plotted_by_ultralytics():
    """It plots every column with "metric" or "loss" in its name."""
    columns = columns_before("segm", ["cat"])
    assert [name for name in columns if "metric" in name or "loss" in name] == list(columns)[:2]


def test_names_for_trackers_are_plain_and_each_another():
    names = list(coco_columns([], [], [*NAMES, "a_b_2", "a?b", ".."]).values())
    assert len(set(names)) == len(NAMES) + 3
    assert all(MLFLOW.fullmatch(name) and name.count("/") == 2 for name in names)
    assert names[5] == "coco/AP/猫"


def test_numbers_are_under_their_names():
    found = coco_numbers(scores_of(["cat", "dog"], scores_of([])))
    assert found["metrics/COCO_AP"] == 0
    assert found["coco/AR10"] == found["coco/box_AR10"] == pytest.approx(0.7)
    assert (found["coco/AP/cat"], found["coco/AP/dog"]) == (0, 0.01)
    own = CocoScores("", {**dict.fromkeys(METRICS[:8], 0.1), "AR300": 0.3}, {})
    assert coco_numbers(scores_of(["cat"], own))["coco/box_AR300"] == 0.3
    assert list(found) == list(coco_columns(METRICS, METRICS, ["cat", "dog"]).values())


@pytest.mark.integration
def test_a_training_writes_them_every_epoch_and_a_resumed_one_goes_on(small_coco, tmp_path, monkeypatch):
    data = tmp_path / "data"
    shutil.copytree(small_coco / "annotations", data / "annotations")
    (data / "images").symlink_to(small_coco / "images")
    for file in (data / "annotations").iterdir():
        content = json.loads(file.read_text())
        for category, name in zip(content["categories"], NAMES, strict=False):
            category["name"] = name
        file.write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    given = ["--cfg", TINY, "--data", str(data), "--epochs", "3", *QUICK, "workers=0", "save_period=1"]
    seen = []

    def metrics_of(trainer):
        seen.append(dict(trainer.metrics))
        if trainer.epoch == 1:
            raise KeyboardInterrupt

    from yolo_attn.engine.training import trainer

    monkeypatch.setattr(trainer.RunTrainer, "save_model", stopping(trainer.RunTrainer.save_model, metrics_of))
    assert main(["train", *given]) != 0
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs/detect/train"
    header = next(csv.reader((run / "results.csv").read_text().splitlines()))
    assert main(["train", "--resume", str(run)]) == 0
    rows = results_rows(run)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert header == list(rows[0])
    assert list(rows[0])[-3:] == [name for name in rows[0] if name.startswith("lr/")]
    columns = columns_before("bbox", [name for name in NAMES if f"coco/AP/{name}" in rows[0]])
    assert len(columns) == 15
    assert columns.keys() <= rows[0].keys()
    for row, metrics in zip(rows, seen, strict=False):
        for column, key in columns.items():
            assert math.isclose(row[column], metrics[key], rel_tol=1e-4, abs_tol=1e-6)
    table = polars.read_csv(run / "results.csv")
    assert {name.replace('"', "") for name in columns} <= {name.replace('"', "") for name in table.columns}
    kept = YOLO(run / "weights/last.pt").ckpt.get("train_results") or {}
    assert len(kept) == len(rows[0])
    metrics = json.loads((run / "metrics.json").read_text())
    assert set(METRICS) <= metrics.keys()
    assert (run / "results.png").exists()


def stopping(method, look):
    def save_model(self):
        saved = method(self)
        look(self)
        return saved

    return save_model


@pytest.mark.integration
@pytest.mark.parametrize(("task", "kind"), [("seg", "segm"), ("pose", "keypoints")])
def test_masks_and_keypoints_come_with_the_numbers_of_boxes(
    task, kind, small_coco, small_poses, tmp_path, monkeypatch, caplog
):
    import logging

    logging.getLogger("ultralytics").addHandler(caplog.handler)
    monkeypatch.chdir(tmp_path)
    data = small_poses if task == "pose" else small_coco
    given = ["--cfg", f"yolov8n-{task}.yaml", "--data", str(data), "--epochs", "1", *QUICK, "workers=0", "plots=False"]
    assert main(["train", *given]) == 0
    logging.getLogger("ultralytics").removeHandler(caplog.handler)
    (run,) = (tmp_path / "runs").glob("*/train")
    (row,) = results_rows(run)
    assert {"metrics/COCO_AP", "coco/APl", "coco/box_AP", "coco/box_AR100", "coco/AP/triangle"} <= row.keys()
    assert set(json.loads((run / "metrics.json").read_text())["boxes"]) == set(METRICS)
    assert f"COCO {kind} AP" in caplog.text
    assert "COCO bbox AP50" in caplog.text
