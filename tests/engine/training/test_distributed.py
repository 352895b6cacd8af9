"""Training in several processes, as torchrun and as Ultralytics start them: gloo on the CPU, machines imitated here."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from support import QUICK, ROOT, TINY_GAM, TINY_NAM, epoch_begun, listing, results_rows, save_noise, script
from ultralytics.cfg import get_cfg
from ultralytics.nn import tasks

from yolo_attn.engine.training.distributed import lost_workers_reported, own_gpu
from yolo_attn.engine.training.trainer import DetectionTrainer
from yolo_attn.errors import UserError
from yolo_attn.weights.gains import own_gains

LOST = "a worker of this training was lost"


CLASSIFIER = """
nc: 3
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, NAM, []]
head:
  - [-1, 1, Classify, [nc]]
"""

TRAIN = ROOT / "scripts" / "train_det.py"


@pytest.mark.integration
def test_two_machines_train_one_model(torchrun, small_coco, tmp_path):
    """One run folder, and the numbers of all pictures, whichever process saw them."""
    before = listing(small_coco)
    arguments = ["--cfg", "yolov8n-nam.yaml", "--data", small_coco, "--epochs", 2, "--nam-sparsity", "1e-3", *QUICK]
    codes, output = torchrun(TRAIN, *arguments, "lr0=0.01", "optimizer=SGD", "rect=True").wait(120)
    assert codes == [0, 0], output
    assert output.count("best weights") == output.count("going on with rect=False") == 1
    assert output.count("attention, 8 images of val: row 22 NAM ") == 1
    run = tmp_path / "runs/detect/train"
    assert [folder.name for folder in run.parent.iterdir()] == ["train"]
    assert [row["epoch"] for row in results_rows(run)] == [1, 2]
    assert all(row["train/nam_loss"] > 0 for row in results_rows(run))
    assert {f.name for f in (run / "weights").iterdir()} == {"best.pt", "last.pt"}
    assert listing(small_coco) == before

    command = ["--weights", run / "weights/best.pt", "--batch", 8, "--device", "cpu", "--name", "alone"]
    script("scripts/val_det.py", *command, cwd=tmp_path)
    together, alone = (json.loads((run.parent / name / "predictions.json").read_text()) for name in ("train", "alone"))
    assert len(together) == len(alone) > 8

    def order(found):
        return found["image_id"], found["category_id"], -found["score"], found["bbox"]

    for ours, expected in zip(sorted(together, key=order), sorted(alone, key=order), strict=True):
        assert ours["image_id"] == expected["image_id"]
        assert ours["score"] == pytest.approx(expected["score"], rel=1e-3)
        assert ours["bbox"] == pytest.approx(expected["bbox"], abs=0.05)


@pytest.mark.integration
@pytest.mark.parametrize("version", ["newest", pytest.param("oldest", marks=pytest.mark.slow)])
def test_two_machines_train_one_classifier(torchrun, tmp_path, request, version):
    if version == "oldest":
        request.getfixturevalue("on_oldest")
    for n in range(48):
        save_noise(tmp_path / "set" / ("train", "val")[n % 2] / "abc"[n % 3] / f"{n}.png", (40, 40))
    (tmp_path / "net-cls.yaml").write_text(CLASSIFIER)
    before = listing(tmp_path / "set")
    quick = ["--imgsz", 32, "--batch", 4, "--device", "cpu", "plots=False"]
    codes, output = torchrun(TRAIN, "--cfg", "net-cls.yaml", "--data", "set", "--epochs", 2, *quick).wait(120)
    assert codes == [0, 0], output
    run = tmp_path / "runs/classify/train"
    assert [row["epoch"] for row in results_rows(run)] == [1, 2]
    assert listing(tmp_path / "set") == before
    script("scripts/val_det.py", "--weights", run / "weights/best.pt", *quick, "--name", "alone", cwd=tmp_path)
    together, alone = (json.loads((run.parent / name / "predictions.json").read_text()) for name in ("train", "alone"))
    assert len(together) == 24
    assert [each.pop("confidence") for each in together] == [
        pytest.approx(each.pop("confidence"), abs=1e-3) for each in alone
    ]
    assert together == alone
    assert json.loads((run / "metrics.json").read_text())["images"] == 24


def kill_mid_epoch(machines, worker, epochs, timeout=120):
    deadline = time.time() + timeout
    while (epoch := epoch_begun(machines.output(), epochs)) is None:
        assert time.time() < deadline, machines.output()
        assert all(launcher.poll() is None for launcher in machines.launchers), machines.output()
        time.sleep(0.01)
    workers = machines.workers()
    os.kill(workers[worker].pid, signal.SIGKILL)
    return epoch, workers


@pytest.mark.integration
@pytest.mark.parametrize(
    ("version", "workers", "lost"),
    [
        ("newest", 1, 1),
        pytest.param("newest", 1, 0, marks=pytest.mark.slow),
        pytest.param("newest", 2, 3, marks=pytest.mark.slow),
        pytest.param("oldest", 1, 1, marks=pytest.mark.slow),
    ],
)
def test_lost_worker_is_reported_and_the_run_goes_on(torchrun, small_coco, tmp_path, request, version, workers, lost):
    """kill -9 in the middle of an epoch: the others end soon, and --resume goes on in as many processes, or in one."""
    if version == "oldest":
        request.getfixturevalue("on_oldest")
    arguments = ["--cfg", TINY_NAM, "--data", small_coco, "--imgsz", 320, "--batch", 4, "--device", "cpu"]
    arguments += ["--epochs", 5, "--nam-sparsity", "1e-3", "plots=False"]
    started = torchrun(TRAIN, *arguments, workers=workers)
    epoch, processes = kill_mid_epoch(started, lost, 5)
    codes, output = started.wait(60)
    assert 0 not in codes
    run = tmp_path / "runs/detect/train"
    (line,) = [line for line in output.splitlines() if LOST in line]
    assert line.endswith(f"; go on with train --resume {run}/weights/last.pt")
    assert not [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert [row["epoch"] for row in results_rows(run)] == list(range(1, epoch))

    shutil.copytree(run, tmp_path / "alone")
    codes, output = torchrun(TRAIN, "--resume", run / "weights/last.pt", workers=workers).wait(120)
    assert set(codes) == {0}, output
    script("scripts/train_det.py", "--resume", tmp_path / "alone/weights/last.pt", cwd=tmp_path)
    for folder in (run, tmp_path / "alone"):
        assert [row["epoch"] for row in results_rows(folder)] == [1, 2, 3, 4, 5]
        assert all(row["train/nam_loss"] > 0 for row in results_rows(folder))
        assert json.loads((folder / "metrics.json").read_text())["evaluator"].startswith("hotcoco")
    assert [folder.name for folder in run.parent.iterdir()] == ["train"]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cfg", TINY_NAM, "--data", "nowhere"], "nowhere: no such folder or file"),
        (["--epochs", "none"], "expected an int above 0, found 'none'"),
        (["--cfg", TINY_NAM, "--batch", 1], "batch=1: a training in 2 processes needs at least one image"),
        (["--cfg", TINY_NAM, "optimizer=Newton"], "Optimizer 'Newton' not found"),
        (["--weights", "best.pt"], "a validation runs in one process: start it without torchrun"),
    ],
)
def test_users_mistake_is_reported_once(torchrun, small_coco, tmp_path, arguments, message):
    data = [] if "--data" in arguments else ["--data", small_coco]
    command = [ROOT / "scripts/val_det.py" if "--weights" in arguments else TRAIN, *arguments, *data]
    codes, output = torchrun(*command, "--imgsz", 64, "--device", "cpu", machines=1, workers=2).wait(120)
    assert codes == [1]
    (line,) = [line for line in output.splitlines() if line.startswith("yolo-attn: error: ")]
    assert message in line
    assert "exitcode  : 2" in output
    assert [f.suffix for f in tmp_path.iterdir()] == [".log"]


RECORDING = """
import sys
import torch
from ultralytics.utils import RANK
from yolo_attn.engine.training.prepared import Prepared
from yolo_attn.engine.training.trainer import DetectionTrainer

class Recording(DetectionTrainer):
    def preprocess_batch(self, batch):
        self.batch = super().preprocess_batch(batch)
        self.weights = {k: v.clone() for k, v in self.model.module.state_dict().items()}
        return self.batch

    def optimizer_step(self):
        gradients = {k: p.grad for k, p in self.model.module.named_parameters()}
        batch = {k: self.batch[k] for k in ("img", "batch_idx", "cls", "bboxes", "im_file")}
        torch.save({"weights": self.weights, "batch": batch, "gradients": gradients}, f"rank{RANK}.pt")
        sys.exit()

data, device = sys.argv[1:]
settings = {"model": "yolov8n-nam.yaml", "data": data, "device": device, "imgsz": 64, "batch": 6, "nbs": 6}
Recording(overrides={**settings, "project": ".", "plots": False}, prepared=Prepared(nam_sparsity=0.01)).train()
"""


@pytest.mark.integration
def test_gradients_are_those_of_both_shards(torchrun, small_coco, tmp_path, monkeypatch):
    """Our trainer's own first step in two processes, against each one's pictures in turn in this one."""
    (tmp_path / "record.py").write_text(RECORDING)
    codes, output = torchrun(tmp_path / "record.py", small_coco, "cpu", machines=1, workers=2).wait(120)
    assert codes == [0], output
    recorded = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=False) for rank in (0, 1)]
    assert not set(recorded[0]["batch"]["im_file"]) & set(recorded[1]["batch"]["im_file"])
    expected = {p: combined_gradients(recorded, p) for p in (0.01, 0)}
    for part in recorded:
        assert part["gradients"].keys() == expected[0.01].keys()
        for name, gradient in part["gradients"].items():
            if gradient is None:
                assert expected[0.01][name] is None
                continue
            torch.testing.assert_close(gradient, expected[0.01][name], rtol=1e-3, atol=1e-3)
    scale = next(name for name in expected[0] if name.endswith("channel.bn.weight"))
    torch.testing.assert_close(
        expected[0.01][scale] - expected[0][scale], torch.full((64,), 6 * 0.01), rtol=1e-2, atol=0
    )


def combined_gradients(recorded, penalty):
    described = {**tasks.yaml_model_load("yolov8n-nam.yaml"), "nam_sparsity": penalty}
    model = tasks.DetectionModel(described, nc=3, verbose=False)
    model.load_state_dict(recorded[0]["weights"])
    model.args = get_cfg()
    for part in recorded:
        model.train().loss(part["batch"])[0].sum().backward()
    return {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.smoke
def test_workers_of_ultralytics_own_launch(torchrun, small_coco, tmp_path):
    """The file that Ultralytics generates for device=0,1, under its command, here with two processes on the CPU."""
    from ultralytics.utils.dist import generate_ddp_file

    settings = {"model": TINY_GAM, "data": str(small_coco), "epochs": 1, "imgsz": 64, "batch": 8}
    trainer = DetectionTrainer(
        overrides={**settings, "device": "cpu", "plots": False, "project": str(tmp_path), "name": "worker", "val": True}
    )
    codes, output = torchrun(generate_ddp_file(trainer), machines=1, workers=2).wait(120)
    assert codes == [0], output
    assert output.count("COCO AP small") == 1
    assert [row["epoch"] for row in results_rows(tmp_path / "worker")] == [1]
    assert json.loads((tmp_path / "worker/metrics.json").read_text())["evaluator"].startswith("hotcoco")


LAUNCH = """
import os, sys
import yolo_attn
from ultralytics import YOLO
from ultralytics.utils.dist import generate_ddp_file
from yolo_attn.engine.training.trainer import RunTrainer

def launch(trainer):
    print(generate_ddp_file(trainer))
    sys.exit()

RunTrainer.train = launch
data, weights = sys.argv[1:]
model = YOLO("yolov8n-gam.yaml").load(weights)
yolo_attn.identity_init(model, data + "/images/train", 64)
settings = {"epochs": 1, "imgsz": 64, "batch": 8, "device": "cpu", "plots": False, "val": False}
model.train(data=data, project=os.getcwd(), name="worker", **settings)
"""


@pytest.mark.integration
@pytest.mark.parametrize("version", ["newest", pytest.param("oldest", marks=pytest.mark.slow)])
def test_workers_know_the_model_that_plain_python_has_loaded(version, torchrun, base, small_coco, tmp_path, request):
    """Its gains and its transfer, where Ultralytics hands the model over and where it only names the files."""
    if version == "oldest":
        request.getfixturevalue("on_oldest")
    (tmp_path / "launch.py").write_text(LAUNCH)
    command = [sys.executable, "launch.py", small_coco, base]
    launched = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert launched.returncode == 0, launched.stderr
    codes, output = torchrun(launched.stdout.splitlines()[-1], machines=1, workers=2).wait(120)
    assert codes == [0], output
    reported = json.loads((tmp_path / "worker/transfer.json").read_text())
    assert reported["rows"]["inserted"] == reported["new_attention"] == [22, 23, 24]
    gains = own_gains(torch.load(tmp_path / "worker/weights/last.pt", weights_only=False)["model"])
    assert list(gains) == [22, 23, 24]
    assert all(3 < gain < 5 for gain in gains.values())


@pytest.mark.integration
def test_failed_workers_of_ultralytics_own_launch_are_reported_in_a_line(small_coco, tmp_path, monkeypatch, capfd):
    """Here with two processes on the CPU, which have one picture a batch between them."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    settings = {"model": TINY_GAM, "data": str(small_coco), "epochs": 1, "imgsz": 64, "batch": 1}
    trainer = DetectionTrainer(overrides={**settings, "device": "cpu", "project": str(tmp_path), "name": "worker"})
    trainer.ddp, trainer.world_size = True, 2
    with pytest.raises(UserError, match=r"^the workers of this training have failed, as reported above; there is no"):
        trainer.train()
    assert "batch=1: a training in 2 processes needs" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:9423", True),
        ("[/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms for recv", True),
        ("[/gloo/transport/tcp/pair.cc:81] writev [127.0.0.1]:1: Broken pipe", True),
        ("[enforce fail at gloo/types.h:104] op.preamble.length <= op.nbytes. 9 vs 8", False),
        ("size of tensor a (3) must match", False),
    ],
)
def test_only_a_broken_connection_is_a_lost_worker(text, lost, tmp_path):
    with pytest.raises(UserError if lost else RuntimeError, match=LOST if lost else None), lost_workers_reported():
        raise RuntimeError(text)


BLIND = """
import types
from yolo_attn.engine.training import distributed
from yolo_attn.errors import UserError

class Elsewhere(type(distributed.Path())):
    def exists(self):
        return distributed.RANK == 0

distributed.Path = Elsewhere
args = types.SimpleNamespace(batch=2, rect=False, device="cpu", save_dir=f"run-of-{distributed.RANK}")
try:
    distributed.enter(args)
    distributed.share_folder(args)
except UserError as error:
    print(f"reported {distributed.RANK}: {error}")
"""


@pytest.mark.integration
def test_machines_without_a_shared_folder_are_refused_at_once(torchrun, tmp_path):
    (tmp_path / "blind.py").write_text(BLIND)
    codes, output = torchrun(tmp_path / "blind.py").wait(120)
    assert codes == [0, 0], output
    for rank in (0, 1):
        assert f"reported {rank}: {tmp_path}/run-of-0: 1 of 2 processes do not see" in output
    assert {f.suffix for f in tmp_path.iterdir()} == {".log", ".py"}


@pytest.mark.parametrize(
    ("device", "visible", "local_rank", "local_size", "count", "expected"),
    [
        (None, None, 0, 1, 8, 0),
        ("", None, 3, 4, 8, 3),
        ("cuda", None, 1, 2, 2, 1),
        ("2,3", None, 1, 2, 4, 3),
        ([2, 3], None, 0, 2, 4, 2),
        ("cuda:1,cuda:0", None, 0, 2, 2, 1),
        ("0,1", "4,5", 1, 2, 2, 1),
        ("2,3", "2,3", 1, 2, 2, 1),  # as old versions of Ultralytics leave it
    ],
)
def test_gpu_of_a_process(device, visible, local_rank, local_size, count, expected):
    assert own_gpu(device, visible, local_rank, local_size, count) == expected


@pytest.mark.parametrize(
    ("device", "local_size", "count", "message"),
    [
        ("", 4, 2, "4 processes on this machine need a GPU each; it has 2"),
        (0, 2, 2, "2 processes on this machine need a GPU each"),
        ("0,1,2", 2, 4, "2 processes on this machine need a GPU each"),
        ("0,5", 2, 2, "it has 2"),
        ("-1,-1", 2, 2, "expected cpu, or the numbers of this machine's GPUs"),
        ("mps", 2, 2, "expected cpu"),
    ],
)
def test_too_few_gpus(device, local_size, count, message):
    with pytest.raises(UserError, match=message):
        own_gpu(device, None, 0, local_size, count)


@pytest.mark.integration
def test_process_that_has_met_no_other_tells_at_once(tmp_path, monkeypatch):
    """As Slurm starts one: rank 1 of a training whose rank 0 is not there."""
    place = {"RANK": 1, "LOCAL_RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 9}
    for name, value in place.items():
        monkeypatch.setenv(name, str(value))
    result = script(
        "scripts/train_det.py", "--cfg", "nowhere.yaml", "--device", "cpu", cwd=tmp_path, timeout=60, ends=2
    )
    assert result.stderr.splitlines()[-1].startswith("yolo-attn: error: --cfg nowhere.yaml: no such model")
