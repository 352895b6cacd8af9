"""Validation without executing the checkpoint's pickle, and checkpoints under Ultralytics' own safe loading."""

import json
import os

import pytest
import torch
from support import run_python

import yolo_attn
from yolo_attn.cli import main
from yolo_attn.engine.training.trainer import DetectionTrainer
from yolo_attn.model.names import MODEL_YAMLS

VALIDATE = """
import pickle, sys, torch
from ultralytics.nn import tasks
def refuse(*args, **kwargs):
    raise AssertionError("the pickle was to be executed")
tasks.torch_safe_load = pickle.load = refuse
load = torch.load
def load_weights_only(*args, **kwargs):
    if not kwargs.get("weights_only"):
        refuse()
    return load(*args, **kwargs)
torch.load = load_weights_only
import yolo_attn
from yolo_attn.cli import main
sys.exit(main(["val", "--weights", "best.pt", "--device", "cpu", "--name", "safe", *sys.argv[1:]]))
"""


@pytest.mark.integration
def test_safe_validation_gives_the_same_numbers(trained, tmp_path):
    best = trained.folder / "weights/best.pt"
    (tmp_path / "best.pt").write_bytes(best.read_bytes())
    refused = run_python(VALIDATE.replace("*sys.argv[1:]", "'--trust'"), tmp_path, ends=2)
    assert "the pickle was to be executed" in refused.stderr
    run_python(VALIDATE, tmp_path)
    plain = ["--device", "cpu", "--project", str(tmp_path), "--name", "plain", "--trust"]
    assert main(["val", "--weights", str(best), *plain]) == 0
    folders = (tmp_path / "runs/detect/safe", tmp_path / "plain")
    safe, plain = (json.loads((folder / "metrics.json").read_text()) for folder in folders)
    assert {k: v for k, v in safe.items() if k != "settings"} == {k: v for k, v in plain.items() if k != "settings"}
    assert safe["settings"]["model"] == "best.pt"
    assert safe["settings"]["imgsz"] == plain["settings"]["imgsz"] == 64


TRAIN = """
import sys, torch
import yolo_attn
from yolo_attn.cli import main
load = torch.load
def watched(file, *args, **kwargs):
    assert "given.pt" not in str(file), "the pickle was to be executed"
    return load(file, *args, **kwargs)
torch.load = watched
given = ["--cfg", "yolov8n-gam.yaml", "--weights", "given.pt", "--data", sys.argv[1], "--epochs", "1", "--imgsz", "64"]
sys.exit(main(["train", *given, "--batch", "8", "--device", "cpu", "plots=False", "val=False", *sys.argv[2:]]))
"""


@pytest.mark.integration
def test_training_starts_from_weights_without_running_the_file(trained, small_coco, tmp_path):
    """In the check before it and in the trainer, whatever trainer that is."""
    (tmp_path / "given.pt").write_bytes((trained.folder / "weights/best.pt").read_bytes())
    run_python(f"import sys; sys.argv[1:] = [{str(small_coco)!r}]\n{TRAIN}", tmp_path)
    assert (tmp_path / "runs/detect/train/weights/last.pt").exists()
    refused = run_python(f"import sys; sys.argv[1:] = [{str(small_coco)!r}, '--trust']\n{TRAIN}", tmp_path, ends=2)
    assert "the pickle was to be executed" in refused.stderr


@pytest.mark.integration
def test_what_is_no_safe_detector_is_reported(trained, tmp_path, capsys):
    class Wicked:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"model": Wicked()}, tmp_path / "wicked.pt")
    data = ["--data", str(trained.data), "--project", str(tmp_path / "runs")]
    assert main(["val", "--weights", str(tmp_path / "wicked.pt"), *data]) == 2
    line = capsys.readouterr().err.strip()
    assert "wicked.pt: refused, the model is no module; --trust has Ultralytics read it, which runs what" in line
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "runs").exists()


@pytest.fixture(scope="module")
def cut_off(small_coco, tmp_path_factory):
    """Checkpoints in the middle of trainings, with the optimizer's state: of layers as rows and in blocks."""
    folder = tmp_path_factory.mktemp("cut_off")
    text = (MODEL_YAMLS / "yolov8-gam.yaml").read_text()
    (folder / "yolov8n-both.yaml").write_text(text.replace("C2f, [128, true]", "C2f_NAM, [128, true, {where: pre_bn}]"))
    files = []
    for cfg in (folder / "yolov8n-both.yaml", "mobilenetv2-simam.yaml"):
        settings = {"epochs": 1, "imgsz": 64, "batch": 8, "device": "cpu", "plots": False, "save_period": 1}
        named = {"model": str(cfg), "data": str(small_coco), "project": str(folder)}
        trainer = DetectionTrainer(overrides={**settings, **named, "workers": 0})
        trainer.train()
        files.append(trainer.wdir / "epoch0.pt")
    return files


LOAD = """
import sys, yolo_attn
from ultralytics import YOLO
kinds = {type(m).__name__ for m in YOLO(sys.argv[1]).model.modules()}
assert kinds & {"GAM", "SimAM"}, kinds
"""


@pytest.mark.integration
def test_safe_loading_of_ultralytics_own(cut_off, tmp_path):
    both, mobilenet = cut_off
    assert torch.load(both, weights_only=False)["optimizer"]["state"]
    code = LOAD.replace("sys.argv[1]", repr(str(both)))
    run_python(code, tmp_path, ULTRALYTICS_SAFE_LOAD="1")
    code = LOAD.replace("sys.argv[1]", repr(str(mobilenet)))
    refused = run_python(code, tmp_path, ends=1, ULTRALYTICS_SAFE_LOAD="1")
    assert "references types outside the supported Ultralytics checkpoint format" in refused.stderr
    run_python(code, tmp_path)


@pytest.mark.integration
def test_load_safe_takes_both(cut_off):
    for file in cut_off:
        assert {type(m).__name__ for m in yolo_attn.load_safe(file).modules()} & {"GAM", "SimAM"}
