"""`check-data`: all splits of a data set, tables, and pictures of suspicious boxes."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from support import TINY, save_noise

from yolo_attn.cli import main
from yolo_attn.coco import draw as drawing
from yolo_attn.coco.check import check_data, problem_count, tables
from yolo_attn.coco.dataset.locations import splits_of
from yolo_attn.coco.draw import draw_suspects
from yolo_attn.errors import UserError


def box(image, category, *xywh):
    return {"image_id": image, "category_id": category, "bbox": list(xywh)}


BOXES = [
    box(1, 7, 5, 5, 10, 10),
    box(1, 7, -20, 5, 40, 10),
    box(1, 7, 1e9, -1e300, 5, 1e308),
    box(2, 7, 8, 8, 0, -3),
    box(3, 7, 8, 8, 3, 3),
]


@pytest.fixture
def three(make_coco):
    """A set of all three splits; the test split has a category that the others lack."""
    make_coco([(9, "t.jpg")], [box(9, 7, 1, 1, 5, 5)], split="train", root="images/train")
    make_coco([(8, "e.jpg")], [box(8, 4, 1, 1, 5, 5)], [(4, "fox")], split="test", root="images/test")
    return make_coco([(1, "a b.jpg"), (2, "b.jpg"), (3, "c.jpg")], BOXES)


def test_every_existing_split_is_examined(three):
    found = check_data(three, "detect")
    assert list(found) == ["train", "val", "test"]
    assert {split: len(e.report.problems) for split, e in found.items()} == {"train": 0, "val": 2, "test": 1}
    assert problem_count(e.report for e in found.values()) == 4


def test_tables(three):
    lines = tables({split: e.report for split, e in check_data(three, "detect").items()})
    assert lines == [
        "split  images  usable  boxes  crowds  problems",
        "train       1       1      1       0         0",
        "val         3       3      3       0         3",
        "test        1       1      0       0         1",
        "",
        "split  count  problem                                               first item",
        "val        2  box without area inside its image, skipped            annotation 3 of image 1 (a b.jpg)",
        "val        1  box clipped to its image                              annotation 2 of image 1 (a b.jpg)",
        "test       1  box of a category that is not a class here, no label  annotation 1 of image 8 (e.jpg)",
    ]


def test_long_items_are_shortened_to_one_line(make_coco):
    folder = make_coco([(1, "a.jpg"), (2, "x" * 90 + "\n.jpg")])
    (folder / "images/val" / ("x" * 90 + "\n.jpg")).unlink()
    lines = tables({"val": check_data(folder, "detect")["val"].report})
    assert lines[-1].endswith("x…")
    assert not any("\n" in line for line in lines)


def test_no_problem(make_coco):
    report = check_data(make_coco([(1, "a.jpg")], [box(1, 7, 1, 1, 5, 5)]), "detect")["val"].report
    assert tables({"val": report})[-1] == "No problems found."


def test_boxes_in_fractions_of_the_image_are_reported(make_coco):
    boxes = [box(1, 7, 0.2, 0.3, 0.5, 0.25), box(1, 7, 0.1, 0.1, 0.9, 1), box(1, 7, 5, 5, 9, 9)]
    folder = make_coco([(1, "a.jpg")], boxes)
    found = check_data(folder, "detect")["val"]
    assert len(found.labels.boxes) == 3
    assert found.report.problems.lines() == [
        "2 × box of at most a pixel, used; boxes must be in pixels, not in fractions of the image: "
        "annotation 1 of image 1 (a.jpg), …"
    ]


def test_several_sets_count_as_one_where_they_have_a_split(three, small_coco):
    both = [three, small_coco]
    assert splits_of(both, "detect") == {"train": both, "val": both, "test": [three]}
    for data in (both, f"{three},{small_coco}"):
        assert [e.report.images for e in check_data(data, "detect").values()] == [17, 11, 1]


def test_yaml(three):
    file = three / "data.yaml"
    file.write_text("val: images/val\ntest:\nannotations: {val: annotations/instances_val.json, test: }\n")
    assert list(check_data(file, "detect")) == ["val"]


def test_wrong_data(three, tmp_path):
    ordinary = tmp_path / "plain.yaml"
    ordinary.write_text("train: a\nval: b\nnames: [x]\n")
    for data, message in (
        (tmp_path / "missing", "missing: no such folder or file"),
        (tmp_path / "missing.yaml", "missing.yaml: no such folder or file"),
        (three / "annotations/instances_val.txt", r"instances_val.txt: no such folder or file"),
        (f"{three},{tmp_path / 'missing'}", "missing: no such folder or file"),
        ([three, tmp_path / "miss,ing"], "miss,ing: no such folder or file"),
        (f"{tmp_path}/miss,ing", "miss,ing: no such folder or file"),
        (three / "images", "no annotations for 'train'; expected annotations/instances_train.json or"),
        (ordinary, "plain.yaml: expected COCO-format data, found labels in Ultralytics' own format"),
        (f"{three},{ordinary}", "plain.yaml: expected COCO-format data, found labels in Ultralytics' own format"),
    ):
        with pytest.raises(UserError, match=message):
            check_data(data, "detect")


def test_nothing_is_written_among_the_data(three, tmp_path):
    (three / "link").symlink_to(three / "images/val")
    for place in (three, three / "new", three / "images/val/out", three / "link/out"):
        with pytest.raises(UserError, match=r"it is among the data, in .*; choose a folder elsewhere"):
            check_data(three, "detect", place)
    file = three / "data.yaml"
    file.write_text("val: images/val\nannotations: {val: annotations/instances_val.json}\n")
    assert check_data(file, "detect", three / "out")
    with pytest.raises(UserError, match="among the data"):
        check_data(file, "detect", three / "annotations/out")


def test_suspicious_boxes_are_drawn(three, tmp_path):
    out = tmp_path / "out"
    assert draw_suspects(check_data(three, "detect"), out) == 3
    names = ["data_report.json", "test-001-e.jpg", "val-001-a_b.jpg", "val-002-b.jpg"]
    assert sorted(f.name for f in out.iterdir()) == names
    report = json.loads((out / "data_report.json").read_text())
    assert list(report) == ["train", "val", "test"]
    assert report["val"]["problems"][0]["items"][0] == "annotation 3 of image 1 (a b.jpg)"
    pixels = np.asarray(Image.open(out / "val-001-a_b.jpg")).astype(int)
    assert max(pixels.shape) < 2 * drawing.SIDES[1]
    for colour in drawing.COLOURS[1:]:
        assert (np.abs(pixels[..., ::-1] - colour).max(-1) < 40).sum() > 200
    assert not (np.abs(pixels[..., ::-1] - drawing.COLOURS[0]).max(-1) < 20).any()


def test_oriented_boxes_are_drawn_as_they_are_rotated(make_coco, tmp_path, monkeypatch):
    turned = box(1, 7, -5, 20, 40, 10) | {"attributes": {"rotation": 30}}
    polylines, drawn = drawing.cv2.polylines, []

    def seen(canvas, corners, closed, colour, thickness):
        drawn.append((thickness, corners[0]))
        return polylines(canvas, corners, closed, colour, thickness)

    monkeypatch.setattr(drawing.cv2, "polylines", seen)
    assert draw_suspects(check_data(make_coco([(1, "a.jpg")], [turned]), "obb"), tmp_path / "out") == 1
    ((_, corners),) = [found for found in drawn if found[0] == 3]
    sides = corners - np.roll(corners, 1, axis=0)
    x, y = max(sides.tolist(), key=np.linalg.norm)
    assert np.degrees(np.arctan2(y, x)) % 180 == pytest.approx(30, abs=0.5)


def test_number_of_pictures_is_bounded_and_every_kind_is_among_them(make_coco, tmp_path, monkeypatch):
    images = [(i, f"{i}.jpg") for i in range(1, 9)]
    boxes = [box(i, 7, -5, 5, 20, 10) for i in range(1, 8) for _ in range(40)]
    folder = make_coco(images, [*boxes, box(8, 7, 5, 5, 0, 0)])
    monkeypatch.setattr(drawing, "MOST_PICTURES", 2)
    assert draw_suspects(check_data(folder, "detect"), tmp_path / "out") == 2
    assert [f.name for f in sorted((tmp_path / "out").glob("*.jpg"))] == ["val-001-8.jpg", "val-002-1.jpg"]


EDGES = {
    "corners": ((64, 48), [(x, y, 9, 9) for x in (-5, 60, 1e6) for y in (-5, 45, 1e6)]),
    "one behind the other": ((64, 48), [(-n, -5, 30, 30) for n in range(1, 20)]),
    "all at one place": ((64, 48), [(1e6, 1e6, 5, 5)] * 40),
    "high": ((3, 2000), [(-5, -5, 1e5, 30), (-9, -9, 1, 1), (1, 500, 5, 9)]),
    "wide": ((2000, 3), [(-5, -5, 1e5, 30), (-9, -9, 1, 1), (1500, 1, 5, 9)]),
    "very high": ((3, 20_000), [(-5, -5, 40_000, 30), (-9, -9, 1, 1)]),
    "very wide": ((20_000, 3), [(-5, -5, 40_000, 30), (-9, -9, 1, 1)]),
    "a dot": ((1, 1), [(-5, -5, 40_000, 30), (-9, -9, 1, 1)]),
}


@pytest.mark.parametrize("case", EDGES)
def test_numbers_are_whole(make_coco, tmp_path, monkeypatch, case):
    """Each lies inside its picture, which has a sensible size, hidden by no other and by no box."""
    size, boxes = EDGES[case]
    folder = make_coco([("ü/..", "a.png")], [box("ü/..", 7, *b) for b in boxes])
    Image.new("RGB", size).save(folder / "images/val/a.png")
    rectangle, drawn = drawing.cv2.rectangle, []

    def seen(canvas, a, b, colour, thickness):
        drawn.append((thickness, *a, *b, *canvas.shape[1::-1]))
        return rectangle(canvas, a, b, colour, thickness)

    monkeypatch.setattr(drawing.cv2, "rectangle", seen)
    assert draw_suspects(check_data(folder, "detect"), tmp_path / "out") == 1
    with Image.open(tmp_path / "out/val-001-a.jpg") as picture:
        assert 500 < max(picture.size) < 2 * drawing.SIDES[1]
    numbers = np.array([facts for facts in drawn if facts[0] == -1])
    assert len(numbers) == (len(boxes) if len(boxes) <= drawing.MOST_LINES else drawing.MOST_LINES - 1)
    assert [facts[0] for facts in drawn[-len(numbers) :]] == [-1] * len(numbers)
    _, left, top, right, bottom, width, height = numbers.T
    assert ((left >= 0) & (top >= 0) & (right < width) & (bottom < height)).all()
    apart = (left[:, None] > right) | (left > right[:, None]) | (top[:, None] > bottom) | (top > bottom[:, None])
    assert (apart | np.eye(len(numbers), dtype=bool)).all()


def test_an_image_that_is_gone_is_not_drawn(three, tmp_path):
    found = check_data(three, "detect")
    (three / "images/val/b.jpg").unlink()
    assert draw_suspects(found, tmp_path / "out") == 2


@pytest.mark.parametrize("named", ["the folder", "the JSON"])
@pytest.mark.parametrize("place", ["images", "images/default", "."])
def test_one_json_without_splits_is_examined_as_it_is(tmp_path, named, place, capsys):
    save_noise(tmp_path / place / "a.jpg")
    content = {"images": [{"id": 1, "file_name": "a.jpg"}], "categories": [{"id": 7, "name": "cat"}]}
    (tmp_path / "result.json").write_text(json.dumps({**content, "annotations": [{"id": 1, **BOXES[0]}]}))
    data = str(tmp_path if named == "the folder" else tmp_path / "result.json")
    assert main(["check-data", data, "--strict"]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines()[:2]] == ["split", "all"]
    assert f"yolo-attn split {data} -o FOLDER" in shown


def test_images_of_two_splits_are_reported(make_coco, capsys):
    make_coco([(1, "a.jpg"), (2, "b.jpg"), (3, "c.jpg")], [box(1, 7, 1, 1, 5, 5)], split="train", root="images")
    folder = make_coco([(8, "b.jpg"), (9, "c.jpg"), (10, "d.jpg")], [box(8, 7, 1, 1, 5, 5)], root="images")
    assert main(["check-data", str(folder)]) == 0
    shown = capsys.readouterr().out
    line = f"{folder}/annotations/instances_val.json: 2 of val's 3 images are images of train, too"
    assert line in shown
    assert main(["check-data", str(folder), "--strict"]) == 2
    assert f"--strict: {line}" in capsys.readouterr().err
    assert main(["train", "--cfg", TINY, "--data", str(folder), "--device", "cpu", "--strict"]) == 2
    assert f"--strict: {line}" in capsys.readouterr().err


def test_images_of_train_that_stand_in_for_vals_own_are_reported(make_coco, capsys):
    """The val images are gone; the images of the same names under the folder above both are train's."""
    make_coco([(1, "a.jpg"), (2, "b.jpg")], [box(1, 7, 1, 1, 5, 5)], split="train", root="images/train")
    folder = make_coco([(8, "a.jpg"), (9, "b.jpg")], [box(8, 7, 1, 1, 5, 5)], root="elsewhere")
    shutil.rmtree(folder / "elsewhere")
    assert main(["check-data", str(folder)]) == 0
    assert "2 of val's 2 images are images of train, too" in capsys.readouterr().out


def test_a_json_of_a_split_is_checked_with_that_splits_images(make_coco):
    """Of both splits the images have the same names, and other sizes than the JSON of val says in train."""
    make_coco([(1, "a.jpg")], [box(1, 7, 1, 1, 5, 5)], split="train", root="images/train")
    folder = make_coco([(8, "a.jpg")], [box(8, 7, 1, 1, 5, 5)], root="images/val")
    Image.new("RGB", (10, 10)).save(folder / "images/train/a.jpg")
    found = check_data(folder / "annotations/instances_val.json", "detect")["all"]
    assert list(found.labels.files) == [str(folder / "images/val/a.jpg")]
    assert len(found.report.problems) == 0
