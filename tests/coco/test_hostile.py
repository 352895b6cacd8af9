"""JSONs and pictures as they should not be: read as COCO's own tools read them, or told of in one clear line."""

import copy
import gzip
import json
import os
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import pycocotools_scores, save_noise
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel, PoseModel, SegmentationModel, guess_model_task, yaml_model_load

from yolo_attn.cli import main
from yolo_attn.coco import OUTSIDE_VARIABLE
from yolo_attn.coco.dataset import CocoDataset
from yolo_attn.coco.evaluate import Detections, evaluate
from yolo_attn.coco.report import examine
from yolo_attn.coco.source import load_source
from yolo_attn.errors import UserError

SQUARE = [[5, 5, 25, 5, 25, 25, 5, 25]]
BASE = {
    "images": [{"id": n, "file_name": f"{n}.jpg", "width": 64, "height": 48} for n in (1, 2, 3)],
    "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
    "annotations": [
        {"id": n, "image_id": image, "category_id": category, "bbox": box, "area": 390, "iscrowd": crowd}
        for n, (image, category, box, crowd) in enumerate(
            [
                (1, 7, [5, 5, 20, 20], 0),
                (1, 3, [30, 10, 20, 20], 0),
                (2, 7, [8, 20, 20, 20], 0),
                (2, 7, [30, 4, 30, 40], 1),
                (3, 3, [2, 2, 20, 20], 0),
            ],
            start=11,
        )
    ],
}
FOUND = [
    ("1.jpg", "cat", [6, 6, 20, 20], 0.9),
    ("1.jpg", "dog", [31, 14, 20, 20], 0.8),
    ("2.jpg", "cat", [8, 21, 20, 20], 0.7),
    ("2.jpg", "cat", [32, 8, 15, 20], 0.6),
    ("3.jpg", "dog", [40, 20, 20, 20], 0.5),
    ("3.jpg", "dog", [3, 2, 20, 20], 0.4),
]
"""What a detector found, by file name and category name."""


@pytest.fixture
def written(tmp_path):
    """Writes a JSON, and the three pictures."""

    def write(content, name="annotations/instances_val.json"):
        file = tmp_path / "set" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        for n in (1, 2, 3):
            save_noise(tmp_path / f"set/images/val/{n}.jpg")
        return tmp_path / "set"

    return write


def read(folder, task="detect", split="val"):
    """A split, looked through; nothing warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load_source(folder, [split], task)[split]
        return found.index, examine(found.index, found.folders, found.index.category_names)


def told_of(examined):
    """Each kind of problem up to its first comma, and how often it was met; each in one line."""
    lines = examined.report.problems.lines()
    assert all(len(line) < 500 and len(line.splitlines()) == 1 for line in lines), lines
    return {kind.split(",")[0]: count for kind, count in examined.report.problems}


def scored(index, folder):
    """COCO's numbers of what was found, and the file in which it is saved."""
    names, files, detections = index.category_names, list(index.file_names), Detections()
    for file in dict.fromkeys(files):
        rows = [d for d in FOUND if d[0] == file and d[1] in names]
        ids = [int(index.category_ids[names.index(d[1])]) for d in rows]
        image = int(index.image_ids[files.index(file)])
        detections.add(image, [d[2] for d in rows], [d[3] for d in rows], ids)
    detections.save(folder / "predictions.json", index)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return evaluate(index, detections).metrics


def renamed(**ids):
    """Gives every image, or category, or annotation another id."""

    def change(content):
        for kind, new in ids.items():
            for item in content[{"category": "categories"}.get(kind, f"{kind}s")]:
                item["id"] = new(item["id"])
            for annotation in content["annotations"]:
                if f"{kind}_id" in annotation:
                    annotation[f"{kind}_id"] = new(annotation[f"{kind}_id"])

    return change


IDS = {
    "strings": renamed(image=lambda i: f"image {i}", category=str, annotation=lambda i: f"a{i}"),
    "odd strings": renamed(image=lambda i: "\0é\n/" * i, category=lambda i: "✓" * i),
    "floats": renamed(image=float, category=float, annotation=float),
    "above 2^31": renamed(image=lambda i: 2**31 + i, category=lambda i: 2**40 + i, annotation=lambda i: 2**32 + i),
    "above 2^53": renamed(image=lambda i: 2**53 + i, category=lambda i: 2**54 + i, annotation=lambda i: 2**60 + i),
    "above 2^64": renamed(image=lambda i: 2**70 + i, category=lambda i: 10**30 + i, annotation=lambda i: 2**64 + i),
    "negative": renamed(image=lambda i: -i, category=lambda i: -i, annotation=lambda i: -i),
    "zero": renamed(image=lambda i: i - 1, category=lambda i: i - 3),
    "of several kinds": renamed(image=lambda i: {1: 1, 2: "two", 3: 2**60}[i], category=lambda i: {3: 3, 7: "7"}[i]),
    "10 MB": renamed(image=lambda i: str(i) * 10**7),
}


@pytest.mark.parametrize("ids", IDS)
def test_ids(written, tmp_path, ids):
    """Whatever the ids, the numbers are the same, and predictions.json has the JSON's own."""
    expected = scored(read(written(BASE))[0], tmp_path)
    content = copy.deepcopy(BASE)
    IDS[ids](content)
    index, examined = read(written(content))
    assert told_of(examined) == {}
    assert scored(index, tmp_path) == expected
    for kind, name in (("image_id", "images"), ("category_id", "categories")):
        saved = {prediction[kind] for prediction in json.loads((tmp_path / "predictions.json").read_text())}
        assert saved == {item["id"] for item in content[name]}
    assert all(len(index.annotation_text(row)) < 400 for row in range(5))


def put(kind, n, **values):
    """Changes an image, category or annotation; None takes a key away."""

    def change(content):
        content[kind][n].update(values)
        for key in [key for key, value in values.items() if value is None]:
            del content[kind][n][key]

    return change


def more(kind, *items):
    def change(content):
        content[kind] += items

    return change


def many(*changes):
    def change(content):
        for one in changes:
            one(content)

    return change


def annotation(**values):
    return {"id": 99, "image_id": 1, "category_id": 7, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0, **values}


def one_box(*box):
    return put("annotations", 0, bbox=list(box))


NAN = float("nan")
NO_BOX = {"annotation without four finite numbers as bbox": 1}
NO_AREA, CLIPPED = {"box without area inside its picture": 1}, {"box clipped to its picture": 1}
OTHER_SIZE = {"picture of another size than the JSON says": 1}

REPEATED_NAME = {"repeated category name": 1}

AS_COCO = {
    "repeated image id": (more("images", {**BASE["images"][0], "file_name": "2.jpg"}), {"repeated image id": 1}),
    "annotation of an unknown image": (
        more("annotations", annotation(image_id=55)),
        {"annotation of an unknown image": 1},
    ),
    "annotation of an unknown category": (
        more("annotations", annotation(category_id=55)),
        {"annotation of an unknown category": 1},
    ),
    "repeated category name": (
        more("categories", {"id": 9, "name": "bird"}, {"id": 11, "name": "bird"}),
        REPEATED_NAME,
    ),
    "category names that are not ASCII": (put("categories", 1, name="собака 🐕"), {}),
    "unused category": (more("categories", {"id": 9, "name": "bird"}), {}),
    "no width": (put("images", 0, width=None), {}),
    "other width": (put("images", 0, width=100), OTHER_SIZE),
    "negative width": (put("images", 0, width=-64), {}),
    "huge width": (put("images", 0, width=10**15), OTHER_SIZE),
    "no picture of that name": (put("images", 1, file_name="gone.jpg"), {"picture missing": 1}),
    "box without width": (one_box(5, 5, 0, 20), NO_AREA),
    "box of negative width": (one_box(25, 5, -20, 20), NO_AREA),
    "box outside": (one_box(200, 300, 20, 20), NO_AREA),
    "box partly outside": (one_box(-5, 5, 30, 20), CLIPPED),
    "huge box": (one_box(-1e300, 5, 1e308, 1e308), CLIPPED),
    "tiny box": (one_box(5, 5, 1e-300, 1e-300), NO_AREA),
    "negative area": (put("annotations", 0, area=-5), {}),
    "iscrowd that is true": (put("annotations", 0, iscrowd=True), {}),
    "crowd of compressed run lengths": (
        put("annotations", 3, segmentation={"size": [48, 64], "counts": "P3`0P9"}),
        {},
    ),
    "crowd of run lengths": (put("annotations", 3, segmentation={"size": [48, 64], "counts": [1000, 72, 2000]}), {}),
    "polygon of two points": (put("annotations", 0, segmentation=[[1, 2, 3, 4]]), {}),
    "no annotation": (lambda content: content["annotations"].clear(), {}),
    "unknown keys": (lambda content: content.update(info={"a": [None]}, licenses=None, x=1e300), {}),
}
"""What COCO's own tools read: name, change, and what is told."""


@pytest.mark.parametrize("case", AS_COCO)
def test_read_as_cocos_own_tools_do(written, tmp_path, case):
    content = copy.deepcopy(BASE)
    change, told = AS_COCO[case]
    change(content)
    folder = written(content)
    index, examined = read(folder)
    metrics = scored(index, tmp_path)
    assert told_of(examined) == told
    known = {p["image_id"] for p in json.loads((tmp_path / "predictions.json").read_text())}
    assert known <= {image["id"] for image in content["images"]}
    stats, _ = pycocotools_scores(folder / "annotations/instances_val.json", tmp_path / "predictions.json")
    np.testing.assert_allclose(list(metrics.values()), stats, rtol=0, atol=1e-9)


AS_IF = {
    "repeated annotation id": (
        many(put("annotations", 1, id=11), put("annotations", 4, id=11)),
        None,
        {"repeated annotation id": 1},
    ),
    "repeated text as annotation id": (
        many(put("annotations", 1, id="a"), put("annotations", 4, id="a")),
        None,
        {"repeated annotation id": 1},
    ),
    "no iscrowd": (put("annotations", 0, iscrowd=None), None, {}),
    "iscrowd as text": (many(put("annotations", 0, iscrowd="0"), put("annotations", 3, iscrowd="1")), None, {}),
    "no area": (put("annotations", 0, area=None), put("annotations", 0, area=400), {}),
    "area that is no number": (put("annotations", 0, area="big"), put("annotations", 0, area=400), {}),
    "numbers as text": (
        many(put("annotations", 0, bbox=["5", "5.0", "2e1", " 20"], area="390"), put("images", 0, width="64")),
        None,
        {},
    ),
    "box of NaN": (more("annotations", annotation(bbox=[1, NAN, 2, 2])), None, NO_BOX),
    "box of infinity": (more("annotations", annotation(bbox=[1, 1, float("inf"), 2])), None, NO_BOX),
    "no box": (more("annotations", {"id": 99, "image_id": 1, "category_id": 7}), None, NO_BOX),
    "box that is text": (more("annotations", annotation(bbox="1 2 3 4")), None, NO_BOX),
    "box of 900 lists in each other": (
        more("annotations", annotation(bbox=json.loads("[" * 900 + "]" * 900))),
        None,
        NO_BOX,
    ),
    "box of 100,000 numbers": (more("annotations", annotation(id=["x"], bbox=[1] * 10**5)), None, NO_BOX),
    "image without id": (
        more("images", {"file_name": "1.jpg"}),
        None,
        {"image without a whole number or text as id": 1},
    ),
    "image of a broken id": (
        more("images", {"id": 1.5, "file_name": "1.jpg"}),
        None,
        {"image without a whole number or text as id": 1},
    ),
    "file_name that is a number": (
        more("images", {"id": 9, "file_name": 9}),
        None,
        {"image without a whole number or text as id": 1},
    ),
    "annotation id of 10 MB": (more("annotations", annotation(id="x" * 10**7, bbox=1)), None, NO_BOX),
    "category name of 10 MB": (
        more("categories", {"id": 9, "name": "x" * 10**7}),
        more("categories", {"id": 9, "name": "y"}),
        {"category name of more than 100 characters or with control characters": 1},
    ),
    "category name of control characters": (
        more("categories", {"id": 9, "name": "a\0b\nc\x1b[31m\u2028"}),
        more("categories", {"id": 9, "name": "y"}),
        {"category name of more than 100 characters or with control characters": 1},
    ),
    "half a character in names": (
        many(put("images", 0, license="\ud800"), more("categories", {"id": 9, "name": "\udfff \\ud800"})),
        more("categories", {"id": 9, "name": "y"}),
        {},
    ),
    "half a character as file_name": (
        more("images", {"id": 9, "file_name": "\ud83d.jpg"}),
        more("images", {"id": 9, "file_name": "gone.jpg"}),
        {"picture missing": 1},
    ),
    "NUL in a file_name": (
        more("images", {"id": 9, "file_name": "a\0.jpg"}),
        more("images", {"id": 9, "file_name": "gone.jpg"}),
        {"picture missing": 1},
    ),
    "file_name of 10,000 characters": (
        more("images", {"id": 9, "file_name": "a" * 10_000}),
        more("images", {"id": 9, "file_name": "gone.jpg"}),
        {"picture missing": 1},
    ),
    "empty file_name": (
        more("images", {"id": 9, "file_name": ""}),
        more("images", {"id": 9, "file_name": "gone.jpg"}),
        {"picture that is no file": 1},
    ),
}
"""What COCO's own tools stumble over: name, change, what it is read as if it were (None: unchanged), what is told."""


@pytest.mark.parametrize("case", AS_IF)
def test_read_as_if(written, tmp_path, case):
    content, as_if = copy.deepcopy(BASE), copy.deepcopy(BASE)
    change, same, told = AS_IF[case]
    change(content)
    (same or (lambda content: None))(as_if)
    index, examined = read(written(content))
    metrics = scored(index, tmp_path)
    assert told_of(examined) == told
    index, _ = read(written(as_if))
    assert scored(index, tmp_path) == metrics


TEXT = json.dumps(BASE).encode()
BOMB = gzip.compress(b'{"info": "' + b" " * 10**7 + b'"}')

TEXTS = {
    "byte order mark": (b"\xef\xbb\xbf" + TEXT, None),
    "gzip": (gzip.compress(TEXT), None),
    "NaN in what is not read": (TEXT[:-1] + b', "x": [NaN, -Infinity, "NaN \\" NaN"]}', None),
    "deeply nested in what is not read": (TEXT[:-1] + b', "x": ' + b"[" * 500 + b"]" * 500 + b"}", None),
    "repeated keys": (b'{"images": [], ' + TEXT[1:], None),
    "trailing comma": (TEXT[:-1] + b",}", "not valid JSON"),
    "cut off": (TEXT[:-9], "not valid JSON"),
    "comment": (b"// x\n" + TEXT, "not valid JSON"),
    "UTF-16": (TEXT.decode().encode("utf-16"), "not valid JSON"),
    "byte that is not UTF-8": (TEXT.replace(b'"cat"', b'"c\xfft"'), "not valid JSON"),
    "gzip cut off": (gzip.compress(TEXT)[:-20], "not valid JSON"),
    "gzip of something else": (b"\x1f\x8b" + TEXT, "not valid JSON"),
    "gzip with a wrong block": (gzip.compress(TEXT)[:10] + b"\xff" * 50, "not valid JSON"),
    "gzip bomb": (BOMB, "it unpacks to more than 100 times its size"),
    "very deeply nested": (TEXT[:-1] + b', "x": ' + b"[" * 10**6 + b"]" * 10**6 + b"}", "not valid JSON"),
    "text that never ends, and NaN": (b'{"x": NaN, "y": ' + b'"\\"\\' * 300_000, "not valid JSON"),
    "image that is null": (TEXT.replace(b'"images": [', b'"images": [null, '), r"found null|got `null` .*images\[0\]"),
    "images as a dictionary": (b'{"images": {}, "categories": [], "annotations": []}', "Expected `array`"),
    "no images": (json.dumps({**BASE, "images": []}).encode(), "no usable image"),
    "no categories": (json.dumps({**BASE, "categories": []}).encode(), "no usable category"),
}
"""What a file may hold: its bytes, and what is told; None where it is read as if nothing were the matter."""


@pytest.mark.parametrize("case", TEXTS)
@pytest.mark.parametrize("task", ["detect", "segment"])
def test_text(written, tmp_path, case, task):
    text, told = TEXTS[case]
    folder, start = written(text), time.monotonic()
    if told:
        with pytest.raises(UserError, match=told) as error:
            read(folder, task)
        assert str(error.value).startswith(f"{folder}/annotations/instances_val.json: ")
        assert len(str(error.value)) < 500
    else:
        index, _ = read(folder, task)
        metrics = scored(index, tmp_path)
        assert scored(read(written(BASE), "detect")[0], tmp_path) == metrics
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("wrong", [b"3" * 10_000, b"1e999"], ids=["digits", "huge"])
def test_an_annotation_that_cannot_be_read_is_left_out_alone(written, wrong):
    index, _ = read(written(TEXT.replace(b"390", wrong, 1)), "detect")
    assert len(index.boxes) == len(BASE["annotations"]) - 1
    kind = "annotation that cannot be read, left out"
    assert index.problems[kind] == 1
    assert index.problems.items(kind)[0].startswith("number 1: ")


def pictures(*file_names):
    return {**BASE, "annotations": [], "images": [{"id": n, "file_name": f} for n, f in enumerate(file_names)]}


OTHERWISE = {"picture found under another spelling of its file_name": 1}
OUTSIDE = {"picture outside its image folder": 1}

NAMES = {
    "in a folder": ("sub/x.jpg", "sub/x.jpg", {}),
    "through a folder and back": ("sub/../x.jpg", "x.jpg", {}),
    "doubled slash": ("sub//x.jpg", "sub/x.jpg", {}),
    "backslash": ("sub\\x.jpg", "sub/x.jpg", OTHERWISE),
    "other case": ("sub/X.JPG", "sub/x.jpg", OTHERWISE),
    "other case, accents": ("É.JPG", "é.jpg", OTHERWISE),
    "percent-encoded": ("a%20b%2Bc.jpg", "a b+c.jpg", OTHERWISE),
    "percent as it is": ("a%20b.jpg", "a%20b.jpg", {}),
    "link": ("https://host.example/some/x%20y.jpg?size=3#top", "x y.jpg", OTHERWISE),
    "broken link": ("http://[host/x.jpg", None, {"picture missing": 1}),
    "absolute, inside": ("{images}/x.jpg", "x.jpg", {}),
    "absolute, outside": ("{images}/../secret.jpg", "../secret.jpg", OUTSIDE),
    "upwards": ("../secret.jpg", "../secret.jpg", OUTSIDE),
    "upwards, encoded": ("..%2Fsecret.jpg", "../secret.jpg", OUTSIDE),
    "upwards, backslashes": ("..\\secret.jpg", "../secret.jpg", OUTSIDE),
    "upwards, nothing there": ("../nothing.jpg", None, {"picture missing": 1}),
    "device": ("/dev/zero", None, OUTSIDE),
    "home": ("~/x.jpg", None, {"picture missing": 1}),
    "dots alone": ("..", None, {"picture that is no file": 1}),
    "line break": ("a\nb.jpg", "a\nb.jpg", {}),
    "Windows path": ("C:\\pictures\\x.jpg", None, {"picture missing": 1}),
}
"""A file name, where the picture lies in the image folder, and what is told."""


@pytest.mark.parametrize("case", NAMES)
def test_file_name(written, case):
    name, place, told = NAMES[case]
    images = (written(BASE) / "images/val").resolve()
    if place:
        save_noise(images / place)
    (images / "sub").mkdir(exist_ok=True)
    _, examined = read(written(pictures("1.jpg", name.format(images=images))))
    assert told_of(examined) == told
    assert examined.report.usable == (2 if place and told != OUTSIDE else 1)


def test_the_same_name_in_two_folders(written):
    images = written(BASE) / "images/val"
    save_noise(images / "a/x.jpg", (30, 20))
    save_noise(images / "b/x.jpg", (20, 30))
    _, examined = read(written(pictures("a/x.jpg", "b/x.jpg")))
    assert [label["shape"] for label in examined.labels] == [(20, 30), (30, 20)]
    assert told_of(examined) == {}


def test_symbolic_links(written, tmp_path, monkeypatch):
    """Those that leave the folder are refused, in a line that says what helps; the folder itself may be one."""
    images = written(BASE) / "images/val"
    save_noise(tmp_path / "elsewhere/x.jpg")
    (images / "x.jpg").symlink_to(tmp_path / "elsewhere/x.jpg")
    (images / "folder").symlink_to(tmp_path / "elsewhere")
    (images / "inside.jpg").symlink_to("1.jpg")
    (images / "nowhere.jpg").symlink_to("gone.jpg")
    (images / "circle.jpg").symlink_to("circle.jpg")
    names = ["1.jpg", "x.jpg", "folder/x.jpg", "inside.jpg", "nowhere.jpg", "circle.jpg"]
    _, examined = read(written(pictures(*names)))
    assert told_of(examined) == {"picture outside its image folder": 2, "picture missing": 2}
    assert "--allow-outside takes it" in " ".join(examined.report.problems.lines())
    with pytest.raises(UserError, match=r"in none of the places tried: .*; found: .*--allow-outside takes it"):
        read(written(pictures("x.jpg")))
    monkeypatch.setenv(OUTSIDE_VARIABLE, "1")
    _, examined = read(written(pictures(*names)))
    assert told_of(examined) == {"picture missing": 2}
    monkeypatch.delenv(OUTSIDE_VARIABLE)
    images.rename(tmp_path / "pictures")
    images.symlink_to(tmp_path / "pictures")
    assert told_of(read(written(BASE))[1]) == {}


def noise(*shape, kind=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape, kind)


def picture(suffix, kind=None, mode=None, size=(64, 48), name=None, **save):
    """Writes a picture under a name."""

    def write(folder):
        image = Image.fromarray(noise(size[1], size[0], 3))
        if mode == "I;16":
            image = Image.fromarray(noise(size[1], size[0], kind=np.uint16))
        elif mode:
            image = image.convert(mode)
        image.save(folder / f"x.{suffix}", kind, **save)

    return f"x.{suffix}", write


def frames(suffix, **save):
    def write(folder):
        first, *others = (Image.fromarray(noise(48, 64, 3) ^ n) for n in range(4))
        first.save(folder / f"x.{suffix}", save_all=True, append_images=others, **save)

    return f"x.{suffix}", write


def raw(suffix, content):
    return f"x.{suffix}", lambda folder: (folder / f"x.{suffix}").write_bytes(content)


def cut(suffix, share):
    name, write = picture(suffix)

    def write_part(folder):
        write(folder)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(share * len(content))])

    return name, write_part


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def special(make):
    return "x.jpg", lambda folder: make(folder / "x.jpg")


NOT_READ, NO_FILE = {"picture that cannot be read": 1}, {"picture that is no file": 1}

PICTURES = {
    "JPEG": (picture("jpg"), {}),
    "JPEG that is a PNG": (picture("jpg", "PNG"), {}),
    "PNG that is a JPEG": (picture("png", "JPEG"), {}),
    "TIFF that is a PNG with alpha": (picture("tif", "PNG", "RGBA"), {}),
    "no suffix": (("x", lambda folder: Image.new("RGB", (64, 48)).save(folder / "x", "PNG")), {}),
    "progressive JPEG": (picture("jpg", progressive=True), {}),
    "JPEG with something behind it": (
        ("x.jpg", lambda folder: [picture("jpg")[1](folder), (folder / "x.jpg").open("ab").write(b"more")]),
        {},
    ),
    "grey JPEG": (picture("jpg", mode="L"), {}),
    "CMYK JPEG": (picture("jpg", mode="CMYK"), {}),
    "grey PNG": (picture("png", mode="L"), {}),
    "black and white PNG": (picture("png", mode="1"), {}),
    "16-bit PNG": (picture("png", mode="I;16"), {}),
    "RGBA PNG": (picture("png", mode="RGBA"), {}),
    "grey and alpha PNG": (picture("png", mode="LA"), {}),
    "palette PNG": (picture("png", mode="P"), {}),
    "16-bit TIFF": (picture("tif", mode="I;16"), {}),
    "grey TIFF": (picture("tiff", mode="L"), {}),
    "RGBA TIFF": (picture("tiff", mode="RGBA"), None),
    "TIFF of several pages": (frames("tiff"), None),
    "GIF": (picture("gif"), None),
    "animated GIF": (frames("gif", duration=50), None),
    "animated PNG": (frames("png"), {}),
    "animated WebP": (frames("webp"), None),
    "WebP": (picture("webp"), {}),
    "BMP": (picture("bmp"), {}),
    "ICO": (picture("ico"), None),
    "EXIF-turned JPEG": (picture("jpg", size=(48, 64), exif=turned(6)), {}),
    "EXIF-mirrored JPEG": (picture("jpg", exif=turned(2)), {}),
    "EXIF orientation that is none": (picture("jpg", exif=turned(77)), {}),
    "EXIF that is none": (picture("jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"), None),
    "1 × 1": (picture("png", size=(1, 1)), OTHER_SIZE),
    "20,000 × 2": (picture("png", size=(20_000, 2)), OTHER_SIZE),
    "2 × 20,000": (picture("jpg", size=(2, 20_000)), OTHER_SIZE),
    "zero bytes": (raw("jpg", b""), NOT_READ),
    "one byte": (raw("png", b"\x89"), NOT_READ),
    "text": (raw("jpg", b"<html>404</html>"), NOT_READ),
    "SVG": (raw("svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>'), NOT_READ),
    "PDF": (raw("jpg", b"%PDF-1.4\n%%EOF"), NOT_READ),
    "half a JPEG": (cut("jpg", 0.5), NOT_READ),
    "nearly a JPEG": (cut("jpg", 0.99), NOT_READ),
    "half a PNG": (cut("png", 0.5), NOT_READ),
    "half a BMP": (cut("bmp", 0.5), NOT_READ),
    "half a WebP": (cut("webp", 0.5), NOT_READ),
    "half a GIF": (cut("gif", 0.5), NOT_READ),
    "PNG that says it is huge": (
        raw("png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\x08\x02\0\0\0" + bytes(4)),
        NOT_READ,
    ),
    "FIFO": (special(os.mkfifo), NO_FILE),
    "folder": (special(Path.mkdir), NO_FILE),
    "link to a device": (special(lambda file: file.symlink_to("/dev/zero")), OUTSIDE),
}
"""A name and what writes it, and what is told; None where that depends on the libraries' versions."""


@pytest.mark.parametrize("case", PICTURES)
def test_picture(written, case):
    """It is loaded as three channels of eight bits in the shape that its label says, or left out."""
    (name, write), told = PICTURES[case]
    folder = written(BASE)
    write(folder / "images/val")
    content = pictures("1.jpg", name)
    content["images"][1].update(width=64, height=48)
    content["annotations"] = [annotation(bbox=[0, 0, 1, 1])]
    index, examined = read(written(content))
    assert told is None or told_of(examined) == told
    assert examined.report.usable == 2 - any("left out" in kind for kind, _ in examined.report.problems)
    data = CocoDataset(
        examined=examined,
        imgsz=32,
        hyp=get_cfg(),
        augment=False,
        data={"names": dict(enumerate(index.category_names))},
    )
    for i, label in enumerate(data.labels):
        pixels, shape, resized = data.load_image(i)
        assert pixels.dtype == np.uint8
        assert shape == label["shape"]
        assert pixels.shape == (*resized, 3)
        assert max(resized) == 32
        assert data[i]["img"].dtype == torch.uint8
    assert not data._gone


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda file: file.symlink_to("/dev/zero")])
def test_annotations_that_are_no_file(written, make):
    """None of them is waited for."""
    folder = written(BASE)
    (folder / "annotations/instances_val.json").unlink()
    make(folder / "annotations/instances_val.json")
    with pytest.raises(UserError, match="no annotations for 'val'"):
        read(folder)
    (folder / "data.yaml").write_text("val: images/val\nannotations: {val: annotations/instances_val.json}\n")
    with pytest.raises(UserError, match=r"instances_val\.json: expected a COCO JSON, found a folder or device"):
        read(folder / "data.yaml")
    (folder / "data.yaml").unlink()
    make(folder / "data.yaml")
    with pytest.raises(UserError, match=r"data\.yaml: |no annotations for 'val'"):
        read(folder / "data.yaml")


MASKS = {
    "compressed run lengths": ({"size": [48, 64], "counts": "PQ1d0P2"}, True),
    "run lengths": ({"size": [48, 64], "counts": [1000, 72, 2000]}, True),
    "run lengths of another size": ({"size": [10, 10], "counts": [40, 60]}, True),
    "run lengths that are too short": ({"size": [48, 64], "counts": [40, 60]}, False),
    "run lengths of huge numbers": ({"size": [48, 64], "counts": [2**70, 5]}, False),
    "run lengths of a huge picture": ({"size": [2**20, 2**20], "counts": [2**40]}, False),
    "run lengths of true": ({"size": [1, True], "counts": [1]}, False),
    "polygon of two points": ([[1, 2, 3, 4]], False),
    "polygon of an odd number": ([[1, 2, 3, 4, 5, 6, 7]], False),
    "polygon of one place": ([[5, 5] * 4], True),
    "polygon far outside": ([[1e8, -1e8, -1e8, 1e8, 1e8, 1e8]], True),
    "polygon farther outside": ([[1e300, 2, 3, 4, 5, 6]], False),
    "polygon of text": ([["1", "2", "3", "4", "5", "6"]], False),
    "one list": ([1, 2, 3, 4, 5, 6], False),
    "nothing": ([], False),
    "text": ("polygon", False),
    "null": (None, False),
}


@pytest.mark.parametrize("box", [[5, 5, 20, 20], [1e300, -1e300, 1e308, 1e308], [5, 5, -20, 0]])
@pytest.mark.parametrize("case", MASKS)
def test_mask(written, case, box):
    mask, usable = MASKS[case]
    content = copy.deepcopy(BASE)
    for n, item in enumerate(content["annotations"]):
        item["segmentation"] = mask if n == 0 else SQUARE
    content["annotations"][0]["bbox"] = box
    index, examined = read(written(content), "segment")
    assert ("annotation without a usable segmentation" in told_of(examined)) != usable
    for label in examined.labels:
        assert all(len(segment) >= 3 and segment.min() >= 0 and segment.max() <= 1 for segment in label["segments"])
    detections, whole = Detections(), {"size": [48, 64], "counts": [48 * 64]}
    detections.add(1, [[0, 0, 64, 48]], [0.5], [7], {"segmentation": [whole]})
    evaluate(index, detections, "segm")


KEYPOINTS = {
    "text": ("1 2 3", True),
    "numbers as text": (["1", "2", "2"], False),
    "huge": ([10**400 // 10**80, 2, 2], True),
    "beyond 32 bits": ([1e308, -1e308, 2], True),
    "outside": ([-1e6, 1e6, 2], False),
    "null": ([None, 1, 2], True),
    "a dictionary": ({"x": 1}, True),
    "lists in each other": ([[[[1]]], 2], True),
    "two numbers": ([1, 2], True),
    "odd visibility": ([1, 2, -7], False),
}


@pytest.mark.parametrize("case", KEYPOINTS)
def test_keypoints(written, case):
    points, unusable = KEYPOINTS[case]
    content = copy.deepcopy(BASE)
    for n, item in enumerate(content["annotations"]):
        item["keypoints"] = points if n == 0 else [4, 5, 2]
    index, examined = read(written(content, "annotations/person_keypoints_val.json"), "pose")
    assert ("annotation without usable keypoints" in told_of(examined)) == unusable
    assert [label["keypoints"].shape[1:] for label in examined.labels] == [(1, 3)] * 3
    evaluate(index, Detections(), "keypoints")


@pytest.mark.parametrize("task", ["detect", "segment", "pose"])
@pytest.mark.parametrize("name", ["image_info_test", "image_info_test2017", "image_info_test-dev2017"])
def test_split_without_annotations(written, name, task):
    content = {"images": BASE["images"], "categories": BASE["categories"]}
    folder = written(content, f"annotations/{name}.json")
    (folder / "images/val").rename(folder / "test2017")
    index, examined = read(folder, task, "test")
    assert (examined.report.images, examined.report.usable, examined.report.boxes) == (3, 3, 0)
    kind = {"detect": "bbox", "segment": "segm", "pose": "keypoints"}[task]
    assert set(evaluate(index, Detections(), kind).metrics.values()) == {-1.0}
    assert index.keypoints is None or index.keypoints.shape == (0, 17, 3)


def validated(folder, tmp_path, names, *more, model="yolov8n.yaml"):
    """A whole validation of an untrained checkpoint; its metrics and predictions."""
    described = yaml_model_load(model)
    described["scales"] = {"n": [0.33, 0.0625, 1024]}
    network = guess_model_task(described)
    network = {"detect": DetectionModel, "segment": SegmentationModel, "pose": PoseModel}[network](
        described, nc=len(names), verbose=False
    )
    network.names = dict(enumerate(names))
    torch.save({"model": network, "train_args": {"imgsz": 64}}, tmp_path / "untrained.pt")
    options = ["--weights", tmp_path / "untrained.pt", "--data", folder, "--project", tmp_path, "--name", "run"]
    assert main(["val", *map(str, options), "--imgsz", "64", "--device", "cpu", *more, "workers=0"]) == 0
    return [json.loads((tmp_path / "run" / name).read_text()) for name in ("metrics.json", "predictions.json")]


def odd_names(content):
    renamed(image=lambda i: f"image/{i}", category=lambda i: 2**60 + i)(content)
    names = ["$x^", "a\0b\n", "🐕 é", "%s {0} \\", "x" * 10**6, "  ", "", "$\\frac{$"]
    content["categories"] += [{"id": n, "name": name} for n, name in enumerate(names)]
    for n in range(len(names)):
        content["annotations"].append(annotation(image_id="image/1", category_id=n, bbox=[n, n, 30, 30]))


def odd_shapes(content):
    content["images"] += [{"id": 50 + n, "file_name": f"{n}.png"} for n in range(3)]
    content["annotations"] += [annotation(image_id=50 + n, bbox=[0, 0, 1, 1]) for n in range(3)]


WHOLE = {
    "odd ids and names": odd_names,
    "odd shapes": odd_shapes,
    "odd boxes": many(one_box(-1e300, 5, 1e308, 1e308), more("annotations", annotation(bbox=[5, 5, -9, 0]))),
    "no annotation": lambda content: content["annotations"].clear(),
    "crowds alone": lambda content: [a.update(iscrowd=1) for a in content["annotations"]],
}


@pytest.mark.parametrize("case", WHOLE)
def test_whole_validation(written, tmp_path, case):
    """Neither plots nor matrices nor names break what comes after the reading."""
    content = copy.deepcopy(BASE)
    WHOLE[case](content)
    folder = written(content)
    for n, size in enumerate([(1, 1), (20_000, 1), (1, 2_000)]):
        save_noise(folder / f"images/val/{n}.png", size)
    index, _ = read(folder)
    metrics, predictions = validated(folder, tmp_path, index.category_names)
    assert list(metrics["per_class"]) == index.category_names
    assert {p["image_id"] for p in predictions} <= {image["id"] for image in content["images"]}
    assert {p["category_id"] for p in predictions} <= {category["id"] for category in content["categories"]}
    assert (tmp_path / "run/val_batch0_labels.jpg").exists()


@pytest.mark.parametrize(
    ("task", "model"), [("detect", "yolov8n.yaml"), ("segment", "yolov8n-seg.yaml"), ("pose", "yolov8n-pose.yaml")]
)
def test_validation_without_annotations(written, tmp_path, task, model):
    folder = written(
        {"images": BASE["images"], "categories": BASE["categories"]}, "annotations/image_info_test-dev2017.json"
    )
    (folder / "images/val").rename(folder / "test2017")
    metrics, predictions = validated(folder, tmp_path, ["dog", "cat"], "--split", "test", model=model)
    assert {metrics[name] for name in ("AP", "AP50", "AP75")} == {-1.0}
    assert {p["image_id"] for p in predictions} <= {1, 2, 3}
    assert json.loads((tmp_path / "run/data_report.json").read_text())["test"]["boxes"] == 0
