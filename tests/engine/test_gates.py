"""What a training says of its attention at the end."""

import re

import numpy as np
import pytest
import torch
from ultralytics import YOLO
from ultralytics.nn import tasks

from yolo_attn.engine.gates import spread, trained_gates
from yolo_attn.engine.trainer import DetectionTrainer
from yolo_attn.plugin.gate_statistics import gates_line
from yolo_attn.plugin.gates import attention_layers, label_of, measure_gates


def train(cfg, data, folder, **more):
    settings = {"data": str(data), "epochs": 1, "imgsz": 64, "batch": 4, "device": "cpu", "plots": False}
    trainer = DetectionTrainer(overrides={"model": cfg, **settings, "project": str(folder), "name": "run", **more})
    trainer.train()
    return trainer


def test_line_is_of_the_best_weights_on_the_validated_pictures(small_coco, tmp_path, caplog):
    """Not of the last ones, which are others here; whole batches give the same."""
    trainer = train("yolov8n-nam.yaml", small_coco, tmp_path)
    (line,) = [r.message for r in caplog.records if r.message.startswith("attention, ")]
    for parameter in trainer.model.parameters():
        parameter.data.zero_()
    assert trained_gates(trainer) == line
    model = YOLO(tmp_path / "run/weights/best.pt").model
    batches = (trainer.validator.preprocess(batch)["img"] for batch in trainer.validator.dataloader)
    found = {label_of(model, name): gate for name, gate in measure_gates(model, batches).items()}
    assert {gate.pictures for gate in found.values()} == {8}
    assert line == f"attention, 8 pictures of val: {gates_line(found)}"
    assert re.search(r"row 22 NAM (dead, gate|gate) 0.\d\d", line)


def test_pictures_are_few_and_from_all_over_the_split(small_coco, tmp_path, monkeypatch):
    monkeypatch.setattr("yolo_attn.engine.gates.PICTURES", 3)
    trainer = train("yolov8n-simam.yaml", small_coco, tmp_path, split="train")
    data, read = trainer.validator.dataloader.dataset, []
    take = type(data).__getitem__
    monkeypatch.setattr(type(data), "__getitem__", lambda self, i: read.append(i) or take(self, i))
    assert trained_gates(trainer).startswith("attention, 3 pictures of train: row 22 SimAM ")
    assert read == [0, 5, 10]


def test_plain_models_have_no_line(small_coco, tmp_path, caplog):
    trainer = train("yolov8n.yaml", small_coco, tmp_path)
    assert trained_gates(trainer) is None
    assert not [r.message for r in caplog.records if r.message.startswith("attention")]


def test_training_ends_well_though_its_gates_fail(small_coco, tmp_path, caplog, monkeypatch):
    def fail(_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")

    monkeypatch.setattr("yolo_attn.engine.trainer.trained_gates", fail)
    train("yolov8n-gam.yaml", small_coco, tmp_path)
    (line,) = [r for r in caplog.records if r.message.startswith("attention")]
    assert line.levelname == "WARNING"
    assert line.message.startswith("attention: its gates were not measured, OutOfMemoryError: CUDA out of memory.")
    assert "\n" not in line.message
    assert (tmp_path / "run/weights/best.pt").exists()


def test_attention_is_found_in_wrapped_models():
    model = tasks.DetectionModel("yolov8n-gam.yaml", verbose=False)
    assert len(attention_layers(torch.compile(model))) == len(attention_layers(model)) == 3


SPREAD = [(9, 4, [0, 2, 4, 6]), (3, 8, [0, 1, 2]), (100, 64, None), (0, 3, [])]


@pytest.mark.parametrize(("count", "most", "taken"), SPREAD)
def test_spread(count, most, taken):
    found = spread(count, most)
    assert found == sorted(set(found))
    assert len(found) == min(count, most)
    assert taken is None or found == taken
    assert not found or max(np.diff([*found, count])) <= -(-count // len(found))
