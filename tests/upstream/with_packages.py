"""Features of Ultralytics', and packages that people use with it, on a model with attention.

They need packages that this environment is without: test_features.py runs this file in one that has them.
"""

import cv2
import numpy as np
import pytest
import supervision
import yaml
from conftest import SMALL
from sahi import AutoDetectionModel
from sahi.predict import get_sliced_prediction
from ultralytics import YOLO
from ultralytics.utils import ROOT as ULTRALYTICS

from yolo_attn.cli import main

pytestmark = pytest.mark.integration


@pytest.fixture
def scene(fitted, small_coco):
    """A training image in which the model finds something, and its boxes, (N, 4) corners."""
    found = YOLO(fitted).predict(str(small_coco / "images/train"), conf=0.5, verbose=False, **SMALL)
    best = max(found, key=lambda result: len(result.boxes) and float(result.boxes.conf.max()))
    assert len(best.boxes)
    return best.orig_img, best.boxes.xyxy.numpy()


@pytest.fixture
def video(scene, tmp_path):
    """Ten frames in which the scene moves to the right by a pixel each."""
    image, _ = scene
    height, width = image.shape[:2]
    file = tmp_path / "moving.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"MJPG"), 10, (width, height))
    assert writer.isOpened()
    for i in range(10):
        moved = np.float32([[1, 0, i], [0, 1, 0]])
        writer.write(cv2.warpAffine(image, moved, (width, height), borderMode=cv2.BORDER_REPLICATE))
    writer.release()
    return file


@pytest.mark.parametrize("tracker", ["bytetrack", "botsort", "botsort with features"])
def test_an_object_keeps_its_number(tracker, fitted, video, tmp_path):
    described = yaml.safe_load((ULTRALYTICS / f"cfg/trackers/{tracker.split()[0]}.yaml").read_text())
    if "features" in tracker:
        described |= {"with_reid": True, "model": "auto"}  # of the rows that Detect reads
    (tmp_path / "tracker.yaml").write_text(yaml.safe_dump(described))
    model = YOLO(fitted)
    frames = list(model.track(str(video), tracker=str(tmp_path / "tracker.yaml"), conf=0.1, stream=True, **SMALL))
    assert len(frames) == 10
    ways = {}
    for frame in frames:
        for number, box in zip(frame.boxes.id if frame.boxes.id is not None else (), frame.boxes.xyxy, strict=False):
            ways.setdefault(int(number), []).append((frame.orig_img, box))
    longest, alone = max(ways.values(), key=len), YOLO(fitted)
    assert len(longest) >= 6
    for image, box in longest:
        (found,) = alone.predict(image, conf=0.1, verbose=False, **SMALL)
        assert (found.boxes.xyxy - box).abs().amax(1).min() < 10


def test_command_tracks(fitted, video, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [f"model={fitted}", f"source={video}", "tracker=bytetrack.yaml", "save_txt=True", "imgsz=64"]
    assert main(["track", *arguments, "project=runs", "device=cpu", "conf=0.3"]) == 0
    lines = [line.split() for file in (tmp_path / "runs").rglob("labels/*.txt") for line in file.open()]
    assert {len(line) for line in lines} >= {6}  # class, box, number


def test_every_slice_is_looked_at(fitted, scene):
    image, boxes = scene
    height, width = image.shape[:2]
    tiled = np.tile(image, (2, 2, 1))
    detector = AutoDetectionModel.from_pretrained(
        "ultralytics", model_path=str(fitted), confidence_threshold=0.5, device="cpu", image_size=64
    )
    slices = {"slice_height": height, "slice_width": width, "overlap_height_ratio": 0, "overlap_width_ratio": 0}
    found = get_sliced_prediction(tiled[..., ::-1], detector, perform_standard_pred=False, verbose=0, **slices)
    expected = [box + np.tile([x, y], 2) for y in (0, height) for x in (0, width) for box in boxes]
    ours = np.array([each.bbox.to_xyxy() for each in found.object_prediction_list])
    for box in expected:
        assert np.abs(ours - box).max(1).min() < 2


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_supervision_takes_results(task, fitted, scene):
    model = YOLO(fitted) if task == "detect" else YOLO("yolov8n-seg-gam.yaml")
    (result,) = model.predict(scene[0], conf=0.5 if task == "detect" else 1e-6, max_det=5, verbose=False, **SMALL)
    found = supervision.Detections.from_ultralytics(result)
    assert len(found) == len(result.boxes) > 0
    np.testing.assert_array_equal(found.xyxy, result.boxes.xyxy)
    np.testing.assert_array_equal(found.confidence, result.boxes.conf)
    assert list(found["class_name"]) == [result.names[int(number)] for number in result.boxes.cls]
    assert (found.mask is not None) is (task == "segment")


def test_openvino_of_int8_scores_as_the_checkpoint(fitted, small_coco, tmp_path, capfd):
    file = tmp_path / "model_openvino_model"
    arguments = ["--weights", fitted, "--format", "openvino", "--int8", "--data", small_coco, "--split", "train"]
    assert main(["export", *map(str, [*arguments, "--output", file, "--imgsz", 64])]) == 0
    assert "nncf" not in capfd.readouterr().out.lower()
    runs = {"data": str(small_coco), "split": "train", "project": str(tmp_path), **SMALL}
    scores = [YOLO(each, task="detect").val(**runs).coco.metrics["AP50"] for each in (fitted, file)]
    assert scores[0] > 0.3
    assert abs(scores[0] - scores[1]) < 0.1
