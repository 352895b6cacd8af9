"""Ground truth on the page of attention maps."""

import json

import cv2
import numpy as np
import pytest
from support import TINY_GAM, listing
from ultralytics import YOLO

from yolo_attn.cli import main
from yolo_attn.maps.truth import draw_truth, labels_of


@pytest.mark.parametrize("task", ["detect", "segment", "pose"])
def test_boxes_are_drawn_where_the_json_has_them(task, small_coco, small_poses):
    data = small_poses if task == "pose" else small_coco
    labels = labels_of(str(data), "val", task, {0: "triangle", 1: "circle", 2: "star"})
    label = {**labels[0], "oriented": False}
    pixels = np.zeros((*label["shape"], 3), np.uint8)
    drawn = draw_truth(pixels, label, {0: "triangle", 1: "circle", 2: "star"})
    assert not pixels.any()
    height, width = label["shape"]
    for x, y, w, _ in label["bboxes"]:
        left, right = (round(float(v) * width) for v in (x - w / 2, x + w / 2))
        middle = min(round(float(y) * height), height - 1)
        assert drawn[middle, max(left - 3, 0) : left + 4].any()
        assert drawn[middle, max(right - 3, 0) : right + 4].any()


def test_the_page_has_all_of_an_image_side_by_side(small_coco, tmp_path, monkeypatch, capsys):
    before = listing(small_coco)
    monkeypatch.chdir(tmp_path)
    model = YOLO(TINY_GAM)
    model.model.names = {0: "triangle", 1: "circle", 2: "star"}
    model.save("best.pt")
    given = ["attention-maps", "--weights", "best.pt", "--data", str(small_coco), "--imgsz", "64", "--device", "cpu"]
    assert main([*given, "--output", "maps", "--pictures", "2"]) == 0
    page = (tmp_path / "maps/index.html").read_text()
    for caption in ("picture", "ground truth", "detections: best.pt", "row 4 GAM: mean gate over the image"):
        assert page.count(f"<figcaption>{caption}</figcaption>") == 2
    assert str(small_coco) not in page
    truth, picture = (
        cv2.imread(str(next((tmp_path / "maps").glob(f"001-*-{n}.png")))) for n in ("ground-truth", "picture")
    )
    assert truth.shape == picture.shape
    assert (truth != picture).any()
    assert json.loads((tmp_path / "maps/gates.json").read_text())["pictures"] == 8
    assert listing(small_coco) == before
    assert main([*given, "--output", "maps"]) == 2
    assert main([*given, "--source", str(small_coco / "images/val")]) == 2
    assert "not allowed with argument" in capsys.readouterr().err


def test_corners_of_oriented_boxes_are_drawn():
    pixels = np.zeros((100, 200, 3), np.uint8)
    corners = np.array([(0.5, 0.1), (0.7, 0.5), (0.5, 0.9), (0.3, 0.5)], dtype=np.float32)
    label = {
        "cls": [[0.0]],
        "segments": [corners],
        "bboxes": [[0.5, 0.5, 0.4, 0.8]],
        "oriented": True,
        "keypoints": None,
    }
    drawn = draw_truth(pixels, label, {0: "x"})
    assert drawn[67:74, 76:85].any()  # on the side between two corners
    assert not drawn[84:90, 61:66].any()  # where an upright box would have its corner
