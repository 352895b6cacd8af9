"""Whatever happens to a training: whole files, one line, the data as it was, and a way on."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import torch
import yaml
from support import QUICK, TINY_SIMAM, Command, contents, obey_permissions, results_rows, save_noise

from yolo_attn.cli import main
from yolo_attn.coco.dataset import dataset
from yolo_attn.coco.dataset.locations import load_source
from yolo_attn.coco.evaluate import Detections
from yolo_attn.engine.preflight import data_checks
from yolo_attn.engine.training import run_files
from yolo_attn.engine.training.run_files import RunFiles
from yolo_attn.engine.training.trainer import DetectionTrainer, RTDETRTrainer
from yolo_attn.engine.validation.validator import RunValidator

MODEL = TINY_SIMAM


@pytest.fixture
def data(small_coco, tmp_path):
    """A copy of the drawn set that a test may spoil."""
    return shutil.copytree(small_coco, tmp_path / "data")


@pytest.fixture(autouse=True)
def drawn_set_stays(small_coco):
    before = contents(small_coco)
    yield
    assert contents(small_coco) == before


def training(data, project, *more, epochs=2):
    """Arguments of a short training."""
    return ["train", "--cfg", MODEL, "--data", data, "--epochs", epochs, "--project", project, *QUICK, *more]


def run(*arguments):
    return main([str(a) for a in arguments])


def check_sound(folder, epochs=None, parts=False):
    """What holds of a run folder at any time: whole checkpoints and rows, and nothing half written unless `parts`."""
    weights = sorted(folder.glob("weights/*.pt"))
    for file in weights:
        assert isinstance(torch.load(file, weights_only=False)["epoch"], int), file
    done = [row["epoch"] for row in results_rows(folder)] if (folder / "results.csv").exists() else []
    assert done == list(range(1, len(done) + 1))
    for file in folder.glob("*.yaml"):
        yaml.safe_load(file.read_text())
    if epochs is not None:
        assert len(done) == epochs
        assert {file.name for file in weights} == ({"best.pt", "last.pt"} if epochs else set())
    if not parts:
        assert [str(f) for f in folder.rglob(".yolo_attn-*")] == []


@contextmanager
def largest_file(size):
    """No file grows beyond so many bytes: writing fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def no_room_in(monkeypatch, owner, name, size, wanted=lambda self: True):
    """While a method runs, and `wanted`, files stay below `size` bytes."""
    method = getattr(owner, name)

    def limited(self, *args, **kwargs):
        with largest_file(size) if wanted(self) else nullcontext():
            return method(self, *args, **kwargs)

    monkeypatch.setattr(owner, name, limited)


def before(monkeypatch, owner, name, action, wanted=lambda *_: True):
    """Do something before a function or method runs, the first time that it is `wanted`."""
    function, done = getattr(owner, name), []

    def wrapper(*args, **kwargs):
        if not done and wanted(*args):
            done.append(True)
            action()
        return function(*args, **kwargs)

    monkeypatch.setattr(owner, name, wrapper)


def second_epoch(trainer, *_):
    return trainer.epoch == 1


@pytest.mark.integration
@pytest.mark.parametrize(
    ("owner", "method", "size", "file", "rows"),
    [
        (RunFiles, "save_model", 10_000, "weights/last.pt", 1),
        (RunFiles, "save_metrics", 300, "results.csv", 1),
        (DetectionTrainer, "final_eval", 10_000, "weights/last.pt", 2),
    ],
)
def test_no_room(small_coco, tmp_path, monkeypatch, capsys, owner, method, size, file, rows):
    """The last whole checkpoint stays, and the training goes on from it once there is room."""
    with monkeypatch.context() as patch:
        no_room_in(patch, owner, method, size, second_epoch)
        assert run(*training(small_coco, tmp_path, "plots=False")) == 1
    folder = tmp_path / "train"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"yolo-attn: error: {folder / file}: File too large; ")
    check_sound(folder)
    last = folder / "weights/last.pt"
    assert torch.load(last, weights_only=False)["epoch"] == (0 if rows == 1 else 1)
    if rows == 2:
        assert line.endswith(
            f"all epochs are done, yolo-attn val --weights {folder / 'weights/best.pt'} gives its metrics"
        )
        assert run("train", "--resume", last) == 2
        assert "finished" in capsys.readouterr().err
    else:
        assert line.endswith(f"go on with train --resume {last}")
        assert run("train", "--resume", last, "plots=False") == 0
        check_sound(folder, epochs=2)


@pytest.mark.integration
def test_no_room_for_what_a_training_begins_with(small_coco, tmp_path, monkeypatch, capsys):
    no_room_in(monkeypatch, DetectionTrainer, "get_dataset", 10)
    assert run(*training(small_coco, tmp_path / "runs")) == 1
    assert capsys.readouterr().err.endswith("/runs/train/data.yaml: File too large; there is no checkpoint yet\n")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def finished(small_coco, tmp_path_factory):
    """A training of one epoch."""
    home = tmp_path_factory.mktemp("finished")
    assert run(*training(small_coco, home, "plots=False", epochs=1)) == 0
    return home / "train"


@pytest.mark.integration
@pytest.mark.parametrize(
    ("owner", "method", "file", "grammar"),
    [(RunValidator, "get_stats", "metrics.json", "ours"), (Detections, "save", "predictions.json", "Ultralytics")],
)
def test_no_room_for_what_a_validation_leaves(
    small_coco, finished, tmp_path, monkeypatch, capsys, owner, method, file, grammar
):
    no_room_in(monkeypatch, owner, method, 2)
    best = finished / "weights/best.pt"
    arguments = ["val", "--weights", best, "--project", tmp_path, "--device", "cpu", "plots=False"]
    if grammar == "Ultralytics":
        arguments = ["val", f"model={best}", f"data={small_coco}", f"project={tmp_path}", "device=cpu", "plots=False"]
    assert run(*arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"yolo-attn: error: {tmp_path / 'val' / file}: File too large"
    assert {f.name for f in (tmp_path / "val").iterdir()} <= {"data.yaml", "data_report.json", "metrics.json"} - {file}


@pytest.mark.integration
@pytest.mark.parametrize("there", ["", "of an earlier export"])
@pytest.mark.parametrize("fmt", ["safetensors", "torchscript", "onnx", "openvino"])
def test_no_room_for_an_export(finished, tmp_path, capsys, fmt, there):
    """One line, nothing half written, and an earlier export as it was."""
    weights = shutil.copy(finished / "weights/best.pt", tmp_path)
    target = tmp_path / ("best_openvino_model" if fmt == "openvino" else f"best.{fmt}")
    if there:
        (target / "best.xml" if fmt == "openvino" else target).parent.mkdir(exist_ok=True)
        (target / "best.xml" if fmt == "openvino" else target).write_text(there)
    before = contents(tmp_path)
    with largest_file(10_000):
        assert run("export", "--weights", weights, "--format", fmt, "--imgsz", 64) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"yolo-attn: error: --format {fmt}: ")
    if fmt == "safetensors":
        assert line.endswith(f"{target}: File too large; nothing was written")
    assert contents(tmp_path) == before


def test_plot_that_cannot_be_written_is_reported(caplog, monkeypatch):
    """Ultralytics draws in threads, whose exceptions would be tracebacks."""
    others = []
    monkeypatch.setattr(threading, "excepthook", lambda args: others.append(args.exc_type))

    def draw(error):
        raise error

    with run_files._threads_reported():
        for error in (OSError(28, "No space left on device", "train_batch0.jpg"), ValueError()):
            thread = threading.Thread(target=draw, args=(error,))
            thread.start()
            thread.join()
    assert "a plot was not written: train_batch0.jpg: No space left on device" in caplog.text
    assert others == [ValueError]


FULL = "mount -t tmpfs -o size=1250k none {runs} && {command}; code=$?; cp -a {runs} {kept}; exit $code"


@pytest.mark.integration
def test_full_file_system(small_coco, tmp_path):
    """Two checkpoints of half a megabyte fit, three do not."""
    namespace = ["unshare", "--mount", "--map-root-user"]
    if subprocess.run([*namespace, "mount", "-t", "tmpfs", "none", tmp_path], capture_output=True).returncode:
        pytest.skip("no file system of its own can be mounted here; the other tests limit the size of files")
    runs, kept = tmp_path / "runs", tmp_path / "kept"
    runs.mkdir()
    command = [sys.executable, "-m", "yolo_attn", *training(small_coco, runs, "plots=False", "optimizer=SGD")]
    shell = FULL.format(runs=runs, kept=kept, command=" ".join(map(str, command)))
    result = subprocess.run([*namespace, "sh", "-c", shell], capture_output=True, text=True, timeout=300)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    line = result.stderr.splitlines()[-1]
    weights = runs / "train/weights"
    assert line.startswith(f"yolo-attn: error: {weights}/")
    assert line.endswith(f"t.pt: No space left on device; go on with train --resume {weights / 'last.pt'}")
    check_sound(kept / "train")
    assert torch.load(kept / "train/weights/last.pt", weights_only=False)["epoch"] == 0


def stop(sent):
    os.kill(os.getpid(), sent)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("owner", "name", "sent"),
    [(data_checks, "look_through", signal.SIGINT), (dataset.CocoDataset, "get_labels", signal.SIGTERM)],
)
def test_stop_before_the_first_epoch_leaves_nothing(small_coco, tmp_path, monkeypatch, capsys, owner, name, sent):
    """While the data is read, first by the command, then by the trainer."""
    before(monkeypatch, owner, name, lambda: stop(sent))
    assert run(*training(small_coco, tmp_path / "runs")) == 128 + sent
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "sent", "grammar"),
    [
        ("preprocess_batch", signal.SIGINT, "ours"),
        ("validate", signal.SIGTERM, "Ultralytics"),
        ("read_results_csv", signal.SIGINT, "ours"),  # while it saves
    ],
)
def test_stop(small_coco, tmp_path, monkeypatch, capsys, name, sent, grammar):
    """Ctrl-C, and SIGTERM as Slurm and docker send it: whole files, one line, and the way on."""
    before(monkeypatch, DetectionTrainer, name, lambda: stop(sent), second_epoch)
    arguments = training(small_coco, tmp_path, "plots=False")
    if grammar == "Ultralytics":
        settings = {"model": MODEL, "data": small_coco, "project": tmp_path, "epochs": 2, "imgsz": 64, "batch": 8}
        settings |= {"device": "cpu", "plots": False, "name": "train"}
        arguments = ["train", *(f"{key}={value}" for key, value in settings.items())]
    assert run(*arguments) == 128 + sent
    last = tmp_path / "train/weights/last.pt"
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"yolo-attn: stopped; go on with train --resume {last}"
    check_sound(tmp_path / "train")
    assert torch.load(last, weights_only=False)["epoch"] == 0


def two_workers():
    """Pictures are read by two processes, on a CPU too."""
    build = DetectionTrainer.get_dataloader

    def get_dataloader(self, *args, **kwargs):
        self.args.workers = 2
        return build(self, *args, **kwargs)

    DetectionTrainer.get_dataloader = get_dataloader


@pytest.mark.integration
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_stop_reaches_every_process(small_coco, tmp_path, sent):
    """A terminal signals the processes that read pictures as well, Slurm all of a job: they keep silent."""
    command = Command(tmp_path, *training(small_coco, tmp_path, "plots=False", epochs=100), prepare=two_workers)
    last = tmp_path / "train/weights/last.pt"
    command.wait_for(last.exists)
    command.send(sent)
    assert command.wait() == (128 + sent, f"yolo-attn: stopped; go on with train --resume {last}")
    check_sound(tmp_path / "train")


@pytest.mark.integration
def test_a_training_into_a_folder_that_is_there_begins_its_results_anew(small_coco, tmp_path):
    for epochs in (2, 1):
        assert run(*training(small_coco, tmp_path, "--name", "exp", "exist_ok=True", "plots=False", epochs=epochs)) == 0
        check_sound(tmp_path / "exp", epochs=epochs)
        (tmp_path / "exp/weights/.yolo_attn-0123456789abcdef-abcdefgh.part").touch()  # as one that is killed leaves it
    assert run("train", "--resume", tmp_path / "exp/weights/last.pt") == 2  # killed behind its last epoch
    check_sound(tmp_path / "exp", epochs=1)


def kill_at_random(data, home, kills, epochs, longest, seed):
    """Kill trainings, resuming each, until so many kills are spent; the last one finishes."""
    rng, number, left = random.Random(seed), 0, kills
    while left:
        number += 1
        folder, ended = home / f"run{number}", False
        while not ended:
            last = folder / "weights/last.pt"
            settings = ["--name", folder.name, "exist_ok=True", "plots=False", "--batch", 4]
            arguments = (
                ["train", "--resume", last, "plots=False"]
                if last.exists()
                else training(data, home, *settings, epochs=epochs)
            )
            command = Command(home, *arguments)
            command.process.join(rng.uniform(0, longest) if left else 300)
            ended = command.process.exitcode is not None
            command.process.kill()
            command.process.join()
            left -= not ended
            check_sound(folder, parts=not ended)
        code, line = command.wait()
        assert code == 0 or "finished" in line, line
        check_sound(folder, epochs=epochs)
        assert torch.load(folder / "weights/last.pt", weights_only=False)["optimizer"] is None or code == 2


@pytest.mark.integration
def test_kill_at_random(data, tmp_path):
    before = contents(data)
    kill_at_random(data, tmp_path, kills=2, epochs=5, longest=4, seed=0)
    assert contents(data) == before


@pytest.mark.slow
def test_twenty_kills(data, tmp_path):
    before = contents(data)
    kill_at_random(data, tmp_path, kills=20, epochs=12, longest=6, seed=1)
    assert contents(data) == before


@pytest.mark.integration
def test_json_that_goes_while_it_is_learnt_from(data, tmp_path, monkeypatch, capsys):
    """The training ends well from what it has read; it is a resumed one that reads again, and says what is wrong."""
    files = {split: data / f"annotations/instances_{split}.json" for split in ("train", "val")}
    whole = {split: file.read_bytes() for split, file in files.items()}

    def spoil():
        files["train"].write_bytes(whole["train"][:1000])
        files["val"].unlink()

    with monkeypatch.context() as patch:
        before(patch, DetectionTrainer, "preprocess_batch", spoil)
        assert run(*training(data, tmp_path)) == 0
    assert (tmp_path / "train/metrics.json").exists()
    assert (tmp_path / "train/results.png").exists()
    for split, file in files.items():
        file.write_bytes(whole[split])
    with monkeypatch.context() as patch:
        before(patch, DetectionTrainer, "preprocess_batch", lambda: stop(signal.SIGINT), second_epoch)
        assert run(*training(data, tmp_path, "--name", "cut", "plots=False")) == 130
    files["train"].write_bytes(whole["train"][:1000])
    capsys.readouterr()
    last = tmp_path / "cut/weights/last.pt"
    assert run("train", "--resume", last) == 2
    assert f"{files['train']}: not valid JSON" in capsys.readouterr().err
    files["train"].write_bytes(whole["train"])
    files["val"].unlink()
    assert run("train", "--resume", last) == 2
    assert f"{data}: no annotations for 'val'" in capsys.readouterr().err
    files["val"].write_bytes(whole["val"] + b"\n")
    assert run("train", "--resume", last, "plots=False") == 0
    check_sound(tmp_path / "cut", epochs=2)


@pytest.mark.integration
def test_what_may_not_be_read_or_written(data, tmp_path):
    """Permissions, also of a run folder that loses them."""
    home = tmp_path / "home"
    home.mkdir()
    annotations, pictures = data / "annotations/instances_val.json", data / "images/train"
    for path, reported in (
        (annotations, f"{annotations}: cannot read it: Permission denied"),
        (pictures, f"{pictures}: cannot read it: Permission denied"),
        (data, f"{data}: cannot read it: Permission denied"),
    ):
        mode = path.stat().st_mode
        path.chmod(0)
        try:
            code, line = Command(tmp_path, *training(data, home), prepare=obey_permissions).wait()
        finally:
            path.chmod(mode)
        assert code == 2
        assert reported in line
        assert list(home.iterdir()) == []
    command = Command(tmp_path, *training(data, home, "plots=False", epochs=100), prepare=obey_permissions)
    weights = home / "train/weights"
    command.wait_for((weights / "last.pt").exists)
    weights.chmod(0o555)
    code, line = command.wait()
    weights.chmod(0o755)
    assert code == 1
    assert line == f"yolo-attn: error: {weights}: Permission denied; go on with train --resume {weights / 'last.pt'}"
    check_sound(home / "train")


def spoil_pictures(data):
    """Of each split, one picture goes, one becomes garbage, one empty, and one is replaced by one of another size."""
    for split in ("train", "val"):
        gone, garbage, empty, other = sorted((data / "images" / split).iterdir())[:4]
        gone.unlink()
        garbage.write_bytes(b"no picture")
        empty.write_bytes(b"")
        save_noise(other, (20, 90))


@pytest.mark.integration
@pytest.mark.parametrize(
    ("cfg", "workers", "further"),
    [
        (MODEL, 0, []),
        pytest.param(MODEL, 2, [], marks=pytest.mark.slow),
        pytest.param(MODEL, 0, ["cache=ram"], marks=pytest.mark.slow),
        pytest.param("rtdetr-l.yaml", 0, [], marks=pytest.mark.slow),
    ],
)
def test_pictures_that_change_while_they_are_learnt_from(data, tmp_path, monkeypatch, caplog, cfg, workers, further):
    owner = RTDETRTrainer if "rtdetr" in cfg else DetectionTrainer
    if workers:
        monkeypatch.setattr(DetectionTrainer, "get_dataloader", DetectionTrainer.get_dataloader)
        two_workers()
    before(monkeypatch, owner, "preprocess_batch", lambda: spoil_pictures(data))
    arguments = [*training(data, tmp_path, "plots=False", *further, epochs=3), "--batch", 4, "--cfg", cfg]
    assert run(*arguments) == 0
    check_sound(tmp_path / "train", epochs=3)
    reported = [line for line in caplog.text.splitlines() if "has changed, skipped" in line]
    if not further and not workers:
        assert sum("images/val" in line for line in reported) == 4
        assert len(reported) == len(set(reported))


@pytest.mark.integration
@pytest.mark.parametrize("workers", [0, 2])
def test_data_that_goes_stops_the_training(data, tmp_path, monkeypatch, capsys, workers):
    """Epochs on grey pictures would spoil what has been learnt."""
    monkeypatch.setattr(DetectionTrainer, "get_dataloader", DetectionTrainer.get_dataloader)
    if workers:
        two_workers()
    before(monkeypatch, DetectionTrainer, "preprocess_batch", lambda: shutil.rmtree(data / "images"), second_epoch)
    assert run(*training(data, tmp_path, "plots=False", epochs=30)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    last = tmp_path / "train/weights/last.pt"
    assert line.startswith(f"yolo-attn: error: {data / 'images'}/")
    assert ": the data is gone; images in a row that cannot be read: " in line
    assert line.endswith(f"; go on with train --resume {last}")
    check_sound(tmp_path / "train")


@pytest.mark.integration
def test_data_in_a_folder_whose_name_is_not_utf8(data, tmp_path, monkeypatch):
    """Its bytes are escapes in every file of a run, and are found again: resumed, validated, and as data of its own."""
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xe9sum\xff \xc3\xa9"))
    data.rename(odd)
    with monkeypatch.context() as patch:
        before(patch, DetectionTrainer, "preprocess_batch", lambda: stop(signal.SIGINT), second_epoch)
        assert run(*training(odd, tmp_path, "--name", "cut", "plots=False")) == 130
    folder = tmp_path / "cut"
    assert yaml.safe_load((folder / "args.yaml").read_text())["data"] == f"{tmp_path}/r\\udce9sum\\udcff é"
    last = folder / "weights/last.pt"
    assert run("train", "--resume", last, "plots=False") == 0
    check_sound(folder, epochs=2)
    report = json.loads((folder / "data_report.json").read_text())
    assert report["val"]["file"] == "annotations/instances_val.json"
    assert run("val", "--weights", last, "--project", tmp_path, "--name", "val", "--device", "cpu", "workers=0") == 0
    assert run("check-data", folder / "data.yaml") == 0
    split = load_source(folder / "data.yaml", ["train"])["train"]
    assert split.folders == (odd.resolve() / "images/train",)


@pytest.mark.integration
def test_run_folder_whose_name_is_not_utf8_is_refused_in_one_line(data, tmp_path, capsys):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    assert run(*training(data, odd)) == 2
    assert "Ultralytics cannot write a path that is not UTF-8" in capsys.readouterr().err
    assert not odd.exists()
