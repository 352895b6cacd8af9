"""What was skipped is counted, and listed as far as a report has room, however much there is."""

import tracemalloc

import msgspec
import pytest

from yolo_attn.coco.reading.annotations import read_annotations
from yolo_attn.coco.reading.masks_and_keypoints import read_keypoints, read_masks
from yolo_attn.coco.reading.problems import LISTED, Problems
from yolo_attn.coco.reading.reader import read_index

MANY = 40_000


def test_all_are_counted_and_the_first_are_listed():
    problems = Problems()
    problems.add("bad", map(str, range(MANY)))
    problems.add("bad", ["one more"])
    problems.add("none", [])
    assert dict(problems) == {"bad": MANY + 1}
    assert problems.items("bad") == [str(n) for n in range(LISTED)]
    assert problems.lines() == [f"{MANY + 1} × bad: 0, …"]
    assert Problems.from_json(problems.as_json()).as_json() == problems.as_json()


def test_those_of_several_readers_are_counted_together():
    first, second = Problems(), Problems()
    first.add("bad", map(str, range(LISTED - 1)))
    second.add("bad", ["a", "b"], 7)
    first.update(second)
    assert first["bad"] == LISTED + 6
    assert first.items("bad")[-2:] == [str(LISTED - 2), "a"]


BAD = {
    '{"id": %d, "image_id": 55, "category_id": 1, "bbox": [1, 1, 5, 5]}': "annotation of an unknown image",
    '{"id": %d, "image_id": 1, "category_id": 55, "bbox": [1, 1, 5, 5]}': "annotation of an unknown category",
    '{"id": %d, "image_id": 1, "category_id": 1, "bbox": "1 1 5 5"}': "annotation without four finite numbers as bbox",
    '{"id": %d, "image_id": 1e999}': "annotation that cannot be read",
}


@pytest.mark.integration
def test_bad_annotations_take_no_memory():
    """Texts of all of them would take more than four megabytes."""
    problems, kinds = Problems(), list(BAD)
    texts = (msgspec.Raw((kinds[n % len(kinds)] % n).encode()) for n in range(MANY))
    tracemalloc.start()
    read_annotations(texts, [1], [1], "detect", problems)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6
    assert {kind.removesuffix(", skipped"): count for kind, count in problems} == dict.fromkeys(BAD.values(), MANY // 4)
    assert {len(problems.items(kind)) for kind, _ in problems} == {LISTED}


class Nameless:
    """An annotation whose outline and keypoints are none."""

    called = "annotation 1"
    segmentation = msgspec.Raw(b"null")
    keypoints = None


def test_bad_outlines_and_keypoints_are_listed_no_further(tmp_path):
    problems, bad = Problems(), [Nameless() for _ in range(20_000)]
    boxes = [(1.0, 1.0, 5.0, 5.0)] * len(bad)
    read_masks(bad, boxes, problems)
    bad[0].keypoints = msgspec.Raw(b"[1, 1, 2]")
    read_keypoints(tmp_path / "a.json", bad, problems)
    assert [count for _, count in problems] == [20_000, 19_999]
    assert {len(problems.items(kind)) for kind, _ in problems} == {LISTED}


def test_images_without_ids_and_repeated_ids_are_listed_no_further(tmp_path):
    images = [{"id": 1, "file_name": "a.jpg"}] * 3000 + [{"file_name": "b.jpg"}] * 3000
    annotations = [{"id": 1 + n // 2, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]} for n in range(6000)]
    content = {"images": images, "categories": [{"id": 1, "name": "cat"}], "annotations": annotations}
    (tmp_path / "a.json").write_bytes(msgspec.json.encode(content))
    problems = read_index(tmp_path / "a.json").problems
    assert [count for _, count in problems] == [2999, 3000, 3000]
    assert {len(problems.items(kind)) for kind, _ in problems} == {LISTED}
