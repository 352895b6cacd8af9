"""Every mistake on the command line: one line, exit code 2, nothing left behind."""

import json
import os
import shutil
from importlib import import_module

import pytest
import torch
import yaml
from support import QUICK, coco_yaml
from ultralytics import YOLO

from yolo_attn.cli import main


@pytest.mark.integration
def test_train_mistakes(refusal, small_coco, tmp_path):
    good = ["--cfg", "yolov8n-gam.yaml", "--data", small_coco, *QUICK]

    def train(*more):
        return refusal("train", *good, *more)

    assert "missing: no such folder or file" in train("--data", "missing")
    assert "yolov8n-gem.yaml: no such model; did you mean yolov8n-gam.yaml" in train("--cfg", "yolov8n-gem.yaml")
    assert "no such model; similar names:" in train("--cfg", "yolov8ngem.yaml")
    assert "expected a model YAML" in train("--cfg", "yolov8n.pt")
    assert "Ultralytics has no such setting; did you mean" in train("mosiac=0")
    assert "'mosaic'" in train("mosaic=lots")
    assert "'--epochz': unknown; did you mean --epochs?" in train("--epochz", "3")
    assert "'--no-plots': unknown; did you mean plots=False?" in train("--no-plots")
    assert "'--plots': unknown; did you mean plots=True?" in train("--plots")
    assert "'--lr0=0.1': unknown; did you mean lr0=0.1?" in train("--lr0=0.1")
    assert "'--qqq': unknown; expected an option or key=value" in train("--qqq")
    assert "expected an int above 0, found 'many'" in train("--epochs", "many")
    assert "expected an option or key=value" in train("justaword")
    assert "--weights gone.pt: no such file; it is the best.pt or last.pt of a training" in train(
        "--weights", "gone.pt"
    )
    for option in ("--data", "--project", "--cache-dir"):
        assert "~no-such-user/x: there is no home folder of that user here" in train(option, "~no-such-user/x")
    for option in ("--imgsz", "--batch", "--epochs"):
        assert "expected an int above 0, found '0'" in train(option, "0")
    assert "use --cfg or --weights" in train("model=yolov8n.yaml")
    assert "--weights gone.pt: no such file" in train("pretrained=gone.pt")
    assert "use --cfg" in train("cfg=yolov8n-nam.yaml")
    assert "'imgsz=64': given more than once" in train("imgsz=64")
    assert "this command does not take it" in train("split=test")
    assert "this command does not take it" in refusal("val", "--weights", "w.pt", "epochs=5")
    assert "its head is WorldDetect; heads of models that are trained are Detect, v10Detect, RTDETRDecoder" in train(
        "--cfg", "yolov8n-world.yaml"
    )
    assert "its head, Segment, is of the task segment, and --task says detect" in train(
        "--cfg", "yolov8n-seg.yaml", "--task", "detect"
    )
    assert "no annotations for 'train'; expected annotations/person_keypoints_train.json" in train(
        "--cfg", "yolov8n-pose.yaml"
    )
    assert "the demo set has no labels for obb; give --data" in refusal("train", "--cfg", "yolov8n-obb.yaml")
    assert "no folder 'train' in it; classifiers are trained on" in train("--cfg", "yolov8n-cls.yaml")
    assert "the demo set has no labels for pose; give --data" in refusal("train", "--cfg", "yolov8n-pose.yaml")
    assert "cache=disk would write" in train("cache=disk")
    assert "'single_cls=True': given more than once" in train("--single-cls", "single_cls=True")
    assert "argument --seed: expected an int from 0 to 2**32 - 1, found 'abc'" in train("seed=abc")
    assert "optimizer=Foo" in train("optimizer=Foo").replace("'Foo'", "optimizer=Foo")
    assert "froze the entire model" in train("freeze=100")
    assert "it is empty" in train("--data", "")
    assert "it is empty" in train("--weights", " ")
    assert train("--device", "foo").endswith("--device foo: no such device here, PyTorch sees no GPU; try --device cpu")
    for penalty in ("-1", "nan", "inf", "much"):
        told_of = f"argument --nam-sparsity: expected a number of at least 0, such as 1e-4, found '{penalty}'"
        assert told_of in train("--nam-sparsity", penalty)
    nothing = "--nam-sparsity 0.1: no row of yolov8n-gam.yaml names NAM"
    assert nothing in refusal("train", "--cfg", "yolov8n-gam.yaml", "--nam-sparsity", "0.1")
    assert "from 0 to 2**32 - 1" in train("--seed", "-1")
    assert "from 0 to 2**32 - 1" in train("--seed", 2**40)
    for name in ("..", "../out", "/tmp/abs", ".", "n" * 300):
        assert "expected a folder name" in train("--name", name)
    assert "no such folder or file" in train("--data", "x" * 5000)
    assert "choose another --project" in train("--project", "x" * 5000)
    assert "yolov8-gam.yaml" in train("--cfg", "YOLOV8N-GEM.yaml")
    assert "no such model; did you mean yolov8n-gam.yaml?" in train("--cfg", "YOLOv8n-GAM.yaml")
    assert "did you mean yolov8n-gam.yaml or yolov8s-gam.yaml" in train("--cfg", "yolov8z-gam.yaml")
    assert "did you mean yolov8n.yaml or yolov8s.yaml" in train("--cfg", "yolov8z.yaml")
    assert "no last.pt under" in refusal("train", "--resume")
    assert "--resume gone.pt: no such file; it is the last.pt of a" in refusal("train", "--resume", "gone.pt")
    (tmp_path / "empty").mkdir()
    assert "empty/weights/last.pt: no such file" in refusal("train", "--resume", tmp_path / "empty")
    assert "'--max-dets': unknown; it is an option of val" in train("--max-dets", "1,10,300")
    assert "'--modules': unknown; expected an option or key=value" in train("--modules", "x")
    assert "'--imgz': unknown; did you mean --imgsz?" in train("--imgz", "64")
    for fixed in (
        ["--epochs", "5"],
        ["--weights", "w.pt"],
        ["--seed", "3"],
        ["--name", "q"],
        ["lr0=1"],
        ["--cfg", "a"],
    ):
        assert "cannot change with --resume" in refusal("train", "--resume", "gone.pt", *fixed)
    assert "train needs --cfg" in refusal("train", "--data", small_coco)
    assert "required: COMMAND" in refusal()
    if not torch.cuda.is_available():
        assert "no such device here" in train("--device", "0")


def test_wrong_files(refusal, small_coco, tmp_path):
    (tmp_path / "wrong.pt").write_bytes(b"not a checkpoint")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "tensor.pt")
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "yolov8n-bad.yaml").write_text(
        "nc: 1\nbackbone:\n  - [-1, 1, Conv, [many, 3]]\nhead:\n  - [[0], 1, Detect, [nc]]\n"
    )
    good = ["--cfg", "yolov8n-gam.yaml", "--data", small_coco, *QUICK]
    for name, message in (
        ("wrong.pt", "wrong.pt: refused, no checkpoint that can be read: File is not a zip file; --trust"),
        ("tensor.pt", "tensor.pt: it holds tensors named weights, expected a checkpoint of Ultralytics', or"),
        ("list.yaml", "list.yaml: expected a checkpoint, a file ending with .pt, .pth or .safetensors"),
    ):
        lines = (
            refusal("train", *good, "--weights", tmp_path / name),
            refusal("val", "--weights", tmp_path / name, "--data", small_coco),
            refusal("train", "--resume", tmp_path / name),
        )
        for option, line in zip(("--weights", "--weights", "--resume"), lines, strict=True):
            if (name, option) == ("wrong.pt", "--resume"):
                message = "wrong.pt: not an Ultralytics checkpoint"
            assert f"{option} {tmp_path}/{message}" in line
            assert "yolo26n" not in line
    assert f"--weights {tmp_path}: a folder, expected a file" in refusal("train", *good, "--weights", tmp_path)
    os.mkfifo(tmp_path / "fifo.pt")
    for option in (["train", *good, "--weights"], ["val", "--weights"], ["train", "--resume"]):
        assert f"{option[-1]} {tmp_path}/fifo.pt: a FIFO, expected a plain file" in refusal(
            *option, tmp_path / "fifo.pt"
        )
    for name in ("best.onnx", "best.torchscript"):
        (tmp_path / name).write_bytes(b"exported")
        assert f"yolo-attn val model={tmp_path / name}" in refusal("val", "--weights", tmp_path / name)
    (tmp_path / "yolov8n-typo.yaml").write_text("nc: 1\nbackbonee: []\nhead:\n  - [[0], 1, Detect, [nc]]\n")
    line = refusal("train", *good, "--cfg", tmp_path / "yolov8n-typo.yaml")
    assert "found 'nc, backbonee, head', expected rows under backbone:" in line
    for name, said in (
        ("list.yaml", "not a model YAML"),
        ("yolov8n-bad.yaml", "not a model that Ultralytics can build"),
    ):
        assert said in refusal("train", *good, "--cfg", tmp_path / name)


@pytest.mark.integration
def test_missing_package_that_no_checkpoint_names(refusal, small_coco, monkeypatch):
    """It holds no layer of the user's."""

    def lacking(self):
        import_module("no_such_package")

    monkeypatch.setattr("yolo_attn.engine.training.trainer.DetectionTrainer._setup_train", lacking)
    line = refusal("train", "--cfg", "yolov8n-gam.yaml", "--data", small_coco, *QUICK)
    assert line.endswith("ModuleNotFoundError: No module named 'no_such_package'")


def test_wrong_row_names_its_file(refusal, small_coco, tmp_path):
    from yolo_attn.model.names import MODEL_YAMLS

    text = (MODEL_YAMLS / "yolov8-gam.yaml").read_text().replace("[15, 1, GAM, []]", "[15, 1, GAM, [512, 512]]")
    (tmp_path / "yolov8n-own.yaml").write_text(text)
    line = refusal("train", "--cfg", tmp_path / "yolov8n-own.yaml", "--data", small_coco, *QUICK)
    assert "yolov8n-own.yaml, row 22: 512 looks like a channel count" in line


def test_broken_data(refusal, small_coco, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(small_coco, data)
    arguments = ["--cfg", "yolov8n-gam.yaml", "--data", data, *QUICK]
    for picture in (data / "images/val").iterdir():
        picture.write_bytes(b"")
    assert "images under" in refusal("train", *arguments)
    content = json.loads((data / "annotations/instances_train.json").read_text())
    for annotations, count in (([a for a in content["annotations"] if a["iscrowd"]], 2), ([], 0)):
        (data / "annotations/instances_train.json").write_text(json.dumps({**content, "annotations": annotations}))
        shutil.copytree(small_coco / "images/val", data / "images/val", dirs_exist_ok=True)
        assert f"no box to train on in its 16 images, {count} annotations are crowds" in refusal("train", *arguments)
    for change, problem in (
        ({"bbox": [500, 500, 20, 20]}, "× box without area inside its image, skipped: annotation "),
        ({"bbox": [5, 5, 20, -1]}, "× box without area inside its image, skipped: annotation "),
        ({"category_id": 99}, "× annotation of an unknown category, skipped: annotation "),
    ):
        changed = {**content, "annotations": [{**a, **change} for a in content["annotations"]]}
        (data / "annotations/instances_train.json").write_text(json.dumps(changed))
        line = refusal("train", *arguments)
        assert "instances_train.json: no box to train on in its 16 images" in line
        assert problem in line
    (data / "annotations/instances_train.json").write_text('{"images": [')
    assert "instances_train.json: not valid JSON" in refusal("train", *arguments)
    (data / "annotations/instances_train.json").unlink()
    assert "no annotations for 'train'" in refusal("train", *arguments)


def test_unwritable_project(refusal, small_coco, tmp_path):
    (tmp_path / "file").write_text("in the way")
    arguments = ["--cfg", "yolov8n-gam.yaml", "--data", small_coco, *QUICK]
    assert "choose another --project" in refusal("train", *arguments, "--project", tmp_path / "file" / "runs")
    assert "choose another --project" in refusal("train", *arguments, "--project", "/proc/runs")


@pytest.mark.integration
def test_weights_of_other_classes(refusal, trained, make_coco):
    folder = make_coco([(1, "a.jpg")], [], [(1, "zebra")])
    line = refusal("val", "--weights", trained.folder / "weights/best.pt", "--data", folder)
    assert "its 1 categories (zebra) are none of the 3 classes that the model knows" in line


def test_validation_data_of_other_classes(refusal, make_coco):
    make_coco(
        [(1, "a.jpg")], [{"image_id": 1, "category_id": 7, "bbox": [1, 1, 9, 9]}], split="train", root="images/train"
    )
    folder = make_coco([(1, "a.jpg")], [], [(7, "zebra")])
    line = refusal("train", "--cfg", "yolov8n-gam.yaml", "--data", folder, *QUICK)
    assert "its 1 categories (zebra) are none of the 2 classes" in line


def test_names_beside_annotations_must_be_the_jsons(refusal, small_coco, tmp_path):
    file = coco_yaml(small_coco, tmp_path / "data.yaml", names=["circle", "dog"])
    assert "names has dog, which" in refusal("train", "--cfg", "yolov8n-gam.yaml", "--data", file, *QUICK)


def test_interrupt_is_no_traceback(monkeypatch, capsys):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("yolo_attn.cli.train.run", interrupted)
    assert main(["train", "--cfg", "yolov8n-gam.yaml"]) == 130
    assert "train --resume continues a training" in capsys.readouterr().err


def test_plain_data_yaml(refusal, tmp_path):
    """What a data YAML would download or run stays undone."""
    for download in (f"open({str(tmp_path / 'ran')!r}, 'w')", "http://127.0.0.1:9/x.zip"):
        text = yaml.safe_dump({"path": str(tmp_path), "train": "a", "val": "b", "names": ["x"], "download": download})
        (tmp_path / "data.yaml").write_text(text)
        arguments = ["--cfg", "yolov8n-gam.yaml", "--data", tmp_path / "data.yaml", *QUICK]
        assert "images not found" in refusal("train", *arguments)
    assert not (tmp_path / "ran").exists()
    (tmp_path / "data.yaml").write_text("train: a\nnames: [x]\n")
    assert "'val:' key missing" in refusal(
        "train", "--cfg", "yolov8n-gam.yaml", "--data", tmp_path / "data.yaml", *QUICK
    )


@pytest.mark.integration
def test_checkpoints_of_no_task_or_another_one(refusal, small_coco, tmp_path):
    torch.save({"model": torch.nn.Linear(2, 2)}, tmp_path / "linear.pt")
    YOLO("yolov8n-seg.yaml").save(tmp_path / "seg.pt")
    data = ["--data", small_coco]
    assert "no model of a known task" in refusal("val", "--weights", tmp_path / "linear.pt", *data)
    other = "its head, Segment, is of the task segment, expected detect"
    assert other in refusal("val", "--weights", tmp_path / "seg.pt", *data, "--task", "detect")
    assert other in refusal("train", "--cfg", "yolov8n.yaml", "--weights", tmp_path / "seg.pt", *data)


def test_earlier_run_survives_a_refusal(small_coco, tmp_path, capsys):
    """exist_ok names a folder that is there already; what Ultralytics refuses then leaves it."""
    (tmp_path / "exp/weights").mkdir(parents=True)
    (tmp_path / "exp/weights/best.pt").write_bytes(b"mine")
    arguments = ["--cfg", "yolov8n-simam.yaml", "--data", str(small_coco), *QUICK, "--project", str(tmp_path)]
    assert main(["train", *arguments, "--name", "exp", "exist_ok=True", "optimizer=Newton"]) == 2
    assert (tmp_path / "exp/weights/best.pt").read_bytes() == b"mine"
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_other_number_of_keypoints(small_poses, tmp_path, capsys):
    model = YOLO("yolov8n-pose.yaml").model
    model.names = {0: "circle"}
    torch.save({"model": model, "train_args": {"task": "pose"}}, tmp_path / "pose.pt")
    arguments = ["--weights", str(tmp_path / "pose.pt"), "--data", str(small_poses), "--project", str(tmp_path)]
    assert main(["val", *arguments, "--device", "cpu"]) == 2
    assert "its annotations have 5 keypoints, and the model knows 17" in capsys.readouterr().err
