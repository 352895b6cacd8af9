"""Masks and keypoints of a JSON: what is usable, and what a training is given."""

import itertools
import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo_attn.coco.reading.annotations import KeypointAnnotation
from yolo_attn.coco.reading.masks_and_keypoints import flip_order, outline, read_keypoints
from yolo_attn.coco.reading.problems import Problems
from yolo_attn.coco.reading.reader import read_index
from yolo_attn.coco.reading.run_lengths import counts_of, decode_mask, number_of_runs
from yolo_attn.errors import UserError


def run_lengths(mask):
    """COCO's uncompressed form: down the columns, zeros first."""
    flat = [0, *mask.ravel(order="F").tolist()]
    edges = [0, *(i for i in range(1, len(flat)) if flat[i] != flat[i - 1]), len(flat)]
    counts = [b - a for a, b in itertools.pairwise(edges)]
    return {"size": list(mask.shape), "counts": [counts[0] - 1, *counts[1:]]}


def drawn(points, shape, finer=8):
    """A polygon as pixels whose centre it holds."""
    mask = np.zeros((shape[0] * finer, shape[1] * finer), np.uint8)
    cv2.fillPoly(mask, [np.round(points * finer - 0.5).astype(np.int32)], 1)
    return mask[finer // 2 :: finer, finer // 2 :: finer]


def ellipse(shape, centre, axes, angle):
    mask = np.zeros(shape, np.uint8)
    cv2.ellipse(mask, centre, axes, angle, 0, 360, 1, -1)
    return mask


@given(st.integers(8, 30), st.integers(5, 25), st.integers(0, 180))
def test_outline_of_run_lengths_covers_their_pixels(a, b, angle):
    mask = ellipse((80, 90), (45, 40), (a, b), angle)
    points = outline(run_lengths(mask))
    again = drawn(points, mask.shape)
    assert (again & mask).sum() / (again | mask).sum() > 0.93
    y, x = np.nonzero(mask)
    assert points.min(0).tolist() == [x.min(), y.min()]
    assert points.max(0).tolist() == [x.max() + 1, y.max() + 1]


def test_parts_are_joined_into_one_outline():
    squares = [[10, 10, 20, 10, 20, 20, 10, 20], [40, 10, 50, 10, 50, 20, 40, 20]]
    both = drawn(outline(squares), (60, 60))
    assert both[15, 15]
    assert both[15, 45]
    mask = np.zeros((60, 60), np.uint8)
    mask[10:20, 10:20] = mask[10:20, 40:50] = 1
    again = drawn(outline(run_lengths(mask)), (60, 60))
    assert (again & mask).sum() / (again | mask).sum() > 0.85


def test_thin_and_single_pixels_have_area():
    mask = np.zeros((9, 9), np.uint8)
    mask[4, 2:6] = 1
    assert outline(run_lengths(mask)).tolist() == [[2, 4], [6, 4], [6, 5], [2, 5]]
    mask[:] = 0
    mask[3, 3] = 1
    assert np.ptp(outline(run_lengths(mask)), axis=0).tolist() == [1, 1]
    assert len(outline(run_lengths(mask * 0))) == 0


def test_run_lengths_are_counted_and_decoded_as_by_pycocotools():
    from pycocotools import mask as coco

    rng = np.random.default_rng(0)
    for n in range(50):
        mask = (rng.random((rng.integers(1, 40), rng.integers(1, 60))) < rng.random()).astype(np.uint8)
        mask[:, : n % 7] = n % 2
        text = coco.encode(np.asfortranarray(mask))["counts"].decode()
        expected = run_lengths(mask)["counts"]
        coded = {"size": list(mask.shape), "counts": text}
        assert counts_of(coded).tolist() == expected
        assert number_of_runs(coded) == len(expected)
        assert (decode_mask(coded) == mask).all()
        assert (decode_mask(run_lengths(mask)) == mask).all()


@pytest.mark.parametrize(
    "counts", ["P", "PPPPPPPPPPPPPPP", "o", "\u1234", "", "~", " ", "0" * 3 + "o", [-1, 5], [2**70]]
)
def test_run_lengths_that_are_none_are_no_mask(counts):
    assert number_of_runs({"size": [2, 2], "counts": counts}) == 0


@pytest.mark.parametrize("size", [(64, 96), (96, 64)])
def test_an_outline_is_the_same_if_only_its_part_of_the_mask_is_decoded(monkeypatch, size):
    mask = ellipse(size, (30, 25), (20, 9), 30)
    mask[40:50, 10] = 1
    whole = outline(run_lengths(mask))
    monkeypatch.setattr("yolo_attn.coco.reading.run_lengths.LARGEST_CROP", 2500)
    assert outline(run_lengths(mask)).tolist() == whole.tolist()
    monkeypatch.setattr("yolo_attn.coco.reading.run_lengths.LARGEST_CROP", 500)
    assert abs(outline(run_lengths(mask)).min(0) - whole.min(0)).max() <= 3
    assert abs(outline(run_lengths(mask)).max(0) - whole.max(0)).max() <= 3
    assert outline(run_lengths(mask * 0)).shape == (0, 2)
    assert np.ptp(outline(run_lengths(mask * 0 + 1)), axis=0).tolist() == pytest.approx(list(size[::-1]), abs=6)


@pytest.mark.parametrize("parts", [1, 2, 7, 300])
def test_an_outline_of_very_many_corners_keeps_its_extent_with_fewer(parts):
    angles = np.linspace(0, 2 * np.pi, 12_000 // parts, endpoint=False)
    polygons = [np.stack([30 * n + 9 * np.cos(angles), 9 * np.sin(angles)], 1).ravel().tolist() for n in range(parts)]
    points = outline(polygons)
    assert 1000 < len(points) <= 2000 + 2 * parts  # joining parts goes there and back
    kept = min(parts, 250)
    np.testing.assert_allclose(np.ptp(points, axis=0), [30 * (kept - 1) + 18, 18], atol=0.6)
    assert outline([polygons[0][:3000]]).ravel().tolist() == polygons[0][:3000]


def keypoints(*values):
    annotations = [KeypointAnnotation(id=1, keypoints=json.dumps(v).encode()) for v in values]
    return read_keypoints("f.json", annotations, Problems())


def test_keypoints_must_agree_in_number():
    assert keypoints([1, 2, 2, 3, 4, 1], None).tolist() == [[[1, 2, 2], [3, 4, 1]], [[0, 0, 0], [0, 0, 0]]]
    for wrong in ([None], [[1, 2]], [[]], [["a", 2, 3]]):
        with pytest.raises(UserError, match=r"f\.json: .*none with keypoints"):
            keypoints(*wrong)
    with pytest.raises(UserError, match="found 1 and 2 of them"):
        keypoints([1, 2, 2], [1, 2, 2, 3, 4, 1])


def test_mirrored_order():
    assert flip_order((), 17)[:5] == [0, 2, 1, 4, 3]
    assert flip_order((), 4) == []
    assert flip_order(("nose", "left_eye", "right_eye", "left_ear"), 4) == [0, 2, 1, 3]
    assert flip_order(("l_eye", "r_eye"), 2) == []
    assert flip_order(("left", "right"), 5) == []


def test_only_the_task_that_needs_them_reads_them(small_coco, small_poses):
    file = small_coco / "annotations/instances_val.json"
    assert read_index(file).masks is None
    assert read_index(file, "segment").keypoints is None
    assert len(read_index(file, "segment").masks) == len(read_index(file).boxes)
    poses = read_index(small_poses / "annotations/person_keypoints_val.json", "pose")
    assert poses.keypoints.shape == (len(poses.boxes), 5, 3)
    assert poses.keypoint_names == ("left", "right", "top", "bottom", "centre")
    with pytest.raises(UserError, match="none with keypoints"):
        read_index(file, "pose")
