"""The files and commands that Ultralytics starts processes with, run as they are."""

import subprocess
import sys

import pytest
from support import run_python, txt_data

from yolo_attn.plugin.workers import tune
from yolo_attn.plugin.yamls import MODEL_YAMLS

LAYER = """
import torch, yolo_attn

@yolo_attn.register_layer
class Scale(torch.nn.Module):
    def __init__(self, channels, *, start=1.0):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((channels,), start))

    def forward(self, x):
        return x * self.weight.reshape(1, -1, 1, 1)
"""

TRAINER = """
from ultralytics.models.yolo.detect import DetectionTrainer

class Own(DetectionTrainer):
    def final_eval(self):
        print("trained by", type(self).__name__)
"""

PARENT = """
import subprocess, sys
sys.path.append("modules")
import my_layers
from {module} import {name}
from ultralytics.utils.dist import generate_ddp_file
trainer = {name}(overrides={settings!r})
file = generate_ddp_file(trainer)
sys.exit(subprocess.run([sys.executable, file]).returncode)
"""


@pytest.fixture
def home(tmp_path):
    """A user's folder: modules, a model of their layer, txt labels."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/my_layers.py").write_text(LAYER)
    (tmp_path / "my_trainer.py").write_text(TRAINER)
    text = (MODEL_YAMLS / "yolov8-gam.yaml").read_text().replace("GAM, []", "Scale, []")
    (tmp_path / "yolov8n-scale.yaml").write_text(text)
    txt_data(tmp_path)
    return tmp_path


def check_worker(home, module, name):
    settings = {"model": str(home / "yolov8n-scale.yaml"), "data": str(home / "data.yaml"), "epochs": 1, "imgsz": 64}
    settings |= {"device": "cpu", "plots": False, "batch": 4, "project": str(home), "name": "worker"}
    result = run_python(PARENT.format(module=module, name=name, settings=settings), home)
    assert result.returncode == 0, result.stderr
    assert (home / "worker/weights/last.pt").exists()
    return result.stdout


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("ultralytics.models.yolo.detect", "DetectionTrainer"),
        pytest.param("yolo_attn.engine.trainer", "DetectionTrainer", marks=pytest.mark.slow),
        pytest.param("my_trainer", "Own", marks=pytest.mark.slow),
    ],
)
def test_worker_knows_layers_trainer_and_import_path(home, module, name):
    """The layer lies in a folder that only the import path of the parent names."""
    output = check_worker(home, module, name)
    assert ("trained by Own" in output) == (name == "Own")


def test_layers_of_a_script_itself_are_left_out(home):
    """They cannot be imported; a model without them still trains."""
    (home / "script.py").write_text(
        LAYER.replace("Scale", "Local")
        + "from yolo_attn.plugin.workers import first_lines\nprint(first_lines())\nexec(first_lines())\n"
    )
    command = [sys.executable, "-W", "ignore", "script.py"]
    result = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().splitlines()[-1] == "import yolo_attn"


def test_only_the_trainings_of_a_tuning_are_changed(monkeypatch):
    started = []
    monkeypatch.setattr(subprocess, "run", lambda command, **kwargs: started.append(command))
    recorded = subprocess.run

    def run_tuning(model, *, iterations):
        subprocess.run(["git", "describe"], check=True)
        subprocess.run("nvidia-smi train")
        subprocess.run(["yolo", "train", "lr0=0.1"], check=True)
        subprocess.run([sys.executable, "-m", "ultralytics.cfg.__init__", "train", "lr0=0.2"], check=True)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(run_tuning, None, iterations=2)
    assert subprocess.run is recorded
    assert started[:2] == [["git", "describe"], "nvidia-smi train"]
    for command, setting in zip(started[2:], ("lr0=0.1", "lr0=0.2"), strict=True):
        assert command[:2] == [sys.executable, "-c"]
        assert "import yolo_attn" in command[2]
        assert command[3:] == ["train", setting]
