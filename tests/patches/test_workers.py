"""The files and commands that Ultralytics starts processes with, run as they are."""

import subprocess
import sys

import pytest
from support import USERS_LAYER, run_worker, users_folder

from yolo_attn.patches.workers import tune

TRAINER = """
from ultralytics.models.yolo.detect import DetectionTrainer

class Own(DetectionTrainer):
    def final_eval(self):
        print("trained by", type(self).__name__)
"""


@pytest.fixture
def home(tmp_path):
    (tmp_path / "my_trainer.py").write_text(TRAINER)
    return users_folder(tmp_path)


@pytest.mark.integration
@pytest.mark.trap(3)
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("ultralytics.models.yolo.detect", "DetectionTrainer"),
        pytest.param("my_trainer", "Own", marks=pytest.mark.slow),
    ],
)
def test_worker_knows_layers_trainer_and_import_path(home, module, name):
    """The layer lies in a folder that only the import path of the parent names."""
    result = run_worker(home, module, name)
    assert ("trained by Own" in result.stdout) == (name == "Own")


@pytest.mark.integration
def test_layers_of_a_script_itself_are_left_out(home):
    """They cannot be imported; a model without them still trains."""
    (home / "script.py").write_text(
        USERS_LAYER.replace("Scale", "Local")
        + "from yolo_attn.patches.workers import first_lines\nprint(first_lines())\nexec(first_lines())\n"
    )
    command = [sys.executable, "-W", "ignore", "script.py"]
    result = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().splitlines()[-1] == "import_module('yolo_attn')"


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
        assert "import_module('yolo_attn')" in command[2]
        assert command[3:] == ["train", setting]
