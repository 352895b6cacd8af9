"""Oriented boxes: each place where tools put them, against OpenCV's own rotation."""

import gzip
import json

import cv2
import numpy as np
import pytest
from support import save_noise

from yolo_attn.coco.check import check_data, tables
from yolo_attn.coco.dataset.data_report import examine
from yolo_attn.coco.dataset.subsets import join
from yolo_attn.coco.reading.annotations import ROTATED
from yolo_attn.coco.reading.oriented import FORMS, NO_CORNERS, NO_ROTATION, RADIANS
from yolo_attn.coco.reading.reader import read_index

CORNERS, OUTLINE, FIVE_NUMBERS, ROTATION, UPRIGHT = FORMS
BOX = (20.0, 30.0, 40.0, 10.0)
"""Left, top, width, height."""


def turned(degrees, box=BOX):
    """Corners of a box turned counter-clockwise about its centre, by OpenCV."""
    x, y, w, h = box
    upright = np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h)])
    turn = cv2.getRotationMatrix2D((x + w / 2, y + h / 2), degrees, 1)
    return cv2.transform(upright[None], turn)[0]


def same_boxes(found, expected):
    """Whether corners are the same, whichever comes first, in whichever direction."""
    orders = [np.roll(order, n) for order in (np.arange(4), np.arange(4)[::-1]) for n in range(4)]
    return any(np.allclose(found, expected[order], atol=1e-6) for order in orders)


@pytest.fixture
def read(tmp_path):
    """Reads annotations of one image as oriented boxes."""

    def read(*annotations, task="obb", name="a.json"):
        annotations = [{"id": n, "image_id": 1, "category_id": 7, **a} for n, a in enumerate(annotations, 1)]
        images = [{"id": 1, "file_name": "a.png", "width": 100, "height": 80}]
        content = {"images": images, "categories": [{"id": 7, "name": "ship"}], "annotations": annotations}
        (tmp_path / name).write_text(json.dumps(content))
        return read_index(tmp_path / name, task)

    return read


def forms_of(index):
    return [FORMS[form] for form in index.forms]


def cvat(rotation, **more):
    return {"bbox": list(BOX), "attributes": {"occluded": False, "rotation": rotation}, "segmentation": [], **more}


@pytest.mark.parametrize("degrees", [0, 17.5, 45, 90, 137, 270, 359.9, "30", -20, 750])
def test_cvat_turns_a_box_clockwise_about_its_centre(read, degrees):
    index = read(cvat(degrees))
    assert same_boxes(index.corners[0], turned(-float(degrees)))
    assert forms_of(index) == [ROTATION]
    assert not len(index.problems)


@pytest.mark.parametrize("degrees", [0, 17.5, -45, 90, 180, 300])
def test_five_numbers_are_centre_extent_and_degrees_counter_clockwise(read, degrees):
    index = read({"bbox": [40, 35, 40, 10, degrees]})
    assert same_boxes(index.corners[0], turned(degrees))
    assert forms_of(index) == [FIVE_NUMBERS]
    low, high = index.corners[0].min(0), index.corners[0].max(0)
    np.testing.assert_allclose(index.boxes[0], [*low, *(high - low)])


def test_four_corners_stay_as_they_are(read):
    points = turned(25).round(3)
    forms = [[points.ravel().tolist()], points.ravel().tolist(), points.tolist(), [[*points.ravel(), *points[0]]]]
    index = read(*({"bbox": list(BOX), "segmentation": form} for form in forms), {"segmentation": forms[0]})
    np.testing.assert_array_equal(index.corners, np.broadcast_to(points, (5, 4, 2)))
    assert forms_of(index) == [CORNERS] * 5


def test_an_outline_gets_the_rectangle_of_smallest_area(read):
    points = turned(25)
    more = np.stack([points, (points + np.roll(points, -1, 0)) / 2], 1).reshape(-1, 2)  # the middles of its sides
    index = read({"bbox": list(BOX), "segmentation": [more.ravel().tolist()]})
    assert np.allclose(sorted(index.corners[0].tolist()), sorted(points.tolist()), atol=1e-4)
    assert forms_of(index) == [OUTLINE]
    index = read({"bbox": list(BOX), "segmentation": {"size": [40, 50], "counts": [40, 20, 20, 20, 1900]}})
    np.testing.assert_allclose(index.boxes[0], [1, 0, 2, 20], atol=1e-4)


def test_what_counts_first(read):
    corners, upright = turned(25), turned(0)
    index = read(
        cvat(10, segmentation=[corners.ravel().tolist()]),
        cvat(10, segmentation=[upright.ravel().tolist()]),
        cvat(0, segmentation=[(upright + 1).ravel().tolist()]),
        {"bbox": [40, 35, 40, 10, -30], "attributes": {"rotation": 10}},
        {"bbox": [40, 35, 40, 10, 30], "segmentation": [upright.ravel().tolist()]},
        {"bbox": list(BOX), "attributes": ["rotation"]},
        {"bbox": list(BOX)},
    )
    assert forms_of(index) == [CORNERS, ROTATION, CORNERS, FIVE_NUMBERS, FIVE_NUMBERS, UPRIGHT, UPRIGHT]
    expected = [corners, turned(-10), upright + 1, turned(-30), turned(30), upright, upright]
    assert all(map(same_boxes, index.corners, expected))


@pytest.mark.parametrize("rotation", ["steep", None, [30], {}, True, "NaN", "Infinity", 10**400])
def test_a_rotation_that_is_no_number_leaves_the_upright_box(read, rotation):
    index = read(cvat(rotation), cvat(30))
    assert same_boxes(index.corners[0], turned(0))
    assert (forms_of(index), index.problems[NO_ROTATION]) == ([UPRIGHT, ROTATION], 1)


def test_unusable_boxes_are_skipped_and_counted(read):
    nan = float("nan")
    unusable = [[1, 2, 3], [1, 2, 3, nan], [1, 2, 3, 4, "x"], [1, 2, 3, 4, 5, 6], None, "x", {}]
    index = read(*({"bbox": box} for box in unusable), {"bbox": list(BOX), "segmentation": [[1, 2, 3, 4]]})
    assert forms_of(index) == [UPRIGHT]
    assert dict(index.problems) == {
        "annotation without four or five finite numbers as bbox and without corners, skipped": len(unusable),
        NO_CORNERS: 1,
    }


def test_numbers_of_any_size_become_finite_corners(read):
    huge = [[1e308, 1e308, 1e308, 1e308], [-1e308, -1e308, 1e308, 1e308, 77], [0, 0, -5, 3, 20], [1e-320] * 5]
    index = read(*({"bbox": box, "attributes": {"rotation": 1e300}} for box in huge))
    assert np.isfinite(index.corners).all()
    assert len(index.corners) == 4


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_a_rotation_that_the_task_does_not_use_is_reported(tmp_path, task):
    boxes = [{"bbox": [4, 5, 10, 20], **more} for more in ({}, *({"attributes": {"rotation": n}} for n in (0, 30)))]
    boxes.append({"bbox": [4, 5, 10, 20], "attributes": [1]})
    annotations = [{"id": n, "image_id": 1, "category_id": 1, **box} for n, box in enumerate(boxes, 1)]
    images, categories = [{"id": 1, "file_name": "a.jpg"}], [{"id": 1, "name": "a"}]
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"images": images, "categories": categories, "annotations": annotations}))
    problems = read_index(file, task).problems
    assert problems.items(ROTATED) == ["annotation 3"]
    assert len(read_index(file, task).boxes) == 4


def test_angles_that_may_be_radians_are_reported(read):
    radians = [{"bbox": [40, 35, 40, 10, angle]} for angle in (0, 0.5, -1.5, 6.28)]
    assert read(*radians).problems[RADIANS] == 4
    assert not read(*radians, {"bbox": [40, 35, 40, 10, 6.3]}, name="b.json").problems[RADIANS]
    assert not read({"bbox": [40, 35, 40, 10, 0]}, name="c.json").problems[RADIANS]


def test_other_tasks_read_no_corners(read):
    index = read(cvat(30), task="detect")
    assert index.corners is None
    assert index.forms is None
    assert index.boxes[0].tolist() == list(BOX)


def test_joined_and_partial_sets_keep_their_corners(read):
    first = read(cvat(30), {"bbox": [40, 35, 40, 10, 30]})
    second = read({"bbox": list(BOX), "segmentation": [turned(25).ravel().tolist()]}, name="b.json")
    both = join([first, second])
    np.testing.assert_array_equal(both.corners, np.concatenate([first.corners, second.corners]))
    part = both.of_annotations(np.array([2, 0]))
    np.testing.assert_array_equal(part.corners, both.corners[[2, 0]])
    assert forms_of(part) == [CORNERS, ROTATION]


def test_packed_json_is_read_too(read, tmp_path):
    index = read(cvat(30))
    (tmp_path / "a.json.gz").write_bytes(gzip.compress((tmp_path / "a.json").read_bytes()))
    np.testing.assert_array_equal(read_index(tmp_path / "a.json.gz", "obb").corners, index.corners)


@pytest.fixture
def labelled(read, tmp_path):
    """Makes labels of annotations on an image of 100 x 80 pixels."""

    def labelled(*annotations):
        save_noise(tmp_path / "a.png", (100, 80))
        return examine(read(*annotations), [tmp_path], ["ship"])

    return labelled


def test_labels_are_the_corners_as_fractions_of_the_image(labelled):
    found = labelled(cvat(-30), {**cvat(10), "iscrowd": 1})
    label = found.labels[0]
    assert len(label["segments"]) == 1
    np.testing.assert_allclose(label["segments"][0] * (100, 80), turned(30), atol=1e-4)
    low, high = turned(30).min(0), turned(30).max(0)
    np.testing.assert_allclose(label["bboxes"][0] * (100, 80, 100, 80), [*(low + high) / 2, *(high - low)], atol=1e-4)
    assert (found.report.boxes, found.report.crowds, found.report.oriented) == (1, 1, {ROTATION: 1})
    assert not len(found.report.problems)


def test_boxes_over_the_edge_keep_their_direction_as_in_ultralytics(labelled):
    from ultralytics.utils.instance import Instances

    edge = [85.0, 20.0, 40.0, 10.0]
    for degrees in (-30, 0, 50):
        found = labelled({**cvat(degrees), "bbox": edge})
        assert found.report.problems["box clipped to its image"] == 1
        corners = found.labels[0]["segments"][0] * np.float32((100, 80))
        inside = cv2.intersectConvexConvex(corners, np.float32([(0, 0), (100, 0), (100, 80), (0, 80)]))[0]
        whole = np.float32(turned(-degrees, edge))
        shown = cv2.intersectConvexConvex(whole, np.float32([(0, 0), (100, 0), (100, 80), (0, 80)]))[0]
        assert inside == pytest.approx(shown, rel=1e-3)
        if "preserve_obb" in Instances.clip.__code__.co_varnames:
            theirs = Instances(np.zeros((1, 4), np.float32), whole[None], bbox_format="xyxy", normalized=False)
            theirs.clip(100, 80, preserve_obb=True)
            assert np.allclose(sorted(theirs.segments[0].tolist()), sorted(corners.tolist()), atol=1e-3)


def test_boxes_without_area_inside_the_image_are_skipped(labelled):
    flat = [
        {"bbox": [40, 35, 40, 0, 45]},
        {"bbox": [40, 35, -3, 10, 45]},
        {"segmentation": [[1] * 8]},
    ]
    outside = [{**cvat(30), "bbox": [300, 20, 40, 10]}, {"bbox": [99, 120, 60, 4, -45]}]  # in its upright box alone
    found = labelled(*flat, *outside, cvat(30))
    assert found.report.problems["box without area inside its image, skipped"] == 5
    assert found.report.boxes == 1


def test_check_data_names_how_boxes_are_stated(written):
    boxes = [cvat(30), {"bbox": [40, 35, 40, 10, 30]}]
    annotations = [{"id": n, "image_id": 1, "category_id": 1, **box} for n, box in enumerate(boxes, 1)]
    images = [{"id": n, "file_name": f"{n}.jpg"} for n in (1, 2, 3)]
    data = written({"images": images, "categories": [{"id": 1, "name": "ship"}], "annotations": annotations})
    reports = {split: found.report for split, found in check_data(data, "obb").items()}
    assert f"val: 1 {FIVE_NUMBERS}; 1 {ROTATION}" in tables(reports)
    assert reports["val"].as_json()["oriented"] == {FIVE_NUMBERS: 1, ROTATION: 1}
    assert "oriented" not in check_data(data, "detect")["val"].report.as_json()


def test_corners_that_nearly_lie_level_give_way_to_a_rotation(read):
    x, y, w, h = BOX
    nearly = [x, y, x + w, y + 1e-7, x + w, y + h, x, y + h - 0.004]
    index = read(cvat(30, segmentation=[nearly]))
    assert forms_of(index) == [ROTATION]
    assert same_boxes(index.corners[0], turned(-30))


@pytest.mark.parametrize("flat", [[10, 10, 10, 10, 30, 30, 10, 30], [0] * 8, [5, 5, 9, 5, 20, 5]])
def test_an_outline_without_area_gives_way_to_the_box(read, flat):
    flat = [v if n % 2 else 10 for n, v in enumerate(flat)] if len(set(flat)) == 2 else flat
    index = read({"bbox": list(BOX), "segmentation": [flat]})
    assert same_boxes(index.corners[0], turned(0))
    assert forms_of(index) == [UPRIGHT]


def test_a_closed_triangle_is_an_outline_as_an_open_one_is(read):
    triangle = [10, 10, 30, 12, 28, 40]
    index = read(*({"bbox": list(BOX), "segmentation": [each]} for each in (triangle, [*triangle, *triangle[:2]])))
    assert forms_of(index) == [OUTLINE, OUTLINE]
    assert same_boxes(index.corners[0], index.corners[1])
