"""Trainings that start from a checkpoint of a model without the attention."""

import pytest
from support import QUICK
from ultralytics import YOLO
from ultralytics.nn import tasks

from yolo_attn.cli import main
from yolo_attn.plugin.gains import own_gain


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A checkpoint of a plain yolov8n that knows the drawn classes."""
    file = tmp_path_factory.mktemp("base") / "base.pt"
    model = YOLO("yolov8n.yaml")
    model.model = tasks.DetectionModel("yolov8n.yaml", nc=3, verbose=False)
    model.model.names = {0: "triangle", 1: "circle", 2: "star"}
    model.save(file)
    return file


def train(base, data, project, *arguments, cfg="yolov8n-nam.yaml", epochs=1):
    given = ["--cfg", cfg, "--weights", str(base), "--data", str(data), "--epochs", str(epochs), *QUICK]
    return main(["train", *given, "--project", str(project), *arguments, "plots=False", "val=False"])


def test_identity_init_is_the_default_and_lives_in_the_checkpoint(base, small_coco, tmp_path, capsys):
    assert train(base, small_coco, tmp_path) == 0
    network = YOLO(tmp_path / "train/weights/last.pt").model
    gains = [own_gain(network, row) for row in (22, 23, 24)]
    assert all(1.8 < gain < 2.1 for gain in gains)
    assert [network.model[row].gain for row in (22, 23, 24)] == gains
    again = tmp_path / "train/weights/last.pt"
    assert (
        train(again, small_coco, tmp_path, "--name", "again") == 0
    )  # its layers have their weights, and keep their gains
    network = YOLO(tmp_path / "again/weights/last.pt").model
    assert [own_gain(network, row) for row in (22, 23, 24)] == gains


def test_identity_init_can_be_turned_off(base, small_coco, tmp_path):
    assert train(base, small_coco, tmp_path, "--no-identity-init") == 0
    network = YOLO(tmp_path / "train/weights/last.pt").model
    assert [own_gain(network, row) for row in (22, 23, 24)] == [None] * 3


def test_identity_init_needs_weights(small_coco, tmp_path, capsys):
    arguments = ["--cfg", "yolov8n-nam.yaml", "--data", str(small_coco), "--project", str(tmp_path / "runs")]
    assert main(["train", *arguments, "--identity-init"]) == 2
    assert "--identity-init: without --weights" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
