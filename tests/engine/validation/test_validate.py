"""Validation: COCO's numbers of our own predictions, held against pycocotools."""

import json
import logging
import shutil

import numpy as np
import pytest
import torch
import yaml
from support import Run, as_detections, listing, pycocotools_scores
from tiers import later
from ultralytics import YOLO
from ultralytics.nn import tasks

from yolo_attn.cli import main
from yolo_attn.coco.evaluate import METRICS
from yolo_attn.engine.validation.validator import DetectionValidator


def check_against_pycocotools(run, truth):
    metrics = json.loads((run / "metrics.json").read_text())
    stats, per_class = pycocotools_scores(truth, run / "predictions.json")
    np.testing.assert_allclose([metrics[m] for m in METRICS], stats, rtol=0, atol=1e-9)
    assert {n: pytest.approx(list(v.values()), abs=1e-9) for n, v in metrics["per_class"].items()} == per_class
    return metrics


@pytest.mark.smoke
def test_numbers_after_training_are_pycocotools(trained):
    metrics = check_against_pycocotools(trained.folder, trained.data / "annotations/instances_val.json")
    assert set(metrics["versions"]) == {"yolo_attn", "ultralytics", "torch", "python"}
    assert metrics["settings"]["imgsz"] == 64
    assert metrics["settings"]["conf"] == 0.001
    assert {"mAP50(B)", "mAP50-95(B)", "evaluator"} <= set(metrics["ultralytics"])


@pytest.mark.smoke
@pytest.mark.parametrize("split", later(["val", "train"], ["train"]))
def test_val_script_on_either_split(trained, tmp_path, split):
    before = listing(trained.data)
    best = str(trained.folder / "weights" / "best.pt")
    arguments = ["--weights", best, "--split", split, "--device", "cpu", "--project", str(tmp_path), "--name", "v"]
    assert main(["val", *arguments]) == 0
    truth = trained.data / f"annotations/instances_{split}.json"
    metrics = check_against_pycocotools(tmp_path / "v", truth)
    assert metrics["annotations"] == f"annotations/instances_{split}.json"
    for name in ("metrics.json", "data_report.json"):
        assert str(trained.data.parent) not in (tmp_path / "v" / name).read_text()
        assert str(tmp_path) not in (tmp_path / "v" / name).read_text()
    content = json.loads(truth.read_text())
    predictions = json.loads((tmp_path / "v" / "predictions.json").read_text())
    assert {p["image_id"] for p in predictions} <= {i["id"] for i in content["images"]}
    assert {p["category_id"] for p in predictions} <= {c["id"] for c in content["categories"]}
    assert listing(trained.data) == before


class Oracle(DetectionValidator):
    """Predicts the labels themselves, a little beside, with scores of its own: numbers that are neither 0 nor 1."""

    jitter = 0.0

    def preprocess(self, batch):
        self.batch = super().preprocess(batch)
        return self.batch

    def postprocess(self, preds):
        rng = torch.Generator().manual_seed(int(1000 * self.batch["bboxes"].sum()))
        found = [as_detections(self.batch, i) for i in range(len(self.batch["im_file"]))]
        for each in found:
            boxes = each["bboxes"]
            boxes += self.jitter * torch.randn(boxes.shape, generator=rng) * (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
            each["conf"] = torch.rand(len(boxes), generator=rng)
        return found


@pytest.mark.integration
@pytest.mark.parametrize("imgsz", [64, 320])
@pytest.mark.parametrize("rect", [True, False])
def test_predictions_are_in_the_pictures_own_pixels(trained, tmp_path, imgsz, rect):
    """Perfect detections are perfect for COCO, whatever the padding: boxes come back to 1/100 pixel, ids to theirs."""
    run = run_oracle(Oracle, trained, tmp_path, imgsz=imgsz, rect=rect)
    truth = json.loads((trained.data / "annotations/instances_val.json").read_text())
    predictions = json.loads((run / "predictions.json").read_text())

    def key(item):
        return item["image_id"], item["category_id"], *np.round(item["bbox"], 1)

    expected = sorted((a for a in truth["annotations"] if not a["iscrowd"]), key=key)
    assert len(predictions) == len(expected)
    for ours, theirs in zip(sorted(predictions, key=key), expected, strict=True):
        assert (ours["image_id"], ours["category_id"]) == (theirs["image_id"], theirs["category_id"])
        np.testing.assert_allclose(ours["bbox"], theirs["bbox"], atol=0.01)
    assert check_against_pycocotools(run, trained.data / "annotations/instances_val.json")["AP"] == pytest.approx(1)


def run_oracle(oracle, trained, folder, **settings):
    settings = {
        "model": str(trained.folder / "weights/best.pt"),
        "data": str(trained.data),
        "device": "cpu",
        **settings,
    }
    oracle(args={**settings, "project": str(folder), "name": "oracle", "plots": False, "save_json": True})()
    return folder / "oracle"


@pytest.mark.integration
@pytest.mark.trap(7)
def test_numbers_between_0_and_1_are_pycocotools_for_other_ids_and_order_too(trained, tmp_path):
    """Ultralytics' save_json must not replace our file; the validation JSON has other category ids than training."""
    near = type("Near", (Oracle,), {"jitter": 0.08})
    metrics = check_against_pycocotools(
        run_oracle(near, trained, tmp_path / "same", imgsz=64), trained.data / "annotations/instances_val.json"
    )
    assert 0.1 < metrics["AP"] < 0.9
    other = tmp_path / "other"
    shutil.copytree(trained.data, other)
    file = other / "annotations/instances_val.json"
    content = json.loads(file.read_text())
    ids = {c["id"]: new for c, new in zip(content["categories"], (900, 5, 77), strict=True)}
    for category in content["categories"]:
        category["id"] = ids[category["id"]]
    for annotation in content["annotations"]:
        annotation["category_id"] = ids[annotation["category_id"]]
    file.write_text(json.dumps(content))
    again = check_against_pycocotools(
        run_oracle(near, Run(trained.folder, "", other, []), tmp_path / "ids", imgsz=64), file
    )
    assert {k: again[k] for k in METRICS} == pytest.approx({k: metrics[k] for k in METRICS}, abs=1e-9)


@pytest.mark.integration
def test_confidence_that_hides_detections_is_said(trained, tmp_path, caplog):
    logging.getLogger("ultralytics").addHandler(caplog.handler)
    arguments = ["--weights", str(trained.folder / "weights/best.pt"), "--device", "cpu", "--project", str(tmp_path)]
    assert main(["val", *arguments, "conf=0.5"]) == 0
    logging.getLogger("ultralytics").removeHandler(caplog.handler)
    assert "conf=0.5 skips detections" in caplog.text
    assert "COCO AR large" in caplog.text
    assert "metrics.json" in caplog.text


@pytest.mark.integration
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


@pytest.mark.integration
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


@pytest.mark.integration
def test_own_rules_are_named_wherever_the_numbers_are(trained, tmp_path, monkeypatch, caplog, capsys):
    logging.getLogger("ultralytics").addHandler(caplog.handler)
    best = str(trained.folder / "weights/best.pt")
    common = ["val", "--weights", best, "--device", "cpu", "--project", str(tmp_path), "plots=False"]
    own = ["--max-dets", "1,10,400", "--area-ranges", "100,900"]
    assert main([*common, "--name", "own", *own]) == 0
    logging.getLogger("ultralytics").removeHandler(caplog.handler)
    metrics = json.loads((tmp_path / "own/metrics.json").read_text())
    assert metrics["not_coco"] == {"max_dets": [1, 10, 400], "area_ranges": [100, 900]}
    assert "not COCO's own: max_dets, area_ranges" in metrics["evaluator"]
    assert metrics["settings"]["max_det"] == 400
    assert "AR400" in metrics
    assert "AR100" not in metrics
    assert "COCO-style AP small" in caplog.text
    assert "COCO AP" not in caplog.text
    for wrong, said in ((["--max-dets", "20"], "detect takes three numbers"), (["--max-dets", "10,1,2"], "ascending")):
        assert main([*common, *wrong]) == 2
        assert said in capsys.readouterr().err
    assert main([*common, "--area-ranges", "9,inf"]) == 2
    assert "expected two ascending areas" in capsys.readouterr().err


@pytest.mark.integration
@pytest.mark.parametrize("task", ["detect", "segment", "pose", "obb"])
def test_an_image_without_a_detection_is_validated(task, small_coco, small_poses, tmp_path):
    name = {"detect": "yolov8n", "segment": "yolov8n-seg", "pose": "yolov8n-pose", "obb": "yolov8n-obb"}[task]
    data = small_poses if task == "pose" else small_coco
    settings = {"data": str(data), "project": str(tmp_path), "imgsz": 64, "device": "cpu", "plots": False}
    described = tasks.yaml_model_load(f"{name}.yaml") | {"nc": 3, "kpt_shape": [5, 3]}
    (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(described))
    model = YOLO(tmp_path / f"{name}.yaml")
    model.model.names = {**model.model.names, 0: "triangle"}
    metrics = model.val(conf=0.9, workers=0, name="none", **settings)
    if task != "obb":
        assert metrics.coco.metrics["AP"] == 0
        assert json.loads((tmp_path / "none/predictions.json").read_text()) == []


@pytest.mark.integration
def test_rules_that_are_cocos_own_are_not_called_others(trained, tmp_path):
    given = ["val", "--weights", str(trained.folder / "weights/best.pt"), "--project", str(tmp_path), "--name", "v"]
    rules = ["--max-dets", "1,10,100", "--area-ranges", "1024,9216"]
    assert main([*given, *rules, "--device", "cpu", "plots=False"]) == 0
    metrics = json.loads((tmp_path / "v/metrics.json").read_text())
    assert "not_coco" not in metrics
    assert "not COCO's" not in metrics["evaluator"]
    for wrong in (["--max-dets", f"1,10,{10**20}"], ["--area-ranges", "1e11,1e12"]):
        assert main([*given, *wrong]) == 2
