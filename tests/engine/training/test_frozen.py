"""--freeze-base: the base stays bit for bit for the first epochs, and trains afterwards."""

import pytest
import torch
from support import QUICK, listing
from torch import nn
from ultralytics import YOLO

from yolo_attn.cli import main
from yolo_attn.engine import api as run
from yolo_attn.engine.api import Training
from yolo_attn.engine.preflight import checks
from yolo_attn.engine.training.frozen import KEY
from yolo_attn.engine.training.trainer import DetectionTrainer
from yolo_attn.model.names import MODEL_YAMLS
from yolo_attn.model.registry import LAYERS

SETTINGS = {"imgsz": 64, "batch": 8, "device": "cpu", "plots": False, "val": False, "optimizer": "SGD", "lr0": 0.1}


def changed(base, model):
    """Names of the base's tensors that are others in a model with attention at the neck, and of its attention's."""
    before, after = YOLO(base).model.state_dict(), model.float().state_dict()
    rows = {key: key.replace("model.22.", "model.25.") for key in before}
    return {key for key, place in rows.items() if not torch.equal(before[key].float(), after[place].float())}


def settings(small_coco, epochs, **more):
    return {**SETTINGS, "data": str(small_coco), "epochs": epochs, **more}


@pytest.mark.integration
def test_the_base_stays_bit_for_bit(base, small_coco, tmp_path, caplog):
    """Its parameters and statistics, in the model and in its moving average; the attention trains meanwhile."""
    reported = Training(
        "yolov8n-gam.yaml",
        settings(small_coco, 2),
        str(tmp_path),
        str(base),
        freeze_base=2,
        identity_init=False,
    )
    trainer = run.train(reported)
    assert changed(base, trainer.model) == set()
    assert changed(base, trainer.ema.ema) == set()
    assert KEY in trainer.model.yaml
    norms = [m for row in (22, 23, 24) for m in trainer.model.model[row].modules() if hasattr(m, "running_mean")]
    assert len(norms) == 6
    assert all(norm.num_batches_tracked > 0 for norm in norms)
    assert all(norm.bias.abs().sum() > 0 for norm in norms)  # they began at 0
    new = sum(len(trainer.model.model[row].state_dict()) for row in (22, 23, 24))
    assert "--freeze-base 2: the base never trains, since epochs=2" in caplog.messages
    frozen = f"the base is frozen for the first 2 epochs: only what got no weights trains, {new} tensors"
    assert frozen in caplog.messages


class Normed(nn.Module):
    """A user's layer whose batch norm has statistics alone."""

    def __init__(self, channels):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))
        self.norm = nn.BatchNorm2d(channels, affine=False)

    def forward(self, x):
        return x * torch.sigmoid(self.norm(x) * self.scale)


@pytest.mark.integration
def test_statistics_of_a_new_layer_train_without_parameters_beside_them(base, small_coco, tmp_path, monkeypatch):
    monkeypatch.setitem(LAYERS, "Normed", Normed)
    cfg = tmp_path / "yolov8n-normed.yaml"
    cfg.write_text((MODEL_YAMLS / "yolov8-gam.yaml").read_text().replace("GAM, []", "Normed, []"))
    trainer = run.train(Training(str(cfg), settings(small_coco, 1), str(tmp_path / "runs"), str(base), freeze_base=1))
    for model in (trainer.model, trainer.ema.ema):
        assert changed(base, model) == set()
        assert all(model.model[row].norm.running_mean.abs().sum() > 0 for row in (22, 23, 24))  # they began at 0


@pytest.mark.integration
def test_then_everything_trains_and_own_freeze_holds(base, small_coco, tmp_path, caplog):
    more = settings(small_coco, 2, save_period=1, freeze=2)
    trainer = run.train(Training("yolov8n-gam.yaml", more, str(tmp_path), str(base), freeze_base=1))
    first = YOLO(tmp_path / "train/weights/epoch0.pt").model
    assert changed(base, first) == set()
    assert first.yaml[KEY]["epochs"] == 1
    assert {name.split(".")[1] for name in first.yaml[KEY]["new"]} == {"22", "23", "24"}
    rows = {int(key.split(".")[1]) for key in changed(base, trainer.model)}
    assert rows >= {2, 4, 6, 8, 9, 12, 15, 18, 21, 22}
    assert not {key for key in changed(base, trainer.model) if key.startswith(("model.0.conv", "model.1.conv"))}
    assert KEY not in trainer.model.yaml
    assert KEY not in YOLO(trainer.last).model.yaml
    assert any(line.startswith("the base is frozen for the first epoch: only what") for line in caplog.messages)
    assert not any("never trains" in line for line in caplog.messages)


class CutError(Exception):
    """Ends a training as a kill does, behind a checkpoint."""


@pytest.mark.integration
def test_a_cut_training_goes_on_frozen(base, small_coco, tmp_path, monkeypatch):
    """Cut behind the first of two frozen epochs: the second is frozen too, the third is not."""
    save = DetectionTrainer.save_model

    def save_and_cut(self):
        save(self)
        raise CutError

    monkeypatch.setattr(DetectionTrainer, "save_model", save_and_cut)
    with pytest.raises(CutError):
        run.train(
            Training(
                "yolov8n-gam.yaml", settings(small_coco, 3, save_period=1), str(tmp_path), str(base), freeze_base=2
            )
        )
    monkeypatch.undo()
    last = tmp_path / "train/weights/last.pt"
    assert YOLO(last).model.yaml[KEY]["epochs"] == 2
    assert main(["train", "--resume", str(last)]) == 0
    second = YOLO(tmp_path / "train/weights/epoch1.pt").model
    assert changed(base, second) == set()
    third = YOLO(last).model
    assert len(changed(base, third)) > 200
    assert KEY not in third.yaml


@pytest.mark.integration
def test_a_new_training_from_a_frozen_checkpoint_is_not_frozen(base, small_coco, tmp_path):
    run.train(Training("yolov8n-nam.yaml", settings(small_coco, 1), str(tmp_path), str(base), freeze_base=1))
    model = YOLO(tmp_path / "train/weights/last.pt")
    assert KEY in model.model.yaml
    model.train(**settings(small_coco, 1), project=str(tmp_path), name="again")
    assert KEY not in model.model.yaml
    assert len(changed(base, model.model)) > 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cfg", "yolov8n-gam.yaml"], "--freeze-base 1: without --weights there is no base to freeze"),
        (["--cfg", "yolov8n-simam.yaml", "--weights"], "nothing would train, every parameter has its weights from"),
        (["--cfg", "yolov8n-gam.yaml", "freeze=25", "--weights"], "nothing would train, freeze=25 holds the rest"),
        (["--cfg", "yolov8n-gam.yaml", "freeze=[22,23,24]", "--weights"], "freeze=[22, 23, 24] holds the rest"),
        (["--resume", "last.pt"], "--freeze-base cannot change with --resume"),
    ],
)
def test_nothing_to_freeze_or_to_train(arguments, message, base, small_coco, tmp_path, capsys):
    given = [*arguments, str(base)] if arguments[-1] == "--weights" else arguments
    data = [] if "--resume" in arguments else ["--data", str(small_coco), "--project", str(tmp_path / "runs"), *QUICK]
    assert main(["train", *given, *data, "--freeze-base", "1"]) == 2
    assert message in capsys.readouterr().err
    assert listing(tmp_path) == []


@pytest.mark.integration
@pytest.mark.parametrize("device", ["0,1", "[0,1]"])
def test_no_compiled_model_on_several_devices(device, base, small_coco, tmp_path, capsys, monkeypatch):
    """As where the devices are there."""
    monkeypatch.setattr(checks, "select_device", lambda *args, **kwargs: None)
    arguments = ["--cfg", "yolov8n-gam.yaml", "--weights", str(base), "--data", str(small_coco), "--imgsz", "64"]
    arguments += ["--project", str(tmp_path / "runs"), "--device", device, "--freeze-base", "2", "compile=True"]
    assert main(["train", *arguments]) == 2
    assert "--freeze-base 2: compile=True does not go with it on several devices" in capsys.readouterr().err
    assert listing(tmp_path) == []


RECORDING = """
import sys
import torch
from ultralytics.utils import RANK
from yolo_attn.engine.training.prepared import Prepared
from yolo_attn.engine.training.trainer import DetectionTrainer

class Recording(DetectionTrainer):
    def run_callbacks(self, event):
        super().run_callbacks(event)
        if event == "on_train_epoch_end":
            model = self.model.module
            gains = [model.model[row].gain for row in (22, 23, 24)]
            parameters = {name: p.detach().clone() for name, p in model.named_parameters()}
            buffers = {name: b.clone() for name, b in model.named_buffers()}
            content = {"gains": gains, "parameters": parameters, "buffers": buffers}
            torch.save(content, f"rank{RANK}-{self.epoch}.pt")

data, weights = sys.argv[1:]
settings = {"model": "yolov8n-gam.yaml", "pretrained": weights, "data": data, "device": "cpu", "imgsz": 64, "batch": 8}
more = {"epochs": 2, "nbs": 8, "optimizer": "SGD", "lr0": 0.1, "project": ".", "plots": False, "val": False}
Recording(overrides={**settings, **more}, prepared=Prepared(freeze_base=1, identity_init=True)).train()
"""


@pytest.mark.slow
def test_several_processes(torchrun, base, small_coco, tmp_path, monkeypatch):
    """Equal gains; the base stays in the first epoch; in the second the processes learn it together."""
    (tmp_path / "record.py").write_text(RECORDING)
    codes, output = torchrun(tmp_path / "record.py", small_coco, base, machines=1, workers=2).wait(240)
    assert codes == [0], output
    before = YOLO(base).model.state_dict()
    before = {key.replace("model.22.", "model.25."): value.float() for key, value in before.items()}
    for epoch in (0, 1):
        first, second = (torch.load(tmp_path / f"rank{rank}-{epoch}.pt") for rank in (0, 1))
        assert first["gains"] == second["gains"]
        assert all(3 < gain < 5 for gain in first["gains"])
        assert all(torch.equal(p, second["parameters"][name]) for name, p in first["parameters"].items())
        for found in (first, second):
            own = {**found["parameters"], **found["buffers"]}
            others = {key for key, value in before.items() if not torch.equal(own[key].float(), value)}
            assert not others if epoch == 0 else len(others) > 200
