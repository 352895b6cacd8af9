"""AP of resampled images against pycocotools on a set that has each image as often as it was drawn."""

import json
import time
from collections import Counter

import hotcoco
import numpy as np
import pytest
from copies import scores_of_copies
from scipy import stats

from yolo_attn.coco.reading.masks_and_keypoints import COCO_KEYPOINTS
from yolo_attn.compare.analysis.bootstrap import MOST, average_precisions, draw, resamples
from yolo_attn.compare.analysis.detections import Group, Matches, Metric, match
from yolo_attn.compare.analysis.images import NORMAL, Images


def check(truth, predictions, counts, folder, kind="bbox", sigmas=None):
    """Compare the AP of each row of counts with pycocotools', to 1e-9."""
    matches = match(truth, predictions, kind)
    found = average_precisions(matches, counts)
    for row, of_row in enumerate(counts):
        expected = scores_of_copies(truth, predictions, of_row, folder, kind, sigmas)
        ours = [-1 if np.isnan(values[row]) else values[row] for values in found.values()]
        assert ours == pytest.approx(expected, abs=1e-9)
    return found


@pytest.fixture
def drawn_boxes(tmp_path):
    """Writes 24 images of drawn boxes and detections: crowds, empty images, classes without objects, ties."""

    def make(seed, crowded=False):
        rng = np.random.default_rng(seed)
        images = [{"id": int(i), "width": 640, "height": 480} for i in rng.permutation(900)[:24]]
        content = {"images": images, "categories": [{"id": i, "name": f"c{i}"} for i in (3, 7, 8, 40)]}
        annotations, detections = [], []
        for image in images[:-2]:
            for _ in range(rng.integers(0, 9)):
                size = np.exp(rng.uniform(np.log(8), np.log(250), 2))
                box = [*rng.uniform(0, 300, 2), *size]
                kind = {"image_id": image["id"], "category_id": int(rng.choice([3, 7, 8]))}
                crowd = int(rng.random() < 0.1)
                annotations.append({"id": len(annotations), **kind, "bbox": box, "area": size.prod(), "iscrowd": crowd})
                for _ in range(rng.integers(0, 250 if crowded else 4)):
                    near = np.array(box) + rng.normal(0, 0.12, 4) * np.tile(size, 2)
                    if rng.random() < 0.1:
                        kind = {**kind, "category_id": int(rng.choice([3, 7, 8, 40]))}
                    detections.append({**kind, "bbox": [*near[:2], *np.abs(near[2:])]})
        scores = [
            (rng.permutation(20_000)[: len(detections)] + 1) / 20_000 for _ in images
        ]  # once an image, ties between
        of_image = {image["id"]: iter(scores[n].tolist()) for n, image in enumerate(images)}
        for each in detections:
            each["score"] = next(of_image[each["image_id"]])
        truth, predictions = tmp_path / "boxes.json", tmp_path / "found.json"
        truth.write_text(json.dumps({**content, "annotations": annotations}))
        predictions.write_text(json.dumps(detections))
        return truth, predictions

    return make


@pytest.mark.parametrize("seed", range(6))
def test_ap_of_resamples_is_that_of_copied_images(seed, drawn_boxes, tmp_path):
    check(*drawn_boxes(seed), draw(24, 4), tmp_path)


@pytest.mark.integration
def test_the_hundred_best_of_an_image_and_class_count(drawn_boxes, tmp_path):
    truth, predictions = drawn_boxes(0, crowded=True)
    pairs = Counter((each["image_id"], each["category_id"]) for each in json.loads(predictions.read_text()))
    labelled = {(each["image_id"], each["category_id"]) for each in json.loads(truth.read_text())["annotations"]}
    many = {pair for pair, number in pairs.items() if number > 100}
    assert many & labelled
    assert many - labelled
    check(truth, predictions, draw(24, 2), tmp_path)


def test_images_may_be_absent_or_repeated(drawn_boxes, tmp_path):
    truth, predictions = drawn_boxes(1)
    ids = sorted(image["id"] for image in json.loads(truth.read_text())["images"])
    some = ids.index(json.loads(predictions.read_text())[0]["image_id"])  # pycocotools needs a detection
    counts = np.zeros((4, 24), dtype=np.int32)
    counts[:, some] = (24, 12, 1, 3)
    counts[1, some - 1] = 12
    counts[2, some - 5 : some] = (1, 0, 7, 0, 15)
    counts[3] = 3
    check(truth, predictions, counts, tmp_path)


def test_no_detection_at_all_is_ap_zero(drawn_boxes, tmp_path):
    truth, predictions = drawn_boxes(2)
    predictions.write_text("[\n\n]\n")
    found = average_precisions(match(truth, predictions, "bbox"), draw(24, 3))
    assert not found["AP"].any()


@pytest.mark.integration
def test_real_detections(shared_data, tmp_path):
    folder = shared_data("eval-coco")
    predictions = tmp_path / "found.json"
    detections = json.loads((folder / "instances_val2014_fakebbox100_results.json").read_text())
    seen = set()
    for each in detections:  # copies with equal scores in an image would be in another order
        while (key := (each["image_id"], each["category_id"], each["score"])) in seen:
            each["score"] += 1e-9
        seen.add(key)
    predictions.write_text(json.dumps(detections))
    check(folder / "instances_val2014_100.json", predictions, draw(100, 3), tmp_path)


@pytest.mark.slow
def test_a_set_of_cocos_size(tmp_path):
    """5,000 images, 80 classes, 36,335 objects, 485,082 detections."""
    rng, number, found = np.random.default_rng(0), 36_335, 485_082
    image, category = rng.integers(1, 5001, number), rng.integers(1, 81, number)
    size = np.exp(rng.uniform(np.log(8), np.log(300), (number, 2)))
    boxes = np.concatenate([rng.uniform(0, 300, (number, 2)), size], 1)
    of, near = rng.integers(0, number, found), rng.random(found) < 0.25
    detections = {
        "image_id": np.where(near, image[of], rng.integers(1, 5001, found)),
        "category_id": np.where(near | (rng.random(found) < 0.3), category[of], rng.integers(1, 81, found)),
        "bbox": np.abs(boxes[of] + rng.normal(0, 0.05, (found, 4)) * np.tile(size[of], 2)),
        "score": np.where(near, rng.beta(2, 3, found), rng.beta(1, 20, found)).clip(0.001, 1).round(6),
    }
    objects = {"id": np.arange(1, number + 1), "image_id": image, "category_id": category, "bbox": boxes}
    objects |= {"area": size.prod(1), "iscrowd": np.zeros(number, dtype=int)}
    truth, predictions = tmp_path / "truth.json", tmp_path / "predictions.json"
    images = [{"id": i, "width": 640, "height": 480} for i in range(1, 5001)]
    rows = [
        [dict(zip(columns, row, strict=True)) for row in zip(*(v.tolist() for v in columns.values()), strict=True)]
        for columns in (objects, detections)
    ]
    categories = [{"id": i, "name": str(i)} for i in range(1, 81)]
    truth.write_text(json.dumps({"images": images, "categories": categories, "annotations": rows[0]}))
    predictions.write_text(json.dumps(rows[1]))
    known = hotcoco.COCO(str(truth))
    evaluation = hotcoco.COCOeval(known, known.loadRes(str(predictions)), "bbox")
    evaluation.run()
    begun = time.process_time()
    matches = match(truth, predictions, "bbox")
    matched = time.process_time()
    drawn = average_precisions(matches, draw(5000, resamples(5000)))
    print(f"matched in {matched - begun:.1f} s, 200 resamples in {time.process_time() - matched:.1f} s of CPU time")
    assert [values[0] for values in drawn.values()] == pytest.approx(evaluation.stats[:6], abs=1e-12)
    assert time.process_time() - begun < 300


def test_masks(small_coco, tmp_path):
    from pycocotools import mask

    truth, rng = small_coco / "annotations/instances_val.json", np.random.default_rng(0)
    content, detections = json.loads(truth.read_text()), []
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    for n, each in enumerate(content["annotations"]):
        left, top, width, height = (np.array(each["bbox"]) + rng.normal(0, 2, 4)).clip(1).round().astype(int).tolist()
        area = np.zeros(sizes[each["image_id"]], dtype=np.uint8, order="F")
        area[top : top + height, left : left + width] = 1
        run_lengths = mask.encode(area)
        detection = {"segmentation": {**run_lengths, "counts": run_lengths["counts"].decode()}, "score": 1 / (n + 2)}
        box = [left, top, width, height]
        detections.append({**{k: each[k] for k in ("image_id", "category_id")}, "bbox": box, **detection})
    predictions = tmp_path / "found.json"
    predictions.write_text(json.dumps(detections))
    found = check(truth, predictions, draw(len(sizes), 3), tmp_path, "segm")
    assert found["AP50"][0] > 0.2


def test_keypoints_of_another_number_than_cocos(small_poses, tmp_path):
    truth, rng = small_poses / "annotations/person_keypoints_val.json", np.random.default_rng(0)
    content, detections = json.loads(truth.read_text()), []
    for n, each in enumerate(content["annotations"]):
        points = np.array(each["keypoints"]).reshape(-1, 3) + [1, 1, 0] * rng.normal(0, 2, (5, 3))
        detection = {"keypoints": points.ravel().tolist(), "bbox": each["bbox"], "score": 1 / (n + 2)}
        detections.append({**{k: each[k] for k in ("image_id", "category_id")}, **detection})
    predictions = tmp_path / "found.json"
    predictions.write_text(json.dumps(detections))
    sigmas = np.full(5, 1 / 5)
    assert len(sigmas) != COCO_KEYPOINTS
    found = check(truth, predictions, draw(len(content["images"]), 3), tmp_path, "keypoints", sigmas)
    assert found["AP50"][0] > 0.2


def test_resamples_are_the_same_every_time_and_fewer_of_large_sets():
    drawn = draw(30, 50)
    assert (drawn == draw(30, 50)).all()
    assert (drawn.sum(1) == 30).all()
    assert (drawn[0] == 1).all()
    assert (resamples(87), resamples(2000), resamples(5000), resamples(100_000)) == (MOST, 500, 200, 200)


def images_of(drawn):
    return Images(number=9, resamples=3, drawn={key: {"AP": np.array(values)} for key, values in drawn.items()})


def test_the_interval_of_images_is_of_the_mean_difference_over_seeds():
    drawn = {
        ("a", 0): [0.5, 0.6, 0.7],
        ("a", 1): [0.4, 0.4, 0.4],
        ("b", 0): [0.2, 0.2, 0.2],
        ("b", 1): [0.3, 0.1, np.nan],
    }
    images = images_of(drawn)
    assert images.half("AP", "a", "b", {0: 0.0}) == pytest.approx(1.96 * np.std([0.3, 0.4, 0.5], ddof=1), rel=1e-4)
    both = np.std([(0.3 + 0.1) / 2, (0.4 + 0.3) / 2], ddof=1)
    assert images.half("AP", "a", "b", {0: 0.0, 1: 0.0}) == pytest.approx(NORMAL * both)
    assert images.half("AP", "a", "b", {0: 0.0, 2: 0.0}) is None
    assert images.half("AP50", "a", "b", {0: 0.0}) is None
    assert images.half("AP", "a", "a", {0: 0.0, 1: 0.0}) == 0


def drawn_matches(rng, images, skill):
    """Matches of images with two objects on average, found with a probability that differs from image to image."""
    objects = rng.poisson(2, images)
    place = np.repeat(np.arange(images), objects + 1).astype(np.int32)
    hard = rng.beta(2, 2, images)
    right = rng.random(len(place)) < skill * hard[place]
    right[np.cumsum(objects + 1) - 1] = False  # the last of an image is wrong: there are no more hits than objects
    order = np.argsort(-rng.normal(right * 1.0, 1))
    truth = np.repeat(np.arange(images), objects).astype(np.int32)
    return Group(place[order], right[order][None], np.ones((1, len(place)), dtype=bool), truth)


@pytest.mark.integration
@pytest.mark.parametrize("images", [50, 200])
def test_the_interval_of_images_covers_what_all_images_would_give(images):
    """Sets drawn from unlimited images; the difference on 40,000 of them stands for the truth."""
    rng = np.random.default_rng(images)

    def difference(number, drawn):
        groups = [drawn_matches(rng, number, skill) for skill in (0.7, 0.8)]
        ap = [
            average_precisions(Matches(number, (Metric("AP", "all", None),), {"all": {1: g}}, {}, {}), drawn)["AP"]
            for g in groups
        ]
        return ap[1] - ap[0]

    truth = difference(40_000, np.ones((1, 40_000), dtype=np.int32))[0]
    draws, covered = 500, 0
    for _ in range(draws):
        found = difference(images, draw(images, 200))
        covered += abs(found[0] - truth) <= NORMAL * found[1:].std(ddof=1)
    print(f"{images} images: intervals cover {covered / draws:.1%}")
    assert stats.binom.ppf(0.0001, draws, 0.93) <= covered <= stats.binom.ppf(0.9999, draws, 0.97)
