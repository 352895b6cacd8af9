"""What runs begin with."""

import pytest
import torch
from support import listing
from ultralytics.nn import tasks

from yolo_attn.cli import main


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A checkpoint of a plain yolov8n that knows the drawn classes."""
    file = tmp_path_factory.mktemp("base") / "base.pt"
    network = tasks.DetectionModel("yolov8n.yaml", nc=3, verbose=False)
    network.names = {0: "triangle", 1: "circle", 2: "star"}
    torch.save({"model": network.half(), "train_args": {"imgsz": 64}}, file)
    return file


@pytest.fixture
def refusal(tmp_path, monkeypatch, capsys):
    """Runs a command that must fail, in a folder that stays as it is; returns its one line."""
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    monkeypatch.chdir(work)

    def run(*arguments, code=2):
        before = listing(work)
        assert main([str(a) for a in arguments]) == code
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("yolo-attn: error: ")
        assert listing(work) == before
        return lines[0]

    return run
