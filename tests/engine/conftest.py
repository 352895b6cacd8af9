"""What runs begin with."""

import pytest
import torch
from ultralytics.nn import tasks


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A checkpoint of a plain yolov8n that knows the drawn classes."""
    file = tmp_path_factory.mktemp("base") / "base.pt"
    network = tasks.DetectionModel("yolov8n.yaml", nc=3, verbose=False)
    network.names = {0: "triangle", 1: "circle", 2: "star"}
    torch.save({"model": network.half(), "train_args": {"imgsz": 64}}, file)
    return file
