"""Each kind of error on an image with no other, and broken files."""

import json

import pytest

from yolo_attn.compare.analysis.detections import ERRORS, match
from yolo_attn.errors import UserError

CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
FIRST, SECOND, AWAY = [0, 0, 40, 40], [100, 100, 40, 40], [300, 300, 40, 40]
BESIDE = [120, 100, 40, 40]
"""It overlaps SECOND by a third."""

HALF = 51 / 101
"""AP50 of one object of two, found before anything wrong: precision 1 at the recalls from 0 to 0.5."""

CASES = {
    # objects, detections by descending score, and the lost AP50, computed by hand for one class or two
    "Miss": ([(1, FIRST), (1, SECOND)], [(1, FIRST)], 1 - HALF),
    "Loc": ([(1, FIRST), (1, SECOND)], [(1, FIRST), (1, BESIDE)], 1 - HALF),
    "Cls": ([(1, FIRST), (2, SECOND)], [(1, FIRST), (1, SECOND)], 1 - (1 + 0) / 2),
    "Both": ([(1, FIRST), (2, SECOND)], [(1, BESIDE), (1, FIRST), (2, SECOND)], 1 - (1 / 2 + 1) / 2),
    "Bkg": ([(1, FIRST)], [(1, AWAY), (1, FIRST)], 1 - 1 / 2),
    "Dupe": ([(1, FIRST), (1, SECOND)], [(1, FIRST), (1, FIRST), (1, SECOND)], 1 - (HALF + 50 / 101 * 2 / 3)),
}


@pytest.fixture
def write(tmp_path):
    """Writes objects and detections, (class, box) each, of one image; returns both files."""

    def make(objects, detections):
        image = {"id": 5, "width": 640, "height": 480}
        annotations = [
            {"id": n, "image_id": 5, "category_id": c, "bbox": b, "area": b[2] * b[3], "iscrowd": 0}
            for n, (c, b) in enumerate(objects, 1)
        ]
        found = [
            {"image_id": 5, "category_id": c, "bbox": b, "score": 0.9 - n / 100} for n, (c, b) in enumerate(detections)
        ]
        truth, predictions = tmp_path / "truth.json", tmp_path / "predictions.json"
        truth.write_text(json.dumps({"images": [image], "categories": CATEGORIES, "annotations": annotations}))
        predictions.write_text(json.dumps(found))
        return truth, predictions

    return make


@pytest.mark.parametrize("kind", CASES)
def test_each_kind_of_error_costs_what_it_costs_by_hand(kind, write):
    objects, detections, lost = CASES[kind]
    found = match(*write(objects, detections), "bbox").errors
    assert found == pytest.approx({**dict.fromkeys(ERRORS, 0.0), kind: lost}, abs=1e-9)


def test_objects_are_counted_by_class(write):
    assert match(*write([(1, FIRST), (1, SECOND)], [(2, AWAY)]), "bbox").objects == {"cat": 2, "dog": 0}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        *(
            ("predictions", text)
            for text in ('{"a":', '[{"image_id": 5}]', '[{"image_id": 5, "category_id": "x"}]', "")
        ),
        ("predictions", None),
        ("truth", "["),
    ],
)
def test_broken_files_are_reported_in_one_line(file, text, write):
    truth, predictions = write([(1, FIRST)], [])
    broken = {"truth": truth, "predictions": predictions}[file]
    if text is None:
        broken.unlink()
    else:
        broken.write_text(text)
    with pytest.raises(UserError, match=r"predictions\.json: cannot be compared with truth\.json: "):
        match(truth, predictions, "bbox")


def test_detections_of_unknown_images_and_classes_are_ignored(write):
    truth, predictions = write([(1, FIRST)], [(1, FIRST)])
    one = json.loads(predictions.read_text())[0]
    strange = [{**one, "image_id": 6, "score": 1.0}, {**one, "category_id": 9, "score": 1.0}]
    predictions.write_text(json.dumps([*strange, one]))
    (group,) = match(truth, predictions, "bbox").groups["all"].values()
    assert group.right[0].tolist() == [True]
