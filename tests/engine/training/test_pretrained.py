"""Trainings that start from a checkpoint of a model without the attention."""

import json
import os
import re
from dataclasses import replace

import pytest
import torch
from support import QUICK
from ultralytics import YOLO

import yolo_attn
from yolo_attn.cli import main
from yolo_attn.engine import api as engine_run
from yolo_attn.engine.training.prepared import WORKER_VARIABLE, Prepared, of_launcher
from yolo_attn.engine.training.trainer import DetectionTrainer
from yolo_attn.errors import UserError
from yolo_attn.model.names import MODEL_YAMLS
from yolo_attn.safe.safetensors_file import write_weights
from yolo_attn.weights.gains import own_gains


def number(file):
    """Tensors in a checkpoint."""
    return len(YOLO(file).model.state_dict())


def train(base, data, project, *arguments, cfg="yolov8n-nam.yaml", epochs=1):
    given = ["--cfg", cfg, "--weights", str(base), "--data", str(data), "--epochs", str(epochs), *QUICK]
    return main(["train", *given, "--project", str(project), *arguments, "plots=False", "val=False"])


@pytest.mark.integration
def test_identity_init_is_the_default_and_lives_in_the_checkpoint(base, small_coco, tmp_path, capsys):
    assert train(base, small_coco, tmp_path) == 0
    reported = json.loads((tmp_path / "train/transfer.json").read_text())
    assert reported["rows"] == {"matched": 23, "inserted": [22, 23, 24], "missing": []}
    assert reported["tensors"] == {"transferred": number(base), "of": number(base)}
    assert reported["source"] == f"{base} (yolov8n.yaml)"
    network = YOLO(tmp_path / "train/weights/last.pt").model
    gains = own_gains(network)
    assert all(1.8 < gain < 2.1 for gain in gains.values())
    assert {row: network.model[row].gain for row in (22, 23, 24)} == gains
    again = tmp_path / "train/weights/last.pt"
    assert (
        train(again, small_coco, tmp_path, "--name", "again") == 0
    )  # its layers have their weights, and keep their gains
    assert own_gains(YOLO(tmp_path / "again/weights/last.pt").model) == gains


@pytest.mark.integration
def test_identity_init_leaves_rows_that_give_their_own_gain(base, small_coco, tmp_path, caplog):
    """Also where that gain is 1; the others get theirs."""
    text = (MODEL_YAMLS / "yolov8-nam.yaml").read_text()
    cfg = tmp_path / "yolov8n-own.yaml"
    cfg.write_text(text.replace("NAM, []", "NAM, [{gain: 3}]", 1).replace("NAM, []", "NAM, [{gain: 1}]", 1))
    assert train(base, small_coco, tmp_path, cfg=str(cfg)) == 0
    network = YOLO(tmp_path / "train/weights/last.pt").model
    gains = own_gains(network)
    assert (gains[22], gains[23]) == (3, 1)
    assert 1.8 < gains[24] < 2.1
    assert {row: network.model[row].gain for row in (22, 23, 24)} == gains
    line = next(message for message in caplog.messages if message.startswith("identity-init"))
    assert "22 NAM left as it is, 23 NAM left as it is, 24 NAM" in line


@pytest.mark.integration
def test_identity_init_can_be_turned_off(base, small_coco, tmp_path):
    assert train(base, small_coco, tmp_path, "--no-identity-init") == 0
    assert own_gains(YOLO(tmp_path / "train/weights/last.pt").model) == {}


@pytest.mark.integration
def test_identity_init_changes_nothing_of_what_the_training_sees(base, small_coco, tmp_path, monkeypatch):
    """The same pictures, augmented alike, in the same order, as without it."""
    seen = []

    def preprocess_batch(self, batch):
        if hasattr(self, "epoch"):  # not yet while gains are measured
            seen.append((tuple(batch["im_file"]), int(batch["img"].long().sum())))
        return super(DetectionTrainer, self).preprocess_batch(batch)

    monkeypatch.setattr(DetectionTrainer, "preprocess_batch", preprocess_batch)
    assert train(base, small_coco, tmp_path, "workers=1") == 0
    assert train(base, small_coco, tmp_path, "workers=1", "--no-identity-init") == 0
    assert len(seen) == 4
    assert seen[:2] == seen[2:]


def test_identity_init_needs_weights(small_coco, tmp_path, capsys):
    arguments = ["--cfg", "yolov8n-nam.yaml", "--data", str(small_coco), "--project", str(tmp_path / "runs")]
    assert main(["train", *arguments, "--identity-init"]) == 2
    assert "--identity-init: without --weights" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.integration
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_other_files_of_weights(suffix, base, small_coco, tmp_path, caplog):
    """Into a model of the data's classes; --verbose shows where each row's weights come from."""
    network, file = YOLO(base).model, tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(network.state_dict(), file)
    else:
        write_weights(network, file)
    assert train(file, small_coco, tmp_path, "--verbose", cfg="yolov8n-c2f-nam.yaml") == 0
    reported = json.loads((tmp_path / "train/transfer.json").read_text())
    assert reported["tensors"] == {"transferred": number(base), "of": number(base)}
    assert reported["new_attention"] == [2, 4, 6, 8, 12, 15, 18, 21]
    output = "\n".join(caplog.messages)
    tensors = f"{number(base)} of {number(base)} tensors"
    assert f"23 rows matched (8 with new attention inside), 0 inserted; {tensors}" in output
    assert re.search(r"\n +2 +2 +C2f_NAM +24/24 +7,360/7,360\n", output)


@pytest.mark.integration
def test_weights_that_do_not_fit(base, small_coco, tmp_path, capsys):
    tensors = tmp_path / "weights.pth"
    torch.save(YOLO(base).model.state_dict(), tensors)
    for cfg, weights, message in (
        (
            "yolov8s-gam.yaml",
            base,
            f"--weights {base} (yolov8n.yaml) does not fit yolov8s-gam.yaml: scale n, expected s",
        ),
        ("yolo11n-gam.yaml", base, "does not fit yolo11n-gam.yaml: another family"),
        ("yolo11n.yaml", base, "does not fit yolo11n.yaml: another family"),
        ("yolov8n-seg-gam.yaml", base, "its head, Detect, is of the task detect, expected segment"),
        ("yolov8s-gam.yaml", tensors, f"--weights {tensors} does not fit yolov8s-gam.yaml"),
    ):
        assert train(weights, small_coco, tmp_path / "runs", cfg=cfg) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert main(["val", "--weights", str(tensors), "--data", str(small_coco)]) == 2
    assert "a state dict, without its model YAML; it can only be trained from" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.integration
def test_weights_that_do_not_fit_in_both_other_ways_to_train(base, small_coco, tmp_path, capsys):
    """In Ultralytics' grammar and in plain Python: a line, and no folder."""
    runs = tmp_path / "runs"
    message = f"{base} (yolov8n.yaml) does not fit yolo11n-gam.yaml: another family"
    settings = {"data": str(small_coco), "pretrained": str(base), "device": "cpu", "project": str(runs)}
    given = [f"{key}={value}" for key, value in settings.items()]
    assert main(["train", "model=yolo11n-gam.yaml", *given]) == 2
    assert message in capsys.readouterr().err
    with pytest.raises(UserError, match=re.escape(message)):
        YOLO("yolo11n-gam.yaml").train(**settings)
    (tmp_path / "garbage.pt").write_bytes(b"no checkpoint")
    for name, reason in (
        ("gone.pt", "no such file"),
        ("garbage.pt", "not an Ultralytics checkpoint"),
        ("", "a folder"),
    ):
        with pytest.raises(UserError, match=rf"^pretrained {re.escape(str(tmp_path / name))}: {reason}"):
            YOLO("yolov8n-gam.yaml").train(**{**settings, "pretrained": str(tmp_path / name)})
    attended = tmp_path / "attended.pt"
    network = YOLO("yolov8n-gam.yaml").model
    torch.save({"model": network, "train_args": {}}, attended)
    with pytest.raises(UserError, match=r"attended.pt \(yolov8n-gam.yaml\) does not fit yolo11n.yaml"):
        YOLO("yolo11n.yaml").train(**{**settings, "pretrained": attended})
    assert not runs.exists()


@pytest.mark.integration
def test_plain_python(base, small_coco, tmp_path):
    """`load` and then `train`: one report, from the checkpoint to the model of the data's classes, and its gains."""
    model = YOLO("yolov8n-gam.yaml").load(base)
    gains = yolo_attn.identity_init(model, small_coco / "images/train", 64)
    settings = {"imgsz": 64, "batch": 8, "device": "cpu", "plots": False, "val": False}
    model.train(data=str(small_coco), epochs=1, project=str(tmp_path), name="run", **settings)
    reported = json.loads((tmp_path / "run/transfer.json").read_text())
    assert reported["rows"]["inserted"] == [22, 23, 24]
    assert own_gains(model.model) == gains
    assert [model.model.model[row].gain for row in gains] == list(gains.values())
    assert reported["classes"] == {"source": 3, "target": 3}
    assert reported["tensors"]["of"] == number(base)
    assert reported["tensors"]["transferred"] > 0.8 * number(base)  # of the 80 classes of the YAML in between
    with pytest.raises(UserError, match="scale n, expected s"):
        YOLO("yolov8s-gam.yaml").load(base)


@pytest.mark.integration
def test_options_of_a_training_are_its_own(small_coco, base, tmp_path, monkeypatch):
    """Not the process's, whose environment stays; the checkpoint and the data have been read."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # else PyTorch sets it as it is first used
    seen, before = [], dict(os.environ)
    monkeypatch.setattr(engine_run, "_run", lambda task, args, prepared: seen.append(prepared))
    arguments = ["train", "--cfg", "yolov8n-nam.yaml", "--data", str(small_coco), "--project", str(tmp_path)]
    assert main([*arguments, "--weights", str(base), "--nam-sparsity", "1e-4", "--freeze-base", "2"]) == 0
    (given,) = seen
    assert (given.nam_sparsity, given.identity_init, given.freeze_base) == (1e-4, True, 2)
    assert (given.source.pt_path, given.data["nc"], list(given.examined)) == (str(base), 3, ["train", "val"])
    assert os.environ == before


@pytest.mark.integration
def test_a_worker_gets_what_its_launcher_was_given(base, monkeypatch):
    launcher = Prepared(nam_sparsity=0.5, identity_init=True, freeze_base=3, weights=str(base), source=object())
    monkeypatch.setenv(WORKER_VARIABLE, launcher.message("yolov8n-gam.yaml"))
    worker = of_launcher()
    assert worker == replace(launcher, source=None)
    assert len(worker.load_source().model) == len(YOLO(base).model.model)
    model = YOLO("yolov8n-gam.yaml").load(base)
    monkeypatch.setenv(WORKER_VARIABLE, Prepared().message(model.model))
    assert of_launcher().transfer["rows"]["inserted"] == [22, 23, 24]
    monkeypatch.delenv(WORKER_VARIABLE)
    assert of_launcher() == Prepared()
