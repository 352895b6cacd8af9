"""What several test files use."""

import contextlib
import csv
import ctypes
import hashlib
import io
import multiprocessing
import os
import re
import resource
import runpy
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
OLDEST = "8.3.0"
"""The oldest Ultralytics that is supported."""

TINY, TINY_GAM, TINY_NAM, TINY_SIMAM = (
    str(ROOT / f"tests/small_models/tiny{layer}.yaml") for layer in ("", "-gam", "-nam", "-simam")
)
"""Detectors of five rows, for trainings whose model does not matter."""

TINY_CLASSIFIER = str(ROOT / "tests/small_models/tiny-cls.yaml")

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["yolo_attn.engine.api", "yolo_attn.cli", "torch._inductor"])  # which trainings import

IMPORTED_BY = os.environ.get("PYTHONPATH")
"""PYTHONPATH as the tests began."""

QUICK = ["--imgsz", "64", "--batch", "8", "--device", "cpu"]


def listing(folder):
    """Everything that could change in a folder."""
    return sorted((str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in folder.rglob("*"))


def script(name, *arguments, cwd, timeout=300, ends=0):
    """Run a script of the repository in a process of its own, as a user does; it ends with this code.

    The process is a fresh one where the test has set PYTHONPATH, as to another Ultralytics.
    """
    command = [str(ROOT / name), *map(str, arguments)]
    if os.environ.get("PYTHONPATH") != IMPORTED_BY:
        command = [sys.executable, *command]
        result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout)
    else:
        result = forked(_script, command, cwd=cwd, timeout=timeout)
    assert result.returncode == ends, result.stdout[-3000:] + result.stderr
    return result


def _script(command):
    sys.argv = command
    sys.path.insert(0, str(Path(command[0]).parent))
    runpy.run_path(command[0], run_name="__main__")


def command_line(*arguments, cwd, timeout=300):
    """Run `yolo-attn` in a process of its own."""
    return forked(_main, list(map(str, arguments)), cwd=cwd, timeout=timeout)


def _main(arguments):
    from yolo_attn.cli import main

    sys.argv = ["yolo-attn", *arguments]
    sys.exit(main(arguments))


def forked(function, *arguments, cwd, timeout=300):
    """Call a function in a folder, in a process that has imported everything; its exit code and what it has written."""
    with tempfile.TemporaryDirectory() as scratch:
        output, errors = Path(scratch, "output"), Path(scratch, "errors")
        call = (output, errors, str(cwd), dict(os.environ), function, arguments)
        process = CONTEXT.Process(target=_forked, args=call)
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(str(arguments), timeout, output.read_bytes(), errors.read_bytes())
        written = (file.read_text(errors="replace") for file in (output, errors))
        return subprocess.CompletedProcess(arguments, process.exitcode, *written)


def _forked(output, errors, cwd, environment, function, arguments):
    _write_into(output, errors)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    function(*arguments)


def _write_into(output, errors):
    for number, file in ((1, output), (2, errors)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)


def run_python(code, cwd, ends=0, **env):
    """Run a line of Python in a fresh process, which ends with this code."""
    command, env = [sys.executable, "-c", code], {**os.environ, **env}
    result = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120)
    assert result.returncode == ends, result.stdout[-3000:] + result.stderr
    return result


def with_rows(model, at, *rows):
    """A model dictionary with rows put in before row `at`; what other rows take stays what it was, -1 apart."""

    def moved(index, source):
        if isinstance(source, list):
            return [moved(index, s) for s in source]
        if source < -1:
            return source - len(rows) if index + source < at <= index else source
        return source + len(rows) if source >= at else source

    body = [[moved(i, row[0]), *row[1:]] for i, row in enumerate([*model["backbone"], *model["head"]])]
    body[at:at] = [list(row) for row in rows]
    cut = len(model["backbone"]) + len(rows) * (at <= len(model["backbone"]))
    return {**model, "backbone": body[:cut], "head": body[cut:]}


def epoch_begun(output, epochs, first=2):
    """The epoch, if the last progress bar shows an early batch of one, and not of one before `first`."""
    shown = re.findall(rf"\b(\d+)/{epochs} [^\n\r]*?\b(\d+)/(\d+) ", output)
    epoch, batch, batches = map(int, shown[-1]) if shown else (0, 0, 1)
    return epoch if epoch >= first and 1 <= batch <= batches // 2 else None


def results_rows(run):
    """results.csv, a dictionary a row; all rows have the header's columns."""
    header, *lines = csv.reader((run / "results.csv").read_text().splitlines())
    table = [[float(value) for value in line] for line in lines]
    assert {len(row) for row in table} == {len(header)}
    return [dict(zip(header, row, strict=True)) for row in table]


def pycocotools_scores(truth, results, kind="bbox", **params):
    """COCO's numbers of a JSON and results, listed or in a file, and AP and AP50 of each category.

    Parameters are pycocotools' own, such as `catIds`.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO(str(truth))
        evaluation = COCOeval(gt, gt.loadRes(results if isinstance(results, list) else str(results)), kind)
        vars(evaluation.params).update(params)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    per_class = {}
    for k, category in enumerate(evaluation.params.catIds if evaluation.params.useCats else ()):
        both = [p[p > -1] for p in (precision[:, :, k], precision[0, :, k])]
        per_class[gt.cats[category]["name"]] = [p.mean() if p.size else -1 for p in both]
    return evaluation.stats, per_class


def train_and_cut(kind, method, epoch=0, **settings):
    """Train until a method of the trainer has run in an epoch, as a kill then does."""

    def cut(self, *args, **kwargs):
        getattr(super(trainer, self), method)(*args, **kwargs)
        if self.epoch == epoch:
            raise KeyboardInterrupt

    trainer = type("Cut", (kind,), {method: cut})
    with pytest.raises(KeyboardInterrupt):
        trainer(overrides=settings).train()


def save_noise(file: Path, size=(64, 48), **save):
    """Save a picture of noise."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, **save)


def txt_data(home: Path) -> Path:
    """Write a few pictures with labels as Ultralytics has them; returns the data YAML."""
    for split in ("train", "val"):
        for i in range(4):
            save_noise(home / f"images/{split}/{i}.jpg")
            label = home / f"labels/{split}/{i}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text("0 0.5 0.5 0.4 0.4\n")
    described = {"path": str(home), "train": "images/train", "val": "images/val", "names": ["a"]}
    (home / "data.yaml").write_text(yaml.safe_dump(described))
    return home / "data.yaml"


def coco_yaml(coco: Path, file: Path, **more) -> Path:
    """Write a data YAML that names the images and JSONs of a COCO-format folder."""
    splits = ("train", "val")
    files = {split: str(coco / f"annotations/instances_{split}.json") for split in splits}
    described = {split: str(coco / "images" / split) for split in splits}
    file.write_text(yaml.safe_dump({**described, "annotations": files, **more}))
    return file


def as_detections(batch, i):
    """Picture i's labels as a model that makes no mistake would give them, in the input's pixels."""
    mine = batch["batch_idx"] == i
    height, width = batch["img"].shape[2:]
    size = torch.tensor([width, height, width, height])
    centre, extent = batch["bboxes"][mine].split(2, 1)
    found = {"bboxes": torch.cat([centre - extent / 2, centre + extent / 2], 1) * size, "cls": batch["cls"][mine, 0]}
    found |= {"conf": torch.linspace(0.9, 0.5, int(mine.sum())), "extra": found["bboxes"][:, :0]}
    if "keypoints" in batch:
        points = batch["keypoints"][mine] * torch.tensor([width, height, 1])
        middle = found["bboxes"].reshape(-1, 2, 2).mean(1, keepdim=True).expand(-1, points.shape[1], 2)
        points[..., :2] = torch.where(points[..., 2:].any(1, keepdim=True), points[..., :2], middle)
        found["keypoints"] = points
    if "masks" in batch:
        found["masks"] = batch["masks"][mine].byte()
    return found


USERS_LAYER = """
import torch, yolo_attn

@yolo_attn.register_layer
class Scale(torch.nn.Module):
    def __init__(self, channels, *, start=1.0):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((channels,), start))

    def forward(self, x):
        return x * self.weight.reshape(1, -1, 1, 1)
"""

WORKER = """
import subprocess, sys
sys.path.append("modules")
import my_layers
from {module} import {name}
from ultralytics.utils.dist import generate_ddp_file
trainer = {name}(overrides={settings!r})
file = generate_ddp_file(trainer)
sys.exit(subprocess.run([sys.executable, file]).returncode)
"""


def users_folder(home: Path) -> Path:
    """Fill a user's folder: a layer in a module, a model of it, txt labels."""
    (home / "modules").mkdir()
    (home / "modules/my_layers.py").write_text(USERS_LAYER)
    text = (ROOT / "model_yamls/yolov8-gam.yaml").read_text().replace("GAM, []", "Scale, []")
    (home / "yolov8n-scale.yaml").write_text(text)
    txt_data(home)
    return home


def run_worker(home, module, name, **env):
    """Train in the file that Ultralytics generates for each worker of a multi-GPU training."""
    settings = {"model": str(home / "yolov8n-scale.yaml"), "data": str(home / "data.yaml"), "epochs": 1, "imgsz": 64}
    settings |= {"device": "cpu", "plots": False, "batch": 4, "project": str(home), "name": "worker"}
    result = run_python(WORKER.format(module=module, name=name, settings=settings), home, **env)
    assert (home / "worker/weights/last.pt").exists()
    return result


class Run:
    """A finished training."""

    def __init__(self, folder, output, data, before):
        self.folder, self.output, self.data, self.before = folder, output, data, before

    def rows(self):
        lines = (self.folder / "results.csv").read_text().splitlines()
        return lines[0].split(","), [[float(v) for v in line.split(",")] for line in lines[1:]]


def contents(folder):
    """Everything in a folder: names, sizes, times, and what the files hold."""
    files = [f for f in sorted(folder.rglob("*")) if f.is_file()]
    return listing(folder), [hashlib.blake2b(f.read_bytes()).hexdigest() for f in files]


class Command:
    """`yolo-attn` in a process of its own, in a session of its own, forked from one that has imported everything.

    Attributes:
        output: What it writes to stdout.
        errors: What it writes to stderr.
    """

    def __init__(self, home, *arguments, prepare=None):
        self.output, self.errors = home / "output.log", home / "errors.log"
        command = (self.output, self.errors, [str(a) for a in arguments], prepare)
        self.process = CONTEXT.Process(target=_command, args=command)
        self.process.start()

    def send(self, signal):
        """Send a signal to the process and all that it has started, as a terminal or a scheduler does."""
        os.killpg(self.process.pid, signal)

    def wait(self, timeout=300):
        """Its exit code and the last line on its stderr, where no traceback is."""
        self.process.join(timeout)
        assert self.process.exitcode is not None, self.output.read_text()
        errors = self.errors.read_text()
        assert "Traceback" not in errors, errors
        return self.process.exitcode, errors.splitlines()[-1] if errors else ""

    def wait_for(self, there, timeout=300):
        """Wait until something is there, while the process runs."""
        deadline = time.time() + timeout
        while not there():
            assert self.process.is_alive(), self.errors.read_text()
            assert time.time() < deadline, self.output.read_text()
            time.sleep(0.02)


def _command(output, errors, arguments, prepare):
    os.setsid()
    _write_into(output, errors)
    if prepare:
        prepare()
    _main(arguments)


def obey_permissions():
    """Give up root's right to read and write whatever it likes."""
    if os.geteuid() == 0:
        nothing = (ctypes.c_uint32 * 6)()
        assert ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), nothing) == 0


def cap_memory(megabytes):
    """Let this process take so much memory more than it has."""
    has = int(re.search(r"VmData:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (has + megabytes * 2**20,) * 2)


class Machines:
    """One torchrun for each imitated machine, all given the same command.

    Attributes:
        logs: What each wrote.
    """

    def __init__(self, cwd, command, machines=2, workers=1):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        self.logs = [cwd / f"machine-{port}-{i}.log" for i in range(machines)]
        shape = ["--nnodes", machines, "--nproc-per-node", workers, "--master-addr", "127.0.0.1", "--master-port", port]
        self.launchers, self.seen = [], []
        for i, log in enumerate(self.logs):
            torchrun = [sys.executable, "-m", "torch.distributed.run", *shape, "--node-rank", i, *command]
            with log.open("wb") as stream:
                self.launchers.append(
                    subprocess.Popen(list(map(str, torchrun)), cwd=cwd, stdout=stream, stderr=subprocess.STDOUT)
                )

    def workers(self):
        """The processes that the launchers have started and that are there now."""
        living = [launcher for launcher in self.launchers if launcher.poll() is None]
        self.seen = [p for launcher in living for p in psutil.Process(launcher.pid).children(recursive=True)]
        return self.seen

    def wait(self, timeout):
        """Exit codes of all launchers and all that they wrote."""
        deadline = time.time() + timeout
        codes = [launcher.wait(max(deadline - time.time(), 0.1)) for launcher in self.launchers]
        return codes, self.output()

    def output(self):
        return "\n".join(log.read_text(errors="replace") for log in self.logs)

    def kill(self):
        """End what is left: workers are in sessions of their own, and may outlive their launcher."""
        for process in {*self.seen, *self.workers()}:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for launcher in self.launchers:
            launcher.kill()
            launcher.wait()


def randomise(model):
    """Statistics and scales unlike those of a fresh model, so that every layer matters to the output."""
    rng = torch.Generator().manual_seed(1)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.weight.data.uniform_(0.5, 1.5, generator=rng)
            m.bias.data.normal_(0, 0.3, generator=rng)
            m.running_mean.normal_(0, 0.3, generator=rng)
            m.running_var.uniform_(0.5, 1.5, generator=rng)
    return model.eval()


def enliven(model, imgsz=64):
    """Random scales, and the statistics of drawn pictures, so that the output depends on the picture as a trained
    model's does: through random statistics little of it reaches the head, and through those of noise too much."""
    from yolo_attn.engine.export.verify import image as drawn

    randomise(model).train()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d | nn.BatchNorm1d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.9
    with torch.no_grad():
        for _ in range(3):
            model(drawn((8, 3, imgsz, imgsz)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()
