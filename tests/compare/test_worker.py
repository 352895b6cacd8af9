"""What a training's process notes of it."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from yolo_attn.compare.worker import peak_memory, reason_of
from yolo_attn.errors import RunError, UserError


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            RunError("args.yaml: No space left on device", "go on with train --resume last.pt"),
            "args.yaml: No space left on device",
        ),
        (RunError("DataLoader worker is killed", "there is no checkpoint yet"), "DataLoader worker is killed"),
        (UserError("no such picture"), "no such picture"),
        (
            RuntimeError("CUDA error: out of memory\nCompile with advice"),
            "RuntimeError: CUDA error: out of memory Compile with advice",
        ),
    ],
)
def test_a_reason_has_one_line_and_no_way_on(error, reason):
    assert reason_of(error) == reason


PEAK = """
import json, resource, torch
from yolo_attn.compare.worker import peak_memory
print(json.dumps([peak_memory(torch.device("cpu")), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process begins with a peak of its own")
def test_memory_is_the_process_own_and_not_that_of_what_started_it():
    assert peak_memory(torch.device("cpu")) > 100
    np.ones(10**8).sum()  # 0.8 GB
    ended = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    own, told = json.loads(ended.stdout.splitlines()[-1])
    assert 100 < own < 800
    assert told > own
