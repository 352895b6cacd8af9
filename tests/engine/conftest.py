"""Whole runs on a small drawn set."""

import pytest
import torch
from support import QUICK, Run, listing, script
from ultralytics.nn import tasks


@pytest.fixture(scope="session")
def trained(small_coco, tmp_path_factory):
    """yolov8n-gam after two epochs."""
    home = tmp_path_factory.mktemp("trained")
    before = listing(small_coco)
    arguments = ["--cfg", "yolov8n-gam.yaml", "--data", small_coco, "--epochs", 2, "--name", "gam", *QUICK]
    result = script("scripts/train_det.py", *arguments, "lr0=0.01", "optimizer=SGD", cwd=home)
    assert result.returncode == 0, result.stderr
    return Run(home / "runs" / "detect" / "gam", result.stdout + result.stderr, small_coco, before)


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A checkpoint of a plain yolov8n that knows the drawn classes."""
    file = tmp_path_factory.mktemp("base") / "base.pt"
    network = tasks.DetectionModel("yolov8n.yaml", nc=3, verbose=False)
    network.names = {0: "triangle", 1: "circle", 2: "star"}
    torch.save({"model": network.half(), "train_args": {"imgsz": 64}}, file)
    return file
