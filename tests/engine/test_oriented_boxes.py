"""Oriented boxes of a COCO JSON against the same boxes as Ultralytics' own txt labels."""

import json

import cv2
import numpy as np
import pytest
import torch
import yaml
from support import listing
from ultralytics.cfg import get_cfg
from ultralytics.data import YOLODataset
from ultralytics.data.build import build_dataloader
from ultralytics.utils.torch_utils import init_seeds

from yolo_attn.coco.check import check_data
from yolo_attn.coco.dataset.dataset import CocoDataset
from yolo_attn.engine.api import Training, train, validate

SIZE = (83, 61)
"""Width and height of the images."""

MODEL = """
nc: 2
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, GAM, []]
head:
  - [[-1], 1, OBB, [nc, 1]]
"""

SETTINGS = {"imgsz": 64, "batch": 4, "device": "cpu", "plots": False, "workers": 0}


def bars(home):
    """Draw turned bars by OpenCV, and write their boxes as txt labels and, stated in three ways, as a COCO JSON."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for folder in (f"images/{split}", f"labels/{split}", "annotations"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        annotations = []
        for i in range(8):
            picture = np.full((*SIZE[::-1], 3), 90, dtype=np.uint8)
            lines = []
            for k, colour in enumerate([(40, 200, 220), (220, 60, 40)]):
                x, y = rng.uniform((20 + 30 * k, 20), (30 + 30 * k, 40)).tolist()
                w, h, degrees = rng.uniform((22, 9, 1), (30, 12, 89)).tolist()
                corners = cv2.boxPoints(((x, y), (w, h), degrees))  # clockwise, as CVAT
                cv2.fillPoly(picture, [corners.round().astype(int)], colour)
                stated = [
                    {"bbox": [x - w / 2, y - h / 2, w, h], "attributes": {"rotation": degrees}},
                    {"bbox": [x, y, w, h, -degrees]},
                    {"segmentation": [corners.ravel().tolist()]},
                ][(i + k) % 3]
                annotations.append({"id": len(annotations) + 1, "image_id": i, "category_id": (3, 7)[k], **stated})
                lines.append(" ".join(map(str, [k, *(corners / SIZE).ravel()])))
            cv2.imwrite(str(home / f"images/{split}/{i}.png"), picture)
            (home / f"labels/{split}/{i}.txt").write_text("\n".join(lines))
        images = [{"id": i, "file_name": f"{i}.png"} for i in range(8)]
        categories = [{"id": 3, "name": "long"}, {"id": 7, "name": "short"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (home / f"annotations/instances_{split}.json").write_text(json.dumps(content))
    described = {"path": str(home), "train": "images/train", "val": "images/val", "names": ["long", "short"]}
    (home / "txt.yaml").write_text(yaml.safe_dump(described))
    (home / "obb.yaml").write_text(MODEL)
    return home


@pytest.mark.parametrize("augment", [False, True])
def test_batches_equal_those_of_txt_labels(tmp_path, augment):
    home = bars(tmp_path)
    hyp = get_cfg(overrides={"task": "obb", "degrees": 20, "mosaic": 0.5, "flipud": 0.3})
    common = {"imgsz": 64, "augment": augment, "hyp": hyp, "rect": False, "task": "obb"}
    data = {"names": {0: "long", 1: "short"}, "channels": 3, "nc": 2}
    found = check_data(home, "obb")["train"]
    batches = []
    for make in (
        lambda: CocoDataset(examined=found, data=data, **common),
        lambda: YOLODataset(img_path=str(home / "images/train"), data=data, **common),
    ):
        dataset = make()
        init_seeds(0)
        batches.append(next(iter(build_dataloader(dataset, 8, 0, shuffle=False))))
    ours, theirs = batches
    assert torch.equal(ours["img"], theirs["img"])
    assert torch.equal(ours["cls"], theirs["cls"])
    assert ours["bboxes"].shape == theirs["bboxes"].shape == (len(ours["cls"]), 5)
    assert len(ours["bboxes"]) > 8
    torch.testing.assert_close(ours["bboxes"], theirs["bboxes"], rtol=0, atol=2e-4)


@pytest.mark.integration
def test_losses_and_map_equal_those_of_txt_labels(tmp_path, caplog):
    home = bars(tmp_path / "set")
    before = listing(home)
    rows = {}
    further = {"optimizer": "AdamW", "lr0": 0.02, "warmup_epochs": 0}
    further |= dict.fromkeys(("mosaic", "hsv_h", "hsv_s", "hsv_v", "scale", "translate", "fliplr"), 0.0)
    for name, data in (("json", home), ("txt", home / "txt.yaml")):
        settings = {**SETTINGS, **further, "data": str(data), "epochs": 60, "name": name, "val": False}
        trainer = train(Training(str(home / "obb.yaml"), settings, project=str(tmp_path), task="obb"))
        lines = (tmp_path / name / "results.csv").read_text().splitlines()
        rows[name] = dict(zip(*(map(str.strip, line.split(",")) for line in lines[:2]), strict=True))
        assert "COCO" not in lines[0]
        if name == "json":
            assert listing(home) == before
            assert trainer.best.exists()
    losses = [name for name in rows["txt"] if name.startswith("train/")]
    assert len(losses) >= 3
    for name in losses:
        assert float(rows["json"][name]) == pytest.approx(float(rows["txt"][name]), rel=1e-4)
    results = {}
    for name, data in (("json", home), ("txt", home / "txt.yaml")):
        settings = {**SETTINGS, "data": str(data), "conf": 1e-5, "name": f"val-{name}", "save_json": True}
        results[name] = validate(str(tmp_path / "json/weights/last.pt"), str(tmp_path), settings).metrics.results_dict
    assert results["json"]["metrics/mAP50(B)"] > 0.05
    assert results["json"] == pytest.approx(results["txt"], abs=1e-6)
    metrics = json.loads((tmp_path / "val-json/metrics.json").read_text())
    assert metrics["ultralytics"]["evaluator"].endswith("mAP of oriented boxes by ProbIoU, not COCO's")
    assert metrics["annotations"] == "annotations/instances_val.json"
    assert metrics["ultralytics"]["mAP50-95(B)"] == results["json"]["metrics/mAP50-95(B)"]
    found = json.loads((tmp_path / "val-json/predictions.json").read_text())
    assert {row["category_id"] for row in found} <= {3, 7}
    assert {row["image_id"] for row in found} <= set(range(8))
    assert all(len(row["rbox"]) == 5 and len(row["poly"]) == 8 for row in found)
    assert "COCO's AP counts" not in caplog.text


def test_a_training_on_what_may_be_radians_is_refused_by_strict(tmp_path, refusal):
    home = bars(tmp_path / "set")
    file = home / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"] = [{**a, "segmentation": [], "bbox": [40, 30, 25, 10, 0.7]} for a in content["annotations"]]
    file.write_text(json.dumps(content))
    line = refusal("train", "--cfg", home / "obb.yaml", "--data", home, "--strict")
    assert f"{file}: 16 × bbox of five numbers whose angle, read as degrees, may be in radians" in line
    assert line.endswith("annotation 1, …")
