"""Files that are no source of weights: one line each, in plain Python too."""

import re

import pytest
import torch
from torch import nn
from ultralytics import YOLO
from ultralytics.nn import tasks

from yolo_attn.errors import UserError

EXPECTED = (
    "expected a checkpoint of Ultralytics', or a state dict with names such as model.0.conv.weight; "
    "this is no supported Ultralytics checkpoint format"
)
LOADER = "load_checkpoint" if hasattr(tasks, "load_checkpoint") else "attempt_load_one_weight"


@pytest.mark.parametrize(
    ("content", "reported"),
    [
        ([1, 2, 3], "it holds a list"),
        ({}, "it holds a dict"),
        (torch.zeros(3), "it holds a Tensor"),
        ({"epoch": 3, "optimizer": {}}, "it holds a dict of epoch, optimizer"),
        (dict.fromkeys("abcd", torch.zeros(1)), "it holds tensors named a, b, c, …"),
        ({"epoch": 3, "state_dict": {"head.weight": torch.zeros(1)}}, "it holds tensors named head.weight"),
    ],
)
@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_files_of_other_content(content, reported, suffix, tmp_path):
    file = tmp_path / f"weights{suffix}"
    torch.save(content, file)
    with pytest.raises(UserError, match=f"^{re.escape(f'{file}: {reported}, {EXPECTED}')}$"):
        getattr(tasks, LOADER)(file)


def test_through_load(tmp_path):
    """Files of other kinds, folders, and a broken safetensors file, reported without any class's name."""
    model = YOLO("yolov8n-gam.yaml")
    (tmp_path / "my.yaml").write_text("nc: 1")
    (tmp_path / "broken.safetensors").write_bytes(b"no such thing")
    for name, reported in (
        ("my.yaml", "my.yaml: expected a checkpoint, a file ending with .pt, .pth or .safetensors"),
        ("", f"{tmp_path.name}: a folder, expected a file, such as the best.pt of a training"),
        ("broken.safetensors", "broken.safetensors: no whole safetensors file: "),
    ):
        with pytest.raises(UserError, match=re.escape(reported)) as refused:
            model.load(tmp_path / name)
        assert "Error" not in str(refused.value).replace("Error while", "")


def test_what_ultralytics_reads_stays_its_own(tmp_path):
    """A module that PyTorch's safe reading takes, and files that are not there."""
    torch.save({"model": nn.Linear(1, 1)}, tmp_path / "module.pt")
    loaded = getattr(tasks, LOADER)(tmp_path / "module.pt")
    assert isinstance(loaded[0] if isinstance(loaded, tuple) else loaded, nn.Linear)
    with pytest.raises(FileNotFoundError):
        YOLO("yolov8n-gam.yaml").load(tmp_path / "gone.pt")


ONE = torch.zeros(1)


@pytest.mark.parametrize(
    "names",
    [
        ["model.3000000.conv.weight"],
        ["model.0.forward"],
        ["model.0.training"],
        ["model.0.conv.weight", "model.0.conv"],
        ["model.0.conv", "model.0.conv.weight"],
    ],
)
def test_names_that_no_model_has(names, tmp_path):
    file = tmp_path / "weights.pt"
    torch.save(dict.fromkeys(names, ONE), file)
    with pytest.raises(UserError, match="not the weights of a model: "):
        YOLO("yolov8n-gam.yaml").load(file)
