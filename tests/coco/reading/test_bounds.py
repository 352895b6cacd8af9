"""Small files that ask for much: memory and time stay in proportion to what a file holds, and a line reports the rest.

Every case runs in a process of its own, which may take so many megabytes more than it has after its imports.
"""

import gzip
import json
import re
import struct
import zlib
from functools import partial

import numpy as np
import pytest
from hostile import BASE, annotation
from support import CONTEXT, Command, cap_memory, save_noise

pytestmark = pytest.mark.integration

PNG = b"\x89PNG\r\n\x1a\n"
SIDE = 16384


def poses(number, having, keypoints):
    """A JSON of `number` annotations of which the first `having` have `keypoints` keypoints."""
    some, none = [1, 1, 2] * keypoints, []
    items = [annotation(id=n, keypoints=some if n < having else none) for n in range(number)]
    return {**BASE, "annotations": items}


def sparse(file, size, start=b""):
    """A file of that size that takes no room on the disk."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        stream.write(start)
        stream.truncate(size)


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def run_lengths(n):
    """A disc of 100 pixels' radius in a mask of 16384 × 16384 pixels, elsewhere for each n."""
    columns = np.arange(-99, 100)
    half = np.sqrt(100**2 - columns**2).astype(int)
    starts = (8000 + 17 * n + columns) * SIDE + 5000 - half
    edges = np.stack([starts, starts + 2 * half], 1).ravel()
    return {"size": [SIDE, SIDE], "counts": np.diff([0, *edges, SIDE * SIDE]).tolist()}


def check_data(home, data, *more, megabytes=700, timeout=60):
    """Exit code, last line of stderr and stdout of `check-data` in a process that may take so much memory more."""
    command = Command(home, "check-data", data, *more, prepare=partial(cap_memory, megabytes))
    return *command.wait(timeout), command.output.read_text()


MANY = [{"id": n, "name": str(n)} for n in range(100_000)]

TEXTS = {
    "its annotations have 100,000 keypoints, expected at most 1,000": lambda: poses(10_000, 1, 100_000),
    "1 of 20,000 annotations have keypoints, 1,000 each; ": lambda: poses(20_000, 1, 1000),
    "it has 100,000 categories, expected at most 25,000": lambda: {**BASE, "categories": MANY},
    "not valid JSON: its byte 10 is zero": lambda: gzip.compress(b'{"info": ' + bytes(10**8)),
    "it unpacks to more than 100 times its size": lambda: gzip.compress(b'{"info": ' + b" " * 10**8, 9),
}


@pytest.mark.parametrize("message", TEXTS)
def test_json_that_asks_for_much_is_refused_in_one_line(written, tmp_path, message):
    folder = written(TEXTS[message](), "annotations/person_keypoints_val.json")
    code, line, _ = check_data(tmp_path, folder, "--task", "pose")
    assert code == 2
    assert message in line
    assert len(line) < 600


@pytest.mark.parametrize(
    ("size", "start", "message"),
    [
        (10 * 2**30, b"", "it has 10,737,418,240 bytes, expected at most"),
        (2**30, b"", "not valid JSON: its byte 1 is zero"),
        (2**30, b'{"images": [', "not valid JSON: its byte 13 is zero"),
        (10 * 2**30, b"\x1f\x8b", "it has 10,737,418,240 bytes, expected at most"),
    ],
)
def test_a_sparse_json_is_not_read_whole(written, tmp_path, size, start, message):
    folder = written(BASE)
    sparse(folder / "annotations/instances_val.json", size, start)
    code, line, _ = check_data(tmp_path, folder)
    assert code == 2
    assert f"instances_val.json: {message}" in line


def test_a_data_yaml_of_aliases_is_refused_in_one_line(written, tmp_path):
    file = written(BASE) / "data.yaml"
    rows = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    places = "val: images/val\nannotations: {val: annotations/instances_val.json}\n"
    file.write_text(f"a0: &a0 [x, x]\n{rows}{places}names: *a11\n")
    code, line, _ = check_data(tmp_path, file)
    assert code == 2
    assert line.endswith("it has more than 250,000 values, aliases counted as what they stand for")
    sparse(file, 10 * 2**30, b"val: images/val\n")
    code, line, _ = check_data(tmp_path, file)
    assert code == 2
    assert "it has 10,737,418,240 bytes, expected at most 4,194,304" in line


def test_large_images_that_hold_nothing_are_skipped(written, tmp_path):
    """More bytes than any image has, or than its pixels can have."""
    folder = written(BASE)
    header = PNG + chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 48, 8, 2, 0, 0, 0)) + struct.pack(">I", 2**31 - 1)
    sparse(folder / "images/val/1.jpg", 3 * 2**30, (folder / "images/val/1.jpg").read_bytes())
    sparse(folder / "images/val/2.jpg", 2**31 - 1, header + b"IDAT")
    code, _, output = check_data(tmp_path, folder, megabytes=500)
    assert code == 0
    assert re.search(r"\b2 +image file of more bytes than its pixels can have, skipped", output)


def test_a_folder_is_listed_once_however_its_path_is_spelt(written, tmp_path):
    spelt = ["sub/" + "./" * (n % 40) + "/" * (n // 40) + "X.jpg" for n in range(2000)]
    folder = written({**BASE, "annotations": [], "images": [{"id": n, "file_name": f} for n, f in enumerate(spelt)]})
    (folder / "images/val/sub").mkdir()
    for n in range(3000):
        (folder / f"images/val/sub/{n}.txt").touch()
    save_noise(folder / "images/val/sub/x.jpg")
    code, _, output = check_data(tmp_path, folder, megabytes=400, timeout=100)
    assert code == 0
    assert "2,000  image file found under another spelling of its file_name" in output


def labels_of(folder, task):
    """Every label of val, as a training gets it."""
    from ultralytics.cfg import get_cfg

    from yolo_attn.coco.dataset.data_report import examine
    from yolo_attn.coco.dataset.dataset import CocoDataset
    from yolo_attn.coco.dataset.locations import load_source

    source = load_source(folder, ["val"], task)["val"]
    names = source.index.category_names
    examined = examine(source.index, source.folders, names)
    settings = {"imgsz": 64, "augment": False, "hyp": get_cfg(), "data": {"names": dict(enumerate(names))}}
    data = CocoDataset(examined=examined, task=task, **settings)
    return examined, [data.get_image_and_label(i) for i in range(len(data))]


def in_capped_process(megabytes, function, *arguments, timeout=100):
    """Call a function in a process of its own that may take so much memory."""
    process = CONTEXT.Process(target=_capped, args=(megabytes, function, arguments))
    process.start()
    process.join(timeout)
    ended = process.exitcode
    process.kill()
    assert ended == 0


def _capped(megabytes, function, arguments):
    cap_memory(megabytes)
    function(*arguments)


def segmented(*segmentations):
    items = [annotation(id=n, bbox=[1, 1, 40, 40], segmentation=s) for n, s in enumerate(segmentations)]
    return {**BASE, "annotations": items}


SIMPLIFIED = "outline of more than 2000 corners or 4000 run lengths, simplified for training"


def jagged(corners, left):
    """A polygon of so many corners, at more pixels than a mask would have."""
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    radius = 10 + np.random.default_rng(0).random(corners)
    return np.stack([left + radius * np.cos(angles), 20 + radius * np.sin(angles)], 1).ravel().round(3).tolist()


def check_many_corners(folder, count):
    examined, (label, *_) = labels_of(folder, "segment")
    assert examined.report.problems[SIMPLIFIED] == count
    assert label["instances"].segments.shape[1] <= 2001
    box = np.ptp(label["instances"].segments.reshape(count, -1, 2), axis=1)
    assert (abs(box - box[0]) < 1e-3).all()


@pytest.mark.parametrize("parts", [[40_000, 40_000], [200_000], [3] * 30_000])
def test_polygons_of_very_many_corners_are_simplified_for_training(written, parts):
    polygons = [jagged(corners, 20 + 10 * (n % 2)) for n, corners in enumerate(parts)]
    folder = written(segmented(polygons, polygons))
    in_capped_process(700, check_many_corners, folder, 2)


def check_run_lengths(folder):
    from yolo_attn.coco.evaluate import Detections, coco_scores

    examined, (label, *_) = labels_of(folder, "segment")
    assert not examined.report.problems["annotation without a usable segmentation, its box is used"]
    assert len(label["instances"].segments) == 100
    coco_scores(examined.labels.source, Detections(), "segm")


def test_run_lengths_of_large_images_are_not_decoded_whole(written):
    import hotcoco

    masks = [run_lengths(n) for n in range(100)]
    for mask in masks[:50]:
        mask["counts"] = hotcoco.mask.fr_py_objects(mask, SIDE, SIDE)["counts"].decode()
    in_capped_process(500, check_run_lengths, written(segmented(*masks)))


def check_one_image(folder, task):
    examined, (label, *_) = labels_of(folder, task)
    assert len(label["cls"]) == 10_000
    assert examined.report.problems["box beyond the first 10,000 of its image, no label"] == 20_000


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_an_image_with_very_many_boxes_has_labels_of_the_first(written, task):
    items = [annotation(id=n, bbox=[n % 40, n % 30, 9, 9]) for n in range(30_000)]
    in_capped_process(700, check_one_image, written({**BASE, "annotations": items}), task)


ABSURD = {
    "a side without end": {"width": 2**31 - 1, "height": 2**31 - 1},
    "two large sides": {"width": 200_000, "height": 200_000},
    "no sides": {},
    "one side": {"width": 10**9, "height": 1},
}


def score(folder):
    from yolo_attn.coco.dataset.locations import load_source
    from yolo_attn.coco.evaluate import Detections, coco_scores

    index = load_source(folder, ["val"], "segment")["val"].index
    found = Detections()
    mask = {"size": [48, 64], "counts": [48 * 10, 48 * 40, 48 * 14]}
    found.add(1, [[10, 0, 40, 48]], [0.9], [7], {"segmentation": [mask]})
    assert set(coco_scores(index, found, "segm").metrics) > {"AP", "AR1"}


@pytest.mark.parametrize("case", ABSURD)
def test_masks_of_absurd_images_are_scored_in_little_memory(written, case):
    content = segmented([[0, 0, 9e8, 0, 9e8, 9e8, 0, 9e8]], [[0, 0, 5, 0, 5, 5]])
    content["images"] = [{"id": n, "file_name": f"{n}.jpg", **ABSURD[case]} for n in (1, 2, 3)]
    content["annotations"].append(
        annotation(image_id=2, bbox=[0, 0, 1e9, 1e9], segmentation=[[0, 0, 9e8, 0, 9e8, 9e8]])
    )
    in_capped_process(700, score, written(content))


def test_values_of_any_depth_and_length_are_reported_in_a_line(written, tmp_path):
    deep = ["[" * depth + "]" * depth for depth in range(1, 900)]
    items = [f'{{"id": {value}, "image_id": 1, "category_id": 7, "bbox": {value}}}' for value in deep]
    items.append('{"bbox": [' + "1," * 10**6 + '1], "id": "' + "x" * 10**6 + '"}')
    text = json.dumps({**BASE, "annotations": []}).replace('"annotations": []', f'"annotations": [{", ".join(items)}]')
    folder = written(text.encode())
    code, line, output = check_data(tmp_path, folder, megabytes=500)
    assert (code, line) == (0, "")
    assert max(map(len, output.splitlines())) < 300
