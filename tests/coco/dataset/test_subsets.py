"""Several JSONs as one, and parts of one, scored as pycocotools scores the same choice."""

import json

import numpy as np
import pytest
from support import pycocotools_scores

from yolo_attn.coco.dataset.subsets import join, only_classes, single_class, subset
from yolo_attn.coco.evaluate import Detections, coco_scores
from yolo_attn.coco.reading.reader import read_index
from yolo_attn.errors import UserError


def draw_set(file, seed, categories, images=10):
    """Write a JSON with annotations of these categories, by id and name; return its content."""
    rng = np.random.default_rng(seed)
    annotations = [
        {
            "id": n + 1,
            "image_id": int(1 + rng.integers(images)),
            "category_id": int(rng.choice(list(categories))),
            "bbox": (box := rng.uniform(5, 200, 4).round(2).tolist()),
            "area": box[2] * box[3],
            "iscrowd": int(rng.random() < 0.1),
        }
        for n in range(60)
    ]
    categories = [{"id": i, "name": name} for i, name in categories.items()]
    drawn = [{"id": i + 1, "file_name": f"{i}.jpg", "width": 640, "height": 640} for i in range(images)]
    content = {"images": drawn, "categories": categories, "annotations": annotations}
    file.write_text(json.dumps(content))
    return content


def joined(folder, task="detect"):
    return join([read_index(folder / f"{name}.json", task) for name in "ab"])


def near(content, seed):
    """Detections near each annotation, some of them of another category, as COCO's results."""
    rng = np.random.default_rng(seed)
    ids = [c["id"] for c in content["categories"]]
    return [
        {
            "image_id": a["image_id"],
            "category_id": int(rng.choice(ids)) if rng.random() < 0.3 else a["category_id"],
            "bbox": np.add(a["bbox"], rng.normal(0, 9, 4)).clip(1).round(3).tolist(),
            "score": float(rng.integers(1, 10**6)) / 10**6,
        }
        for a in content["annotations"]
        for _ in range(2)
    ]


def collect(results, image=lambda i: i, category=lambda i: i):
    detections = Detections()
    for image_id in {d["image_id"] for d in results}:
        ds = [d for d in results if d["image_id"] == image_id]
        ids = [category(d["category_id"]) for d in ds]
        detections.add(image(image_id), [d["bbox"] for d in ds], [d["score"] for d in ds], ids)
    return detections


def assert_scores(index, detections, truth, results, **params):
    expected, _ = pycocotools_scores(truth, results, **params)
    np.testing.assert_allclose(list(coco_scores(index, detections).metrics.values()), expected, rtol=0, atol=1e-9)


CATEGORIES = {9: "cat", 3: "dog", 40: "bird"}


@pytest.fixture
def drawn(tmp_path):
    content = draw_set(tmp_path / "a.json", 0, CATEGORIES)
    return tmp_path / "a.json", content, near(content, 1)


def test_only_some_classes(drawn):
    file, _, results = drawn
    index = only_classes(read_index(file), ["bird", "dog", "nobody"])
    assert index.category_names == ["dog", "bird"]
    assert index.category_ids.tolist() == [3, 40]
    assert len(index.image_ids) == 10
    kept = [d for d in results if d["category_id"] != 9]
    assert_scores(index, collect(kept), file, results, catIds=[3, 40])


def test_all_classes_as_one(drawn):
    file, _, results = drawn
    index = single_class(read_index(file))
    assert index.category_names == ["item"]
    detections = collect(results, category=lambda _: int(index.category_ids[0]))
    assert_scores(index, detections, file, results, useCats=0)


def test_a_subset_keeps_the_shares_of_classes(tmp_path):
    file = tmp_path / "a.json"
    rng = np.random.default_rng(0)
    content = draw_set(file, 0, CATEGORIES, images=1000)
    shows = rng.choice([9, 3, 40, 0], 1000, p=[0.6, 0.25, 0.05, 0.1])
    content["annotations"] = [
        {"id": i, "image_id": i + 1, "category_id": int(c), "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}
        for i, c in enumerate(shows)
        if c
    ]
    file.write_text(json.dumps(content))
    whole = read_index(file)
    for seed in range(5):
        part = subset(whole, 0.1, seed)
        assert len(part.image_ids) == 100
        for category in range(3):
            share = (part.category_of == category).sum() / (whole.category_of == category).sum()
            assert share == pytest.approx(0.1, abs=0.1 / 3), (seed, category)
    assert part.image_ids.tolist() == subset(whole, 0.1, 4).image_ids.tolist()
    assert part.image_ids.tolist() != subset(whole, 0.1, 3).image_ids.tolist()
    assert sorted(part.image_ids) == part.image_ids.tolist()
    assert len(subset(whole, 0.0001, 0).image_ids) == 1
    assert len(subset(whole, 37, 0).image_ids) == 37
    assert subset(whole, 1.0, 0) is whole


def test_a_subset_is_scored_as_these_images(drawn):
    file, content, results = drawn
    part = subset(read_index(file), 0.4, 7)
    ids = part.image_ids.tolist()
    assert [part.file_names[i] for i in range(4)] == [f"{i - 1}.jpg" for i in ids]
    assert len(part.boxes) == sum(a["image_id"] in ids for a in content["annotations"])
    kept = [d for d in results if d["image_id"] in ids]
    assert_scores(part, collect(kept), file, results, imgIds=ids)


def test_several_files_are_joined_by_name_and_scored_as_one(tmp_path):
    """Both files have the same image ids, and give the same names other ids."""
    sets = [
        draw_set(tmp_path / "a.json", 0, CATEGORIES),
        draw_set(tmp_path / "b.json", 1, {1: "bird", 3: "fox", 7: "dog"}),
    ]
    index = joined(tmp_path)
    assert index.category_names == ["dog", "cat", "bird", "fox"]
    results = [near(content, seed) for seed, content in enumerate(sets, 5)]

    names = index.category_names
    number = [{c["id"]: names.index(c["name"]) + 1 for c in content["categories"]} for content in sets]

    def moved(k, item):
        category = number[k][item["category_id"]]
        return {**item, "image_id": item["image_id"] + 10 * k, "category_id": category}

    merged = {
        "images": [{**image, "id": image["id"] + 10 * k} for k, s in enumerate(sets) for image in s["images"]],
        "categories": [{"id": n, "name": name} for n, name in enumerate(names, 1)],
        "annotations": [
            {**moved(k, a), "id": a["id"] + 1000 * k} for k, s in enumerate(sets) for a in s["annotations"]
        ],
    }
    (tmp_path / "merged.json").write_text(json.dumps(merged))
    together = [moved(k, d) for k, ds in enumerate(results) for d in ds]
    detections = collect(together)
    assert_scores(index, detections, tmp_path / "merged.json", together)

    detections.save(tmp_path / "predictions.json", index)
    for k, expected in enumerate(results, 1):
        saved = json.loads((tmp_path / f"predictions-{k}.json").read_text())
        assert sorted(saved, key=as_text) == sorted(expected, key=as_text)


def as_text(detection):
    return json.dumps(detection, sort_keys=True)


def test_detections_of_a_class_that_a_file_lacks_are_not_in_its_predictions(tmp_path):
    draw_set(tmp_path / "a.json", 0, {5: "cat"})
    draw_set(tmp_path / "b.json", 1, {5: "dog"})
    index = joined(tmp_path)
    detections = Detections()
    detections.add(1, [[1, 1, 5, 5]] * 2, [0.5, 0.25], [1, 2])
    detections.save(tmp_path / "predictions.json", index)
    (row,) = json.loads((tmp_path / "predictions-1.json").read_text())
    assert row == {"image_id": 1, "category_id": 5, "bbox": [1, 1, 5, 5], "score": 0.5}
    assert json.loads((tmp_path / "predictions-2.json").read_text()) == []
    alone = Detections()
    alone.add(1, [[1, 1, 5, 5]], [0.5], [1])
    assert coco_scores(index, detections) == coco_scores(index, alone)


def test_joined_parts_are_chosen_from_like_one(tmp_path):
    draw_set(tmp_path / "a.json", 0, CATEGORIES)
    draw_set(tmp_path / "b.json", 1, {1: "bird", 3: "fox"})
    one = single_class(subset(only_classes(joined(tmp_path), ["bird"]), 0.5, 0))
    assert len(one.image_ids) == 10
    assert set(one.file_of) == {0, 1}
    assert [o.categories for o in one.origins] == [{3: 40}, {3: 1}]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (["left", "right", "top"], r"a\.json and .*b\.json: different numbers of keypoints .*: 2 and 3"),
        (["right", "left"], r"a\.json and .*b\.json: keypoints with other names or in another order"),
    ],
)
def test_different_keypoints_are_not_joined(tmp_path, second, message):
    for name, keypoints in (("a", ["left", "right"]), ("b", second)):
        content = draw_set(tmp_path / f"{name}.json", 0, {1: "person"})
        content["categories"][0]["keypoints"] = keypoints
        for a in content["annotations"]:
            a["keypoints"] = [1, 2, 2] * len(keypoints)
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        joined(tmp_path, "pose")
