"""Features of Ultralytics' on models with attention, each as docs/tasks.md lists it."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL
from PIL import Image
from support import OLDEST, ROOT, TINY_GAM, pycocotools_scores, results_rows, run_python, train_and_cut
from ultralytics import YOLO

import yolo_attn
from tools.versions.environments import Beside
from yolo_attn.cli import main
from yolo_attn.coco.evaluate import METRICS
from yolo_attn.engine.validation.metrics import columns_before

TRACKERS = ("tensorboard>=2", "mlflow>=2", "wandb>=0.16")
FURTHER = ("lap>=0.5.12", "sahi>=0.11", "supervision>=0.25", "nncf>=2.14")


def truth(coco, split):
    return coco / f"annotations/instances_{split}.json"


@pytest.mark.integration
@pytest.mark.parametrize("mode", ["train", "val"])
def test_save_json_leaves_predictions_in_cocos_form(mode, fitted, small_coco, tmp_path):
    """The list that `loadRes` takes, which is the one that FiftyOne documents for predictions on COCO data."""
    run = tmp_path / "run"
    settings = {**SMALL, "data": str(small_coco), "project": str(tmp_path), "name": "run", "save_json": True}
    if mode == "train":
        metrics = YOLO(fitted).train(epochs=1, optimizer="SGD", lr0=1e-6, warmup_epochs=0, split="train", **settings)
    else:
        metrics = YOLO(fitted).val(split="train", **settings)
    predictions = json.loads((run / "predictions.json").read_text())
    assert {tuple(sorted(each)) for each in predictions} == {("bbox", "category_id", "image_id", "score")}
    content = json.loads(truth(small_coco, "train").read_text())
    for key, owner in (("image_id", "images"), ("category_id", "categories")):
        assert {each[key] for each in predictions} <= {each["id"] for each in content[owner]}
    stats, _ = pycocotools_scores(truth(small_coco, "train"), run / "predictions.json")
    assert stats[1] > 0.3
    np.testing.assert_allclose([metrics.coco.metrics[name] for name in METRICS], stats, atol=1e-9)


@pytest.mark.integration
def test_visualize_draws_a_map_of_the_image(fitted, small_coco, tmp_path):
    image = sorted((small_coco / "images/train").iterdir())[0]
    YOLO(fitted).predict(str(image), visualize=True, project=str(tmp_path), name="run", **SMALL)
    (drawn,) = (tmp_path / "run").glob(f"{image.stem}*cam*")
    assert np.asarray(Image.open(drawn)).std() > 10


@pytest.mark.integration
def test_visualize_draws_attention_rows_on_the_oldest(on_oldest, fitted, small_coco, tmp_path):
    image = sorted((small_coco / "images/train").iterdir())[0]
    code = f"""
import yolo_attn, ultralytics
assert ultralytics.__version__ == {OLDEST!r}
ultralytics.YOLO({str(fitted)!r}).predict({str(image)!r}, visualize=True, imgsz=64, device="cpu", project="runs")
"""
    run_python(code, tmp_path)
    assert list((tmp_path / "runs").rglob("stage4_GAM_features.png"))


@pytest.mark.integration
def test_augmented_inference_looks_at_three_sizes(fitted, small_coco, tmp_path):
    """At 64 px all three are of 84 places; the first gives none of its coarsest map, the last none of its finest."""
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        found = YOLO("yolov8n-gam.yaml").model.eval()(x, augment=True)[0]
    assert found.shape[2] == (84 - 4) + 84 + (84 - 64)
    image = str(sorted((small_coco / "images/train").iterdir())[0])
    assert len(YOLO(fitted).predict(image, augment=True, conf=0.01, **SMALL)[0].boxes)
    runs = {"data": str(small_coco), "split": "train", "project": str(tmp_path), **SMALL}
    metrics = YOLO(fitted).val(augment=True, name="run", **runs)
    stats, _ = pycocotools_scores(truth(small_coco, "train"), tmp_path / "run/predictions.json")
    np.testing.assert_allclose([metrics.coco.metrics[name] for name in METRICS], stats, atol=1e-9)
    assert stats[0] > 0


@pytest.mark.integration
def test_time_ends_a_training_and_fraction_takes_a_part(small_coco, tmp_path, caplog):
    settings = {**SMALL, "data": str(small_coco), "project": str(tmp_path), "name": "run", "imgsz": 32, "batch": 8}
    with caplog.at_level("INFO", logger="ultralytics"):
        YOLO(TINY_GAM).train(epochs=1000, time=0.0005, fraction=0.5, **settings)
    rows = results_rows(tmp_path / "run")
    assert 1 <= len(rows) < 1000
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
    report = json.loads((tmp_path / "run/data_report.json").read_text())
    assert [report[split]["images"] for split in ("train", "val")] == [8, 8]
    assert "COCO AP " in caplog.text
    assert "attention, 8 images of val: row 4 GAM" in caplog.text


@pytest.mark.slow
def test_compiled_models_find_the_same(fitted, small_coco, tmp_path):
    image = str(sorted((small_coco / "images/train").iterdir())[0])
    plain, compiled = (
        YOLO(fitted).predict(image, conf=0.01, compile=on, **SMALL)[0].boxes.data for on in (False, True)
    )
    assert len(plain)
    torch.testing.assert_close(compiled, plain, rtol=1e-3, atol=1e-3)
    runs = {"data": str(small_coco), "split": "train", "project": str(tmp_path), **SMALL}
    scores = [YOLO(fitted).val(compile=on, **runs).coco.metrics["AP"] for on in (False, True)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)


@pytest.mark.slow
def test_compiled_training_is_cut_and_goes_on_uncompiled_or_compiled(fitted, small_coco, tmp_path):
    run = tmp_path / "run"
    settings = {**SMALL, "data": str(small_coco), "project": str(tmp_path), "name": "run", "epochs": 2, "batch": 8}
    model = str(fitted.parents[2] / "model.yaml")
    train_and_cut(yolo_attn.DetectionTrainer, "save_model", model=model, compile=True, **settings)
    assert main(["train", "--resume", str(run / "weights/last.pt")]) == 0
    assert len(results_rows(run)) == 2
    found = yolo_attn.load_safe(run / "weights/best.pt").state_dict()
    assert not [name for name in found if "_orig_mod" in name]


@pytest.mark.slow
def test_compiled_training_in_two_processes(torchrun, small_coco, tmp_path):
    script = [ROOT / "scripts/train_det.py", "--cfg", TINY_GAM, "--data", small_coco, "--epochs", 1, "--imgsz", 32]
    more = ["--batch", 8, "--device", "cpu", "--project", tmp_path, "--name", "run", "compile=True", "plots=False"]
    codes, output = torchrun(*script, *more, machines=1, workers=2).wait(500)
    assert codes == [0], output[-3000:]
    assert len(results_rows(tmp_path / "run")) == 1
    assert yolo_attn.load_safe(tmp_path / "run/weights/best.pt").names[0]


@pytest.mark.slow
def test_tracking_slicing_and_supervision_in_an_environment_that_has_them(tmp_path):
    python = Beside("features", FURTHER).prepare().python
    tests = Path(__file__).with_name("with_packages.py")
    command = [python, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", tests]
    result = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=1200)
    assert result.returncode == 0, result.stdout[-5000:]
    assert " passed" in result.stdout


@pytest.mark.slow
def test_trackers_have_all_of_cocos_numbers(small_coco, tmp_path):
    """TensorBoard, MLflow and W&B for real, with classes whose names they would refuse."""
    names = {"triangle": 'dog, "brown"', "circle": "100 % / pure", "star": "猫"}
    for file in (small_coco / "annotations").iterdir():
        content = json.loads(file.read_text())
        for category in content["categories"]:
            category["name"] = names[category["name"]]
        (tmp_path / "data/annotations").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data/annotations" / file.name).write_text(json.dumps(content))
    (tmp_path / "data/images").symlink_to(small_coco / "images")
    python = Beside("trackers", TRACKERS).prepare().python
    offline = {
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(tmp_path),
        "WANDB_SILENT": "true",
        "YOLO_CONFIG_DIR": str(tmp_path),
    }
    offline |= {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db", "MLFLOW_EXPERIMENT_NAME": "test"}
    env = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"} | offline
    command = [python, Path(__file__).with_name("with_trackers.py"), TINY_GAM, tmp_path / "data", tmp_path / "runs"]
    result = subprocess.run(
        list(map(str, command)), cwd=tmp_path, env=env, capture_output=True, text=True, timeout=1200
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("FOUND ")]
    found = json.loads(line.removeprefix("FOUND "))
    expected = list(columns_before("bbox", list(names.values())).values())
    assert len(expected) == 15
    for tracker, values in found.items():
        assert set(expected) <= set(values), tracker
        for name in expected:
            assert values[name] == pytest.approx(found["trainer"][name], abs=1e-6), (tracker, name)
