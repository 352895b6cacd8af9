"""Training on COCO JSON: files, columns, resuming, other data."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import torch
import yaml
from support import QUICK, ROOT, listing, script

from yolo_attn.cli import main
from yolo_attn.engine.trainer import DetectionTrainer


def test_run_folder_is_complete(trained):
    files = {f.name for f in trained.folder.iterdir()}
    assert files >= {"results.csv", "results.png", "args.yaml", "metrics.json", "predictions.json", "weights"}
    assert {f.name for f in (trained.folder / "weights").iterdir()} == {"best.pt", "last.pt"}


def test_users_folder_is_untouched(trained):
    assert listing(trained.data) == trained.before


def test_results_csv_holds_coco_each_epoch(trained):
    columns, rows = trained.rows()
    assert [len(row) for row in rows] == [len(columns)] * 2
    assert {"metrics/COCO_AP", "metrics/COCO_AP50", "metrics/mAP50(B)", "val/box_loss"} <= set(columns)


def test_coco_ap_decides_best(trained):
    columns, rows = trained.rows()
    best = torch.load(trained.folder / "weights" / "best.pt", weights_only=False)
    aps = [row[columns.index("metrics/COCO_AP")] for row in rows]
    assert best["train_metrics"]["fitness"] == pytest.approx(max(aps), abs=1e-5)


def test_closing_table_and_progress(trained):
    for text in (
        "COCO AP50",
        "COCO AP small",
        "GFLOPs",
        "at 64 px",
        "best.pt",
        "100%",
        "box_loss",
    ):
        assert text in trained.output
    assert re.search(r"\nparameters +5,1\d\d,\d\d\d\n", trained.output)


def test_validation_can_be_left_out_until_the_end(small_coco, tmp_path):
    """val=False: every row of results.csv still has the header's columns."""
    arguments = ["--cfg", "yolov8n-simam.yaml", "--data", str(small_coco), "--epochs", "2", *QUICK]
    assert main(["train", *arguments, "--project", str(tmp_path), "val=False", "plots=False"]) == 0
    lines = (tmp_path / "train" / "results.csv").read_text().splitlines()
    assert len({line.count(",") for line in lines}) == 1
    assert len(lines) == 3


def test_killed_training_goes_on_in_a_fresh_process(small_coco, tmp_path):
    arguments = ["--cfg", "yolov8n-nam.yaml", "--data", small_coco, "--epochs", 25, "--name", "cut", *QUICK]
    command = [sys.executable, ROOT / "scripts" / "train_det.py", *map(str, arguments), "plots=False"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    run = tmp_path / "runs" / "detect" / "cut"
    deadline = time.time() + 120
    while time.time() < deadline and len(list((run / "weights").glob("best.pt"))) == 0:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = (run / "results.csv").read_text().splitlines()
    assert 2 <= len(before) < 26
    result = script("train_det.py", "--resume", run / "weights" / "last.pt", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    lines = (run / "results.csv").read_text().splitlines()
    assert lines[: len(before)] == before
    assert [line.split(",")[0] for line in lines] == ["epoch", *map(str, range(1, 26))]
    assert len({line.count(",") for line in lines}) == 1
    assert "metrics/COCO_AP" in lines[0]
    assert json.loads((run / "metrics.json").read_text())["evaluator"].startswith("hotcoco")
    assert [f.name for f in run.parent.iterdir()] == ["cut"]
    finished = script("train_det.py", "--resume", cwd=tmp_path)
    assert finished.returncode == 2
    assert "is finished, there is nothing to go on with" in finished.stderr


def test_worker_of_a_multi_gpu_run_knows_trainer_and_layers(small_coco, tmp_path):
    from ultralytics.utils.dist import generate_ddp_file

    settings = {"model": "yolov8n-gam.yaml", "data": str(small_coco), "epochs": 1, "imgsz": 64, "batch": 8}
    trainer = DetectionTrainer(
        overrides={**settings, "device": "cpu", "plots": False, "project": str(tmp_path), "name": "worker", "val": True}
    )
    file = generate_ddp_file(trainer)
    result = subprocess.run([sys.executable, file], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert result.returncode == 0, result.stderr
    assert "COCO AP50" in result.stdout + result.stderr
    assert (tmp_path / "worker" / "metrics.json").exists()


def test_txt_labels_of_an_ordinary_data_yaml(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / "set" / kind / split).mkdir(parents=True)
        for i in range(4):
            cv2.imwrite(
                str(tmp_path / f"set/images/{split}/{i}.jpg"), rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
            )
            (tmp_path / f"set/labels/{split}/{i}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    data = tmp_path / "set" / "data.yaml"
    data.write_text(
        yaml.safe_dump({"path": str(data.parent), "train": "images/train", "val": "images/val", "names": ["a"]})
    )
    arguments = ["--cfg", "yolov8n-simam.yaml", "--data", data, "--epochs", 1, *QUICK]
    result = script("train_det.py", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Ultralytics mAP50-95" in result.stdout + result.stderr
    run = tmp_path / "runs/detect/train"
    assert "COCO" not in (run / "results.csv").read_text()
    assert not (run / "metrics.json").exists()


def test_own_weights_are_taken_and_others_refused(trained, small_coco, tmp_path, capsys):
    best = trained.folder / "weights" / "best.pt"
    arguments = ["--data", str(small_coco), "--weights", str(best), "--epochs", "1", *QUICK, "--project", str(tmp_path)]
    assert main(["train", "--cfg", "yolov8n-gam.yaml", *arguments, "plots=False", "lr0=0", "optimizer=SGD"]) == 0
    capsys.readouterr()
    assert main(["train", "--cfg", "yolov8n-simam.yaml", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "only" in line
    assert "tensors" in line
    assert "90% are needed" in line
    assert [f.name for f in tmp_path.iterdir()] == ["train"]


NETWORK_RAISES = """
import runpy, socket, subprocess, sys, urllib.request
def refuse(*a, **k):
    sys.stderr.write(f"NETWORK {a}"); raise SystemExit(99)
socket.getaddrinfo = socket.create_connection = socket.socket.connect = socket.gethostbyname = refuse
start = subprocess.Popen.__init__
def popen(self, command, *a, **k):
    if "pip" in str(command) or "curl" in str(command) or "ping" in str(command): refuse(command)
    start(self, command, *a, **k)
subprocess.Popen.__init__ = popen
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_no_network_is_attempted(small_coco, tmp_path):
    """Not at import, not for a font of a class name that is not ASCII, not for telemetry; in fresh settings."""
    data = tmp_path / "set"
    data.mkdir()
    (data / "images").symlink_to(small_coco / "images")
    (data / "annotations").mkdir()
    for split in ("train", "val"):
        content = json.loads((small_coco / f"annotations/instances_{split}.json").read_text())
        content["categories"][0]["name"] = "круг"
        (data / f"annotations/instances_{split}.json").write_text(json.dumps(content))
    arguments = ["--cfg", "yolov8n-simam.yaml", "--data", data, "--epochs", 1, *QUICK]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("YOLO_")}
    for command in (
        ["train_det.py", *arguments],
        ["val_det.py", "--weights", "runs/detect/train/weights/best.pt", "--device", "cpu"],
    ):
        result = subprocess.run(
            [sys.executable, "-c", NETWORK_RAISES, ROOT / "scripts" / command[0], *map(str, command[1:])],
            cwd=tmp_path,
            env={**environment, "YOLO_CONFIG_DIR": str(tmp_path / "config")},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert "NETWORK" not in result.stderr, result.stderr
        assert result.returncode == 0, result.stderr
    assert (tmp_path / "runs/detect/train/results.png").exists()
