"""Checkpoints whose classes are not here: the line says what they are and what leads on."""

import sys
import types

import pytest
import torch
from torch import nn

from yolo_attn.engine.preflight.checks import read_checkpoint
from yolo_attn.errors import UserError
from yolo_attn.safe.missing_classes import missing_class


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """Save a checkpoint of a class as if it lived in a module, which is gone afterwards."""

    def save(module, name):
        kind = type(name, (nn.Module,), {"__module__": module})
        parts = module.split(".")
        with monkeypatch.context() as patch:
            for end in range(1, len(parts) + 1):
                known = sys.modules.get(".".join(parts[:end]))
                patch.setitem(sys.modules, ".".join(parts[:end]), known or types.ModuleType(".".join(parts[:end])))
            patch.setattr(sys.modules[module], name, kind, raising=False)
            torch.save({"epoch": 0, "model": kind()}, tmp_path / "best.pt")
        return str(tmp_path / "best.pt")

    return save


@pytest.mark.parametrize(
    ("module", "name", "reported"),
    [
        ("models.yolo", "Model", "a checkpoint of the YOLOv5 or YOLOv7 repository (models"),
        ("models.common", "C3", "a checkpoint of the YOLOv5 or YOLOv7 repository (models"),
        ("ultralytics.nn.modules.conv", "SimAM_", "another release: ultralytics.nn.modules.conv.SimAM_ is not in this"),
        ("ultralytics.nn.tasks", "GAM_Attention", "another release: ultralytics.nn.tasks.GAM_Attention is not in this"),
        (
            "ultralytics.nn.extra_modules.attention",
            "CA",
            "release: ultralytics.nn.extra_modules.attention.CA is not",
        ),
        ("my_layers_of_yore", "Mine", "for layers of your own give --import my_layers_of_yore"),
    ],
)
def test_what_is_not_here_is_named_with_what_leads_on(foreign, module, name, reported):
    file = foreign(module, name)
    with pytest.raises(UserError) as error:
        read_checkpoint(file)
    assert str(error.value).startswith(f"--weights {file}: ")
    assert reported in str(error.value)
    assert ("not an Ultralytics checkpoint" in str(error.value)) == ("my_layers" in module)


def test_the_search_for_a_missing_class_ends():
    """Python lets an error be its own cause, and errors be each other's."""
    one, other = ValueError("one"), ValueError("other")
    one.__cause__ = one
    assert missing_class(one) is None
    one.__cause__, other.__cause__ = other, one
    assert missing_class(one) is None
