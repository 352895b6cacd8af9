"""The oldest supported Ultralytics, from a folder in front on PYTHONPATH: train, validate, export, every task."""

import json
import shlex
import subprocess
import sys

import pytest
from support import OLDEST, QUICK, ROOT, pycocotools_scores, run_python, run_worker, script, users_folder


@pytest.mark.smoke
def test_train_and_validate(on_oldest, small_coco, tmp_path):
    arguments = ["--cfg", "yolov8n-gam.yaml", "--data", small_coco, "--epochs", 3, *QUICK]
    result = script("scripts/train_det.py", *arguments, "val=False", "plots=False", cwd=tmp_path)
    assert f"Ultralytics {OLDEST}" in result.stdout + result.stderr
    assert "attention, 8 images of val: row 22 GAM " in result.stdout + result.stderr
    run = tmp_path / "runs/detect/train"
    lines = (run / "results.csv").read_text().splitlines()
    assert len(lines) == 4
    assert len({line.count(",") for line in lines}) == 1
    assert "metrics/COCO_AP50" in lines[0]

    result = script(
        "scripts/val_det.py", "--weights", run / "weights/best.pt", "--split", "train", "--device", "cpu", cwd=tmp_path
    )
    metrics = json.loads((tmp_path / "runs/detect/val/metrics.json").read_text())
    stats, _ = pycocotools_scores(
        small_coco / "annotations/instances_train.json", tmp_path / "runs/detect/val/predictions.json"
    )
    assert [metrics[m] for m in list(metrics)[:12]] == pytest.approx(list(stats), abs=1e-9)
    assert metrics["versions"]["ultralytics"] == OLDEST


TUNE = """
import os
import yolo_attn
from ultralytics import YOLO

settings = dict(imgsz=64, batch=8, device="cpu", plots=False, project=os.path.abspath("runs"))
YOLO("yolov8n.yaml").tune(data={data!r}, epochs=1, iterations=2, **settings)
"""


@pytest.mark.integration
def test_worker_of_a_stock_trainer_knows_a_users_layer(on_oldest, tmp_path):
    result = run_worker(users_folder(tmp_path), "ultralytics.models.yolo.detect", "DetectionTrainer")
    assert f"Ultralytics {OLDEST}" in result.stdout + result.stderr


PERFECT = "tests/engine/validation/test_validator.py::test_labels_score_as_perfect_detections"
CALIBRATED = "tests/engine/export/test_calibration.py::test_real_images_reach_the_calibration"
EVERY = "tests/maps/test_maps.py::test_every_task_and_family"
ON_BOTH = (
    f"{PERFECT}[DetectionValidator-detect-0.99-False-192]",
    f"{PERFECT}[RTDETRValidator-detect-0.99-False-192]",
    f"{PERFECT}[PoseValidator-pose-0.99-False-192]",
    f"{PERFECT}[SegmentationValidator-segment-0.88-False-192]",
    "tests/engine/validation/test_validator.py::test_neither_labels_nor_detections",
    *(f"{CALIBRATED}[{case}]" for case in ("detect", "wide", "segment", "pose")),
    "tests/engine/export/test_calibration.py::test_txt_data_and_the_data_of_the_checkpoint",
    "tests/coco/dataset/test_dataset.py::test_an_image_that_changes_is_grey_and_empty_until_it_is_back",
    "tests/coco/dataset/test_dataset.py::test_data_that_is_gone_stops_a_training",
    "tests/coco/dataset/test_dataset.py::test_mosaic_of_a_first_image_that_is_gone",
    "tests/maps/test_maps.py::test_images_page_and_numbers",
    *(f"{EVERY}[{name}-gam.yaml]" for name in ("yolov8n-seg", "yolov8n-cls", "rtdetr-l")),
    *(f"tests/model/test_insertion.py::test_every_place_of_yolov8_is_the_base[{at}]" for at in ("neck", "blocks")),
)
"""Tests of other files, each by its name, so that none is lost where one changes."""

# of faults, one export asks current PyTorch for a package more
SLOW = {
    "faults": "tests/engine/training/test_faults.py -m 'not slow' -k 'not (no_room_for_an_export and onnx)'",
    "its own models and names": "tests/model/test_insertion.py tests/model/test_names.py -m 'not slow' "
    "-k 'not 26m and not 26s and not 12n and not in_every_place'",
    "every task": "tests/engine/test_tasks.py -m 'not slow'",
    "safe reading": "tests/safe/test_load_safe.py tests/safe/test_attacks.py "
    "-k '(ultralytics_comes or broken or older or yaml or outputs or no_attack) and not (mobilenetv2 or yolo12 or "
    "yolo26 or heads_of_other_releases)'",
}


@pytest.mark.integration
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(ON_BOTH, id="some"),
        *(pytest.param(shlex.split(each), id=name, marks=pytest.mark.slow) for name, each in SLOW.items()),
    ],
)
def test_tests_pass_and_none_is_skipped(arguments, on_oldest):
    """Those of other files, in a process on the oldest Ultralytics."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:tiers", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stdout
    assert "skipped" not in result.stdout


@pytest.mark.slow
def test_tuning(on_oldest, small_coco, tmp_path):
    run_python(TUNE.format(data=str(small_coco)), tmp_path)
    assert len((tmp_path / "runs/tune/tune_results.csv").read_text().splitlines()) == 3
    assert len(list((tmp_path / "runs").glob("train*/metrics.json"))) == 2


FAMILIES = """
import sys
import torch
import yolo_attn
from ultralytics.nn import tasks
kinds = {"seg": "Segmentation", "pose": "Pose", "obb": "OBB", "cls": "Classification", "rtdetr": "RTDETRDetection"}
names = ["yolov5n", "yolov9t", "yolov10n", "yolo11n", "rtdetr-l", "yolov8n-c2f-nam", "yolo11n-c3k2-cbam"]
for name in [*names, *(f"yolov8n-{kind}" for kind in list(kinds)[:4])]:
    kind = next((kinds[key] for key in kinds if key in name), "Detection")
    model = getattr(tasks, f"{kind}Model")(f"{name}.yaml", verbose=False)
    torch.save({"model": model, "train_args": {"imgsz": 96}}, "model.pt")
    read = yolo_attn.load_safe("model.pt")
    assert str(read) == str(model) and read.args["imgsz"] == 96 and read.names == model.names
    assert all(torch.equal(a, b) for a, b in zip(read.state_dict().values(), model.state_dict().values(), strict=True))
print("all")
"""


@pytest.mark.integration
def test_models_of_every_kind_are_read_safely(on_oldest, tmp_path):
    result = run_python(FAMILIES, tmp_path)
    assert result.stdout.split()[-1:] == ["all"], result.stderr
