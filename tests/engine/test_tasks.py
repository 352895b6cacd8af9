"""Tasks beside detection with YOLO: what they learn from, and COCO's numbers of masks and keypoints."""

import json

import cv2
import numpy as np
import pytest
import torch
import yaml
from support import QUICK, listing, pycocotools_scores, run_python, save_noise, script, train_and_cut

from yolo_attn.cli import main
from yolo_attn.coco.evaluate import KEYPOINT_METRICS, METRICS
from yolo_attn.engine.tasks import TASKS, ours, task_of
from yolo_attn.engine.training import trainer
from yolo_attn.engine.validation import validator

BODY = """
nc: 80
kpt_shape: [17, 3]
scale: n
scales: {n: [0.33, 0.25, 1024]}
backbone:
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, Conv, [128, 3, 2]]
  - [-1, 3, C2f_NAM, [128, True]]
  - [-1, 1, Conv, [256, 3, 2]]
  - [-1, 3, C2f, [256, True]]
  - [-1, 1, Conv, [512, 3, 2]]
  - [-1, 3, C2f_SimAM, [512, True, {where: pre_bn}]]
  - [-1, 1, Conv, [1024, 3, 2]]
  - [-1, 3, C2f, [1024, True]]
  - [-1, 1, GAM, []]
head:
"""
HEADS = {
    "segment": "  - [[4, 6, 9], 1, Segment, [nc, 32, 256]]\n",
    "pose": "  - [[4, 6, 9], 1, Pose, [nc, kpt_shape]]\n",
    "obb": "  - [[4, 6, 9], 1, OBB, [nc, 1]]\n",
    "classify": "  - [-1, 1, Classify, [nc]]\n",
}


def model_yaml(folder, task):
    file = folder / f"{task}.yaml"
    file.write_text(BODY + HEADS[task])
    return file


def coco_stats(truth, results, kind, **params):
    return pycocotools_scores(truth, results, kind, **params)[0]


def train_and_validate(task, data, tmp_path, *more):
    """Two epochs by the script, then a validation of the checkpoint by the script in a fresh process."""
    before = listing(data)
    arguments = ["--cfg", model_yaml(tmp_path, task), "--task", task, "--data", data, "--epochs", 2, *QUICK, *more]
    result = script("scripts/train_det.py", *arguments, cwd=tmp_path)
    assert "attention, 8 images of val: row 2 C2f_NAM m.0.cv2 " in result.stdout + result.stderr
    run = tmp_path / "runs" / task / "train"
    lines = (run / "results.csv").read_text().splitlines()
    assert len(lines) == 3
    assert len({line.count(",") for line in lines}) == 1
    assert (run / "results.png").exists()
    script("scripts/val_det.py", "--weights", run / "weights/best.pt", "--device", "cpu", "conf=0.0001", cwd=tmp_path)
    assert listing(data) == before
    return run, tmp_path / "runs" / task / "val", lines[0]


@pytest.mark.integration
def test_segmentation(small_coco, tmp_path):
    _, val, header = train_and_validate("segment", small_coco, tmp_path)
    columns = {f"metrics/COCO_{box}{name}" for box in ("", "box_") for name in METRICS}
    assert columns <= {column.strip() for column in header.split(",")}
    truth, results = small_coco / "annotations/instances_val.json", val / "predictions.json"
    metrics = json.loads((val / "metrics.json").read_text())
    assert metrics["evaluator"].startswith("hotcoco")
    assert "segm" in metrics["evaluator"]
    np.testing.assert_allclose([metrics[m] for m in METRICS], coco_stats(truth, results, "segm"), rtol=0, atol=1e-9)
    boxes = [metrics["boxes"][m] for m in METRICS]
    np.testing.assert_allclose(boxes, coco_stats(truth, results, "bbox"), rtol=0, atol=1e-9)
    images = {i["id"]: i for i in json.loads(truth.read_text())["images"]}
    found = json.loads(results.read_text())
    assert found
    assert all(d["segmentation"]["size"] == [images[d["image_id"]][k] for k in ("height", "width")] for d in found)


@pytest.mark.integration
def test_pose(small_poses, tmp_path):
    run, val, header = train_and_validate("pose", small_poses, tmp_path)
    columns = [f"metrics/COCO_{name}" for name in KEYPOINT_METRICS] + [f"metrics/COCO_box_{name}" for name in METRICS]
    assert set(columns) <= {column.strip() for column in header.split(",")}
    described = yaml.safe_load((run / "data.yaml").read_text())
    assert (described["kpt_shape"], described["flip_idx"]) == ([5, 3], [1, 0, 2, 3, 4])
    truth, results = small_poses / "annotations/person_keypoints_val.json", val / "predictions.json"
    metrics = json.loads((val / "metrics.json").read_text())
    assert "OKS sigma 1/5 for each of 5 keypoints" in metrics["evaluator"]
    stats = coco_stats(truth, results, "keypoints", kpt_oks_sigmas=np.ones(5) / 5)
    np.testing.assert_allclose([metrics[m] for m in KEYPOINT_METRICS], stats, rtol=0, atol=1e-9)
    found = json.loads(results.read_text())
    assert found
    assert all(len(d["keypoints"]) == 15 for d in found)


@pytest.mark.integration
def test_oriented_boxes(tmp_path):
    data = tmp_path / "set"
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        (data / "labels" / split).mkdir(parents=True)
        for i in range(8):
            save_noise(data / f"images/{split}/{i}.png")
            corners = cv2.boxPoints(((0.5, 0.5), (0.5, 0.3), float(rng.uniform(0, 90)))).clip(0, 1)
            (data / f"labels/{split}/{i}.txt").write_text("0 " + " ".join(f"{v:.4f}" for v in corners.ravel()) + "\n")
    file = tmp_path / "data.yaml"
    file.write_text(yaml.safe_dump({"path": str(data), "train": "images/train", "val": "images/val", "names": ["a"]}))
    arguments = ["--cfg", model_yaml(tmp_path, "obb"), "--data", file, "--epochs", 1, *QUICK]
    result = script("scripts/train_det.py", *arguments, cwd=tmp_path)
    assert "Ultralytics mAP50-95(B)" in result.stdout + result.stderr
    assert "attention, 8 images of val: row 2 C2f_NAM m.0.cv2 " in result.stdout + result.stderr
    metrics = json.loads((tmp_path / "runs/obb/train/metrics.json").read_text())
    assert metrics["ultralytics"]["mAP50-95(B)"] >= 0


@pytest.mark.integration
def test_classification_resumes(tmp_path, caplog):
    data = tmp_path / "set"
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            for i in range(4):
                save_noise(data / split / name / f"{i}.png", (32, 32))
    settings = {"model": str(model_yaml(tmp_path, "classify")), "data": str(data), "epochs": 3, "imgsz": 32, "batch": 4}
    settings |= {"device": "cpu", "project": str(tmp_path), "name": "cut", "plots": False}
    train_and_cut(trainer.ClassificationTrainer, "save_model", **settings)
    assert main(["train", "--resume", str(tmp_path / "cut/weights/last.pt")]) == 0
    assert "attention, 8 images of val: row 2 C2f_NAM m.0.cv2 " in caplog.text
    lines = (tmp_path / "cut/results.csv").read_text().splitlines()
    assert [line.split(",")[0].strip() for line in lines] == ["epoch", "1", "2", "3"]
    metrics = json.loads((tmp_path / "cut/metrics.json").read_text())
    assert 0 <= metrics["ultralytics"]["accuracy_top1"] <= 1
    assert "AP" not in metrics


RTDETR = """
nc: 80
scale: l
scales: {l: [1.0, 1.0, 1024]}
backbone:
  - [-1, 1, HGStem, [8, 16]]
  - [-1, 1, HGBlock_SimAM, [16, 32, 3, {where: pre_bn}]]
  - [-1, 1, DWConv, [32, 3, 2, 1, False]]
  - [-1, 1, HGBlock, [16, 64, 3]]
  - [-1, 1, DWConv, [64, 3, 2, 1, False]]
  - [-1, 1, HGBlock, [16, 64, 3]]
  - [-1, 1, NAM, []]
head:
  - [-1, 1, Conv, [64, 3, 2]]
  - [[3, 6, 7], 1, RTDETRDecoder, [nc, 64, 30, 4, 4, 2]]
"""


@pytest.mark.integration
def test_rtdetr(small_coco, tmp_path):
    """Stretched pictures: boxes come back to each picture's own pixels, held against pycocotools."""
    file = tmp_path / "rtdetr.yaml"
    file.write_text(RTDETR)
    arguments = ["--cfg", file, "--data", small_coco, "--epochs", 2, *QUICK]
    result = script("scripts/train_det.py", *arguments, cwd=tmp_path)
    assert "attention, 8 images of val: row 1 HGBlock_SimAM " in result.stdout + result.stderr
    run = tmp_path / "runs/detect/train"
    assert "giou_loss" in (run / "results.csv").read_text()
    metrics = json.loads((run / "metrics.json").read_text())
    stats = coco_stats(small_coco / "annotations/instances_val.json", run / "predictions.json", "bbox")
    np.testing.assert_allclose([metrics[m] for m in METRICS], stats, rtol=0, atol=1e-9)
    checkpoint = torch.load(run / "weights/last.pt", weights_only=False)
    assert type(checkpoint["model"]).__name__ == "RTDETRDetectionModel"


def test_every_head_has_its_trainer_and_validator():
    from ultralytics.models import rtdetr, yolo

    assert task_of("RTDETRDecoder").trainer is trainer.RTDETRTrainer
    assert task_of("WorldDetect") is None
    assert ours(yolo.pose.PoseValidator) is validator.PoseValidator
    assert ours(rtdetr.train.RTDETRTrainer) is trainer.RTDETRTrainer
    assert ours(yolo.world.WorldTrainer) is yolo.world.WorldTrainer
    heads = [head for task in TASKS for head in task.heads]
    assert len(heads) == len(set(heads))


@pytest.mark.slow
@pytest.mark.parametrize("task", ["segment", "detect"])
def test_real_pictures_with_polygons(task, shared_data, tmp_path):
    """coco-mini: polygons of several parts, run-length crowds, 80 categories."""
    data = shared_data("coco-mini")
    cfg = "yolov8n-seg.yaml" if task == "segment" else "rtdetr-l.yaml"
    arguments = ["--cfg", cfg, "--data", data, *QUICK, "--epochs", 1, "--imgsz", 128, "--batch", 4, "conf=1e-6"]
    before = listing(data)
    script("scripts/train_det.py", *arguments, cwd=tmp_path, timeout=900)
    run = tmp_path / "runs" / task / "train"
    metrics = json.loads((run / "metrics.json").read_text())
    kind = "segm" if task == "segment" else "bbox"
    assert json.loads((run / "predictions.json").read_text())
    stats = coco_stats(data / "annotations/instances_val.json", run / "predictions.json", kind)
    np.testing.assert_allclose([metrics[m] for m in METRICS], stats, rtol=0, atol=1e-9)
    assert listing(data) == before


@pytest.mark.integration
def test_plain_ultralytics_reads_the_checkpoint(small_poses, tmp_path):
    """A checkpoint of each task predicts through YOLO(...) in a fresh process."""
    from ultralytics.nn import tasks

    for task in ("segment", "pose"):
        model = next(t for t in TASKS if t.name == task).model(str(model_yaml(tmp_path, task)), verbose=False)
        assert isinstance(model, tasks.DetectionModel)
        torch.save({"model": model, "train_args": {"task": task}}, tmp_path / f"{task}.pt")
        code = f"from ultralytics import YOLO; print(YOLO(r'{tmp_path}/{task}.pt').task)"
        result = run_python(code, tmp_path)
        assert result.stdout.split()[-1] == task, result.stderr
