"""Parts of data and several data sets in whole runs, scored as pycocotools scores the same choice."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from support import QUICK, TINY, TINY_SIMAM, listing, pycocotools_scores, results_rows
from ultralytics import YOLO

from yolo_attn.cli import main
from yolo_attn.coco.dataset.data_report import examine
from yolo_attn.coco.dataset.subsets import subset
from yolo_attn.coco.evaluate import METRICS
from yolo_attn.coco.reading.reader import read_index
from yolo_attn.engine import data as engine_data
from yolo_attn.errors import UserError


def validate(trained, home, *arguments):
    """A validation's metrics.json and its folder."""
    best = trained.folder / "weights/best.pt"
    command = ["val", "--weights", best, "--device", "cpu", "--project", home, "--name", "v", *arguments]
    assert main(list(map(str, command))) == 0
    return json.loads((home / "v/metrics.json").read_text()), home / "v"


def truth(trained, split="val"):
    return trained.data / f"annotations/instances_{split}.json"


def assert_scores(metrics, truth, predictions, **params):
    stats, _ = pycocotools_scores(truth, predictions, **params)
    np.testing.assert_allclose([metrics[m] for m in METRICS], stats, rtol=0, atol=1e-9)


@pytest.mark.integration
def test_some_classes_are_scored_alone(trained, tmp_path):
    metrics, run = validate(trained, tmp_path, "--classes", "star,circle", "--split", "train")
    assert_scores(metrics, truth(trained, "train"), run / "predictions.json", catIds=[7, 42])
    assert list(metrics["per_class"]) == ["circle", "star"]
    assert {d["category_id"] for d in json.loads((run / "predictions.json").read_text())} <= {7, 42}
    assert metrics["settings"]["classes"] == [1, 2]


@pytest.mark.integration
def test_all_classes_as_one(trained, tmp_path):
    metrics, run = validate(trained, tmp_path, "--single-cls", "--split", "train")
    assert_scores(metrics, truth(trained, "train"), run / "predictions.json", useCats=0)
    assert list(metrics["per_class"]) == ["item"]


@pytest.mark.integration
def test_a_subset_is_scored_on_its_images_alone(trained, tmp_path):
    metrics, run = validate(trained, tmp_path, "--subset", "0.5", "--split", "train", "--seed", "3")
    ids = subset(read_index(truth(trained, "train")), 0.5, 3).image_ids.tolist()
    assert len(ids) == 8
    assert_scores(metrics, truth(trained, "train"), run / "predictions.json", imgIds=ids)
    assert {d["image_id"] for d in json.loads((run / "predictions.json").read_text())} <= set(ids)
    assert json.loads((run / "data_report.json").read_text())["train"]["images"] == 8


@pytest.fixture
def second_set(small_coco, tmp_path):
    """The drawn set again, its stars called moons, with other category ids."""
    folder = tmp_path / "second"
    shutil.copytree(small_coco, folder)
    for file in (folder / "annotations").iterdir():
        content = json.loads(file.read_text())
        ids = {3: 1, 7: 2, 42: 3}
        for category in content["categories"]:
            category.update(id=ids[category["id"]], name=category["name"].replace("star", "moon"))
        for annotation in content["annotations"]:
            annotation["category_id"] = ids[annotation["category_id"]]
        file.write_text(json.dumps(content))
    return folder


@pytest.mark.integration
def test_several_sets_train_and_validate_as_one(trained, second_set, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = listing(second_set)
    data = ["--data", str(trained.data), str(second_set)]
    options = ["--subset", "0.5", "--classes", "circle,moon", *QUICK, "plots=False", "workers=0"]
    project = ["--project", str(tmp_path / "runs"), "--name"]
    arguments = ["--cfg", TINY_SIMAM, *data, "--epochs", "1", *project, "t", *options]
    assert main(["train", *arguments]) == 0
    run = tmp_path / "runs/t"
    described = yaml.safe_load((run / "data.yaml").read_text())
    assert list(described["names"].values()) == ["triangle", "circle", "star", "moon"]
    report = json.loads((run / "data_report.json").read_text())
    assert report["train"]["images"] == 16
    assert report["val"]["images"] == 16
    metrics = json.loads((run / "metrics.json").read_text())
    assert set(metrics["per_class"]) == {"circle", "moon"}
    ids = [{i["id"] for i in json.loads(truth(trained).read_text())["images"]}] * 2
    for n, (images, categories) in enumerate(zip(ids, ({7}, {2, 3}), strict=True), 1):
        rows = json.loads((run / f"predictions-{n}.json").read_text())
        assert {d["image_id"] for d in rows} <= images
        assert {d["category_id"] for d in rows} <= categories
    assert len(results_rows(run)) == 1

    best = str(run / "weights/best.pt")
    assert main(["val", "--weights", best, "--device", "cpu", *project, "v"]) == 0
    again = json.loads((tmp_path / "runs/v/metrics.json").read_text())
    assert set(again["per_class"]) == {"circle", "moon"}
    assert torch.load(best, weights_only=False)["train_args"]["fraction"] == 0.5
    assert listing(second_set) == before


WRONG = [
    (["--classes", "cirle"], "classes cirle: no such class; similar names: circle"),
    (["--classes", "STAR"], "classes STAR: no such class; similar names: star\n"),
    (["--classes", "Cirkle,star"], "classes Cirkle: no such class; similar names: circle\n"),
    (["--classes", "3"], "classes 3: no such class; similar names:"),
    (["--classes", "a,,b"], "expected names separated by commas"),
    (["--subset", "1.5"], "expected a share above 0, up to 1"),
    (["--subset", "0"], "expected a share above 0"),
    (["classes=traffic light"], "classes traffic light: no such class"),
    (["classes=['red light', 'a (3)']"], "classes red light: no such class"),
    (["single_cls=maybe"], "'single_cls=maybe': expected True or False"),
    (["epochs="], "argument --epochs: expected an int above 0, found ''"),
    (["fraction=True"], "argument --subset: expected a share above 0, up to 1, such as 0.1, found 'True'"),
    (["classes=[3]"], "classes 3: no such class; similar names:"),
    (["fraction=1.5"], "expected a share above 0, up to 1"),
    (["fraction=0.5", "--subset", "0.5"], "'fraction=0.5': given more than once, as fraction=… or as --subset"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[m for _, m in WRONG])
def test_wrong_choices_are_reported_in_one_line(small_coco, tmp_path, capsys, arguments, message):
    home = tmp_path / "runs"
    assert main(["train", "--cfg", TINY, "--data", str(small_coco), "--project", str(home), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not home.exists()


def test_a_comma_in_the_path_of_one_of_several(small_coco, tmp_path, capsys):
    """Ultralytics' settings have room for one text, in which commas stand between sets."""
    (tmp_path / "x,y").symlink_to(small_coco)
    home = tmp_path / "runs"
    for data in ([small_coco, tmp_path / "x,y"], [small_coco, tmp_path / "gone,lost"]):
        arguments = ["--cfg", TINY, "--data", *data, "--project", home]
        assert main(["train", *map(str, arguments)]) == 2
        reported = f"{data[1]}: commas separate data sets, so none of several may have one in its path"
        assert reported in capsys.readouterr().err
    assert not home.exists()


BOX, SHARES, BESIDE = [1, 1, 9, 9], [0.1, 0.1, 0.5, 0.5], [60, 1, 9, 9]
UNFIT = [
    ([SHARES], [BOX], [], "train.json: no box is larger than a pixel; 1 × box of at most a pixel, used; boxes must be"),
    ([BOX], [BOX], ["--classes", "dog"], "instances_train.json: no box to train on"),
    (
        [BOX],
        [BOX, BESIDE],
        ["--strict"],
        "--strict: instances_val.json: 1 × box clipped to its image: annotation 2 of image 1 (a.jpg)",
    ),
]


@pytest.mark.parametrize(("train", "val", "options", "message"), UNFIT)
def test_data_that_is_unfit_is_reported_in_one_line(train, val, options, message, make_coco, tmp_path, capsys):
    """Boxes in shares of the image, a class without boxes, and with `--strict` any problem of either split."""
    for split, boxes in (("train", train), ("val", val)):
        made = [{"image_id": 1, "category_id": 7, "bbox": box, "area": 81, "iscrowd": 0} for box in boxes]
        folder = make_coco([(1, "a.jpg")], made, root=f"images/{split}", split=split)
    arguments = ["--cfg", TINY, "--data", str(folder), "--project", str(tmp_path / "runs"), *options]
    assert main(["train", *arguments]) == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1].replace(f"{folder}/annotations/", "")
    assert not (tmp_path / "runs").exists()


@pytest.mark.integration
def test_some_classes_as_one(small_coco, tmp_path):
    settings = {"imgsz": 64, "batch": 8, "device": "cpu", "plots": False, "workers": 0, "project": str(tmp_path)}
    model = YOLO(TINY_SIMAM)
    model.train(data=str(small_coco), epochs=1, single_cls=True, classes=[1, 2], name="t", **settings)
    content = json.loads((small_coco / "annotations/instances_train.json").read_text())
    boxes = sum(a["category_id"] in {7, 42} and not a["iscrowd"] for a in content["annotations"])
    assert json.loads((tmp_path / "t/data_report.json").read_text())["train"]["boxes"] == boxes
    best = tmp_path / "t/weights/best.pt"
    arguments = ["--weights", best, "--imgsz", 64, "--device", "cpu", "--project", tmp_path, "--name", "v"]
    assert main(["val", *map(str, arguments)]) == 0
    assert list(json.loads((tmp_path / "v/metrics.json").read_text())["per_class"]) == ["item"]
    assert list(YOLO(best).val(name="w", **settings).coco.per_class) == ["item"]


@pytest.mark.parametrize("classes", [[9], ["circel"], 3])
def test_classes_that_are_none_in_plain_python(small_coco, tmp_path, classes):
    with pytest.raises(UserError, match="no such class; similar names:"):
        YOLO(TINY_SIMAM).train(data=str(small_coco), classes=classes, project=str(tmp_path))


@pytest.mark.integration
def test_a_split_is_looked_through_once(small_coco, tmp_path, monkeypatch):
    """By the check, strict or not, whose findings the training and the validation go on with."""
    seen = []

    def counted(index, *args):
        seen.append(index.files[0].stem)
        return examine(index, *args)

    monkeypatch.setattr(engine_data, "examine", counted)
    common = ["--project", str(tmp_path), "--strict", "--imgsz", "64", "--device", "cpu", "plots=False", "workers=0"]
    assert main(["train", "--cfg", TINY_SIMAM, "--data", str(small_coco), "--epochs", "1", *common]) == 0
    assert sorted(seen) == ["instances_train", "instances_val"]
    seen.clear()
    assert main(["val", "--weights", str(tmp_path / "train/weights/best.pt"), *common]) == 0
    assert seen == ["instances_val"]
