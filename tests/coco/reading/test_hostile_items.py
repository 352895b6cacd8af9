"""Ids, images, categories and annotations as they should not be: read as COCO's own tools read them, or left out."""

import copy
import json

import numpy as np
import pytest
from hostile import BASE, OTHER_SIZE, annotation, many, more, one_box, put, read, renamed, scored, told_of
from support import pycocotools_scores

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


NAN = float("nan")
NO_BOX = {"annotation without four finite numbers as bbox": 1}
NO_AREA, CLIPPED = {"box without area inside its picture": 1}, {"box clipped to its picture": 1}
REPEATED_NAME = {"repeated category name": 1}
NO_NAME = {"image without text or a number as file_name": 1}

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
    "width that is true": (put("images", 0, width=True), {"width or height that is no number of pixels": 1}),
    "other width": (put("images", 0, width=100), OTHER_SIZE),
    "negative width": (put("images", 0, width=-64), {"width or height that is no number of pixels": 1}),
    "width of next to nothing": (put("images", 0, width=1e-300), {"width or height that is no number of pixels": 1}),
    "huge width": (put("images", 0, width=10**15), {"width or height that is no number of pixels": 1}),
    "width that no image has": (put("images", 0, width=2**21), {"width or height that is no number of pixels": 1}),
    "more pixels than a mask": (
        put("images", 0, width=2**20, height=2**11),
        {"width or height that is no number of pixels": 1},
    ),
    "the picture of another image": (put("images", 1, file_name="1.jpg"), {"picture that an earlier image has too": 1}),
    "no picture of that name": (put("images", 1, file_name="gone.jpg"), {"picture missing": 1}),
    "box without width": (one_box(5, 5, 0, 20), NO_AREA),
    "box of negative width": (one_box(25, 5, -20, 20), NO_AREA),
    "box outside": (one_box(200, 300, 20, 20), NO_AREA),
    "box partly outside": (one_box(-5, 5, 30, 20), CLIPPED),
    "huge box": (one_box(-1e300, 5, 1e308, 1e308), CLIPPED),
    "tiny box": (one_box(5, 5, 1e-300, 1e-300), NO_AREA),
    "negative area": (put("annotations", 0, area=-5), {}),
    "image without a file_name": (put("images", 1, file_name=None), NO_NAME),
    "file_name that is a list": (put("images", 1, file_name=["2.jpg"]), NO_NAME),
    "file_name that is true": (put("images", 1, file_name=True), NO_NAME),
    "file_name that is a number": (put("images", 1, file_name=2), {"picture missing": 1}),
    "category name that is a number": (put("categories", 1, name=0), {}),
    "category name that is a fraction": (put("categories", 1, name=1.5), {}),
    "infinite areas": (
        many(put("annotations", 0, area=float("inf")), put("annotations", 1, area=-float("inf"))),
        {},
    ),
    "area beyond any float": (put("annotations", 0, area=10**400), {}),
    "ignore": (put("annotations", 0, ignore=1), {"annotation marked by ignore": 1}),
    "ignore that says no": (put("annotations", 0, ignore=0), {}),
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
    "repeated null as annotation id": (
        many(*(lambda content, n=n: content["annotations"][n].update(id=None) for n in (1, 4))),
        None,
        {"repeated annotation id": 1},
    ),
    "no iscrowd": (put("annotations", 0, iscrowd=None), None, {}),
    "iscrowd as text": (
        many(put("annotations", 0, iscrowd="0"), put("annotations", 3, iscrowd="1")),
        None,
        {"iscrowd that is neither 0 nor 1": 2},
    ),
    "annotation id 0": (
        put("annotations", 0, id=0),
        None,
        {"annotation id 0": 1},
    ),
    "annotation ids that are none": (
        many(put("annotations", 0, id=True), put("annotations", 1, id=[1]), put("annotations", 2, id=0.5)),
        None,
        {"annotation id that is neither a whole number nor text": 3},
    ),
    "no annotation id": (put("annotations", 0, id=None), None, {}),
    "no area": (put("annotations", 0, area=None), put("annotations", 0, area=400), {}),
    "area that is no number": (
        many(put("annotations", 0, area="big"), put("annotations", 1, area=NAN), put("annotations", 2, area=True)),
        many(*(put("annotations", n, area=400) for n in range(3))),
        {"area that is no number": 3},
    ),
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
        more("images", {"id": 9, "file_name": "9"}),
        {"picture missing": 1},
    ),
    "annotation id of 10 MB": (more("annotations", annotation(id="x" * 10**7, bbox=1)), None, NO_BOX),
    "category without a name": (
        put("categories", 1, name=None),
        put("categories", 1, name="3"),
        {"category without a name": 1},
    ),
    "category name that is a list": (
        put("categories", 1, name=["dog"]),
        put("categories", 1, name="3"),
        {"category without a name": 1},
    ),
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
        NO_NAME,
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
