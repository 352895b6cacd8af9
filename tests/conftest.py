"""One scratch home for everything that Ultralytics and we keep, set before either is imported."""

import os
import signal
import tempfile

SCRATCH = tempfile.mkdtemp(prefix="yolo_attn_tests_")
os.environ.update(
    YOLO_CONFIG_DIR=SCRATCH,
    YOLO_OFFLINE="1",
    YOLO_AUTOINSTALL="false",
    YOLO_ATTN_CACHE=os.environ.get("YOLO_ATTN_TEST_CACHE", SCRATCH),
    MPLBACKEND="Agg",
    OMP_NUM_THREADS="1",
)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs this in the background has it ignored

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from support import OLDEST, QUICK, ROOT, Machines, Run, listing, save_noise, script

from tools.versions.environments import release_folder

os.environ["YOLO_VERBOSE"] = "false"
import ultralytics  # noqa: F401  its logger keeps the stdout of its first import, which must outlive a test

del os.environ["YOLO_VERBOSE"]
logging.getLogger("ultralytics").setLevel(logging.INFO)

pytest_plugins = ["tiers"]

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """What a test printed may name files whose names are not UTF-8, which pytest-xdist cannot send."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def small_coco(tmp_path_factory):
    """A small drawn COCO-format set: category ids 3, 7, 42, crowds, empty images."""
    from yolo_attn.coco.demo import demo_dataset

    return demo_dataset(tmp_path_factory.mktemp("small_coco"), train=16, val=8)


@pytest.fixture(scope="session")
def small_poses(small_coco, tmp_path_factory):
    """The drawn set with five keypoints an object: its outermost pixels left, right, top, bottom, and its box's centre.

    Some points are not labelled, some objects have none.
    """
    from yolo_attn.coco.reading.run_lengths import decode_mask

    root = tmp_path_factory.mktemp("small_poses")
    (root / "images").symlink_to(small_coco / "images")
    (root / "annotations").mkdir()
    for split in ("train", "val"):
        content = json.loads((small_coco / f"annotations/instances_{split}.json").read_text())
        for category in content["categories"]:
            category["keypoints"] = ["left", "right", "top", "bottom", "centre"]
        for annotation in content["annotations"]:
            y, x = np.nonzero(decode_mask(annotation["segmentation"]))
            left, top, width, height = annotation["bbox"]
            ends = [(x[i], y[i], 2) for i in (x.argmin(), x.argmax(), y.argmin(), y.argmax())]
            points = np.array([*ends, (left + width / 2, top + height / 2, 1)], dtype=float)
            points[annotation["id"] % 7 :: 5] = 0
            if annotation["id"] % 6 == 0:
                points[:] = 0
            annotation["keypoints"] = points.ravel().tolist()
            annotation["num_keypoints"] = int((points[:, 2] > 0).sum())
        (root / f"annotations/person_keypoints_{split}.json").write_text(json.dumps(content))
    return root


@pytest.fixture(scope="session")
def shared_data():
    """Folder of real data sets, which are not part of the repository."""

    def find(name: str) -> Path:
        if not (SHARED / name).is_dir():
            pytest.skip(f"the data set {name} is not on this machine: {SHARED / name} is absent")
        return SHARED / name

    return find


@pytest.fixture(scope="session")
def release():
    """Folder of a release of Ultralytics and what it needs beside it, to be put in front on PYTHONPATH."""
    return release_folder


@pytest.fixture(scope="session")
def oldest(release):
    """Folder of the oldest supported Ultralytics, to be put in front on PYTHONPATH."""
    return release(OLDEST)


@pytest.fixture
def on_oldest(oldest, tmp_path, monkeypatch):
    """Processes started from here import the oldest Ultralytics."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, [oldest, ROOT])))
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path / "config"))
    (tmp_path / "config").mkdir()


@pytest.fixture
def torchrun(tmp_path):
    """Starts a command under one torchrun for each imitated machine; whatever happens, none outlives the test."""
    started = []

    def start(*command, **shape):
        started.append(Machines(tmp_path, command, **shape))
        return started[-1]

    yield start
    for machines in started:
        machines.kill()


@pytest.fixture(scope="session")
def trained(small_coco, tmp_path_factory):
    """yolov8n-gam after two epochs."""
    home = tmp_path_factory.mktemp("trained")
    before = listing(small_coco)
    arguments = ["--cfg", "yolov8n-gam.yaml", "--data", small_coco, "--epochs", 2, "--name", "gam", *QUICK]
    result = script("scripts/train_det.py", *arguments, "lr0=0.01", "optimizer=SGD", cwd=home)
    assert result.returncode == 0, result.stderr
    return Run(home / "runs" / "detect" / "gam", result.stdout + result.stderr, small_coco, before)


@pytest.fixture
def make_coco(tmp_path):
    """Writes `annotations/instances_val.json` and the pictures that it names, under a given folder of the set."""

    def make(images, annotations=(), categories=((7, "cat"), (3, "dog")), root="images/val", split="val"):
        content = {
            "images": [{"id": i, "file_name": name, "width": 64, "height": 48} for i, name in images],
            "categories": [{"id": i, "name": name} for i, name in categories],
            "annotations": [{"id": n, **a} for n, a in enumerate(annotations, start=1)],
        }
        file = tmp_path / "annotations" / f"instances_{split}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content))
        for _, name in images:
            save_noise(tmp_path / root / name)
        return tmp_path

    return make


def pytest_sessionfinish():
    shutil.rmtree(SCRATCH, ignore_errors=True)
