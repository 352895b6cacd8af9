"""What a training's process records."""

import io
import json
import os
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch
from commands import arguments
from ultralytics.nn import tasks

from yolo_attn.cli import main
from yolo_attn.compare.execution import worker
from yolo_attn.compare.execution.worker import peak_memory, reason_of
from yolo_attn.engine.api import Training
from yolo_attn.errors import RunError, UserError


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            RunError("args.yaml: No space left on device", "go on with train --resume last.pt"),
            "args.yaml: No space left on device",
        ),
        (RunError("DataLoader worker is killed", "there is no checkpoint yet"), "DataLoader worker is killed"),
        (UserError("no such image"), "no such image"),
        (
            RuntimeError("CUDA error: out of memory\nCompile with advice"),
            "RuntimeError: CUDA error: out of memory Compile with advice",
        ),
    ],
)
def test_a_reason_is_one_line_without_a_hint(error, reason):
    assert reason_of(error) == reason


PEAK = """
import json, resource, torch
from yolo_attn.compare.execution.worker import peak_memory
print(json.dumps([peak_memory(torch.device("cpu")), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


@pytest.mark.integration
@pytest.mark.skipif(sys.platform != "linux", reason="on other systems a process starts with its own peak")
def test_peak_memory_is_the_process_own_and_not_its_parents():
    assert peak_memory(torch.device("cpu")) > 100
    np.ones(10**8).sum()  # 0.8 GB
    ended = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    own, with_parent = json.loads(ended.stdout.splitlines()[-1])
    assert 100 < own < 800
    assert with_parent > own


@pytest.mark.slow
@pytest.mark.parametrize("trust", [False, True])
def test_only_with_trust_code_in_the_weights_runs_in_the_comparison_and_its_workers(trust, small_coco, tmp_path):
    weights = save_with_call(tmp_path)
    more = ["--weights", weights, *(["--trust"] if trust else [])]
    assert main(arguments(small_coco, tmp_path / "study", *more, layers="SimAM", seeds="0")) == 0
    ran = tmp_path / "ran"
    processes = set(ran.read_text().split()) if ran.exists() else set()
    assert len(processes) == (3 if trust else 0)  # the comparison, and a worker for each of two models


@pytest.mark.parametrize("trust", [False, True])
def test_a_worker_reads_weights_as_the_comparison_was_asked_to(trust, small_coco, tmp_path, monkeypatch):
    seen = []
    job = {"variant": "base", "modules": [], "parallel": 1, "folder": str(tmp_path)}
    job["training"] = asdict(
        Training("yolov8n.yaml", {"data": str(small_coco), "seed": 0}, weights="w.pt", trust=trust)
    )
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(job) + "\n"))
    monkeypatch.setattr(worker, "_end_with_the_comparison", lambda: None)

    def train(training):
        seen.append(training.trust)
        raise UserError("no more of it")

    monkeypatch.setattr(worker, "train", train)
    assert worker.main() == 2
    assert seen == [trust]


class NoteProcess:
    """Pickles as a call that notes which process loads it."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.system, (f"echo $PPID >> '{self.file}'",)


def save_with_call(folder):
    model = tasks.DetectionModel(tasks.yaml_model_load("yolov8n.yaml"), verbose=False)
    content = {"model": model, "ema": None, "train_args": {"imgsz": 64}, "more": NoteProcess(folder / "ran")}
    torch.save(content, folder / "given.pt")
    return folder / "given.pt"
