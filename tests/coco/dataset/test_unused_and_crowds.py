"""Categories that no annotation uses, and tools that mark every annotation as a crowd."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from support import TINY, pycocotools_scores, save_noise
from ultralytics import YOLO
from ultralytics.cfg import DEFAULT_CFG_DICT

from yolo_attn.cli import main
from yolo_attn.coco.check import check_data, tables
from yolo_attn.coco.dataset.locations import load_source
from yolo_attn.coco.evaluate import Detections, coco_scores
from yolo_attn.engine.data import describe, look_through, split_of, write_data_yaml
from yolo_attn.environment import CROWDS_VARIABLE, UNUSED_VARIABLE
from yolo_attn.errors import UserError

ROOT_CATEGORY = {"id": 0, "name": "pills", "supercategory": "none"}
CATEGORIES = [ROOT_CATEGORY, *({"id": n, "name": name, "supercategory": "pills"} for n, name in enumerate("abc", 1))]


def annotation(category, crowd=0):
    return {"image_id": 1, "category_id": category, "bbox": [4 * category, 5, 10, 20], "area": 200, "iscrowd": crowd}


@pytest.fixture
def exported(tmp_path):
    """Writes splits with annotations of these categories, as Roboflow exports them; returns the folder."""

    def make(folder="set", crowd=0, categories=CATEGORIES, **splits):
        for split, used in splits.items():
            place = tmp_path / folder / split
            save_noise(place / "a.jpg")
            images = [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}]
            annotations = [{"id": n, **annotation(c, crowd)} for n, c in enumerate(used, 1)]
            content = {"images": images, "categories": categories, "annotations": annotations}
            (place / "_annotations.coco.json").write_text(json.dumps(content))
        return tmp_path / folder

    return make


def described(data, splits=("train", "val"), **settings):
    args = SimpleNamespace(**{**DEFAULT_CFG_DICT, "data": str(data), "task": "detect", "mode": "train", **settings})
    return args, describe(args, splits)


def with_keys(folder, file, **keys):
    """A data YAML of the set with further keys."""
    splits = [split for split in ("train", "val", "test") if (folder / split).exists()]
    places = {split: split for split in splits}
    annotations = {split: f"{split}/_annotations.coco.json" for split in splits}
    file.write_text(yaml.safe_dump({"path": str(folder), **places, "annotations": annotations, **keys}))
    return file


def test_an_unused_root_category_is_reported_once_with_the_way_out(exported, logged):
    folder = exported(train=[1, 2, 3], val=[1])
    found = check_data(folder, "detect")
    assert list(found) == ["train", "val"]
    (line,) = [line for line in logged() if "no annotation uses" in line]
    assert str(folder / "train/_annotations.coco.json") in line
    assert "1 of its 4 categories, pills; --drop-unused" in line


def test_nothing_is_reported_where_all_are_used_by_some_split(exported, logged):
    check_data(exported(train=[0, 1, 2], val=[3]), "detect")
    assert not [line for line in logged() if "no annotation uses" in line]


def test_dropped_categories_are_no_classes(exported, monkeypatch, tmp_path):
    monkeypatch.setenv(UNUSED_VARIABLE, "1")
    args, found = described(exported(train=[1, 2], val=[1, 3]))
    assert list(found["names"].values()) == ["a", "b", "c"]
    examined = look_through(args, found, "val", found["names"])
    assert examined.labels[0]["cls"][:, 0].tolist() == [0, 2]
    assert split_of(found, "val", "detect").index.category_names == ["a", "b", "c"]
    again = yaml.safe_load(Path(write_data_yaml(args, ["train", "val"], tmp_path, found)).read_text())
    assert split_of(again, "val", "detect").index.category_names == ["a", "b", "c"]


def test_keys_of_a_data_yaml_mean_the_same(exported, tmp_path):
    folder = exported(train=[1, 2], val=[1, 3], crowd=1)
    data = with_keys(folder, tmp_path / "data.yaml", drop_unused=True, crowds_as_objects=True, nc=3)
    args, found = described(data)
    assert list(found["names"].values()) == ["a", "b", "c"]
    assert len(look_through(args, found, "train", found["names"]).labels.boxes) == 2
    chosen = with_keys(folder, tmp_path / "chosen.yaml", drop_unused=True, names=["c", "pills", "a"])
    assert list(described(chosen)[1]["names"].values()) == ["c", "a"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"drop_unused": "yes"}, "drop_unused is 'yes'; expected true or false"),
        ({"crowds_as_objects": 1}, "crowds_as_objects is 1; expected true or false"),
        ({"drop_unused": True, "nc": 4}, "nc is 4, and train has 3 categories"),
    ],
)
def test_wrong_keys(exported, tmp_path, keys, message):
    data = with_keys(exported(train=[1, 2], val=[3]), tmp_path / "data.yaml", **keys)
    with pytest.raises(UserError, match=message):
        described(data)


@pytest.mark.parametrize("splits", [["val"], ["test"], ["train", "test"], ["train", "val", "test"]])
def test_what_is_used_is_counted_in_train_and_val_whichever_splits_are_read(exported, tmp_path, splits):
    folder = exported(train=[1, 2], val=[1], test=[3])
    data = with_keys(folder, tmp_path / "data.yaml", drop_unused=True, nc=2)
    found = load_source(data, splits)
    assert {tuple(split.names) for split in found.values()} == {("a", "b")}
    wrong = with_keys(folder, tmp_path / "wrong.yaml", drop_unused=True, nc=3)
    with pytest.raises(UserError, match="nc is 3, and train has 2 categories"):
        load_source(wrong, splits)


def test_option_and_key_drop_the_same(exported, tmp_path, monkeypatch):
    folder = exported(train=[1, 2], val=[1], test=[3])
    by_key = described(with_keys(folder, tmp_path / "data.yaml", drop_unused=True))[1]
    monkeypatch.setenv(UNUSED_VARIABLE, "1")
    by_option = described(folder)[1]
    assert by_key["names"] == by_option["names"] == {0: "a", 1: "b"}


def test_a_joined_set_may_have_no_used_category_in_a_split(exported, monkeypatch, tmp_path):
    monkeypatch.setenv(UNUSED_VARIABLE, "1")
    others = [{"id": 5, "name": "d"}]
    one, other = exported("one", train=[1], val=[1]), exported("other", train=[], val=[], categories=others)
    args, found = described(f"{one},{other}")
    assert found["names"] == {0: "a"}
    again = yaml.safe_load(Path(write_data_yaml(args, ["train", "val"], tmp_path, found)).read_text())
    assert split_of(again, "train", "detect").index.category_names == ["a"]
    assert len(look_through(args, found, "val", found["names"]).labels) == 2


def test_joined_sets_drop_what_neither_uses(exported, monkeypatch):
    monkeypatch.setenv(UNUSED_VARIABLE, "1")
    one, other = exported("one", train=[1], val=[1]), exported("other", train=[2], val=[2])
    _, found = described(f"{one},{other}")
    assert list(found["names"].values()) == ["a", "b"]
    assert [list(o.categories.values()) for o in split_of(found, "val", "detect").index.origins] == [[1, 2], [1, 2]]


def test_sets_of_which_one_alone_has_crowds_as_objects_are_not_joined(exported, tmp_path):
    folder = exported(train=[1], val=[1])
    one = with_keys(folder, tmp_path / "one.yaml", crowds_as_objects=True)
    other = with_keys(folder, tmp_path / "other.yaml")
    with pytest.raises(UserError, match="crowds_as_objects is false here, and true for"):
        described(f"{one},{other}")


def test_a_set_without_annotations_keeps_its_categories(exported, monkeypatch):
    monkeypatch.setenv(UNUSED_VARIABLE, "1")
    assert load_source(exported(val=[]), ["val"])["val"].names == ["pills", "a", "b", "c"]


def test_the_check_names_the_option_when_all_are_crowds(exported, monkeypatch):
    folder = exported(train=[1, 2, 3], val=[1], crowd=1)
    lines = "\n".join(tables({split: e.report for split, e in check_data(folder, "detect").items()}))
    assert "--crowds-as-objects" in lines
    monkeypatch.setenv(CROWDS_VARIABLE, "1")
    reports = {split: e.report for split, e in check_data(folder, "detect").items()}
    assert (reports["train"].boxes, reports["train"].crowds) == (3, 0)
    assert "crowds-as" not in "\n".join(tables(reports))


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_crowds_as_objects_are_scored_as_if_iscrowd_were_0(tmp_path, task):
    rng = np.random.default_rng(0)
    annotations, results = [], []
    for n in range(1, 61):
        x, y, w, h = (float(v) for v in (*rng.uniform(0, 60, 2), *rng.uniform(5, 40, 2)))
        polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
        one = {"image_id": n % 5 + 1, "category_id": n % 2 + 1, "bbox": [x, y, w, h], "area": w * h}
        annotations.append({"id": n, **one, "iscrowd": 1, "segmentation": [polygon]})
        shift = rng.normal(0, 2, 2)
        box = [x + shift[0], y + shift[1], w, h]
        corners = [box[0], box[1], box[0] + w, box[1], box[0] + w, box[1] + h, box[0], box[1] + h]
        found = {"image_id": one["image_id"], "category_id": one["category_id"], "bbox": box, "score": rng.random()}
        results.append({**found, "segmentation": [corners]} if task == "segment" else found)
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 100, "height": 100} for n in range(1, 6)]
    for image in images:
        save_noise(tmp_path / "images/val" / image["file_name"])
    content = {"images": images, "categories": CATEGORIES[1:3], "annotations": annotations}
    file = tmp_path / "annotations/instances_val.json"
    file.parent.mkdir()
    file.write_text(json.dumps(content))
    plain = tmp_path / "plain.json"
    plain.write_text(json.dumps({**content, "annotations": [{**a, "iscrowd": 0} for a in annotations]}))
    data = tmp_path / "data.yaml"
    data.write_text(f"val: images/val\nannotations: {{val: {file}}}\ncrowds_as_objects: true")
    index = load_source(data, ["val"], task)["val"].index
    kind = "segm" if task == "segment" else "bbox"
    detections = Detections()
    for image in images:
        of_image = [r for r in results if r["image_id"] == image["id"]]
        columns = ([r[key] for r in of_image] for key in ("bbox", "score", "category_id"))
        shapes = {"segmentation": [r["segmentation"] for r in of_image]} if task == "segment" else None
        detections.add(image["id"], *columns, shapes)
    expected, _ = pycocotools_scores(plain, list(detections.rows()), kind=kind)
    found = coco_scores(index, detections, kind).metrics
    assert found["AP"] > 0.2
    np.testing.assert_allclose(list(found.values()), expected, rtol=0, atol=1e-9)


@pytest.mark.integration
def test_a_checkpoint_keeps_what_the_options_chose(exported, tmp_path, monkeypatch, capsys):
    """Its own validation, on the test split too, and a resumed training have the same classes and objects."""
    folder = exported(train=[1, 2, 3], val=[1, 2], test=[3], crowd=1)
    monkeypatch.chdir(tmp_path)
    common = ["--imgsz", "64", "--batch", "2", "--device", "cpu", "workers=0"]
    options = ["--drop-unused", "--crowds-as-objects"]
    assert main(["train", "--cfg", TINY, "--data", str(folder), "--epochs", "1", *common, *options, "plots=False"]) == 0
    assert not {UNUSED_VARIABLE, CROWDS_VARIABLE} & os.environ.keys()
    best = "runs/detect/train/weights/best.pt"
    assert list(YOLO(best).names.values()) == ["a", "b", "c"]
    for split, objects in (("val", 2), ("test", 1)):
        name = f"of-{split}"
        assert main(["val", "--weights", best, "--split", split, "--name", name, *common, "plots=False"]) == 0
        report = json.loads((tmp_path / f"runs/detect/{name}/data_report.json").read_text())[split]
        assert (report["boxes"], report["crowds"]) == (objects, 0)
    Path("runs/detect/train").rename("moved")
    exported("other", train=[1], val=[1])
    again = ["train", "--cfg", TINY, "--data", "other", "--epochs", "1", *common, "--drop-unused", "plots=False"]
    assert main(again) == 0  # in the folder that the first run had
    name = "of-moved"
    assert main(["val", "--weights", "moved/weights/best.pt", "--name", name, *common, "plots=False"]) == 0
    assert json.loads((tmp_path / f"runs/detect/{name}/data_report.json").read_text())["val"]["boxes"] == 2
    in_python = YOLO("moved/weights/best.pt").val(imgsz=64, batch=2, device="cpu", workers=0, plots=False)
    of_command = json.loads((tmp_path / f"runs/detect/{name}/metrics.json").read_text())
    assert in_python.coco.metrics == {key: of_command[key] for key in in_python.coco.metrics}
    assert json.loads((in_python.save_dir / "data_report.json").read_text())["val"]["boxes"] == 2
    Path("moved/data.yaml").rename("elsewhere.yaml")
    assert main(["val", "--weights", "moved/weights/best.pt", *common]) == 2
    assert "moved/data.yaml, is gone; give --data" in capsys.readouterr().err
    assert main(["train", "--resume", "runs/detect/train", "--drop-unused"]) == 2
    assert "--drop-unused cannot change with --resume" in capsys.readouterr().err
