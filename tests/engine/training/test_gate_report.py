"""What a training says of its attention at the end."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from support import TINY, TINY_GAM, TINY_NAM, TINY_SIMAM
from ultralytics.models import rtdetr, yolo
from ultralytics.nn import tasks
from ultralytics.utils.patches import imread

from yolo_attn.engine.training import gate_report
from yolo_attn.engine.training.gate_report import trained_gates
from yolo_attn.engine.training.trainer import DetectionTrainer
from yolo_attn.gates.meter import Area, GateMeter, spread
from yolo_attn.gates.statistics import gates_line
from yolo_attn.gates.watch import attention_layers
from yolo_attn.maps.attention_maps import draw_maps


def train(cfg, data, folder, **more):
    settings = {"data": str(data), "epochs": 1, "imgsz": 64, "batch": 4, "device": "cpu", "plots": False}
    trainer = DetectionTrainer(overrides={"model": cfg, **settings, "project": str(folder), "name": "run", **more})
    trainer.train()
    return trainer


@pytest.mark.integration
def test_line_is_of_the_best_weights_on_the_validated_pictures(small_coco, tmp_path, caplog, monkeypatch):
    """Not of the last ones, which are others here; `attention-maps` has the same numbers of the same pictures."""
    trainer = train(TINY_NAM, small_coco, tmp_path)
    (line,) = [r.message for r in caplog.records if r.message.startswith("attention, ")]
    for parameter in trainer.model.parameters():
        parameter.data.zero_()
    assert trained_gates(trainer) == line
    pictures = [Path(file) for file in trainer.validator.dataloader.dataset.im_files]
    best = str(tmp_path / "run/weights/best.pt")
    found = draw_maps(best, pictures, tmp_path / "maps", settings={"device": "cpu"}, drawn=1).found
    assert {gate.pictures for gate in found.values()} == {8}
    said = f"attention, 8 images of val: {gates_line(found)}; too early to judge by, after 4 batches"
    assert line == f"{said}; yolo-attn attention-maps draws them"
    monkeypatch.setattr(gate_report, "EPOCHS", 0)
    monkeypatch.setattr(gate_report, "BATCHES", 4)
    assert "too early" not in trained_gates(trainer)
    assert re.search(r"row 4 NAM (dead, gate|gate) 0.\d\d", line)


@pytest.mark.integration
def test_pictures_are_few_and_from_all_over_the_split(small_coco, tmp_path, monkeypatch):
    monkeypatch.setattr("yolo_attn.engine.training.gate_report.IMAGES", 3)
    trainer = train(TINY_SIMAM, small_coco, tmp_path, split="train")
    files, read = sorted(trainer.validator.dataloader.dataset.im_files), []
    monkeypatch.setattr(
        "yolo_attn.engine.training.gate_report.imread", lambda file, flags: read.append(file) or imread(file, flags)
    )
    assert trained_gates(trainer).startswith("attention, 3 images of train: row 4 SimAM ")
    assert read == [files[i] for i in (0, 5, 10)]


ROWS = [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "SE", []], *[[-1, 1, "Conv", [16, 3, 2]]] * 2]
LETTERBOX = tasks.DetectionModel, [[3], 1, "Detect", ["nc"]], yolo.detect.DetectionPredictor
STRETCH = tasks.RTDETRDetectionModel, [[3], 1, "RTDETRDecoder", ["nc", 16, 30, 4, 4, 1, 32]], rtdetr.RTDETRPredictor
CROP = tasks.ClassificationModel, [-1, 1, "Classify", ["nc"]], yolo.classify.ClassificationPredictor
AREAS = [
    (LETTERBOX, (40, 64), Area((64, 64), (12, 52), (0, 64))),
    (LETTERBOX, (300, 100), Area((64, 32), (0, 64), (5, 26))),
    (LETTERBOX, (64, 64), Area((64, 64), (0, 64), (0, 64))),
    (STRETCH, (40, 64), Area((64, 64), (0, 64), (0, 64))),
    (CROP, (40, 64), Area((64, 64), (0, 64), (0, 64))),
]


@pytest.mark.parametrize(("kind", "shape", "area"), AREAS)
def test_area_of_a_picture_is_the_input_without_its_margin(kind, shape, area):
    """Padded to a multiple of 32; RT-DETR's pictures are stretched, and those to classify cropped."""
    model, head, predictor = kind
    network = model({"nc": 3, "backbone": ROWS, "head": [head]}, verbose=False)
    seen = []
    meter = GateMeter(network, predictor, {"imgsz": 64, "device": "cpu"})
    meter.measure(np.zeros((*shape, 3), np.uint8), lambda label, gate, found: seen.append(found))
    assert seen == [area]


CROPS = [
    (Area((64, 64), (12, 52), (0, 64)), 8, slice(1, 6), slice(0, 8)),
    (Area((64, 64), (12, 52), (0, 64)), 32, slice(0, 2), slice(0, 2)),
    (Area((64, 96), (0, 64), (24, 73)), 16, slice(0, 4), slice(1, 5)),
    (Area((64, 64), (0, 64), (32, 33)), 16, slice(0, 4), slice(2, 3)),
    (Area((64, 64), (0, 64), (31, 32)), 64, slice(0, 1), slice(0, 1)),
]


@pytest.mark.parametrize(("area", "stride", "rows", "columns"), CROPS)
def test_cells_on_a_picture_have_their_centres_there(area, stride, rows, columns):
    height, width = (pixels // stride for pixels in area.size)
    gate = torch.rand(2, 3, height, width)
    assert torch.equal(area.crop(gate), gate[..., rows, columns])
    image = gate.repeat_interleave(stride, 2).repeat_interleave(stride, 3)
    under = area.under(gate, image)
    assert torch.equal(under[..., ::stride, ::stride], area.crop(gate))
    assert under.shape[2:] == tuple(stride * n for n in area.crop(gate).shape[2:])


@pytest.mark.integration
def test_plain_models_have_no_line(small_coco, tmp_path, caplog):
    trainer = train(TINY, small_coco, tmp_path)
    assert trained_gates(trainer) is None
    assert not [r.message for r in caplog.records if r.message.startswith("attention")]


@pytest.mark.integration
def test_training_ends_well_though_its_gates_fail(small_coco, tmp_path, caplog, monkeypatch):
    def fail(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")

    monkeypatch.setattr("yolo_attn.engine.training.trainer.trained_gates", fail)
    train(TINY_GAM, small_coco, tmp_path)
    (line,) = [r for r in caplog.records if r.message.startswith("attention")]
    assert line.levelname == "WARNING"
    assert line.message.startswith("attention: its gates were not measured, OutOfMemoryError: CUDA out of memory.")
    assert "\n" not in line.message
    assert (tmp_path / "run/weights/best.pt").exists()


@pytest.mark.integration
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
