"""Training on COCO JSON: files, columns, resuming, other data."""

import json
import logging
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from support import (
    QUICK,
    ROOT,
    TINY_NAM,
    TINY_SIMAM,
    epoch_begun,
    listing,
    results_rows,
    script,
    train_and_cut,
    txt_data,
)
from ultralytics import YOLO
from ultralytics.utils.callbacks import get_default_callbacks

from yolo_attn.cli import main
from yolo_attn.coco.dataset.locations import load_source
from yolo_attn.coco.evaluate import METRICS, CocoScores
from yolo_attn.engine.training.trainer import DetectionTrainer
from yolo_attn.engine.validation import validator
from yolo_attn.layers import GAM


@pytest.mark.smoke
def test_run_folder_is_complete(trained):
    files = {f.name for f in trained.folder.iterdir()}
    assert files >= {"results.csv", "results.png", "args.yaml", "metrics.json", "predictions.json", "weights"}
    assert {f.name for f in (trained.folder / "weights").iterdir()} == {"best.pt", "last.pt"}
    table = (ROOT / "docs/runs.md").read_text().split("# What a run leaves")[1].split("\n\n")[1]
    listed = re.findall(r"`([^`]+)`", "".join(line.split("|")[1] for line in table.splitlines()))
    assert {name for name in listed if not (trained.folder / name).is_file()} == {"transfer.json"}  # with --weights
    assert len(listed) == 9


@pytest.mark.integration
def test_data_yaml_of_the_run_names_both_splits(trained):
    described = yaml.safe_load((trained.folder / "data.yaml").read_text())
    assert set(described["annotations"]) == {"train", "val"}
    assert list(described["names"].values()) == ["triangle", "circle", "star"]
    assert (
        load_source(trained.folder / "data.yaml", ["train", "val"])["train"].folders[0] == trained.data / "images/train"
    )


@pytest.mark.integration
@pytest.mark.trap(11)
def test_users_folder_is_untouched(trained):
    assert listing(trained.data) == trained.before


def test_trainers_leave_the_callbacks_that_they_are_given_as_they_are(small_coco, tmp_path):
    """Those of a model that is trained twice, or of the launcher whose worker this is: nothing is printed twice."""
    given = get_default_callbacks()
    given["on_train_end"].append(print)
    settings = {"model": str(TINY_NAM), "data": str(small_coco), "project": str(tmp_path), "device": "cpu"}
    first = DetectionTrainer(overrides=settings, _callbacks=given)
    first.add_callback("on_train_start", print)
    assert given == {**get_default_callbacks(), "on_train_end": [*get_default_callbacks()["on_train_end"], print]}
    again = DetectionTrainer(overrides=settings, _callbacks=first.callbacks)
    assert len(again.callbacks["on_train_end"]) == len(first.callbacks["on_train_end"])


@pytest.mark.smoke
def test_results_csv_holds_coco_each_epoch(trained):
    columns, rows = trained.rows()
    assert [len(row) for row in rows] == [len(columns)] * 2
    assert {"metrics/COCO_AP", "metrics/COCO_AP50", "metrics/mAP50(B)", "val/box_loss", "coco/ARl"} <= set(columns)
    with Image.open(trained.folder / "results.png") as plot:
        assert plot.width < 4000  # as with COCO's AP and AP50 alone


@pytest.mark.smoke
def test_closing_table_and_progress(trained):
    for text in ("COCO AP50", "COCO AP small", "GFLOPs", "at 64 px", "best.pt", "100%", "box_loss"):
        assert text in trained.output
    assert re.search(r"\nparameters +5,1\d\d,\d\d\d\n", trained.output)
    assert re.search(r"attention, 8 images of val: row 22 GAM .*; row 23 GAM .*; row 24 GAM .*%", trained.output)


@pytest.mark.integration
@pytest.mark.trap(19)
def test_validation_can_be_left_out_until_the_end(small_coco, tmp_path):
    """val=False: every row of results.csv still has the header's columns."""
    arguments = ["--cfg", TINY_SIMAM, "--data", str(small_coco), "--epochs", "2", *QUICK]
    assert main(["train", *arguments, "--project", str(tmp_path), "val=False", "plots=False"]) == 0
    lines = (tmp_path / "train" / "results.csv").read_text().splitlines()
    assert len({line.count(",") for line in lines}) == 1
    assert len(lines) == 3


def settings(data, folder, name="cut", **more):
    """Of a short training by its trainer."""
    short = {"model": TINY_SIMAM, "epochs": 3, "imgsz": 64, "batch": 8, "device": "cpu", "plots": False}
    return {**short, "data": str(data), "project": str(folder), "name": name, **more}


def train_and_kill(*arguments, epochs, cwd):
    """Train by the script, and kill -9 in the middle of an epoch behind the first; returns which."""
    command = [sys.executable, ROOT / "scripts" / "train_det.py", *map(str, arguments), "--epochs", str(epochs)]
    log = cwd / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=cwd, stdout=stream, stderr=subprocess.STDOUT)
    deadline = time.time() + 120
    try:
        while (epoch := epoch_begun(log.read_text(errors="replace"), epochs)) is None:
            assert time.time() < deadline, log.read_text(errors="replace")
            assert process.poll() is None, log.read_text(errors="replace")
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    return epoch


@pytest.mark.smoke
@pytest.mark.trap(5)
def test_killed_training_goes_on_in_a_fresh_process(small_coco, tmp_path):
    """Trainer, penalty and COCO's numbers go on, each epoch has one row."""
    arguments = ["--cfg", TINY_NAM, "--data", small_coco, "--name", "cut", *QUICK, "--batch", 2, "--imgsz", 320]
    epoch = train_and_kill(*arguments, "--nam-sparsity", "1e-3", "plots=False", epochs=6, cwd=tmp_path)
    run = tmp_path / "runs" / "detect" / "cut"
    before = (run / "results.csv").read_text().splitlines()
    assert len(before) == epoch  # the header, and no row of the epoch that was cut
    script("scripts/train_det.py", "--resume", run / "weights" / "last.pt", cwd=tmp_path)
    assert (run / "results.csv").read_text().splitlines()[: len(before)] == before
    assert [row["epoch"] for row in results_rows(run)] == [1, 2, 3, 4, 5, 6]
    assert all(row["train/nam_loss"] > 0 for row in results_rows(run))
    assert all("metrics/COCO_AP" in row for row in results_rows(run))
    assert json.loads((run / "metrics.json").read_text())["evaluator"].startswith("hotcoco")
    assert [f.name for f in run.parent.iterdir()] == ["cut"]
    finished = script("scripts/train_det.py", "--resume", cwd=tmp_path, ends=2)
    assert "is finished, there is nothing to go on with" in finished.stderr


@pytest.mark.slow
def test_killed_training_of_a_model_without_a_file_goes_on_from_another_folder(base, small_coco, tmp_path):
    """Its name means a base with attention put in; the gains that it began with stay."""
    arguments = ["--cfg", "yolov8n-gam-stages.yaml", "--weights", base, "--data", small_coco, "--name", "cut", *QUICK]
    train_and_kill(*arguments, "--batch", 2, "plots=False", "val=False", epochs=4, cwd=tmp_path)
    run, elsewhere = tmp_path / "runs" / "detect" / "cut", tmp_path / "elsewhere"
    cut, reported = torch.load(run / "weights/last.pt", weights_only=False), (run / "transfer.json").read_text()
    rows = [row[2:] for row in cut["ema"].yaml["backbone"] if row[2] == "GAM"]
    assert len(rows) == 4
    assert all(row[1][0]["gain"] > 1 for row in rows)
    elsewhere.mkdir()
    script("scripts/train_det.py", "--resume", run / "weights/last.pt", cwd=elsewhere)
    assert list(elsewhere.iterdir()) == []
    assert [row["epoch"] for row in results_rows(run)] == [1, 2, 3, 4]
    model = YOLO(run / "weights/last.pt").model
    assert [row[2:] for row in model.yaml["backbone"] if row[2] == "GAM"] == rows
    assert [m.gain for m in model.modules() if isinstance(m, GAM)] == [row[1][0]["gain"] for row in rows]
    assert (run / "transfer.json").read_text() == reported


@pytest.mark.integration
def test_resumed_rows_follow_the_checkpoint_wherever_the_run_lies(small_coco, tmp_path):
    """A run cut between its row and its checkpoint, with half a row behind, and then moved elsewhere."""
    train_and_cut(DetectionTrainer, "save_metrics", 1, **settings(small_coco, tmp_path))
    with (tmp_path / "cut/results.csv").open("a") as stream:
        stream.write("3,1.5,2")
    (tmp_path / "cut").rename(tmp_path / "moved")
    assert main(["train", "--resume", str(tmp_path / "moved/weights/last.pt"), "plots=False"]) == 0
    assert [f.name for f in tmp_path.iterdir()] == ["moved"]
    lines = (tmp_path / "moved/results.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", "1", "2", "3"]
    assert len({line.count(",") for line in lines}) == 1


@pytest.mark.integration
def test_results_that_a_full_disk_left_empty_are_begun_anew(small_coco, tmp_path):
    """With a header; what is written is the caller's own still."""
    written = []

    class Cut(DetectionTrainer):
        def save_metrics(self, metrics):
            if self.epoch == 1:
                raise KeyboardInterrupt
            written.append((metrics, dict(metrics)))
            super().save_metrics(metrics)

    with pytest.raises(KeyboardInterrupt):
        Cut(overrides=settings(small_coco, tmp_path)).train()
    ((metrics, before),) = written
    assert list(metrics.items()) == list(before.items())
    assert {"lr/pg0", "metrics/COCO_AP"} <= metrics.keys()
    header = (tmp_path / "cut/results.csv").read_text().splitlines()[0]
    (tmp_path / "cut/results.csv").write_bytes(b"")
    assert main(["train", "--resume", str(tmp_path / "cut/weights/last.pt"), "plots=False"]) == 0
    assert (tmp_path / "cut/results.csv").read_text().splitlines()[0] == header
    assert [row["epoch"] for row in results_rows(tmp_path / "cut")] == [2, 3]


@pytest.mark.integration
def test_resumed_epochs_take_the_pictures_in_another_order_than_the_first(small_coco, tmp_path):
    """Ultralytics' loader begins again as in epoch 1; the losses of that epoch would be seen twice."""
    more = {"epochs": 2, "batch": 4, "workers": 0, "mosaic": 0.0, "val": False}
    seen = []

    class Recording(DetectionTrainer):
        def preprocess_batch(self, batch):
            if self.epoch == 1 and not self.resume:
                raise KeyboardInterrupt
            seen.append((self.epoch, tuple(batch["im_file"])))
            return super().preprocess_batch(batch)

    with pytest.raises(KeyboardInterrupt):
        Recording(overrides=settings(small_coco, tmp_path, **more)).train()
    first = [files for epoch, files in seen if epoch == 0]
    seen.clear()
    last = str(tmp_path / "cut/weights/last.pt")
    Recording(overrides={"model": last, "resume": last, "device": "cpu"}).train()
    assert {epoch for epoch, _ in seen} == {1}
    assert [files for _, files in seen] != first
    assert sorted(sum((files for _, files in seen), ())) == sorted(sum(first, ()))


@pytest.mark.integration
def test_kill_while_saving_leaves_the_whole_checkpoint(small_coco, tmp_path, monkeypatch):
    trainer = DetectionTrainer(overrides=settings(small_coco, tmp_path, epochs=2))
    write = Path.write_bytes

    def torn(file, content):
        if trainer.epoch == 1:
            write(file, content[:1000])
            raise KeyboardInterrupt
        return write(file, content)

    monkeypatch.setattr(Path, "write_bytes", torn)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    last = torch.load(tmp_path / "cut/weights/last.pt", weights_only=False)
    assert last["epoch"] == 0
    assert torch.load(tmp_path / "cut/weights/best.pt", weights_only=False)["epoch"] == 0


@pytest.mark.integration
def test_data_of_a_resumed_training_has_the_same_classes(small_coco, tmp_path, capsys):
    train_and_cut(DetectionTrainer, "save_model", **settings(small_coco, tmp_path, epochs=2))
    shutil.copytree(small_coco, tmp_path / "other")
    for split in ("train", "val"):
        file = tmp_path / f"other/annotations/instances_{split}.json"
        content = json.loads(file.read_text())
        content["categories"][0]["name"] = "blob"
        file.write_text(json.dumps(content))
    arguments = ["--resume", str(tmp_path / "cut/weights/last.pt"), "--data", str(tmp_path / "other")]
    assert main(["train", *arguments]) == 2
    assert "and " + str(tmp_path / "other") + " has" in capsys.readouterr().err


@pytest.mark.integration
def test_coco_ap_decides_best_against_ultralytics_fitness(small_coco, tmp_path, monkeypatch):
    """COCO AP falls from epoch to epoch while Ultralytics' own mAP is untouched: the first epoch stays best."""
    scores = iter([0.3, 0.2, 0.1, 0.0])

    def falling(index, detections, kind, rules):
        return CocoScores("falling", {name: next(scores) if name == "AP" else 0.5 for name in METRICS}, {})

    monkeypatch.setattr(validator, "coco_scores", falling)
    trainer = DetectionTrainer(overrides=settings(small_coco, tmp_path, "best", lr0=0.01))
    trainer.train()
    assert torch.load(trainer.best, weights_only=False)["train_metrics"]["fitness"] == pytest.approx(0.3)
    assert torch.load(trainer.last, weights_only=False)["train_metrics"]["fitness"] == pytest.approx(0.1)


@pytest.mark.integration
@pytest.mark.trap(13)
def test_scales_escape_weight_decay_and_matrix_optimizers(small_coco, tmp_path):
    overrides = {"model": "yolov8n-nam.yaml", "data": str(small_coco), "device": "cpu", "project": str(tmp_path)}
    trainer = DetectionTrainer(overrides=overrides)
    model = trainer.get_model("yolov8n-nam.yaml", verbose=False)
    for name in ("SGD", "MuSGD"):
        groups = trainer.build_optimizer(model, name=name, decay=0.1).param_groups
        for layer in model.model[22:25]:
            scale = layer.channel.bn.weight
            (group,) = [g for g in groups if any(p is scale for p in g["params"])]
            assert group["weight_decay"] == 0
            assert not group.get("use_muon", False)


@pytest.mark.integration
def test_txt_labels_of_an_ordinary_data_yaml(tmp_path, caplog):
    arguments = ["--cfg", TINY_SIMAM, "--data", txt_data(tmp_path / "set"), "--epochs", 1, *QUICK]
    assert main(["train", *map(str, arguments), "--project", str(tmp_path)]) == 0
    assert "Ultralytics mAP50-95" in caplog.text
    assert "attention, 4 images of val: row 4 SimAM " in caplog.text
    run = tmp_path / "train"
    assert "COCO" not in (run / "results.csv").read_text()
    metrics = json.loads((run / "metrics.json").read_text())
    assert "AP" not in metrics
    assert metrics["ultralytics"]["evaluator"].startswith("Ultralytics")


@pytest.mark.integration
def test_own_weights_are_taken_and_others_refused(trained, small_coco, tmp_path, capsys):
    best = trained.folder / "weights" / "best.pt"
    arguments = ["--data", str(small_coco), "--weights", str(best), "--epochs", "1", *QUICK, "--project", str(tmp_path)]
    assert main(["train", "--cfg", "yolov8n-gam.yaml", *arguments, "plots=False", "lr0=0", "optimizer=SGD"]) == 0
    capsys.readouterr()
    assert main(["train", "--cfg", "yolo11n-gam.yaml", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--weights {best} (yolov8n-gam.yaml) does not fit yolo11n-gam.yaml: another family" in line
    assert [f.name for f in tmp_path.iterdir()] == ["train"]


@pytest.mark.integration
def test_a_training_on_the_demo_set_ends_with_its_pictures_and_what_to_do_next(tmp_path, monkeypatch, caplog):
    logging.getLogger("ultralytics").addHandler(caplog.handler)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--cfg", TINY_NAM, "--epochs", "1", "--imgsz", "32", "--device", "cpu", "workers=0"]) == 0
    logging.getLogger("ultralytics").removeHandler(caplog.handler)
    lines = caplog.records[-1].message.split("\n")
    pictures = [Path(line.split()[-1]) for line in lines if line.startswith("look at")]
    assert [picture.name for picture in pictures] == ["results.png", "val_batch0_labels.jpg", "val_batch0_pred.jpg"]
    assert all(picture.is_file() for picture in pictures)
    (command,) = [line.partition("yolo-attn ")[2].split() for line in lines if line.startswith("next")]
    assert main([*command, "--limit", "2", "--pictures", "1", "--device", "cpu"]) == 0
