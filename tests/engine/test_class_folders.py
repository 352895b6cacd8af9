"""Folders of images for classifiers as people have them, and what a validation on them leaves."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from support import contents, save_noise
from ultralytics import YOLO
from ultralytics.cfg import get_cfg
from ultralytics.data.utils import check_cls_dataset

from yolo_attn.cli import main
from yolo_attn.engine.classification import ClassFolders, folder_of
from yolo_attn.engine.preflight.data_checks import check_class_folders
from yolo_attn.errors import RunError, UserError

QUICK = ["--imgsz", "32", "--batch", "4", "--device", "cpu", "workers=0", "plots=False"]
NAMES = {0: "cat", 1: "dog", 2: "owl"}


def read(root, names=NAMES, train=False, **settings):
    args = get_cfg(overrides={"imgsz": 32, **settings})
    return ClassFolders(root, args, names, train=train, stretch=False, split="val")


@pytest.fixture
def root(tmp_path):
    for name in NAMES.values():
        for n in range(3):
            save_noise(tmp_path / "val" / name / f"{n}.jpg", (48, 40))
    return tmp_path / "val"


def test_pictures_of_every_kind_are_three_channels(root):
    grey = np.random.default_rng(0).integers(0, 256, (40, 48), dtype=np.uint8)
    made = {"grey.png": grey, "alpha.png": np.dstack([grey] * 4), "deep.png": grey.astype(np.uint16) * 257}
    for name, pixels in made.items():
        Image.fromarray(pixels).save(root / "owl" / name)
    Image.fromarray(grey).convert("P").save(root / "owl" / "palette.png")
    data = read(root)
    assert len(data) == 13
    assert not len(data.problems)
    assert {tuple(data[i]["img"].shape) for i in range(len(data))} == {(3, 32, 32)}


def test_what_cannot_be_read_is_skipped_and_listed_and_stays_as_it_is(root, caplog):
    (root / "cat/notes.png").write_text("no picture")
    (root / "dog/empty.jpg").touch()
    broken = root / "owl/broken.png"
    save_noise(broken, (200, 200))
    broken.write_bytes(broken.read_bytes()[:9000])
    cut = root / "cat/1.jpg"  # which Ultralytics would write anew
    cut.write_bytes(cut.read_bytes()[:-200])
    (root / "cat/readme.txt").write_text("of the owner")
    before = contents(root.parent)
    data = read(root)
    good = {f"{name}/{n}.jpg" for name in NAMES.values() for n in range(3)} - {"cat/1.jpg"}
    assert sorted(data.path_of(sample[0]) for sample in data.samples) == sorted(good)
    assert [data[i]["img"].shape for i in range(len(data))]
    ((kind, count),) = data.problems
    assert (kind, count) == ("image that cannot be read, skipped", 4)
    assert [item.partition(": ")[0] for item in data.problems.items(kind)] == [
        *("cat/1.jpg", "cat/notes.png", "dog/empty.jpg", "owl/broken.png")
    ]
    assert "4 × image that cannot be read, skipped: cat/1.jpg" in caplog.text
    assert contents(root.parent) == before


def test_a_cache_of_ultralytics_beside_the_folder_is_neither_read_nor_written(root):
    (root.parent / "val.cache").write_bytes(b"of the owner")
    assert len(read(root)) == 9
    assert (root.parent / "val.cache").read_bytes() == b"of the owner"


def test_folders_are_the_classes_of_their_names(root):
    """Not those of their places: a split may lack a class, and may have others."""
    shutil.rmtree(root / "dog")
    (root / "ant").mkdir()
    save_noise(root / "ant/0.jpg", (48, 40))
    data = read(root)
    assert {data.path_of(file).split("/")[0]: number for file, number, *_ in data.samples} == {"cat": 0, "owl": 2}
    assert data.problems.lines() == [
        "1 × image of a class that the model does not know, skipped: ant",
        "1 × class without images: dog",
    ]
    with pytest.raises(UserError, match=re.escape("its 3 folders (ant, cat, owl) are none of the 1 classes")):
        read(root, {0: "fish"})


def test_words_of_imagenets_codes(tmp_path):
    codes = ["n01440764", "n02012849", "n03126707"]
    for code in codes:
        save_noise(tmp_path / code / "0.jpg", (48, 40))
    for names in (codes, ["tench", "crane_(bird)", "crane_(machine)"]):
        assert [number for _, number, *_ in read(tmp_path, dict(enumerate(names))).samples] == [0, 1, 2]


def test_names_that_only_begin_as_imagenets_codes(tmp_path):
    names = ["n01440764", "n0rmal", "odd"]
    for name in names:
        save_noise(tmp_path / name / "0.jpg", (48, 40))
    assert [number for _, number, *_ in read(tmp_path, dict(enumerate(names))).samples] == [0, 1, 2]


def test_classes_with_one_image_or_none_are_reported(root):
    for n in range(2):
        (root / f"owl/{n}.jpg").unlink()
    for file in (root / "dog").iterdir():
        file.unlink()
    assert read(root, train=True).problems.lines() == [
        "1 × class without images: dog",
        "1 × class of one image: owl",
    ]


@pytest.mark.parametrize("cache", [False, "ram"])
def test_an_image_that_goes_stops_a_validation_with_its_name(root, cache):
    data = read(root, cache=cache)
    (root / "owl/2.jpg").unlink()
    if data.cache_ram:  # early releases have no such cache for classifiers
        assert data[8]["img"].shape == (3, 32, 32)
        return
    with pytest.raises(RunError, match=r"owl/2\.jpg: cannot be read any more"):
        data[8]


def test_the_next_image_stands_in_for_one_that_goes_in_training(root, caplog):
    data = read(root, train=True)
    (root / "owl/2.jpg").write_bytes(b"")
    for _ in range(2):
        assert data[8]["im_file"] == str(root / "cat/0.jpg")
    assert caplog.text.count("owl/2.jpg: cannot be read any more, skipped") == 1
    shutil.rmtree(root)
    with pytest.raises(RunError, match="the data is gone; images in a row that cannot be read: 9"):
        data[0]


def test_other_names_of_the_val_folder(root):
    save_noise(root.parent / "train/cat/0.png")
    for name in ("validation", "valid"):
        root = root.rename(root.parent / name)
        found = check_cls_dataset(root.parent, "val")["val"]  # early releases do not know "valid"
        assert folder_of(root.parent, "val") == found
        assert found == root or name == "valid"
    assert folder_of(root.parent, "test") is None


MODEL = """
nc: 2
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, SimAM, []]
head:
  - [-1, 1, Classify, [nc]]
"""


@pytest.fixture
def mixed(tmp_path):
    """Three classes and an empty one; a grey picture, one that cannot be read, a class of one picture."""
    home = tmp_path / "set"
    for split, number in (("train", 5), ("validation", 4)):
        for name in ("cat", "dog", "owl"):
            for n in range(1 if (split, name) == ("train", "owl") else number):
                save_noise(home / split / name / f"{n}.jpg", (48, 40))
        Image.new("L", (48, 40), 90).save(home / split / "cat/grey.png")
        (home / split / "dog/torn.jpg").write_bytes(b"\xff\xd8\xff")
        (home / split / "empty").mkdir()
    return home


@pytest.mark.integration
def test_a_mixed_folder_is_trained_on_and_scored_image_by_image(mixed, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net-cls.yaml").write_text(MODEL)
    before = contents(mixed)
    assert main(["train", "--cfg", "net-cls.yaml", "--data", str(mixed), "--epochs", "2", *QUICK]) == 0
    for line in (
        "1 × image that cannot be read, skipped: dog/torn.jpg",
        "1 × class without images: empty",
        "1 × class of one image: owl",
    ):
        assert line in caplog.text
    best = "runs/classify/train/weights/best.pt"
    assert main(["val", "--weights", best, *QUICK]) == 0
    assert contents(mixed) == before
    runs = tmp_path / "runs/classify"
    assert (runs / "val/predictions.json").read_text() == (runs / "train/predictions.json").read_text()
    check_scores(runs / "val", YOLO(best), mixed / "validation")


def check_scores(run, model, root):
    """metrics.json and predictions.json against predictions of each image by itself."""
    metrics, images = (json.loads((run / f"{name}.json").read_text()) for name in ("metrics", "predictions"))
    files = sorted(f for f in root.rglob("*.*") if f.name != "torn.jpg")
    assert [each["image"] for each in images] == [file.relative_to(root).as_posix() for file in files]
    counts = np.zeros((4, 4), dtype=int)
    names = list(model.names.values())
    for each, found in zip(images, model.predict(files, imgsz=32, device="cpu", verbose=False), strict=True):
        assert each["class"] == each["image"].split("/")[0]
        order = found.probs.data.argsort(descending=True).tolist()
        assert each["top"] == [names[n] for n in order]
        assert each["confidence"] == pytest.approx(found.probs.data[order].tolist(), abs=1e-4)
        counts[names.index(each["class"]), order[0]] += 1
    assert metrics["accuracy_top1"] == pytest.approx(counts.trace() / len(files))
    assert metrics["accuracy_top1"] == pytest.approx(metrics["ultralytics"]["accuracy_top1"], abs=1e-6)
    assert metrics["accuracy_top5"] == metrics["ultralytics"]["accuracy_top5"] == 1
    assert metrics["images"] == len(files) == 13
    assert metrics["confusion"] == {"classes": names, "counts": counts.tolist()}
    assert metrics["per_class"] == {
        name: {
            "accuracy_top1": counts[n, n] / counts[n].sum() if counts[n].sum() else -1,
            "images": counts[n].sum(),
        }
        for n, name in enumerate(names)
    }


def test_caching_on_disk_is_refused(mixed, refusal, tmp_path):
    (tmp_path / "net-cls.yaml").write_text(MODEL)
    line = refusal("train", "--cfg", str(tmp_path / "net-cls.yaml"), "--data", str(mixed), "cache=disk")
    assert "cache=disk would write .npy files beside your images" in line


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--single-cls"], "single_cls: a classifier of one class has nothing to tell apart; leave it out"),
        (["--classes", "cat"], "classes: a classifier's classes are its folders; give it data with the folders of"),
        (["--drop-unused"], "--drop-unused: is for annotations, and a classifier's folder has none"),
        (["--crowds-as-objects"], "--crowds-as-objects: is for annotations, and a classifier's folder has none"),
        (["--data", "{0}", "{0}"], "--data: a classifier takes one folder, found 2"),
        (["--strict"], "set/train: 1 × image that cannot be read, skipped: dog/torn.jpg"),
    ],
)
def test_what_only_annotations_can_give_is_refused(arguments, line, mixed, refusal, tmp_path):
    (tmp_path / "net-cls.yaml").write_text(MODEL)
    given = [argument.format(mixed) for argument in arguments]
    data = [] if "--data" in given else ["--data", str(mixed)]
    assert line in refusal("train", "--cfg", str(tmp_path / "net-cls.yaml"), *data, *given)


def test_a_folder_without_fault_passes_strictly(root):
    args = get_cfg(overrides={"imgsz": 32, "data": str(root.parent), "task": "classify"})
    check_class_folders(args, NAMES, ["val"])
    (root / "cat/torn.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"--strict: .*/val: 1 × image that cannot be read, skipped: cat/torn\.jpg"):
        check_class_folders(args, NAMES, ["val"])


def test_a_folder_without_classes_is_refused(tmp_path, refusal):
    (tmp_path / "net-cls.yaml").write_text(MODEL)
    for split in ("train", "val"):
        save_noise(tmp_path / "flat" / split / "0.jpg")
    line = refusal("train", "--cfg", str(tmp_path / "net-cls.yaml"), "--data", str(tmp_path / "flat"))
    assert line.endswith("flat/train: no folder in it; expected a folder of images for each class")
