"""COCO's numbers compared with pycocotools' and the published ones."""

import contextlib
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from pycocotools import mask as mask_api
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from support import pycocotools_scores

from yolo_attn.coco.evaluate import METRICS, Detections, Rules, coco_scores, write_truth
from yolo_attn.coco.reading.reader import read_index
from yolo_attn.compare.analysis.bootstrap import average_precisions
from yolo_attn.compare.analysis.detections import match


def detections_of(results):
    detections, by_image = Detections(), {}
    for d in json.loads(results.read_text()):
        by_image.setdefault(d["image_id"], []).append(d)
    for image, ds in by_image.items():
        detections.add(image, [d["bbox"] for d in ds], [d["score"] for d in ds], [d["category_id"] for d in ds])
    return detections


def assert_as_pycocotools(scores, truth, folder, kind="bbox"):
    """The numbers of all and of each class are pycocotools' of the saved detections."""
    stats, per_class = pycocotools_scores(truth, folder / "predictions.json", kind)
    np.testing.assert_allclose(list(scores.metrics.values()), stats, rtol=0, atol=1e-9)
    assert {n: pytest.approx(list(v.values()), abs=1e-9) for n, v in scores.per_class.items()} == per_class


PAIRS = ["fakebbox100", "fakebbox100_nocrowd_bboxarea", "bccd_val_yolov8n", "bccd_test_yolov8n"]


@pytest.mark.parametrize("pair", PAIRS)
def test_published_pairs(shared_data, pair, tmp_path):
    folder = shared_data("eval-coco")
    expected = json.loads((folder / "expected.json").read_text())[pair]
    truth = folder / expected["gt"]
    if not truth.exists():
        truth = shared_data("bccd") / "annotations" / expected["gt"]
    detections = detections_of(folder / expected["dt"])
    detections.save(tmp_path / "predictions.json")
    scores = coco_scores(read_index(truth), detections)
    assert_as_pycocotools(scores, truth, tmp_path)
    np.testing.assert_allclose(
        [scores.metrics[m] for m in METRICS], list(expected["stats"].values()), rtol=0, atol=1e-9
    )


def random_truth(file, rng, categories=(3, 7, 42), images=12):
    annotations = []
    for image in range(images):
        for _ in range(rng.integers(0, 6)):
            x, y, w, h = rng.uniform(1, 300, 4)
            crowd = int(rng.random() < 0.15)
            known = {"id": len(annotations) + 1, "image_id": 2**33 + image, "category_id": int(rng.choice(categories))}
            known |= {"bbox": [x, y, w, h], "area": w * h * rng.uniform(0.4, 1), "iscrowd": crowd}
            mask = {"size": [1, 1], "counts": [1]} if crowd else [[x, y, x + w, y, x, y + h]]
            annotations.append({**known, "segmentation": mask})
    drawn = [{"id": 2**33 + i, "file_name": f"{i}.jpg", "width": 640, "height": 640} for i in range(images)]
    categories = [{"id": c, "name": f"c{c}"} for c in (*categories, 90)]
    content = {"images": drawn, "categories": categories, "annotations": annotations}
    file.write_text(json.dumps(content))
    return content


@pytest.mark.parametrize("seed", range(8))
def test_random_sets_with_crowds_ties_and_many_detections(tmp_path, seed):
    rng = np.random.default_rng(seed)
    truth = tmp_path / "truth.json"
    content = random_truth(truth, rng)
    detections = Detections()
    for image in content["images"][: -2 if seed % 2 else None]:
        near = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        boxes = [np.add(a["bbox"], rng.normal(0, 8, 4)).clip(1) for a in near for _ in range(3)]
        ids = [a["category_id"] for a in near for _ in range(3)]
        extra = 150 if seed == 3 else 5
        boxes += list(rng.uniform(1, 300, (extra, 4)))
        ids += rng.choice([3, 7, 42, 90], extra).tolist()
        detections.add(image["id"], np.array(boxes), rng.integers(1, 20, len(boxes)) / 20, ids)
    detections.save(tmp_path / "predictions.json")
    scores = coco_scores(read_index(truth), detections)
    assert_as_pycocotools(scores, truth, tmp_path)


def polygon_truth(file, rng):
    """Triangles, pairs of boxes and crowds of run lengths, in images of different sizes."""
    content = random_truth(file, rng)
    for i, image in enumerate(content["images"]):
        image.update(width=320 + i, height=640 - 3 * i)
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    for a in content["annotations"]:
        x, y, w, h = a["bbox"]
        height, width = sizes[a["image_id"]]
        if a["iscrowd"]:
            mask = np.zeros((height, width), np.uint8, order="F")
            mask[int(y) : int(y + h), int(x) : int(x + w)] = 1
            a["segmentation"] = {"size": [height, width], "counts": mask_api.encode(mask)["counts"].decode()}
        elif a["id"] % 2:
            third, half = [x, y, x + w / 3, y, x + w / 3, y + h, x, y + h], x + w / 2
            a["segmentation"] = [third, [half, y, x + w, y, x + w, y + h / 2, half, y + h / 2]]
    file.write_text(json.dumps(content))
    return content


def raw(segmentation):
    """Whether these are polygons, or run lengths as a list of numbers."""
    return isinstance(segmentation, list) or isinstance(segmentation["counts"], list)


def shifted_masks(content, rng):
    """Each true mask moved by some pixels and cut off at the border, as a detection."""
    detections, by_image = Detections(), {}
    for a in content["annotations"]:
        by_image.setdefault(a["image_id"], []).append(a)
    for image in content["images"]:
        size = image["height"], image["width"]
        found = []
        for a in by_image.get(image["id"], []):
            code = mask_api.frPyObjects(a["segmentation"], *size) if raw(a["segmentation"]) else a["segmentation"]
            code = mask_api.merge(code) if isinstance(code, list) else code
            moved = np.roll(mask_api.decode(code), rng.integers(-6, 7, 2), (0, 1))
            counts = mask_api.encode(np.asfortranarray(moved))["counts"].decode()
            mask = {"size": list(size), "counts": counts}
            found.append((a["bbox"], rng.integers(1, 20) / 20, a["category_id"], mask))
        if found:
            boxes, scores, ids, masks = zip(*found, strict=True)
            detections.add(image["id"], boxes, scores, ids, {"segmentation": masks})
    return detections


@pytest.mark.parametrize("seed", range(4))
def test_masks_of_polygons_and_run_lengths(tmp_path, seed):
    rng = np.random.default_rng(seed)
    truth = tmp_path / "truth.json"
    detections = shifted_masks(polygon_truth(truth, rng), rng)
    detections.save(tmp_path / "predictions.json")
    scores = coco_scores(read_index(truth, "segment"), detections, "segm")
    assert 0.1 < scores.metrics["AP"] < 0.95
    assert_as_pycocotools(scores, truth, tmp_path, "segm")


def test_real_masks(shared_data, tmp_path):
    truth = shared_data("coco-mini") / "annotations/instances_val.json"
    detections = shifted_masks(json.loads(truth.read_text()), np.random.default_rng(0))
    detections.save(tmp_path / "predictions.json")
    scores = coco_scores(read_index(truth, "segment"), detections, "segm")
    assert scores.metrics["AP"] > 0.1
    assert_as_pycocotools(scores, truth, tmp_path, "segm")


def test_masks_of_images_without_a_size_in_the_json(tmp_path):
    """COCO's own tools cannot read these; a polygon is drawn as far as it reaches."""
    rng = np.random.default_rng(0)
    truth = tmp_path / "truth.json"
    content = polygon_truth(truth, rng)
    content["annotations"] = [a for a in content["annotations"] if not a["iscrowd"]]
    truth.write_text(json.dumps(content))
    detections = shifted_masks(content, rng)
    whole = coco_scores(read_index(truth, "segment"), detections, "segm")
    for image in content["images"][::2]:
        del image["width"], image["height"]
    truth.write_text(json.dumps(content))
    assert coco_scores(read_index(truth, "segment"), detections, "segm") == whole


def test_no_detection_at_all_is_zero(tmp_path):
    random_truth(tmp_path / "truth.json", np.random.default_rng(1))
    scores = coco_scores(read_index(tmp_path / "truth.json"), Detections())
    assert scores.metrics["AP"] == 0
    assert scores.per_class["c90"]["AP"] == -1


def test_saved_detections_are_coco_results(tmp_path):
    detections = Detections()
    detections.add(2**40, np.float32([[1.23456, 2, 3, 4]]), np.float32([0.123456789]), [42])
    detections.add(5, np.zeros((0, 4)), [], [])
    detections.save(tmp_path / "p.json")
    assert json.loads((tmp_path / "p.json").read_text()) == [
        {"image_id": 2**40, "category_id": 42, "bbox": [1.235, 2.0, 3.0, 4.0], "score": 0.123457}
    ]


def test_an_image_seen_by_two_processes_counts_once():
    a, b = Detections(), Detections()
    a.add(1, [[0, 0, 1, 1]], [0.5], [3])
    b.add(1, [[0, 0, 1, 1]], [0.5], [3])
    b.add(2, [[0, 0, 1, 1]], [0.5], [3])
    a.extend(b)
    assert a.array()[:, 0].tolist() == [1, 2]


USED = {"num_keypoints that is not the number of labelled keypoints, used as given": 1}
COUNTED = {"num_keypoints that is not an int, counted instead": 1}


@pytest.mark.parametrize(
    ("number", "as_if", "problems"),
    [
        (0, 0, USED),
        ("0", 0, USED),
        (9, 9, USED),
        (17, 17, {}),
        (-3, 17, COUNTED),
        ("some", 17, COUNTED),
        (None, 17, {}),
    ],
)
def test_num_keypoints_is_the_jsons(tmp_path, number, as_if, problems):
    """As for pycocotools, an annotation with none counts neither as found nor as missed."""
    file = tmp_path / "truth.json"
    points = [v for k in range(17) for v in (10 + k, 20 + 2 * k, 2)]

    def write(number):
        annotations = [
            {"id": n, "image_id": n, "category_id": 1, "bbox": [8, 18, 20, 36], "area": 720, "iscrowd": 0}
            | {"keypoints": points, "num_keypoints": count}
            for n, count in ((1, number), (2, 17))
        ]
        images = [{"id": n, "file_name": f"{n}.jpg", "width": 64, "height": 64} for n in (1, 2)]
        content = {"images": images, "categories": [{"id": 1, "name": "person"}], "annotations": annotations}
        file.write_text(json.dumps(content))

    write(number)
    index, detections = read_index(file, "pose"), Detections()
    assert dict(index.problems) == problems
    detections.add(2, [[8, 18, 20, 36]], [0.5], [1], {"keypoints": [points]})
    detections.save(tmp_path / "predictions.json")
    write(as_if)
    scores = coco_scores(index, detections, "keypoints")
    assert_as_pycocotools(scores, file, tmp_path, "keypoints")
    assert scores.metrics["AP"] == pytest.approx(1 if as_if == 0 else 51 / 101)


def expected_with(truth, results, kind="bbox", sigmas=None, **params):
    """AP, AP50, AP75, AP by size, AR by number of detections and AR by size, from pycocotools' own arrays.

    Its `summarize` takes the overall AP at 100 detections, whatever its parameters say.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO(str(truth))
        evaluation = COCOeval(known, known.loadRes(results), kind)
        vars(evaluation.params).update(params)
        if sigmas is not None:
            evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()

    def mean(values):
        values = values[values > -1]
        return values.mean() if values.size else -1

    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
    sizes, last = range(1, precision.shape[3]), precision.shape[4] - 1
    by_iou = (slice(None), 0, 5)
    averages = [mean(precision[rows, :, :, 0, last]) for rows in by_iou]
    averages += [mean(precision[:, :, :, size, last]) for size in sizes]
    if kind == "keypoints":
        averages += [mean(recall[rows, :, 0, last]) for rows in by_iou]
    else:
        averages += [mean(recall[:, :, 0, number]) for number in range(last + 1)]
    return [*averages, *(mean(recall[:, :, size, last]) for size in sizes)]


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_other_numbers_of_detections_and_other_sizes(tmp_path, kind):
    rng = np.random.default_rng(5)
    truth = tmp_path / "truth.json"
    content = random_truth(truth, rng)
    detections = Detections()
    for image in content["images"]:
        near = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        boxes = [np.add(a["bbox"], rng.normal(0, 8, 4)).clip(1) for a in near for _ in range(60)]
        ids = [a["category_id"] for a in near for _ in range(60)]
        corners = [[x, y, x + w, y, x + w, y + h, x, y + h] for x, y, w, h in boxes]
        masks = [mask_api.frPyObjects([polygon], 640, 640)[0] for polygon in corners]
        coded = [{**mask, "counts": mask["counts"].decode()} for mask in masks]
        detections.add(
            image["id"], boxes, rng.random(len(boxes)), ids, {"segmentation": coded} if kind == "segm" else None
        )
    index = read_index(truth, "segment" if kind == "segm" else "detect")
    scores = coco_scores(index, detections, kind, Rules((2, 20, 150), (15_000.0, 40_000.0)))
    ranges = [[0, 1e10], [0, 15_000], [15_000, 40_000], [40_000, 1e10]]
    expected = expected_with(truth, list(detections.rows()), kind, maxDets=[2, 20, 150], areaRng=ranges)
    assert list(scores.metrics) == [*METRICS[:6], "AR2", "AR20", "AR150", *METRICS[9:]]
    np.testing.assert_allclose(list(scores.metrics.values()), expected, rtol=0, atol=1e-9)
    assert scores.metrics != coco_scores(index, detections, kind).metrics
    assert scores.own_rules == {"max_dets": [2, 20, 150], "area_ranges": [15_000.0, 40_000.0]}
    assert "at most 150 detections" in scores.evaluator
    assert "not COCO's own: max_dets, area_ranges" in scores.evaluator
    assert (scores.label, coco_scores(index, detections, kind).label) == ("COCO-style", "COCO")


def test_sigmas_that_are_cocos_are_called_so(tmp_path):
    points = [v for k in range(17) for v in (10 + k, 20 + 2 * k, 2)]
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 17, 34], "area": 300, "keypoints": points}
    content = {"images": [{"id": 1, "file_name": "a.jpg"}], "categories": [{"id": 1, "name": "person"}]}
    (tmp_path / "truth.json").write_text(json.dumps({**content, "annotations": [annotation]}))
    sigmas = tuple(COCOeval(iouType="keypoints").params.kpt_oks_sigmas.tolist())
    index = replace(read_index(tmp_path / "truth.json", "pose"), oks_sigmas=sigmas)
    found = coco_scores(index, Detections(), "keypoints")
    assert not found.own_rules
    assert found.evaluator == coco_scores(replace(index, oks_sigmas=()), Detections(), "keypoints").evaluator


@pytest.mark.parametrize("number", [5, 17])
def test_own_sigmas_of_keypoints(small_poses, tmp_path, number):
    rng = np.random.default_rng(0)
    content = json.loads((small_poses / "annotations/person_keypoints_val.json").read_text())
    for each in content["annotations"]:
        points = np.resize(np.array(each["keypoints"]).reshape(-1, 3), (number, 3))
        each |= {"keypoints": points.ravel().tolist(), "num_keypoints": int((points[:, 2] > 0).sum())}
    content["categories"] = [{"id": c["id"], "name": c["name"]} for c in content["categories"]]
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps(content))
    detections = Detections()
    for image in content["images"]:
        near = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        moved = [np.reshape(a["keypoints"], (-1, 3)) + [1, 1, 0] * rng.normal(0, 3, (number, 3)) for a in near]
        shapes = {"keypoints": [points.round(3).ravel().tolist() for points in moved]}
        ids = [a["category_id"] for a in near]
        detections.add(image["id"], [a["bbox"] for a in near], rng.random(len(near)), ids, shapes)
    sigmas = tuple(rng.uniform(0.02, 0.2, number).round(3).tolist())
    index = replace(read_index(truth, "pose"), oks_sigmas=sigmas)
    rules = Rules((7,), (300.0, 2000.0))
    scores = coco_scores(index, detections, "keypoints", rules)
    ranges = [[0, 1e10], [300, 2000], [2000, 1e10]]
    expected = expected_with(truth, list(detections.rows()), "keypoints", sigmas, maxDets=[7], areaRng=ranges)
    np.testing.assert_allclose(list(scores.metrics.values()), expected, rtol=0, atol=1e-9)
    assert scores.own_rules == {"max_dets": [7], "area_ranges": [300.0, 2000.0], "kpt_sigmas": list(sigmas)}
    without = coco_scores(replace(index, oks_sigmas=()), detections, "keypoints", rules)
    assert scores.metrics != without.metrics
    write_truth(tmp_path / "ground_truth.json", index)
    detections.save(tmp_path / "predictions.json")
    matches = match(tmp_path / "ground_truth.json", tmp_path / "predictions.json", "keypoints")
    (precision,) = average_precisions(matches, np.ones((1, len(content["images"])), dtype=np.int32))["AP"]
    assert precision == pytest.approx(coco_scores(index, detections, "keypoints").metrics["AP"], abs=1e-9)
