"""Ids, images, categories and annotations as they should not be: read as COCO's own tools read them, or skipped."""

import copy
import json
from functools import partial

import numpy as np
import pytest
from hostile import BASE, OTHER_SIZE, annotation, many, more, one_box, put, read, renamed, reported, scored
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
def test_any_ids_give_the_same_numbers_and_stay_in_the_predictions(written, tmp_path, ids):
    expected = scored(read(written(BASE))[0], tmp_path)
    content = copy.deepcopy(BASE)
    IDS[ids](content)
    index, examined = read(written(content))
    assert reported(examined) == {}
    assert scored(index, tmp_path) == expected
    for kind, name in (("image_id", "images"), ("category_id", "categories")):
        saved = {prediction[kind] for prediction in json.loads((tmp_path / "predictions.json").read_text())}
        assert saved == {item["id"] for item in content[name]}
    assert all(len(index.annotation_text(row)) < 400 for row in range(5))


NAN, INFINITY = float("nan"), float("inf")
NO_AREA, CLIPPED = {"box without area inside its image": 1}, {"box clipped to its image": 1}
NO_NAME = {"image without text or a number as file_name": 1}
NO_SIZE = {"width or height that is not a number of pixels": 1}
MISSING = {"image file missing": 1}
ODD_NAME = {"category name of more than 100 characters or with control characters": 1}
UNNAMED = {"category without a name": 1}
TWICE = {"repeated annotation id": 1}

image, category, box = partial(put, "images"), partial(put, "categories"), partial(put, "annotations")
images, categories, boxes = partial(more, "images"), partial(more, "categories"), partial(more, "annotations")

AS_COCO = {
    "repeated image id": (images({**BASE["images"][0], "file_name": "2.jpg"}), {"repeated image id": 1}),
    "annotation of an unknown image": (boxes(annotation(image_id=55)), {"annotation of an unknown image": 1}),
    "annotation of an unknown category": (boxes(annotation(category_id=55)), {"annotation of an unknown category": 1}),
    "repeated category name": (
        categories({"id": 9, "name": "bird"}, {"id": 11, "name": "bird"}),
        {"repeated category name": 1},
    ),
    "category names that are not ASCII": (category(1, name="собака 🐕"), {}),
    "unused category": (categories({"id": 9, "name": "bird"}), {}),
    "no width": (image(0, width=None), {}),
    "other width": (image(0, width=100), OTHER_SIZE),
    **{f"width {width!r}": (image(0, width=width), NO_SIZE) for width in (True, -64, 1e-300, 10**15, 2**21)},
    "more pixels than a mask": (image(0, width=2**20, height=2**11), NO_SIZE),
    "the file of another image": (image(1, file_name="1.jpg"), {"image file that an earlier image has too": 1}),
    "no image of that name": (image(1, file_name="gone.jpg"), MISSING),
    "box without width": (one_box(5, 5, 0, 20), NO_AREA),
    "box of negative width": (one_box(25, 5, -20, 20), NO_AREA),
    "box outside": (one_box(200, 300, 20, 20), NO_AREA),
    "box partly outside": (one_box(-5, 5, 30, 20), CLIPPED),
    "huge box": (one_box(-1e300, 5, 1e308, 1e308), CLIPPED),
    "tiny box": (one_box(5, 5, 1e-300, 1e-300), NO_AREA),
    "negative area": (box(0, area=-5), {}),
    "image without a file_name": (image(1, file_name=None), NO_NAME),
    "file_name that is a list": (image(1, file_name=["2.jpg"]), NO_NAME),
    "file_name that is true": (image(1, file_name=True), NO_NAME),
    "file_name that is a number": (image(1, file_name=2), MISSING),
    "category name that is a number": (category(1, name=0), {}),
    "category name that is a fraction": (category(1, name=1.5), {}),
    "infinite areas": (many(box(0, area=INFINITY), box(1, area=-INFINITY)), {}),
    "area beyond any float": (box(0, area=10**400), {}),
    "ignore": (box(0, ignore=1), {"annotation with ignore": 1}),
    "ignore that says no": (box(0, ignore=0), {}),
    "iscrowd that is true": (box(0, iscrowd=True), {}),
    "iscrowd that is 2": (box(0, iscrowd=2), {"iscrowd that is neither 0 nor 1": 1}),
    "crowd of compressed run lengths": (box(3, segmentation={"size": [48, 64], "counts": "P3`0P9"}), {}),
    "crowd of run lengths": (box(3, segmentation={"size": [48, 64], "counts": [1000, 72, 2000]}), {}),
    "polygon of two points": (box(0, segmentation=[[1, 2, 3, 4]]), {}),
    "no annotation": (lambda content: content["annotations"].clear(), {}),
    "unknown keys": (lambda content: content.update(info={"a": [None]}, licenses=None, x=1e300), {}),
}
"""What COCO's own tools read: name, change, and what is reported."""


@pytest.mark.parametrize("case", AS_COCO)
def test_read_as_cocos_own_tools_do(written, tmp_path, case):
    content = copy.deepcopy(BASE)
    change, problems = AS_COCO[case]
    change(content)
    folder = written(content)
    index, examined = read(folder)
    metrics = scored(index, tmp_path)
    assert reported(examined) == problems
    known = {p["image_id"] for p in json.loads((tmp_path / "predictions.json").read_text())}
    assert known <= {image["id"] for image in content["images"]}
    stats, _ = pycocotools_scores(folder / "annotations/instances_val.json", tmp_path / "predictions.json")
    np.testing.assert_allclose(list(metrics.values()), stats, rtol=0, atol=1e-9)


WRONG_BOXES = (
    *([1, NAN, 2, 2], [1, 1, INFINITY, 2], [1, 1, 1, None], [1, 2, 3], [1, 2, 3, "four"], [1, 2, 3, 10**400]),
    *([True, 1, 1, 1], "1 2 3 4", None, json.loads("[" * 900 + "]" * 900), [1] * 10**5),
)


def without_name(file_name):
    """An image more whose file cannot be found, read as if it had a plain name."""
    return images({"id": 9, "file_name": file_name}), images({"id": 9, "file_name": "gone.jpg"}), MISSING


def ninth(name, problems):
    """A category more whose name is changed, read as if it had a plain one."""
    return categories({"id": 9, "name": name}), categories({"id": 9, "name": "y"}), problems


AS_IF = {
    "repeated annotation id": (many(box(1, id=11), box(4, id=11)), None, TWICE),
    "repeated text as annotation id": (many(box(1, id="a"), box(4, id="a")), None, TWICE),
    "repeated null as annotation id": (
        many(*(lambda content, n=n: content["annotations"][n].update(id=None) for n in (1, 4))),
        None,
        TWICE,
    ),
    "no iscrowd": (box(0, iscrowd=None), None, {}),
    "iscrowd as text": (many(box(0, iscrowd="0"), box(3, iscrowd="1")), None, {"iscrowd that is neither 0 nor 1": 2}),
    "annotation id 0": (box(0, id=0), None, {"annotation id 0": 1}),
    "annotation ids that are none": (
        many(box(0, id=True), box(1, id=[1]), box(2, id=0.5)),
        None,
        {"annotation id that is neither an int nor text": 3},
    ),
    "no annotation id": (box(0, id=None), None, {}),
    "annotations of broken image ids": (
        boxes({}, annotation(image_id=None), annotation(image_id=2.5), annotation(image_id=True)),
        None,
        {"annotation of an unknown image": 4},
    ),
    "category id as text": (boxes(annotation(category_id="3")), None, {"annotation of an unknown category": 1}),
    "no area": (box(0, area=None), box(0, area=400), {}),
    "area that is not a number": (
        many(box(0, area="big"), box(1, area=NAN), box(2, area=True)),
        many(*(box(n, area=400) for n in range(3))),
        {"area that is not a number": 3},
    ),
    "numbers as text": (many(box(0, bbox=["5", "5.0", "2e1", " 20"], area="390"), image(0, width="64")), None, {}),
    "boxes that are none": (
        boxes(*(annotation(id=["x"], bbox=wrong) for wrong in WRONG_BOXES)),
        None,
        {"annotation without four finite numbers as bbox": len(WRONG_BOXES)},
    ),
    "annotation id of 10 MB": (
        boxes(annotation(id="x" * 10**7, bbox=1)),
        None,
        {"annotation without four finite numbers as bbox": 1},
    ),
    "images of broken ids": (
        images({"file_name": "1.jpg"}, *({"id": wrong, "file_name": "1.jpg"} for wrong in (1.5, [4], True))),
        None,
        {"image without an int or text as id": 4},
    ),
    "category without id": (categories({"name": "nobody"}), None, {"category without an int or text as id": 1}),
    "file_name that is a number": (images({"id": 9, "file_name": 9}), images({"id": 9, "file_name": "9"}), MISSING),
    "category without a name": (category(1, name=None), category(1, name="3"), UNNAMED),
    "category name that is a list": (category(1, name=["dog"]), category(1, name="3"), UNNAMED),
    "category name of 10 MB": ninth("x" * 10**7, ODD_NAME),
    "category name of control characters": ninth("a\0b\nc\x1b[31m\u2028", ODD_NAME),
    "half a character in a category name": ninth("\udfff \\ud800", {}),
    "half a character in what is not read": (image(0, license="\ud800"), None, {}),
    "half a character as file_name": without_name("\ud83d.jpg"),
    "NUL in a file_name": without_name("a\0.jpg"),
    "file_name of 10,000 characters": without_name("a" * 10_000),
    "empty file_name": (*without_name("")[:2], NO_NAME),
}
"""What COCO's own tools stumble over: change, what it is read as if it were (None: unchanged), what is reported."""


@pytest.mark.parametrize("case", AS_IF)
def test_read_as_if(written, tmp_path, case):
    content, as_if = copy.deepcopy(BASE), copy.deepcopy(BASE)
    change, same, problems = AS_IF[case]
    change(content)
    (same or (lambda content: None))(as_if)
    index, examined = read(written(content))
    metrics = scored(index, tmp_path)
    assert reported(examined) == problems
    index, _ = read(written(as_if))
    assert scored(index, tmp_path) == metrics
