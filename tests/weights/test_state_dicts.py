"""State dicts of models with attention: they tell no layer's name, and still find their rows."""

import re

import pytest
import torch
from tiers import later
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel

from yolo_attn.weights.transfer import transfer_of

ATTENDED = [
    *("yolov8n-gam", "yolov8n-gam-stages", "yolov8n-gam-blocks", "yolov8n-nam-blocks", "yolov8n-c2f-nam"),
    *("yolov8n-c2f-cbam", "yolov8n-c2f-simam", "yolov8n-simam-stages", "yolo11n-gam-blocks", "yolov8n-gam-se-backbone"),
]


def built(name):
    """A model whose tensors are others than a fresh one's."""
    torch.manual_seed(1)
    model = DetectionModel(f"{name}.yaml", verbose=False)
    for number, value in enumerate(model.state_dict().values()):
        value.copy_(torch.rand(value.shape) + number)
    return model


def loaded(name, weights):
    model = DetectionModel(f"{name}.yaml", verbose=False)
    model.load(weights, verbose=False)
    return model, transfer_of(model)


@pytest.mark.integration
@pytest.mark.parametrize("name", later(ATTENDED, ["yolov8n-gam", "yolov8n-c2f-nam", "yolo11n-gam-blocks"]))
def test_into_the_model_itself_and_into_its_base(name, tmp_path):
    """All of it by a file; of the attended model's, the base alone into the base, as from its checkpoint."""
    source, file = built(name), tmp_path / "own.pt"
    torch.save(source.state_dict(), file)
    again = YOLO(f"{name}.yaml").load(file).model
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in source.state_dict().items())
    report = transfer_of(again)
    assert (report.new_attention, report.left_out, None in report.tensors.values()) == ([], {}, False)
    base = name.split("-")[0]
    reference, by_checkpoint = loaded(base, source)
    model, report = loaded(base, source.state_dict())
    assert report.tensors == by_checkpoint.tensors
    assert report.is_whole
    assert all(torch.equal(value, reference.state_dict()[key]) for key, value in model.state_dict().items())


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("yolov8n-gam", "yolov8n-nam"),
        ("yolov8n-gam", "yolov8n-gam-stages"),
        ("yolov8n-gam-stages", "yolov8n-gam-backbone"),
        ("yolov8n-gam-backbone", "yolov8n-gam-stages"),
        ("yolov8n-nam-blocks", "yolov8n-gam"),
        ("yolov8n-gam-blocks", "yolov8n-nam-blocks"),
        ("yolov8n-nam", "yolov8n-nam-eca-blocks"),
        ("yolo11n-simam-stages", "yolo11n-cbam"),
    ],
)
def test_into_other_attention(name, target):
    """What a checkpoint of the same model gives, a state dict gives too."""
    source = built(name)
    by_checkpoint = loaded(target, source)[1]
    _, report = loaded(target, source.state_dict())
    assert report.tensors == by_checkpoint.tensors
    assert report.new_attention == by_checkpoint.new_attention
    assert report.left_out.keys() == by_checkpoint.left_out.keys()


@pytest.mark.integration
def test_attention_that_could_be_several_of_the_models_is_new():
    """Layers of equal tensors: one cannot tell its level, and three are three."""
    one, three = built("yolov8n-triplet-backbone"), built("yolov8n-triplet")
    _, report = loaded("yolov8n-triplet", three.state_dict())
    assert report.new_attention == []
    tensors = {k: v for k, v in three.state_dict().items() if not k.startswith("model.22.")}
    shifted = {re.sub(r"model\.(23|24|25)\.", lambda m: f"model.{int(m[1]) - 1}.", k): v for k, v in tensors.items()}
    _, report = loaded("yolov8n-triplet", shifted)
    assert report.new_attention == [22, 23, 24]
    assert report.is_whole
    assert loaded("yolov8n-triplet-backbone", one.state_dict())[1].new_attention == []
