"""From the model's input back to the JSON: labels handed in as detections must score as perfect ones."""

import json
import shutil

import pytest
import torch
from support import TINY, as_detections
from ultralytics import YOLO

from yolo_attn.coco.evaluate import coco_scores
from yolo_attn.engine.data import describe
from yolo_attn.engine.preflight.checks import check_settings
from yolo_attn.engine.validation import validator


def validator_on(kind, task, data, folder, imgsz, rect):
    settings = {"task": task, "data": str(data), "imgsz": imgsz, "batch": 3, "rect": rect, "device": "cpu"}
    more = {"project": str(folder), "mask_ratio": 1, "overlap_mask": False, "workers": 0, "mode": "val"}
    args = check_settings({**settings, **more})
    made = kind(args=vars(args), save_dir=folder)
    made.data, made.stride, made.device, made.names = describe(made.args, ["val"]), 32, torch.device("cpu"), None
    made.names = made.data["names"]
    made.dataloader = made.get_dataloader(made.data["val"], 3)
    return made


@pytest.mark.parametrize("imgsz", [640, 192])
@pytest.mark.parametrize("rect", [True, False])
@pytest.mark.parametrize(
    ("kind", "task", "least"),
    [
        ("DetectionValidator", "detect", 0.99),
        ("RTDETRValidator", "detect", 0.99),
        ("SegmentationValidator", "segment", 0.88),  # one outline an object, so parts are joined by lines
        ("PoseValidator", "pose", 0.99),
    ],
)
def test_labels_score_as_perfect_detections(kind, task, least, rect, imgsz, small_coco, small_poses, tmp_path):
    data = small_poses if task == "pose" else small_coco
    made = validator_on(getattr(validator, kind), task, data, tmp_path, imgsz, rect)

    class Model:
        names = made.names
        end2end = False

    made.training = False
    made.init_metrics(Model())
    for batch in made.dataloader:
        for i in range(len(batch["img"])):
            made._collect(as_detections(batch, i), batch, i)
    scores = coco_scores(made.dataloader.dataset.index, made.detections, made.kind)
    assert scores.metrics["AP"] >= least, scores.metrics
    assert all(score["AP"] >= least - 0.05 for score in scores.per_class.values())


def test_neither_labels_nor_detections(small_coco, tmp_path):
    data = shutil.copytree(small_coco, tmp_path / "data")
    file = data / "annotations/instances_val.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "annotations": []}))
    settings = {"imgsz": 64, "device": "cpu", "plots": False, "conf": 1.0, "project": str(tmp_path), "name": "val"}
    model = YOLO(TINY)
    model.model.names = dict(enumerate(("triangle", "circle", "star")))
    model.val(data=str(data), **settings)
    assert json.loads((tmp_path / "val/metrics.json").read_text())["AP"] == -1
