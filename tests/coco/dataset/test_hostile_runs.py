"""Whole validations of hostile sets: neither plots nor matrices nor names break what comes after the reading."""

import copy
import json

import pytest
import torch
from hostile import BASE, annotation, many, more, one_box, read, renamed
from support import save_noise
from ultralytics.nn.tasks import DetectionModel, PoseModel, SegmentationModel, guess_model_task, yaml_model_load

from yolo_attn.cli import main
from yolo_attn.coco.evaluate import Detections, coco_scores


@pytest.mark.parametrize("task", ["detect", "segment", "pose"])
@pytest.mark.parametrize("name", ["image_info_test", "image_info_test2017", "image_info_test-dev2017"])
def test_split_without_annotations(written, name, task):
    content = {"images": BASE["images"], "categories": BASE["categories"]}
    folder = written(content, f"annotations/{name}.json")
    (folder / "images/val").rename(folder / "test2017")
    index, examined = read(folder, task, "test")
    assert (examined.report.images, examined.report.usable, examined.report.boxes) == (3, 3, 0)
    kind = {"detect": "bbox", "segment": "segm", "pose": "keypoints"}[task]
    assert set(coco_scores(index, Detections(), kind).metrics.values()) == {-1.0}
    assert index.keypoints is None or index.keypoints.shape == (0, 17, 3)


def validated(folder, tmp_path, names, *more, model="yolov8n.yaml"):
    """A whole validation of an untrained checkpoint; its metrics and predictions."""
    described = yaml_model_load(model)
    described["scales"] = {"n": [0.33, 0.0625, 1024]}
    network = guess_model_task(described)
    network = {"detect": DetectionModel, "segment": SegmentationModel, "pose": PoseModel}[network](
        described, nc=len(names), verbose=False
    )
    network.names = dict(enumerate(names))
    torch.save({"model": network, "train_args": {"imgsz": 64}}, tmp_path / "untrained.pt")
    options = ["--weights", tmp_path / "untrained.pt", "--data", folder, "--project", tmp_path, "--name", "run"]
    assert main(["val", *map(str, options), "--imgsz", "64", "--device", "cpu", *more, "workers=0"]) == 0
    return [json.loads((tmp_path / "run" / name).read_text()) for name in ("metrics.json", "predictions.json")]


def odd(content):
    """Shapes and boxes, then ids and names of all kinds."""
    content["images"] += [{"id": 50 + n, "file_name": f"{n}.png"} for n in range(3)]
    content["annotations"] += [annotation(image_id=50 + n, bbox=[0, 0, 1, 1]) for n in range(3)]
    many(one_box(-1e300, 5, 1e308, 1e308), more("annotations", annotation(bbox=[5, 5, -9, 0])))(content)
    renamed(image=lambda i: f"image/{i}", category=lambda i: 2**60 + i)(content)
    names = ["$x^", "a\0b\n", "🐕 é", "%s {0} \\", "x" * 10**6, "  ", "", "$\\frac{$"]
    for n, name in enumerate(names):
        content["categories"].append({"id": n, "name": name})
        content["annotations"].append(annotation(image_id="image/1", category_id=n, bbox=[n, n, 30, 30]))


WHOLE = {
    "odd": odd,
    "no annotation": lambda content: content["annotations"].clear(),
    "crowds alone": lambda content: [a.update(iscrowd=1) for a in content["annotations"]],
}


@pytest.mark.integration
@pytest.mark.parametrize("case", WHOLE)
def test_whole_validation(written, tmp_path, case):
    """Neither plots nor matrices nor names break what comes after the reading."""
    content = copy.deepcopy(BASE)
    WHOLE[case](content)
    folder = written(content)
    for n, size in enumerate([(1, 1), (20_000, 1), (1, 2_000)]):
        save_noise(folder / f"images/val/{n}.png", size)
    index, _ = read(folder)
    metrics, predictions = validated(folder, tmp_path, index.category_names)
    assert list(metrics["per_class"]) == index.category_names
    assert {p["image_id"] for p in predictions} <= {image["id"] for image in content["images"]}
    assert {p["category_id"] for p in predictions} <= {category["id"] for category in content["categories"]}
    assert (tmp_path / "run/val_batch0_labels.jpg").exists()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("task", "model"), [("detect", "yolov8n.yaml"), ("segment", "yolov8n-seg.yaml"), ("pose", "yolov8n-pose.yaml")]
)
def test_validation_without_annotations(written, tmp_path, task, model):
    folder = written(
        {"images": BASE["images"], "categories": BASE["categories"]}, "annotations/image_info_test-dev2017.json"
    )
    (folder / "images/val").rename(folder / "test2017")
    metrics, predictions = validated(folder, tmp_path, ["dog", "cat"], "--split", "test", model=model)
    assert {metrics[name] for name in ("AP", "AP50", "AP75")} == {-1.0}
    assert {p["image_id"] for p in predictions} <= {1, 2, 3}
    assert json.loads((tmp_path / "run/data_report.json").read_text())["test"]["boxes"] == 0
