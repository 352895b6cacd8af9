"""The digest of a comparison's data changes with the data, and with nothing else."""

import os
import shutil

import pytest
from support import save_noise, txt_data

from yolo_attn.compare.planning.compared_data import read_data
from yolo_attn.engine.data import describe
from yolo_attn.engine.preflight.checks import check_settings


def read(data, task="detect"):
    args = check_settings({"data": str(data), "task": task})
    return read_data(args, describe(args, ("train", "val")))


def digest(data, task):
    return read(data, task)[0].sha256


def classes_of_images(home):
    for split in ("train", "val"):
        for name in ("a", "b"):
            save_noise(home / split / name / "0.jpg")
    return home


DATA = {"detect": txt_data, "classify": classes_of_images}


def rewrite(file, text):
    """Overwrite a file with a text of the same length, keeping its time."""
    before = file.stat()
    file.write_text(text)
    assert file.stat().st_size == before.st_size
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    ("task", "change"),
    [
        ("detect", lambda home: rewrite(home / "labels/train/2.txt", "0 0.5 0.5 0.4 0.3\n")),
        ("detect", lambda home: (home / "labels/val/1.txt").unlink()),
        ("detect", lambda home: (home / "images/val/3.jpg").unlink()),
        ("detect", lambda home: save_noise(home / "images/train/0.jpg", (65, 48))),
        ("detect", lambda home: save_noise(home / "images/train/4.jpg")),
        ("detect", lambda home: rewrite(home / "data.yaml", (home / "data.yaml").read_text().replace("- a", "- b"))),
        ("classify", lambda home: (home / "val/b/0.jpg").rename(home / "val/a/1.jpg")),
        ("classify", lambda home: (home / "train/a/0.jpg").unlink()),
        ("coco", lambda home: (home / "annotations/instances_val.json").open("a").write(" ")),
        ("coco", lambda home: next(home.glob("images/train*/*")).unlink()),
        ("coco", lambda home: save_noise(next(home.glob("images/val*/*")))),
    ],
)
def test_a_change_of_the_data_changes_the_digest(task, change, small_coco, tmp_path):
    home = tmp_path / "data"
    data = shutil.copytree(small_coco, home) if task == "coco" else DATA[task](home)
    task = "detect" if task == "coco" else task
    before = digest(data, task)
    assert digest(data, task) == before
    (home / "notes.txt").write_text("no part of it")
    assert digest(data, task) == before
    change(home)
    assert digest(data, task) != before


def test_lists_of_images_are_followed(tmp_path):
    data = txt_data(tmp_path)
    (tmp_path / "val.txt").write_text("./images/val/0.jpg\n./images/val/1.jpg\n")
    data.write_text(data.read_text().replace("val: images/val", "val: val.txt"))
    before = digest(data, "detect")
    (tmp_path / "labels/val/3.txt").unlink()  # of an image that is not in the list
    assert digest(data, "detect") == before
    (tmp_path / "labels/val/1.txt").unlink()
    assert digest(data, "detect") != before


def test_the_folders_of_the_data_are_known(small_coco, tmp_path):
    plain = txt_data(tmp_path / "plain")
    of_plain, of_coco = (read(data)[1] for data in (plain, small_coco))
    assert set(of_plain) == {tmp_path / "plain/images/train", tmp_path / "plain/images/val"}
    assert small_coco in of_coco


def test_folders_of_classes_are_counted_as_the_model_has_them(tmp_path):
    home = classes_of_images(tmp_path / "data")
    found = read(home, "classify")
    assert (found.data.kind, found.classes, found.truth) == ("classify", 2, None)
    assert {home, home / "train", home / "val"} <= set(found.folders)
    (home / "train/c").mkdir()
    assert read(home, "classify").classes == 3
    assert digest(home, "classify") != found.data.sha256  # a class without images is an output of the model, too


def test_another_split_is_another_digest(tmp_path):
    home = classes_of_images(tmp_path / "data")
    shutil.copytree(home / "val", home / "test")
    digests = set()
    for split in ("val", "test"):
        args = check_settings({"data": str(home), "task": "classify", "split": split})
        digests.add(read_data(args, None).data.sha256)
    assert len(digests) == 2
