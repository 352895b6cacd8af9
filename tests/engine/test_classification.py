"""Classifiers' images: Ultralytics' crops, or stretched to a square; rotation; top-1 chooses best.pt."""

import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from support import save_noise
from torchvision import transforms as T
from ultralytics import YOLO
from ultralytics.data.augment import classify_augmentations, classify_transforms

from yolo_attn.cli import main
from yolo_attn.engine.classification import adapted
from yolo_attn.engine.training.trainer import ClassificationTrainer
from yolo_attn.engine.validation.metrics import ClassifyMetrics

MODEL = """
nc: 2
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, SimAM, []]
head:
  - [-1, 1, Classify, [nc]]
"""
RECIPE = ["degrees=10", "auto_augment=None", "erasing=0", "hsv_h=0", "hsv_s=0", "hsv_v=0", "fliplr=0"]
QUICK = ["--imgsz", "32", "--batch", "4", "--device", "cpu", "workers=0", "plots=False"]


@pytest.fixture
def data(tmp_path):
    """Wide pictures of two classes, whose left ends, which a crop takes away, are all that differs."""
    for split, number in (("train", 6), ("val", 4)):
        for name, value in (("cat", 0), ("dog", 255)):
            for n in range(number):
                file = tmp_path / "set" / split / name / f"{n}.png"
                save_noise(file, (96, 32))
                picture = cv2.imread(str(file))
                picture[:, :32] = value
                cv2.imwrite(str(file), picture)
    return tmp_path / "set"


@pytest.fixture
def cfg(tmp_path):
    (tmp_path / "net-cls.yaml").write_text(MODEL)
    return str(tmp_path / "net-cls.yaml")


def kinds(transforms):
    return [type(step).__name__ for step in transforms.transforms]


def test_without_stretch_and_rotation_all_is_ultralytics_own():
    for own in (classify_transforms(64), classify_augmentations(64)):
        assert kinds(adapted(own, 64, stretch=False)) == kinds(own)


def test_a_stretched_image_is_whole_and_square():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 100, 3), dtype=np.uint8))
    found = adapted(classify_transforms(64), 64, stretch=True)(picture)
    expected = np.asarray(picture.resize((64, 64), Image.Resampling.BILINEAR)).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_the_recipe_leaves_resizing_and_rotation():
    own = classify_augmentations(64, hflip=0, erasing=0, auto_augment=None, hsv_h=0, hsv_s=0, hsv_v=0)
    steps = adapted(own, 64, stretch=True, degrees=10).transforms
    changing = [step for step in steps if type(step) not in (T.ToTensor, T.Normalize)]
    assert [type(step) for step in changing[:2]] == [T.Resize, T.RandomRotation]
    assert changing[0].size == (64, 64)
    assert changing[1].degrees == [-10, 10]
    still = T.Compose([*changing[2:], T.ToTensor()])
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    torch.testing.assert_close(still(picture), T.ToTensor()(picture))


def test_fitness_is_top_1():
    metrics = ClassifyMetrics()
    metrics.process(
        [torch.tensor([0, 1, 2, 3])], [torch.tensor([[0, 1, 2, 3], [0, 1, 2, 3], [2, 1, 0, 3], [0, 1, 2, 3]])]
    )
    assert metrics.results_dict == {"metrics/accuracy_top1": 0.5, "metrics/accuracy_top5": 1.0, "fitness": 0.5}


@pytest.mark.integration
@pytest.mark.parametrize("said", ["option", "yaml"])
def test_stretched_in_training_validation_and_prediction(data, cfg, tmp_path, monkeypatch, said):
    """What only the ends of the pictures show is learned, and known again by commands and in Python."""
    monkeypatch.chdir(tmp_path)
    if said == "yaml":
        (tmp_path / "net-cls.yaml").write_text(f"stretch: true\n{MODEL}")
    option = ["--stretch"] if said == "option" else []
    settings = [*RECIPE, "optimizer=AdamW", "lr0=0.01", "warmup_epochs=0", "--epochs", "12"]
    assert main(["train", "--cfg", cfg, "--data", str(data), *option, *settings, *QUICK]) == 0
    run = tmp_path / "runs/classify/train"
    best = run / "weights/best.pt"
    top1 = json.loads((run / "metrics.json").read_text())["ultralytics"]["accuracy_top1"]
    assert top1 == 1
    assert main(["val", "--weights", str(best), *QUICK]) == 0
    metrics = json.loads((tmp_path / "runs/classify/val/metrics.json").read_text())
    assert metrics["ultralytics"]["accuracy_top1"] == top1
    model = YOLO(best)
    assert model.val(data=str(data), imgsz=32, device="cpu", workers=0, plots=False).top1 == top1
    files = sorted((data / "val").glob("*/*.png"))
    for size in (32, 64):  # one that the model was not trained at, too
        found = model.predict(files, imgsz=size, device="cpu", verbose=False)
        stretched = [Image.open(file).convert("RGB").resize((size, size), Image.Resampling.BILINEAR) for file in files]
        images = torch.stack([T.ToTensor()(picture) for picture in stretched])
        with torch.inference_mode():
            expected = model.model.eval()(images)
        expected = expected[0] if isinstance(expected, tuple) else expected
        torch.testing.assert_close(torch.stack([each.probs.data for each in found]), expected, atol=1e-4, rtol=0)
    names = [model.names[each.probs.top1] for each in model.predict(files, imgsz=32, device="cpu", verbose=False)]
    assert names == [file.parent.name for file in files]


@pytest.mark.integration
def test_a_resumed_training_goes_on_stretching(data, cfg, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save = ClassificationTrainer.save_model

    def save_and_stop(self):
        save(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as stopping:
        stopping.setattr(ClassificationTrainer, "save_model", save_and_stop)
        assert main(["train", "--cfg", cfg, "--data", str(data), "--stretch", "--epochs", "3", *QUICK]) == 130
    last = "runs/classify/train/weights/last.pt"
    assert main(["train", "--resume", last, "--stretch"]) == 2
    assert "--stretch cannot change with --resume" in capsys.readouterr().err
    assert main(["train", "--resume", last]) == 0
    assert YOLO(last).model.yaml["stretch"] is True


def test_other_tasks_refuse_it(refusal):
    line = refusal("train", "--cfg", "yolov8n-gam.yaml", "--stretch")
    assert "--stretch: --cfg yolov8n-gam.yaml is of the task detect; only images of classifiers are cropped" in line
