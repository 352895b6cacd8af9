"""A whole comparison, run once."""

import json
import random

import pytest
from commands import arguments


@pytest.fixture(scope="session")
def easy_coco(small_coco, tmp_path_factory):
    """The drawn set with one object that fills most of each image, so that the shortest training finds some."""
    root, rng = tmp_path_factory.mktemp("easy_coco"), random.Random(0)
    (root / "images").symlink_to(small_coco / "images")
    (root / "annotations").mkdir()
    for split in ("train", "val"):
        content = json.loads((small_coco / f"annotations/instances_{split}.json").read_text())
        content["annotations"] = []
        for n, image in enumerate(content["images"], 1):
            left, top = rng.random() * image["width"] / 5, rng.random() * image["height"] / 5
            box = [left, top, (image["width"] - left) * 0.9, (image["height"] - top) * 0.9]
            kind = rng.choice(content["categories"])["id"]
            annotation = {"id": n, "image_id": image["id"], "category_id": kind, "bbox": box, "area": box[2] * box[3]}
            content["annotations"].append({**annotation, "iscrowd": 0})
        (root / f"annotations/instances_{split}.json").write_text(json.dumps(content))
    return root


@pytest.fixture(scope="session")
def whole(easy_coco, tmp_path_factory):
    """yolov8n with and without SimAM, two seeds, one epoch each, two at once, not interrupted."""
    from yolo_attn.cli import main

    output = tmp_path_factory.mktemp("whole") / "study"
    assert main(arguments(easy_coco, output, "--parallel", "2")) == 0
    metrics, found = (list(output.glob(f"runs/*/*/{name}.json")) for name in ("metrics", "predictions"))
    assert min(json.loads(file.read_text())["AP"] for file in metrics) > 0, "zeros are all alike"
    assert len({file.read_bytes() for file in found}) == 4
    return output
