"""From a COCO JSON to Ultralytics' labels."""

import json
import os
import shutil
from contextlib import nullcontext

import numpy as np
import pytest
from PIL import Image
from support import save_noise
from torch.utils.data import DataLoader
from ultralytics.cfg import get_cfg

from yolo_attn.coco.dataset.data_report import examine
from yolo_attn.coco.dataset.dataset import CocoDataset, StretchedCocoDataset
from yolo_attn.coco.dataset.locations import load_source
from yolo_attn.errors import RunError


def dataset(folder, names=("dog", "cat"), split="val", kind=CocoDataset, **kwargs):
    source = load_source(folder, [split])[split]
    settings = {"imgsz": 64, "augment": False, "hyp": get_cfg(), "data": {"names": dict(enumerate(names))}, **kwargs}
    return kind(examined=examine(source.index, source.folders, names), **settings)


def box(image, category, *xywh, **more):
    known = {"image_id": image, "category_id": category, "bbox": list(xywh), "area": xywh[2] * xywh[3], "iscrowd": 0}
    return {**known, **more}


def pixels(label):
    """Left, top, width, height in pixels from a label's normalised centres."""
    height, width = label["shape"]
    centre, extent = label["bboxes"][:, :2], label["bboxes"][:, 2:]
    return np.concatenate([centre - extent / 2, extent], 1) * [width, height, width, height]


def test_boxes_classes_and_ids(make_coco):
    folder = make_coco(
        [(900, "sub/x.jpg"), (5, "other/x.jpg"), (77, "empty.jpg")],
        [box(5, 7, 10, 12, 20, 8), box(900, 3, 0, 0, 64, 48), box(900, 7, 1.5, 2.5, 3, 4)],
    )
    data = dataset(folder)
    labels = {data.image_ids[label["im_file"]][0]: label for label in data.labels}
    assert set(labels) == {900, 5, 77}
    np.testing.assert_allclose(pixels(labels[5]), [[10, 12, 20, 8]], atol=1e-5)
    np.testing.assert_allclose(pixels(labels[900]), [[0, 0, 64, 48], [1.5, 2.5, 3, 4]], atol=1e-5)
    assert labels[900]["cls"].tolist() == [[0], [1]]
    assert labels[77]["cls"].shape == (0, 1)
    assert labels[77]["bboxes"].shape == (0, 4)


def test_crowds_carry_no_label_but_stay_ground_truth(make_coco):
    folder = make_coco([(1, "a.jpg")], [box(1, 7, 0, 0, 30, 30, iscrowd=1), box(1, 7, 5, 5, 9, 9)])
    data = dataset(folder)
    assert len(data.labels[0]["cls"]) == 1
    assert data.index.crowd.tolist() == [True, False]


def test_exif_rotated_image_is_read_as_displayed(make_coco):
    folder = make_coco([(1, "a.jpg")])
    file = folder / "images/val/a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    save_noise(file, size=(48, 64), exif=exif)  # stored 48 wide, 64 high; shown 64 wide, 48 high, as the JSON says
    json_file = folder / "annotations/instances_val.json"
    content = json.loads(json_file.read_text())
    content["annotations"] = [{"id": 1, **box(1, 7, 50, 10, 14, 20)}]
    json_file.write_text(json.dumps(content))
    data = dataset(folder)
    assert data.labels[0]["shape"] == (48, 64)
    np.testing.assert_allclose(pixels(data.labels[0]), [[50, 10, 14, 20]], atol=1e-5)
    assert data.load_image(0)[1] == (48, 64)
    assert not len(data.report.problems)


def test_bad_items_are_clipped_or_skipped_counted_and_logged(make_coco, logged):
    folder = make_coco(
        [(1, "a.jpg"), (2, "gone.jpg"), (3, "text.jpg"), (4, "cut.png")],
        [
            *(box(1, 7, -5, 40, 20, 20), box(1, 7, 100, 100, 5, 5), box(1, 3, 5, 5, -3, 7), box(1, 3, 5, 5, 6, 7)),
            *(box(2, 3, 5, 5, 6, 7), box(1, 99, 5, 5, 6, 7), {"image_id": 1, "category_id": 3}),
        ],
    )
    images = folder / "images/val"
    (images / "gone.jpg").unlink()
    (images / "text.jpg").write_text("no image")
    (images / "cut.png").write_bytes((images / "cut.png").read_bytes()[:700])
    data = dataset(folder)
    assert [data.image_ids[f] for f in data.im_files] == [[1]]
    np.testing.assert_allclose(pixels(data.labels[0]), [[0, 40, 15, 8], [5, 5, 6, 7]], atol=1e-5)
    assert {text.split(",")[0]: count for text, count in data.report.problems} == {
        "box clipped to its image": 1,
        "box without area inside its image": 2,
        "annotation of an unknown category": 1,
        "annotation without four finite numbers as bbox": 1,
        "image file missing": 1,
        "image that cannot be read": 2,
    }
    assert sum(" × " in line for line in logged()) == len(data.report.problems)
    assert data.index.image_ids.tolist() == [1, 2, 3, 4]


def test_categories_join_by_name_and_repeated_names_stay_apart(make_coco):
    folder = make_coco([(1, "a.jpg")], [box(1, 3, 1, 1, 5, 5), box(1, 7, 2, 2, 5, 5)], [(7, "x"), (3, "x"), (9, "é")])
    index = load_source(folder, ["val"])["val"].index
    assert index.category_ids.tolist() == [3, 7, 9]
    assert index.category_names == ["x", "x (7)", "é"]
    assert index.problems.items("repeated category name, distinguished by its id") == ["category 7"]
    data = dataset(folder, names=["é", "x (7)"])
    assert data.labels[0]["cls"].tolist() == [[1]]
    assert data.report.problems["box of a category that is not a class here, no label"] == 1
    folder = make_coco([(1, "a.jpg")], [], [(1, "x"), (2, "x"), (3, "x (2)")])
    assert load_source(folder, ["val"])["val"].index.category_names == ["x", "x (2)", "x (2) (3)"]


AGAIN = "image file that an earlier image has too, used again"


def test_a_file_of_several_images_is_reported(make_coco):
    folder = make_coco([(1, "a.jpg"), (2, "b.jpg"), (3, "a.jpg"), (4, "A.jpg"), (5, "gone.jpg"), (6, "gone.jpg")])
    (folder / "images/val/A.jpg").unlink()
    (folder / "images/val/gone.jpg").unlink()
    data = dataset(folder)
    assert len(data) == 4
    assert data.report.problems[AGAIN] == 2
    assert data.report.problems.items(AGAIN) == ["image 3 (a.jpg)", "image 4 (A.jpg)"]


def test_a_json_given_twice_is_reported(make_coco):
    folder = make_coco([(1, "a.jpg"), (2, "b.jpg")])
    split = load_source([folder, folder], ["val"])["val"]
    problems = examine(split.index, split.folders, ["dog", "cat"]).report.problems
    assert problems.lines() == [f"2 × {AGAIN}: image 1 (a.jpg) of instances_val.json, …"]
    (folder / "data.yaml").write_text(
        "val: [images/val, other]\nannotations: {val: [annotations/instances_val.json, annotations/instances_val.json]}"
    )
    shutil.copytree(folder / "images/val", folder / "other")
    split = load_source(folder / "data.yaml", ["val"])["val"]
    assert not len(examine(split.index, split.folders, ["dog", "cat"]).report.problems)


def test_png_without_exif_and_with_it_behind_the_pixels(make_coco):
    folder = make_coco([(1, "a.png"), (2, "b.png")])
    exif = Image.Exif()
    exif[0x0112] = 6
    save_noise(folder / "images/val/b.png", size=(48, 64), exif=exif)
    content = (folder / "images/val/b.png").read_bytes()
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    moved = content[:start] + content[end:-12] + content[start:end] + content[-12:]
    (folder / "images/val/b.png").write_bytes(moved)
    data = dataset(folder)
    assert [label["shape"] for label in data.labels] == [(48, 64)] * 2
    assert [data.load_image(i)[1] for i in range(2)] == [(48, 64)] * 2
    assert not len(data.report.problems)


def test_nothing_is_written_beside_the_data(make_coco):
    folder = make_coco([(i, f"{i}.jpg") for i in range(4)], [box(i, 7, 1, 1, 9, 9) for i in range(4)])
    before = sorted((str(f), f.stat().st_mtime_ns) for f in folder.rglob("*"))
    data = dataset(folder, rect=True, batch_size=2)
    for i in range(4):
        data[i]
    assert sorted((str(f), f.stat().st_mtime_ns) for f in folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "split", "images", "boxes", "crowds"), [("coco-mini", "train", 16, 118, 1), ("bccd", "val", 87, 1137, 0)]
)
def test_real_sets(shared_data, name, split, images, boxes, crowds):
    folder = shared_data(name)
    content = json.loads((folder / f"annotations/instances_{split}.json").read_text())
    categories = sorted(content["categories"], key=lambda c: c["id"])
    data = dataset(folder, names=[c["name"] for c in categories], split=split)
    found = len(data), sum(len(label["cls"]) for label in data.labels), data.index.crowd.sum()
    assert found == (images, boxes, crowds)
    ids = [c["id"] for c in categories]
    by_image = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        if not annotation["iscrowd"]:
            by_image[annotation["image_id"]].append([ids.index(annotation["category_id"]), *annotation["bbox"]])
    for label in data.labels:
        expected = np.array(by_image[data.image_ids[label["im_file"]][0]]).reshape(-1, 5)
        np.testing.assert_allclose(np.concatenate([label["cls"], pixels(label)], 1), expected, atol=0.02)


@pytest.mark.parametrize(("kind", "shape"), [(CocoDataset, (48, 64)), (StretchedCocoDataset, (64, 64))])
def test_an_image_that_changes_is_grey_and_empty_until_it_is_back(make_coco, caplog, kind, shape):
    folder = make_coco([(1, "a.jpg"), (2, "b.jpg")], [box(1, 7, 8, 8, 9, 9), box(2, 7, 8, 8, 9, 9)])
    file, data = folder / "images/val/a.jpg", dataset(folder, kind=kind)
    whole = file.read_bytes()

    def seen():
        item = data.get_image_and_label(0)
        return len(item["instances"]), len(item["cls"]), item["img"].shape, bool((item["img"] == 114).all())

    def replace_by(make):
        file.unlink()
        make()

    for spoil in (
        file.unlink,
        lambda: replace_by(lambda: os.mkfifo(file)),
        lambda: replace_by(lambda: file.symlink_to("/dev/zero")),
        lambda: replace_by(file.mkdir),
        lambda: os.truncate(file, 3 * 2**30),
        lambda: file.write_bytes(b""),
        lambda: file.write_bytes(b"no image"),
        lambda: file.write_bytes(whole[:300]),
        lambda: save_noise(file, size=(64, 64)),
        lambda: save_noise(file, size=(128, 96)),
    ):
        caplog.clear()
        if file.is_dir():
            file.rmdir()
        file.unlink(missing_ok=True)
        file.write_bytes(whole)
        assert seen() == (1, 1, (*shape, 3), False)
        spoil()
        for _ in range(2):
            assert seen() == (0, 0, (*shape, 3), True)
            assert len(data.get_image_and_label(1)["cls"]) == 1
        assert [str(file) in record.message for record in caplog.records] == [True]


def test_data_that_is_gone_stops_a_training(make_coco):
    folder = make_coco([(n, f"{n}.jpg") for n in range(5)])
    data = dataset(folder)
    shutil.rmtree(folder / "images")
    for n in (0, 1, 2, 3) * 3:
        data.load_image(n)
    with pytest.raises(RunError, match=r"4.jpg: the data is gone; images in a row that cannot be read: 5"):
        data.load_image(4)


def test_one_image_that_is_gone_stops_no_training(make_coco):
    """The others stay in memory, so that it is the only one that is read, in every epoch."""
    folder = make_coco([(n, f"{n}.jpg") for n in range(5)], [box(n, 7, 8, 8, 9, 9) for n in range(5)])
    data = dataset(folder, augment=True)
    (folder / "images/val/4.jpg").unlink()
    for n in range(60):
        assert data[n % 5]["img"].shape == (3, 64, 64)


@pytest.mark.integration
@pytest.mark.parametrize(("images", "stops"), [(30, True), (2, False)])
def test_data_that_is_gone_stops_a_validation_of_several_processes(make_coco, images, stops):
    """Each sees its share of the images."""
    folder = make_coco([(n, f"{n}.jpg") for n in range(images)])
    data = dataset(folder)
    for n in range(images) if stops else [1]:
        (folder / f"images/val/{n}.jpg").unlink()
    batches = DataLoader(data, batch_size=4 if stops else 1, num_workers=2, collate_fn=data.collate_fn)
    with pytest.raises(RunError, match="the data is gone") if stops else nullcontext():
        assert sum(len(batch["img"]) for batch in batches) == images


def test_mosaic_of_a_first_image_that_is_gone(make_coco):
    """Ultralytics draws the other images from those that it has read: there is none yet."""
    folder = make_coco([(n, f"{n}.jpg") for n in range(5)], [box(n, 7, 8, 8, 9, 9) for n in range(5)])
    data = dataset(folder, augment=True)
    (folder / "images/val/0.jpg").unlink()
    assert data[0]["img"].shape == (3, 64, 64)


def test_advice_does_not_go_in_a_circle(make_coco, logged):
    """cache=disk is refused, so the warning of cache=ram must not name it."""
    dataset(make_coco([(1, "a.jpg")]), cache="ram", augment=True)
    (warning,) = [line for line in logged() if "cache='ram'" in line]
    assert "non-deterministic" in warning
    assert "disk" not in warning
