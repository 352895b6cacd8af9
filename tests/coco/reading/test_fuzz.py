"""Mutated JSONs: each is read, or refused in one line; nothing else is raised, nothing hangs, memory stays bounded."""

import copy
import gzip
import json
import resource
import signal
import warnings
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiers import later

from yolo_attn.coco.dataset.data_report import examine
from yolo_attn.coco.dataset.locations import load_source
from yolo_attn.coco.evaluate import Detections, coco_scores
from yolo_attn.coco.reading.reader import _read
from yolo_attn.errors import UserError

KINDS = {"detect": "bbox", "segment": "segm", "pose": "keypoints"}
IMAGES = 3
SECONDS = 30
"""What an example may take: a hundredth for nearly all, seconds for a dozen masks of 16,384 × 16,384 pixels."""

MEGABYTES = 1024
"""What the examples together may add to the memory."""


@pytest.fixture(scope="module", params=["drawn", "bccd"])
def base(request, small_coco, shared_data, tmp_path_factory):
    """A folder that shares a set's images, and the content of a few of them with masks and keypoints."""
    source = small_coco if request.param == "drawn" else shared_data("bccd")
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "images").symlink_to(source / "images")
    (folder / "annotations").mkdir()
    content = json.loads((source / "annotations/instances_val.json").read_text())
    content["images"] = content["images"][:IMAGES]
    known = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in known][:12]
    for n, annotation in enumerate(content["annotations"]):
        x, y, w, h = annotation["bbox"]
        annotation["keypoints"] = [x, y, 2, x + w, y + h, 1]
        if n % 3 == 0:
            annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h]]
        elif n % 3 == 1:
            annotation["segmentation"] = {"size": [48, 64], "counts": "PQ1d0P2"}
    return folder, content


def read_whole(folder, text, task):
    """Do all that comes before a training and after validations that found nothing and something."""
    names = {"pose": "person_keypoints_val.json"}
    (folder / "annotations" / names.get(task, "instances_val.json")).write_bytes(text)
    _read.cache_clear()  # the clock may be too coarse to tell one example from the next
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            split = load_source(folder, ["val"], task)["val"]
            examined = examine(split.index, split.folders, split.index.category_names)
            list(examined.labels)
            coco_scores(split.index, Detections(), KINDS[task])
            coco_scores(split.index, something_found(split.index), KINDS[task])
            lines = examined.report.lines()
            json.dumps(examined.report.as_json(), default=str).encode()
    except UserError as error:
        lines = [str(error)]
    assert all(len(line.splitlines()) == 1 and len(line) < 1000 for line in lines), lines


def something_found(index):
    """A detection in each image, of the first category."""
    detections = Detections()
    for image_id in index.image_ids.tolist():
        shapes = {"segmentation": [{"size": [48, 64], "counts": [72, 3000]}]} if index.masks is not None else None
        if index.keypoints is not None:
            shapes = {"keypoints": [[9, 9, 1] * index.keypoints.shape[1]]}
        detections.add(image_id, [[5, 5, 30, 30]], [0.5], index.category_ids[:1], shapes)
    return detections


def expire(*_):
    raise TimeoutError("an example takes too long")


def check(folder, text, task):
    """Read within bounds of time and memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.signal(signal.SIGALRM, expire)
    signal.alarm(SECONDS)
    try:
        read_whole(folder, text, task)
    finally:
        signal.alarm(0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEGABYTES * 1024


ODD = [
    *(None, True, False, 0, 1, -1, 0.5, -0.0, 2**31, 2**53, 2**53 + 1, 2**63, 2**64, 2**70, 10**18, -(2**63), 1e-300),
    *(1e15, 1e100, -1e100, 1e308, -1e308, float("nan"), float("inf"), -float("inf"), "", "0", "1", "1e5", "NaN", "\0"),
    *("\ud800", "\udc00x", "é", "🐕", "a\nb", "..", "../x.jpg", "/dev/zero", "/", "~", "C:\\x.jpg", "http://[x", "%00"),
    *("x" * 5000, [], {}, [[]], [None], [0] * 4, [1, 2, 3, 4], ["1", "2", "3", "4"], [1e308] * 4),
    [-5, -5, 1e300, 1e300],
    *([[1, 2, 3, 4, 5, 6]], [[1e300] * 6], [[-1e8, 1e8] * 3], [1, 2, 3] * 17, {"size": [48, 64], "counts": [3072]}),
    *({"size": [2**14, 2**14], "counts": "0"}, {"size": [0, 0], "counts": ""}, {"size": [48, 64], "counts": "~~~~"}),
    *({"size": [48, 64], "counts": [0, 3072, 0, 0]}, {"size": [1, 1], "counts": [1]}),
    {"size": [48, 64], "counts": "é"},
]
LEAVES = st.one_of(
    st.sampled_from(ODD), st.integers(), st.floats(), st.text(st.characters(exclude_categories=[]), max_size=8)
)
VALUES = st.one_of(
    LEAVES,
    st.recursive(
        LEAVES,
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
        max_leaves=6,
    ),
)


def places(value):
    """Each container of a JSON with each of its keys; of long lists, such as run lengths, the first ones."""
    keys = list(value) if isinstance(value, dict) else range(min(len(value), 12)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from places(value[key])


@st.composite
def restructured(draw, content):
    """The text of a JSON with a few values replaced, deleted, doubled or put elsewhere."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 4))):
        known = list(places(content))
        if not known:
            break
        parent, key = draw(st.sampled_from(known))
        action = draw(st.sampled_from(["replace", "replace", "delete", "double", "move", "everywhere"]))
        if action == "replace":
            parent[key] = copy.deepcopy(draw(VALUES))
        elif action == "delete":
            del parent[key]
        elif action == "double" and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
        elif action == "move":
            other, place = draw(st.sampled_from(known))
            parent[key] = copy.deepcopy(other[place]) if place in other or isinstance(other, list) else None
        elif isinstance(key, str):
            value = draw(VALUES)
            for other, place in known:
                if place == key and isinstance(other, dict):
                    other[place] = copy.deepcopy(value)
    text = json.dumps(content, ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass")
    return gzip.compress(text) if draw(st.integers(0, 9)) == 0 else text


PIECES = st.one_of(
    st.binary(max_size=6),
    st.sampled_from(
        [*b'{}[],:"\\\0-.e0'.decode(), "null", "NaN", "-Infinity", "\\ud800", "\\u0000", "1e999", "[" * 2000]
    ).map(str.encode),
)


@st.composite
def rewritten(draw, text):
    """A text with a few places cut out, doubled, or filled with something else."""
    if draw(st.integers(0, 9)) == 0:
        text = gzip.compress(text)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.one_of(st.integers(0, 8), st.integers(0, len(text)))))
        middle = draw(st.one_of(PIECES, st.just(text[start:end] * 2)))
        text = text[:start] + middle + text[end:]
    return text


def examples(number, **more):
    """Settings for so many examples."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    return settings(max_examples=number, deadline=timedelta(seconds=SECONDS), suppress_health_check=checks, **more)


@pytest.mark.parametrize("how", later(["structure", "bytes"], ["structure"]))
@pytest.mark.parametrize("task", later(KINDS, ["detect"]))
@pytest.mark.parametrize(
    "quantity",
    [
        pytest.param(examples(100, derandomize=True, database=None), id="100"),
        pytest.param(examples(10_000 // 12), id="thousands", marks=pytest.mark.slow),
    ],
)
def test_mutated(base, task, how, quantity):
    folder, content = base
    plain = json.dumps(content).encode()
    read_whole(folder, plain, task)  # what is mutated is good

    @quantity
    @given(restructured(content) if how == "structure" else rewritten(plain))
    def run(text):
        check(folder, text, task)

    run()
