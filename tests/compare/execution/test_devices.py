"""Which trainings run on which device; PyTorch pretends to have GPUs."""

import json
import subprocess
import sys

import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

from yolo_attn.compare.execution import costs, devices, runner
from yolo_attn.compare.execution.devices import chosen, machines, one_gpu, visible_kept
from yolo_attn.compare.execution.processes import ask, python
from yolo_attn.compare.execution.runner import Job, run_all
from yolo_attn.compare.study_folder import Variant
from yolo_attn.engine.api import Training
from yolo_attn.errors import RunError, UserError


@pytest.fixture
def gpus(monkeypatch):
    """Sets how many GPUs there are, and which are visible."""

    def there_are(count, visible=None):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return there_are


@pytest.mark.parametrize(
    ("named", "count", "expected"),
    [
        ((), 0, ("cpu",)),
        ((), 3, ("0", "1", "2")),
        (("1",), 3, ("1",)),
        (("cuda:1", " 0"), 3, ("1", "0")),
        (("cuda",), 3, ("0",)),
        (("CPU",), 3, ("cpu",)),
    ],
)
def test_all_gpus_are_used_unless_devices_are_named(named, count, expected, gpus):
    gpus(count)
    assert chosen(named) == expected


@pytest.mark.integration
def test_every_device_is_checked(gpus):
    gpus(2)
    with pytest.raises(UserError, match="--device 7: no such device here, PyTorch sees 2 GPU; try --device cpu"):
        machines(("0", "7"))
    gpus(0)
    with pytest.raises(UserError, match="--device 7: no such device here, PyTorch sees no GPU"):
        machines(("cpu", "7"))
    with pytest.raises(UserError, match="--device cpu,gpu: not all of them can be used: "):
        machines(("cpu", "gpu"))
    assert list(machines(("cpu",))) == ["cpu"]


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        ("cpu", "2,3", ({}, "cpu")),
        ("1", None, ({"CUDA_VISIBLE_DEVICES": "1"}, "")),
        ("1", "2, 3", ({"CUDA_VISIBLE_DEVICES": "3"}, "")),
        ("0", "GPU-8932f937-d72c,GPU-1", ({"CUDA_VISIBLE_DEVICES": "GPU-8932f937-d72c"}, "")),
    ],
)
def test_a_training_sees_only_its_own_gpu(device, visible, expected, gpus):
    gpus(2, visible)
    assert one_gpu(device) == expected


@pytest.mark.parametrize("visible", [None, "2,3"])
def test_the_visible_gpus_stay_what_they_were(visible, gpus):
    gpus(2, visible)
    with visible_kept():
        devices.os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    assert devices.os.environ.get("CUDA_VISIBLE_DEVICES") == visible


STANDS_IN = """
import json, os, pathlib, sys
job = json.loads(sys.stdin.readline())
folder = pathlib.Path(job["folder"])
folder.mkdir(parents=True)
place = {"visible": os.environ.get("CUDA_VISIBLE_DEVICES"), "device": job["training"]["settings"]["device"]}
(folder / "place.json").write_text(json.dumps({**place, "parallel": job["parallel"]}))
(folder / "run.json").write_text(json.dumps({"variant": "base", "seed": job["seed"], "epochs": 1, "seconds": 1}))
(folder / "metrics.json").write_text('{"AP": 0.5}')
"""


@pytest.mark.integration
def test_trainings_are_shared_by_devices(gpus, tmp_path, monkeypatch):
    gpus(2, "4,6")
    monkeypatch.setattr(runner, "python", lambda *_: [sys.executable, "-c", STANDS_IN.replace('job["seed"]', "0")])
    monkeypatch.setattr(runner, "PAUSE", 0.01)
    jobs = [Job(tmp_path, Variant("base", ""), seed, Training("m.yaml", {"epochs": 1})) for seed in range(6)]
    seen = []
    assert run_all(jobs, chosen(()), 2, lambda running, waiting: seen.append((len(running), len(waiting)))) == []
    assert seen[0] == (4, 2)
    assert seen[-1] == (0, 0)
    places = [json.loads((job.folder / "place.json").read_text()) for job in jobs]
    assert {(p["device"], p["parallel"]) for p in places} == {("", 2)}
    assert [p["visible"] for p in places[:4]] == ["4", "6", "4", "6"]


LOOKS = """
from yolo_attn.compare.execution.devices import describe
from yolo_attn.compare.execution.processes import ask
print(ask(describe, {"devices": ["cpu"]}, {}))
"""


@pytest.mark.integration
def test_a_process_imports_what_this_one_does(tmp_path):
    """A user's file with a standard module's name is where `python -m` would search first."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here/queue.py").write_text("raise RuntimeError('not this one')")
    (tmp_path / "script.py").write_text(LOOKS)
    command = [sys.executable, tmp_path / "script.py"]
    ended = subprocess.run(command, cwd=tmp_path / "here", capture_output=True, text=True)
    assert "CPU cores" in ended.stdout, ended.stderr


def test_the_current_folder_is_first_only_where_it_was_before_modules_were_imported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    without = python("pass")
    monkeypatch.syspath_prepend(tmp_path)
    assert python("pass", ["my_layers"]) == without
    assert python("pass") != without


def refuse(word):
    raise ValueError(f"{word}\nand more")


@pytest.mark.integration
def test_an_error_in_a_process_is_reported_in_one_line(monkeypatch):
    monkeypatch.syspath_prepend(__file__.rpartition("/")[0])
    with pytest.raises(RunError, match=r"^ValueError: no and more$"):
        ask(refuse, {"word": "no"}, {})
    with pytest.raises(RunError):
        ask(refuse, {}, {"PYTHONHOME": "/nowhere"})


def count(numbers):
    for n in range(numbers):
        print(f"line {n}", flush=True)
    return numbers


@pytest.mark.integration
def test_lines_are_heard_while_a_process_runs(monkeypatch):
    monkeypatch.syspath_prepend(__file__.rpartition("/")[0])
    heard = []
    assert ask(count, {"numbers": 3}, {}, listen=heard.append) == 3
    assert [line.strip() for line in heard if line.startswith("line")] == ["line 0", "line 1", "line 2"]


def test_the_rounds_of_a_measurement_are_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(costs, "ROUNDS", 4)
    torch.save({"model": DetectionModel("yolov8n-gam.yaml", verbose=False)}, tmp_path / "best.pt")
    assert costs.measure({"base": str(tmp_path / "best.pt")}, 32, "cpu", ())["variants"]["base"]["latency_ms"] > 0
    printed = [line.removeprefix(costs.ROUND) for line in capsys.readouterr().out.splitlines() if costs.ROUND in line]
    assert printed == ["0", "0", "0", "0", "1", "2", "3"]
