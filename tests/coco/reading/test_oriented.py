"""Oriented boxes of COCO JSONs in the forms in which tools write them."""

import json
import math

import cv2
import numpy as np
import pytest
import torch
import yaml
from support import ROOT, results_rows, save_noise
from ultralytics import YOLO
from ultralytics.data.dataset import YOLODataset
from ultralytics.utils import DEFAULT_CFG

from yolo_attn.cli import main
from yolo_attn.coco.check import check_data
from yolo_attn.coco.dataset.dataset import CocoDataset
from yolo_attn.coco.draw import draw_suspects
from yolo_attn.coco.reading.reader import read_index

MODEL = "yolov8n-obb.yaml"


@pytest.fixture
def read(tmp_path):
    """Reads one annotation with the given keys; its corners, and the kinds of problems."""

    def of(**annotation):
        content = {
            "images": [{"id": 1, "file_name": "a.jpg", "width": 200, "height": 100}],
            "categories": [{"id": 1, "name": "ship"}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, **annotation}],
        }
        (tmp_path / "a.json").write_text(json.dumps(content))
        index = read_index(tmp_path / "a.json", "obb")
        return index.corners, [kind for kind, _ in index.problems]

    return of


def as_points(corners):
    return {tuple(np.round(point, 6) + 0.0) for point in np.reshape(corners, (-1, 2))}


def test_cvats_rotation_is_clockwise_about_the_centre(read):
    """The right end of a level box of 40 × 20 about (60, 50) lies below after a quarter turn clockwise."""
    (corners,), problems = read(bbox=[40, 40, 40, 20], attributes={"occluded": False, "rotation": 90.0})
    np.testing.assert_allclose(corners, [(70, 30), (70, 70), (50, 70), (50, 30)], atol=1e-9)
    assert problems == []
    (corners,), _ = read(bbox=[40, 40, 40, 20], attributes={"rotation": 30.0})
    expected = cv2.boxPoints(((60, 50), (40, 20), 30))  # OpenCV turns clockwise, y pointing down
    np.testing.assert_allclose(sorted(corners.tolist()), sorted(expected.tolist()), atol=1e-4)


def test_five_numbers_are_centre_size_and_degrees_counter_clockwise(read):
    (corners,), problems = read(bbox=[60, 50, 40, 20, -30])
    (other,), _ = read(bbox=[40, 40, 40, 20], attributes={"rotation": 30})
    np.testing.assert_allclose(corners, other, atol=1e-9)
    assert problems == []


@pytest.mark.parametrize(("angle", "reported"), [(1.2, True), (-3.1, True), (0, False), (3.3, False), (45, False)])
def test_angles_that_may_be_radians_are_reported(read, angle, reported):
    _, problems = read(bbox=[60, 50, 40, 20, angle])
    assert any("as small as radians" in problem for problem in problems) is reported


def test_four_corners_stay_as_they_are(read):
    polygon = [10, 20, 50, 10, 55, 30, 15, 40]
    (corners,), problems = read(bbox=[10, 10, 45, 30], segmentation=[polygon], attributes={"rotation": 0.0})
    assert corners.ravel().tolist() == polygon
    assert problems == []


def test_another_outline_has_the_smallest_rectangle_around_it(read):
    angles = np.linspace(0, 2 * math.pi, 60, endpoint=False)
    turn = np.array([(math.cos(0.4), math.sin(0.4)), (-math.sin(0.4), math.cos(0.4))])
    ellipse = np.stack([30 * np.cos(angles), 10 * np.sin(angles)], 1) @ turn + (100, 50)
    (corners,), problems = read(bbox=[70, 30, 60, 40], segmentation=[ellipse.ravel().tolist()])
    sides = sorted(np.linalg.norm(corners - np.roll(corners, 1, 0), axis=1))
    np.testing.assert_allclose(sides, [20, 20, 60, 60], rtol=0.02)
    assert ["smallest rectangle" in problem for problem in problems] == [True]


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        ({"bbox": [10, 20, 30, 40]}, "its upright box is used"),
        ({"bbox": [10, 20, 30, 40], "segmentation": {"size": [100, 200], "counts": [1, 2]}}, "its upright box is used"),
        ({"bbox": [10, 20, 30, 40], "attributes": {"rotation": "north"}}, "rotation that is not a number"),
        ({"bbox": [10, 20, 30, 40], "attributes": [1]}, "its upright box is used"),
        ({"bbox": [10, 20, 30, 40], "attributes": {"rotation": 0}}, None),
        ({"bbox": ["10", "20", 30, 40], "attributes": {"rotation": "360"}}, None),
    ],
)
def test_upright_boxes(read, annotation, said):
    (corners,), problems = read(**annotation)
    assert as_points(corners) == {(10, 20), (40, 20), (40, 60), (10, 60)}
    assert [said in problem for problem in problems] == ([True] if said else [])


@pytest.mark.parametrize(
    "bbox", [None, [1, 2, 3], [1, 2, 3, 4, 5, 6], [1, 2, None, 4, 5], [1, 2, 3, 4, None], [1e300, 2, 3, 4, 45], "box"]
)
def test_what_is_no_box_is_skipped(read, bbox):
    corners, problems = read(bbox=bbox)
    assert corners.shape == (0, 4, 2)
    assert ["four finite numbers" in problem for problem in problems] == [True]


def drawn(folder, rng, rotate=True):
    """Bars turned by any angle in the middle of images, as CVAT has them and as txt labels; the COCO folder."""
    for split, number in (("train", 8), ("val", 4)):
        images, annotations = [], []
        for image in range(1, number + 1):
            pixels = rng.integers(0, 60, (96, 128, 3), dtype=np.uint8)
            lines = []
            for n in range(2):
                centre, size, angle = (
                    (40 + 44 * n + rng.random(), 48 + rng.random()),
                    (30, 14),
                    float(rng.integers(0, 180)),
                )
                corners = cv2.boxPoints((centre, size, angle))
                cv2.fillPoly(pixels, [corners.round().astype(int)], (255, 255 * n, 0))
                left, top = centre[0] - size[0] / 2, centre[1] - size[1] / 2
                one = {"id": 2 * image + n, "image_id": image, "category_id": n + 1, "bbox": [left, top, *size]}
                annotations.append({**one, "area": 420, "iscrowd": 0, "attributes": {"rotation": angle}})
                ours = turned((left, top, *size), angle) / (128, 96)
                lines.append(f"{n} " + " ".join(f"{v:.17g}" for v in ours.ravel()))
            place = folder / f"images/{split}/{image}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(place), pixels)
            label = folder / f"labels/{split}/{image}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text("\n".join(lines))
            images.append({"id": image, "file_name": f"{image}.png", "width": 128, "height": 96})
        content = {"images": images, "annotations": annotations}
        content["categories"] = [{"id": 1, "name": "bar"}, {"id": 2, "name": "beam"}]
        file = folder / f"annotations/instances_{split}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content))
    described = {"path": str(folder), "train": "images/train", "val": "images/val", "names": ["bar", "beam"]}
    (folder / "txt.yaml").write_text(yaml.safe_dump(described))
    return folder


def turned(box, degrees):
    """Corners of a box that is turned clockwise about its centre, y pointing down."""
    left, top, width, height = box
    middle, radians = np.array([left + width / 2, top + height / 2]), math.radians(degrees)
    points = np.array([(left, top), (left + width, top), (left + width, top + height), (left, top + height)]) - middle
    x, y = points.T
    rotated = [x * math.cos(radians) - y * math.sin(radians), x * math.sin(radians) + y * math.cos(radians)]
    return np.stack(rotated, 1) + middle


def test_samples_are_those_of_ultralytics_own_labels(tmp_path):
    folder = drawn(tmp_path, np.random.default_rng(0))
    data = {"names": {0: "bar", 1: "beam"}, "nc": 2, "channels": 3}
    settings = {"imgsz": 64, "augment": False, "hyp": DEFAULT_CFG, "data": data, "task": "obb", "batch_size": 1}
    ours = CocoDataset(examined=check_data(folder, "obb")["val"], **settings)
    theirs = YOLODataset(img_path=str(folder / "images/val"), **settings)
    assert len(ours) == len(theirs) == 4
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["bboxes"].shape == (2, 5)
        for key in ("img", "cls", "bboxes"):
            torch.testing.assert_close(mine[key], other[key], rtol=0, atol=1e-5)


@pytest.mark.integration
def test_a_training_is_that_on_ultralytics_own_labels(tmp_path, monkeypatch, capsys):
    """The same losses and the same mAP, by Ultralytics' metrics, and no number is called COCO's.

    Without augmentations: Ultralytics draws random numbers when it looks at its label files.
    """
    folder = drawn(tmp_path / "set", np.random.default_rng(0))
    monkeypatch.chdir(tmp_path)
    common = ["--epochs", "2", "--imgsz", "64", "--batch", "4", "--device", "cpu", "workers=0", "plots=False"]
    common += [f"{name}=0" for name in ("mosaic", "fliplr", "hsv_h", "hsv_s", "hsv_v", "translate", "scale")]
    for name, data in (("coco", folder), ("txt", folder / "txt.yaml")):
        given = ["--cfg", "yolov8n-obb-gam.yaml", "--task", "obb", "--data", str(data), "--name", name]
        assert main(["train", *given, *common]) == 0
    runs = tmp_path / "runs/obb"
    tables = [results_rows(runs / name) for name in ("coco", "txt")]
    assert not [name for name in tables[0][0] if "COCO" in name]
    for ours, theirs in zip(*tables, strict=True):
        assert {**ours, "time": 0} == pytest.approx({**theirs, "time": 0}, rel=1e-4, abs=1e-5)
    best = str(runs / "coco/weights/best.pt")
    again = ["--name", "again", "--device", "cpu", "plots=False", "save_json=True", "conf=0.00001"]
    assert main(["val", "--weights", best, *again]) == 0
    metrics = json.loads((runs / "again/metrics.json").read_text())
    assert metrics["annotations"].endswith("instances_val.json")
    assert metrics["ultralytics"]["evaluator"].startswith("Ultralytics ")
    assert "AP" not in metrics
    assert {"mAP50(B)", "mAP50-95(B)"} <= metrics["ultralytics"].keys()
    assert isinstance(json.loads((runs / "again/predictions.json").read_text()), list)
    assert main(["val", "--weights", best, "--max-dets", "1,2,3"]) == 2
    assert "are for COCO's numbers, which this run has none of" in capsys.readouterr().err
    metrics = YOLO(best).val(data=str(folder), imgsz=64, plots=False, device="cpu")
    assert not hasattr(metrics, "coco")


def test_boxes_over_the_edge_and_flat_ones(tmp_path):
    save_noise(tmp_path / "images/val/a.jpg")  # 64 × 48
    boxes = [
        ([40, 10, 40, 20], 45),  # over the right edge
        ([100, 100, 10, 10], 30),  # outside
        ([10, 10, 30, 0], 45),  # a line
        ([10, 10, 20, 10], 45),
    ]
    annotations = [
        {"id": n, "image_id": 1, "category_id": 1, "bbox": box, "attributes": {"rotation": angle}, "iscrowd": 0}
        for n, (box, angle) in enumerate(boxes, 1)
    ]
    content = {"images": [{"id": 1, "file_name": "a.jpg"}], "categories": [{"id": 1, "name": "x"}]}
    file = tmp_path / "annotations/instances_val.json"
    file.parent.mkdir()
    file.write_text(json.dumps({**content, "annotations": annotations}))
    found = check_data(tmp_path, "obb")["val"]
    assert {kind: rows.tolist() for kind, rows in found.suspect.items() if len(rows)} == {
        "box without area inside its image, skipped": [1, 2],
        "box clipped to its image": [0],
    }
    label = found.labels[0]
    assert len(label["segments"]) == len(label["bboxes"]) == 2
    assert all(segment.min() >= 0 and segment.max() <= 1 for segment in label["segments"])
    for segment, (x, y, w, h) in zip(label["segments"], label["bboxes"], strict=True):
        low, high = segment.min(0), segment.max(0)
        np.testing.assert_allclose([(low + high) / 2, high - low], [(x, y), (w, h)], atol=1e-6)
    assert draw_suspects({"val": found}, tmp_path / "out") == 1


def test_docs_name_every_form():
    text = (ROOT / "docs/tasks.md").read_text()
    assert all(word in text for word in ("attributes.rotation", "five numbers", "four corners", "counter-clockwise"))
