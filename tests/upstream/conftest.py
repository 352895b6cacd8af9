"""What the tests of Ultralytics' features begin with."""

import pytest
import yaml
from support import TINY_GAM
from ultralytics import YOLO

import yolo_attn  # noqa: F401  registers the row names

SMALL = {"imgsz": 64, "device": "cpu", "plots": False, "workers": 0}


@pytest.fixture(scope="session")
def fitted(small_coco, tmp_path_factory):
    """A small detector with GAM as a row and SimAM in a block that knows its training images by heart: best.pt."""
    home = tmp_path_factory.mktemp("fitted")
    with open(TINY_GAM) as file:  # noqa: PTH123
        described = yaml.safe_load(file)
    described["backbone"][2][2] = "C2f_SimAM"
    (home / "model.yaml").write_text(yaml.safe_dump(described))
    still = dict.fromkeys(("mosaic", "scale", "translate", "hsv_h", "hsv_s", "hsv_v", "fliplr", "warmup_epochs"), 0)
    settings = {**SMALL, **still, "epochs": 80, "batch": 4, "optimizer": "AdamW", "lr0": 0.01, "val": False}
    YOLO(home / "model.yaml").train(data=str(small_coco), project=str(home), name="run", verbose=False, **settings)
    return home / "run/weights/best.pt"
