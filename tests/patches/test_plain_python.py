"""`YOLO(...)` as people use it: our classes where they are needed, Ultralytics' own elsewhere."""

import json
import pickle
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from support import TINY, TINY_SIMAM, as_detections, coco_yaml, listing, pycocotools_scores, run_python, txt_data
from ultralytics import RTDETR, YOLO
from ultralytics.engine.validator import BaseValidator
from ultralytics.models import rtdetr, yolo

import yolo_attn  # noqa: F401  registers the row names
from yolo_attn.cli import main
from yolo_attn.coco.evaluate import METRICS
from yolo_attn.engine.training import trainer
from yolo_attn.engine.validation import validator
from yolo_attn.errors import UserError

SMALL = {"imgsz": 64, "batch": 8, "device": "cpu", "plots": False}


@pytest.fixture(scope="module")
def txt_yaml(tmp_path_factory):
    return txt_data(tmp_path_factory.mktemp("txt"))


class RunSeenError(Exception):
    """Ends a run as soon as its class is known."""


def class_of_run(model, mode, **settings):
    """The trainer or validator that a call would use."""
    seen = []

    def stop(run):
        seen.append(type(run))
        raise RunSeenError

    model.add_callback({"train": "on_pretrain_routine_start", "val": "on_val_start"}[mode], stop)
    with pytest.raises(RunSeenError):
        getattr(model, mode)(**settings)
    return seen[0]


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("yolov8n.yaml", "txt", yolo.detect.DetectionTrainer),
        ("yolov8n.yaml", "coco8.yaml", yolo.detect.DetectionTrainer),
        ("yolov8n.yaml", "coco", trainer.DetectionTrainer),
        ("yolov8n.yaml", "coco yaml", trainer.DetectionTrainer),
        ("yolov8n-gam.yaml", "txt", trainer.DetectionTrainer),
        ("yolov8n-gam.yaml", "coco8.yaml", trainer.DetectionTrainer),
        ("yolov8n-c2f-nam.yaml", "txt", trainer.DetectionTrainer),
        ("yolov8n-cls.yaml", "txt", yolo.classify.ClassificationTrainer),
        ("yolov8n-seg.yaml", "coco", trainer.SegmentationTrainer),
        ("rtdetr-l.yaml", "txt", rtdetr.train.RTDETRTrainer),
        ("rtdetr-l.yaml", "coco", trainer.RTDETRTrainer),
        ("yolov8n.yaml", "txt", yolo.detect.DetectionValidator),
        ("yolov8n.yaml", "coco", validator.DetectionValidator),
        ("yolov8n-gam.yaml", "txt", validator.DetectionValidator),
    ],
)
def test_class_is_ours_where_it_is_needed(name, data, expected, txt_yaml, small_coco, tmp_path):
    written = coco_yaml(small_coco, tmp_path / "coco.yaml")
    data = {"txt": txt_yaml, "coco": small_coco, "coco yaml": written}.get(data, data)
    model = (RTDETR if "rtdetr" in name else YOLO)(name)
    model.model.names = {0: "circle", 1: "a"}
    mode = "val" if issubclass(expected, BaseValidator) else "train"
    assert class_of_run(model, mode, **SMALL, data=data, project=str(tmp_path / "runs")) is expected


def test_model_of_another_task_is_one_clear_error(small_coco, tmp_path):
    settings = {**SMALL, "data": str(small_coco), "project": str(tmp_path / "runs")}
    with pytest.raises(UserError, match=r"yolov8n-gam.yaml: its head, Detect, is of the task detect, expected segment"):
        YOLO("yolov8n-gam.yaml", task="segment").train(**settings)
    assert not (tmp_path / "runs").exists()


def test_class_that_the_caller_names_is_kept(small_coco, tmp_path):
    own = type("Own", (trainer.DetectionTrainer,), {})
    settings = {**SMALL, "data": str(small_coco), "project": str(tmp_path), "trainer": own}
    assert class_of_run(YOLO("yolov8n-gam.yaml"), "train", **settings) is own


@pytest.mark.smoke
def test_attention_trains_on_txt_labels(txt_yaml, tmp_path):
    metrics = YOLO(TINY_SIMAM).train(data=str(txt_yaml), epochs=1, project=str(tmp_path), **SMALL)
    assert not hasattr(metrics, "coco")
    assert "COCO" not in (tmp_path / "train/results.csv").read_text()


@pytest.fixture
def labels_as_predictions(monkeypatch):
    """Our validator predicts every second label, so that scores are neither 0 nor 1."""
    prepare = validator.DetectionValidator.preprocess

    def preprocess(self, batch):
        self.batch = prepare(self, batch)
        return self.batch

    def postprocess(self, preds):
        every = [as_detections(self.batch, i) for i in range(len(self.batch["im_file"]))]
        return [{name: values[::2] for name, values in found.items()} for found in every]

    monkeypatch.setattr(validator.DetectionValidator, "preprocess", preprocess)
    monkeypatch.setattr(validator.DetectionValidator, "postprocess", postprocess)


@pytest.mark.integration
@pytest.mark.parametrize("verbose", [True, False])
def test_classes_are_printed_as_ultralytics_prints_its_own(verbose, trained, tmp_path, caplog):
    model = YOLO(trained.folder / "weights/best.pt")
    with caplog.at_level("INFO", logger="ultralytics"):
        model.val(device="cpu", project=str(tmp_path), plots=False, verbose=verbose)
    texts = [record.getMessage().split() for record in caplog.records]
    assert bool([text for text in texts if text[:2] == ["circle", "AP"]]) is verbose
    assert [text for text in texts if text[:2] == ["COCO", "bbox"]]


@pytest.mark.integration
def test_metrics_hold_cocos_numbers_beside_ultralytics_own(trained, labels_as_predictions, tmp_path):
    model = YOLO(trained.folder / "weights/best.pt")
    for split, device in (("val", torch.device("cpu")), ("train", "cpu")):
        metrics = model.val(split=split, device=device, project=str(tmp_path), name=split, plots=False)
        truth = trained.data / f"annotations/instances_{split}.json"
        stats, per_class = pycocotools_scores(truth, tmp_path / split / "predictions.json")
        np.testing.assert_allclose([metrics.coco.metrics[m] for m in METRICS], stats, atol=1e-9)
        assert 0.1 < metrics.coco.metrics["AP"] < 0.9
        assert {name: list(scores.values()) for name, scores in metrics.coco.per_class.items()} == {
            name: pytest.approx(scores, abs=1e-9) for name, scores in per_class.items()
        }
        assert metrics is model.metrics
        assert metrics.fitness == metrics.results_dict["fitness"] == metrics.results_dict["metrics/COCO_AP"] == stats[0]
        assert metrics.results_dict["metrics/COCO_AP50"] == stats[1]
        assert metrics.results_dict["metrics/mAP50-95(B)"] == metrics.box.map
        assert pickle.loads(pickle.dumps(metrics)).coco == metrics.coco
        report = json.loads((tmp_path / split / "metrics.json").read_text())
        assert not [key for key in report["ultralytics"] if "COCO" in key]
        assert report["settings"]["device"] == "cpu"


@pytest.mark.integration
def test_training_returns_them_too(small_coco, labels_as_predictions, tmp_path, monkeypatch):
    """Of a relative path, in a run that another folder could go on with; callbacks fire."""
    monkeypatch.chdir(small_coco.parent)
    before, epochs = listing(small_coco), []
    model = YOLO(TINY)
    model.add_callback("on_train_epoch_end", lambda run: epochs.append(run.epoch))
    metrics = model.train(data=small_coco.name, epochs=2, project=str(tmp_path), name="run", **SMALL)
    assert epochs == [0, 1]
    stats, _ = pycocotools_scores(small_coco / "annotations/instances_val.json", tmp_path / "run/predictions.json")
    assert 0.1 < metrics.coco.metrics["AP"] == pytest.approx(stats[0], abs=1e-9)
    assert "COCO" not in str(json.loads((tmp_path / "run/metrics.json").read_text())["ultralytics"])
    best = torch.load(tmp_path / "run/weights/best.pt", weights_only=False)
    assert best["train_metrics"]["fitness"] == pytest.approx(stats[0], abs=1e-4)
    assert best["train_args"]["data"] == str(small_coco)
    assert model.val(project=str(tmp_path), device="cpu").coco == metrics.coco
    assert listing(small_coco) == before


@pytest.mark.integration
def test_several_sets_are_one(small_coco, tmp_path):
    data = [str(small_coco), str(shutil.copytree(small_coco, tmp_path / "again"))]
    metrics = YOLO(TINY_SIMAM).train(data=data, epochs=1, project=str(tmp_path), **SMALL)
    report = json.loads((tmp_path / "train/data_report.json").read_text())
    alone = json.loads((small_coco / "annotations/instances_train.json").read_text())
    assert report["train"]["images"] == 2 * len(alone["images"])
    again = YOLO(tmp_path / "train/weights/best.pt").val(data=data, project=str(tmp_path), **SMALL)
    assert again.coco.metrics == pytest.approx(metrics.coco.metrics)


def test_sets_of_two_formats_are_not_joined(small_coco, tmp_path):
    other = str(txt_data(tmp_path / "txt"))
    with pytest.raises(UserError, match=r"data.yaml: not COCO-format, as the others are; they cannot be joined"):
        YOLO(TINY_SIMAM).train(data=[str(small_coco), other], project=str(tmp_path), **SMALL)


@pytest.mark.integration
def test_a_relative_project_lies_below_the_current_folder_whoever_is_asked(small_coco, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    settings = {**SMALL, "epochs": 1, "val": False}
    YOLO(TINY_SIMAM).train(data=str(small_coco), project="runs/x", name="python", **settings)
    words = [f"{key}={value}" for key, value in settings.items()]
    assert main(["train", f"model={TINY_SIMAM}", f"data={small_coco}", "project=runs/x", "name=grammar", *words]) == 0
    assert main(["train", "--cfg", TINY_SIMAM, "--data", str(small_coco), "project=runs/x", "name=ours", *words]) == 0
    best = "runs/x/ours/weights/best.pt"
    YOLO(best).predict(small_coco / "images/val", project="runs/x", name="seen", save=True, imgsz=64, verbose=False)
    assert {folder.name for folder in (tmp_path / "runs/x").iterdir()} == {"python", "grammar", "ours", "seen"}
    for name in ("python", "grammar", "ours"):
        assert f"run folder: {tmp_path}/runs/x/{name}" in caplog.text


@pytest.mark.integration
def test_a_finished_training_does_not_go_on(trained, tmp_path, monkeypatch, capsys):
    last = shutil.copytree(trained.folder, tmp_path / "runs/detect/train") / "weights/last.pt"
    line = "last.pt: that training is finished, there is nothing to go on with; a new one begins from it with train"
    with pytest.raises(AssertionError, match=line):
        YOLO(last).train(resume=True)
    with pytest.raises(AssertionError, match=line):
        YOLO(TINY_SIMAM).train(resume=str(last))
    monkeypatch.chdir(tmp_path)
    for words in (["resume=True"], ["resume"], [f"resume={last}"], [f"resume={last.parents[1]}"], ["--resume"]):
        assert main(["train", *words]) == 2
        assert line in capsys.readouterr().err


def test_pretrained_weights_that_are_missing_are_reported_as_by_the_command(small_coco, tmp_path):
    settings = {"data": str(small_coco), "project": str(tmp_path), **SMALL}
    with pytest.raises(UserError, match=r"^pretrained yolov8n.pt: no such file; it is the best.pt or last.pt of a"):
        YOLO("yolov8n.yaml").train(pretrained="yolov8n.pt", **settings)


@pytest.mark.parametrize("mode", ["train", "val"])
def test_wrong_data_is_one_clear_error_and_leaves_nothing(mode, tmp_path, make_coco, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, settings = YOLO("yolov8n-gam.yaml"), {**SMALL, "project": str(tmp_path / "runs")}

    def reported(data):
        with pytest.raises(UserError) as error:
            getattr(model, mode)(data=data, **settings)
        return str(error.value)

    assert reported("gone") == "gone: no such folder or file; expected a COCO-format folder or a data YAML"
    (tmp_path / "empty").mkdir()
    assert "empty: no annotations for" in reported("empty")
    (tmp_path / "broken.yaml").write_text("annotations: [")
    assert "broken.yaml: not a readable YAML file" in reported("broken.yaml")
    for split in ("train", "val"):
        folder = make_coco([(1, "a.jpg")], [], root=f"images/{split}", split=split)
    assert {"train": "no box to train on", "val": "are none of the 80 classes"}[mode] in reported(folder)
    make_coco([(1, "a.jpg")], [{"image_id": 1, "category_id": 7, "bbox": [90, 5, 9, 9]}], split="train")
    assert {"train": "no box to train on", "val": "are none of the 80 classes"}[mode] in reported(folder)
    assert not (tmp_path / "runs").exists()


def test_model_without_a_trainer_for_coco_format_data(small_coco, tmp_path):
    model = YOLO("yolov8s-world.yaml")
    model.model.names = {0: "circle"}
    for mode in (model.train, model.val):
        with pytest.raises(UserError, match="YOLOWorld takes no COCO-format data"):
            mode(data=str(small_coco), project=str(tmp_path / "runs"), **SMALL)
    assert not (tmp_path / "runs").exists()


@pytest.mark.integration
def test_data_of_a_checkpoint_that_is_gone(trained, tmp_path):
    model = YOLO(trained.folder / "weights/best.pt")
    model.overrides["data"] = str(tmp_path / "gone")
    with pytest.raises(UserError, match="gone: no such folder or file"):
        model.val(device="cpu", project=str(tmp_path / "runs"))


CUT = """
import os, signal
import yolo_attn
from ultralytics import YOLO

model = YOLO("yolov8n-cut.yaml")
model.add_callback("on_model_save", lambda run: os.kill(os.getpid(), signal.SIGKILL) if run.epoch == 1 else None)
model.train(data="data", epochs=4, imgsz=64, batch=8, device="cpu", plots=False, project=os.path.abspath("runs"))
"""


@pytest.mark.integration
def test_cut_off_training_goes_on_in_a_fresh_process(small_coco, tmp_path):
    """With trainer, COCO's columns and the penalty of the YAML; the process need not import this package."""
    from yolo_attn.model.names import MODEL_YAMLS

    text = (MODEL_YAMLS / "yolov8-nam.yaml").read_text() + "nam_sparsity: 0.0001\n"
    (tmp_path / "yolov8n-cut.yaml").write_text(text)
    (tmp_path / "data").symlink_to(small_coco)
    run_python(CUT, tmp_path, ends=-signal.SIGKILL)
    run = tmp_path / "runs/train"
    before = (run / "results.csv").read_text().splitlines()
    assert len(before) == 3
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code = f"""
from ultralytics import YOLO
metrics = YOLO({str(run / "weights/last.pt")!r}).train(resume=True)
print("AP", metrics.coco.metrics["AP"])
"""
    run_python(code, elsewhere)
    lines = (run / "results.csv").read_text().splitlines()
    assert lines[:3] == before
    assert [line.split(",")[0] for line in lines] == ["epoch", "1", "2", "3", "4"]
    rows = [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]
    assert all(float(row["train/nam_loss"]) > 0 and "metrics/COCO_AP50" in row for row in rows)
    assert list(elsewhere.iterdir()) == []
    assert list((tmp_path / "runs").iterdir()) == [run]


LIFE = """
import os
import yolo_attn
from ultralytics import YOLO

if __name__ == "__main__":
    model = YOLO("yolov8n-gam.yaml")
    settings = dict(imgsz=64, device="cpu", project=os.path.abspath("runs"))
    model.train(data="data", epochs=1, batch=8, **settings)
    print("AP", model.val(data="data", split="train", name="on_train", **settings).coco.metrics["AP"])
    print("pictures", len(model.predict("data/images/val", conf=0.01, save=True, **settings)))
    print("exported", model.export(format="torchscript", imgsz=64, device="cpu"))
"""

AFTERWARDS = """
import os
from ultralytics import YOLO

settings = dict(imgsz=64, device="cpu", project=os.path.abspath("runs"))
print("AP", YOLO("runs/train/weights/best.pt").val(name="again", **settings).coco.metrics["AP"])
import yolo_attn
exported = YOLO("runs/train/weights/best.torchscript", task="detect")
print("AP", exported.val(data="data", name="exported", **settings).coco.metrics["AP"])
"""


@pytest.mark.slow
def test_life_of_a_model_in_two_processes(small_coco, tmp_path):
    (tmp_path / "data").symlink_to(small_coco)
    before = listing(small_coco)
    (tmp_path / "life.py").write_text(LIFE)
    result = subprocess.run([sys.executable, "life.py"], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert result.returncode == 0, result.stderr
    assert "pictures 8" in result.stdout
    assert "COCO AP50" in result.stdout
    runs = tmp_path / "runs"
    assert (runs / "train/results.png").exists()
    assert json.loads((runs / "on_train/metrics.json").read_text())["annotations"].endswith("instances_train.json")
    assert len(list((runs / "predict").glob("*.jpg"))) == 8
    result = run_python(AFTERWARDS, tmp_path)
    for name in ("again", "exported"):
        assert json.loads((runs / name / "metrics.json").read_text())["annotations"].endswith("instances_val.json")
    assert listing(small_coco) == before


TUNE = """
import os
import yolo_attn
from ultralytics import YOLO

settings = dict(imgsz=64, batch=8, device="cpu", plots=False, project=os.path.abspath("runs"))
YOLO({name!r}).tune(data="data", epochs=1, iterations=2, **settings)
"""


@pytest.mark.integration
@pytest.mark.parametrize("name", ["yolov8n.yaml", pytest.param("yolov8n-simam.yaml", marks=pytest.mark.slow)])
def test_tuning_compares_by_coco_ap(name, small_coco, tmp_path):
    (tmp_path / "data").symlink_to(small_coco)
    run_python(TUNE.format(name=name), tmp_path)
    (results,) = (tmp_path / "runs").glob("tune/tune_results.*json")
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    best = torch.load(tmp_path / "runs/tune/weights/best.pt", weights_only=False)["train_metrics"]
    assert [row["datasets"]["data"]["metrics/COCO_AP"] for row in rows] == [row["fitness"] for row in rows]
    assert best["fitness"] == best["metrics/COCO_AP"]


def test_a_validation_of_random_weights_says_so(small_coco, tmp_path, caplog):
    model = YOLO(TINY)
    model.model.names = dict(enumerate(("triangle", "circle", "star")))
    settings = {"data": str(small_coco), "project": str(tmp_path), **SMALL}
    model.val(**settings)
    assert caplog.text.count("not trained, its weights are random") == 1
    torch.save({"model": model.model, "train_args": {}}, tmp_path / "best.pt")
    YOLO(tmp_path / "best.pt").val(**settings)
    model.load(tmp_path / "best.pt").val(**settings)
    assert caplog.text.count("not trained, its weights are random") == 1


@pytest.mark.parametrize(
    ("call", "module", "extra"),
    [("track(image, verbose=False)", "lap", "track"), ("export(format='onnx', simplify=False)", "onnx", "export")],
)
@pytest.mark.integration
def test_a_package_that_is_missing_is_one_line(call, module, extra, tmp_path):
    code = f"""
import sys
import numpy as np
from ultralytics import YOLO
sys.modules[{module!r}] = None
import yolo_attn
image = np.zeros((64, 64, 3), np.uint8)
try:
    YOLO("yolov8n-gam.yaml").{call}
except ModuleNotFoundError as error:
    assert isinstance(error, yolo_attn.errors.UserError)
    print(error)
"""
    shown = run_python(code, tmp_path, YOLO_AUTOINSTALL="false").stdout
    line = f'needs {module}, not installed here: pip install "yolo_attn[{extra}]"'
    assert shown.splitlines()[-1].endswith(line)


def test_the_error_on_an_own_trainer_or_validator_names_the_class_to_derive_from(small_coco):
    class Mine(yolo.detect.DetectionTrainer):
        pass

    class Looks(yolo.segment.SegmentationValidator):
        pass

    line = "trainer=Mine: Ultralytics' own cannot read COCO-format data; derive it from yolo_attn.DetectionTrainer"
    with pytest.raises(UserError, match=re.escape(line)):
        YOLO("yolov8n-gam.yaml").train(data=str(small_coco), trainer=Mine)
    with pytest.raises(UserError, match=r"derive it from yolo_attn\.SegmentationValidator"):
        YOLO("yolov8n-seg-gam.yaml").val(data=str(small_coco), validator=Looks)
