"""Validation: COCO's numbers of our own predictions, held against pycocotools."""

import json

import numpy as np
import pytest
from support import listing, pycocotools_scores
from ultralytics import YOLO

from yolo_attn.cli import main
from yolo_attn.coco.evaluate import METRICS
from yolo_attn.engine.validator import DetectionValidator


def check_against_pycocotools(run, truth):
    metrics = json.loads((run / "metrics.json").read_text())
    stats, per_class = pycocotools_scores(truth, run / "predictions.json")
    np.testing.assert_allclose([metrics[m] for m in METRICS], stats, rtol=0, atol=1e-9)
    assert {n: pytest.approx(list(v.values()), abs=1e-9) for n, v in metrics["per_class"].items()} == per_class
    return metrics


def test_numbers_after_training_are_pycocotools(trained):
    metrics = check_against_pycocotools(trained.folder, trained.data / "annotations/instances_val.json")
    assert set(metrics["versions"]) == {"yolo_attn", "ultralytics", "torch", "python"}
    assert {"mAP50(B)", "mAP50-95(B)", "evaluator"} <= set(metrics["ultralytics"])


@pytest.mark.parametrize("split", ["val", "train"])
def test_val_script_on_either_split(trained, tmp_path, split):
    before = listing(trained.data)
    best = str(trained.folder / "weights" / "best.pt")
    arguments = ["--weights", best, "--split", split, "--device", "cpu", "--project", str(tmp_path), "--name", "v"]
    assert main(["val", *arguments]) == 0
    truth = trained.data / f"annotations/instances_{split}.json"
    metrics = check_against_pycocotools(tmp_path / "v", truth)
    assert metrics["annotations"] == str(truth)
    content = json.loads(truth.read_text())
    predictions = json.loads((tmp_path / "v" / "predictions.json").read_text())
    assert {p["image_id"] for p in predictions} <= {i["id"] for i in content["images"]}
    assert {p["category_id"] for p in predictions} <= {c["id"] for c in content["categories"]}
    assert listing(trained.data) == before


def test_predictions_are_in_the_pictures_own_pixels(trained, tmp_path):
    """What Ultralytics' own predictor finds on one picture is in predictions.json under its id."""
    predictions = json.loads((trained.folder / "predictions.json").read_text())
    content = json.loads((trained.data / "annotations/instances_val.json").read_text())
    ids = [c["id"] for c in sorted(content["categories"], key=lambda c: c["id"])]
    model = YOLO(trained.folder / "weights" / "best.pt")
    for image in content["images"][:3]:
        file = trained.data / "images/val" / image["file_name"]
        own = model.predict(file, imgsz=64, conf=0.001, device="cpu", verbose=False, max_det=300)[0].boxes
        ours = sorted((p for p in predictions if p["image_id"] == image["id"]), key=lambda p: -p["score"])
        assert len(own) > 0
        best = int(own.conf.argmax())
        left, top, right, bottom = own.xyxy[best].tolist()
        assert ours[0]["category_id"] == ids[int(own.cls[best])]
        np.testing.assert_allclose(ours[0]["bbox"], [left, top, right - left, bottom - top], atol=8)


def test_pictures_that_cannot_be_read_stay_ground_truth(trained, make_coco, tmp_path):
    folder = make_coco(
        [(1, "a.jpg"), (2, "broken.jpg")],
        [{"image_id": i, "category_id": 7, "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0} for i in (1, 2)],
        [(7, next(iter(YOLO(trained.folder / "weights" / "best.pt").names.values())))],
    )
    (folder / "images/val/broken.jpg").write_text("broken")
    best = str(trained.folder / "weights" / "best.pt")
    arguments = ["--weights", best, "--data", str(folder), "--device", "cpu", "--project", str(tmp_path / "runs")]
    assert main(["val", *arguments]) == 0
    metrics = check_against_pycocotools(tmp_path / "runs" / "val", folder / "annotations/instances_val.json")
    assert metrics["AR100"] <= 0.5


def test_rounds_of_validation_start_afresh(trained, tmp_path):
    settings = {
        "model": str(trained.folder / "weights/best.pt"),
        "data": str(trained.data),
        "imgsz": 64,
        "device": "cpu",
    }
    validator = DetectionValidator(args={**settings, "rect": True, "project": str(tmp_path), "plots": False})
    first = validator()
    scores = validator.coco
    assert validator() == first
    assert validator.coco == scores
    assert first["fitness"] == first["metrics/COCO_AP"] == scores.metrics["AP"]
