"""One epoch of the models that are no YOLO, by the script."""

import json
import re

import pytest
from support import QUICK, save_noise, script

from yolo_attn.model.names import MODEL_YAMLS


@pytest.mark.integration
@pytest.mark.parametrize("model", ["resnet50-nam", "mobilenetv2-simam"])
def test_detectors_train(model, small_coco, tmp_path):
    arguments = ["--cfg", f"{model}.yaml", "--data", small_coco, "--epochs", 1, *QUICK, "plots=False"]
    result = script("scripts/train_det.py", *arguments, cwd=tmp_path)
    assert "no model scale" not in result.stdout + result.stderr
    run = tmp_path / "runs/detect/train"
    assert json.loads((run / "metrics.json").read_text())["AP"] >= 0
    assert (run / "weights/best.pt").exists()


@pytest.mark.slow
def test_classifiers_train_by_the_command_of_their_header(tmp_path):
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            for i in range(4):
                save_noise(tmp_path / "path/to/imagenet" / split / name / f"{i}.png", (32, 32))
    command = (MODEL_YAMLS / "resnet50-cls-simam.yaml").read_text().splitlines()[1]
    arguments = re.fullmatch(r"# python scripts/train_det.py (.*)", command)[1].split()
    quick = ["--epochs", 1, "--imgsz", 32, "--batch", 4, "--device", "cpu", "plots=False"]
    script("scripts/train_det.py", *arguments, *quick, cwd=tmp_path)
    assert (tmp_path / "runs/classify/train/weights/best.pt").exists()
