"""The demo set: what it holds, that it is the same everywhere, and that only whole sets are left."""

import contextlib
import io
import re
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from support import CONTEXT

from yolo_attn.coco.demo import DEMO_CATEGORIES, DEMO_VERSION, demo_dataset
from yolo_attn.errors import UserError

SMALL = {"train": 8, "val": 4}


def contents(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def read(root: Path, split: str) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(root / f"annotations/instances_{split}.json"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return demo_dataset(tmp_path_factory.mktemp("cache"))


@pytest.fixture(params=["train", "val"])
def split(request) -> str:
    return request.param


def test_layout(whole):
    assert whole.name == DEMO_VERSION
    assert whole.is_absolute()
    assert list(whole.parent.iterdir()) == [whole]
    files = {"annotations/instances_train.json", "annotations/instances_val.json", "images/train", "images/val"}
    assert {str(path.relative_to(whole)) for path in whole.glob("*/*")} == files


def test_same_pixels_and_json_each_time_and_drawn_once(tmp_path, whole):
    """Nor does an image depend on the others."""
    first, second = (demo_dataset(tmp_path / name, **SMALL) for name in "ab")
    assert len(contents(first)) == 14
    assert contents(first) == contents(second)
    for file in first.glob("images/*/*"):
        assert file.read_bytes() == (whole / file.relative_to(first)).read_bytes()
    (first / "mark").touch()
    assert demo_dataset(tmp_path / "a", **SMALL) == first
    assert (first / "mark").exists()


def test_images_match_the_json(whole, split):
    images = read(whole, split).dataset["images"]
    assert {image["file_name"] for image in images} == {path.name for path in (whole / "images" / split).iterdir()}
    assert len({image["id"] for image in images}) == len(images)
    assert not {image["id"] for image in images} & set(read(whole, "val" if split == "train" else "train").imgs)
    for image in images[:40]:
        pixels = cv2.imread(str(whole / "images" / split / image["file_name"]))
        assert pixels.shape == (image["height"], image["width"], 3)
        assert pixels.std() > 3
    assert len({(image["width"], image["height"]) for image in images}) > 5
    assert any(image["height"] > image["width"] for image in images)


def test_categories(whole, split):
    coco = read(whole, split)
    assert [(c["id"], c["name"]) for c in coco.dataset["categories"]] == [(7, "circle"), (3, "triangle"), (42, "star")]
    number = Counter(a["category_id"] for a in coco.dataset["annotations"])
    assert set(number) == set(DEMO_CATEGORIES)
    assert min(number.values()) > 0.6 * max(number.values())


def test_boxes_and_areas_fit_the_masks(whole, split):
    coco = read(whole, split)
    annotations = coco.dataset["annotations"]
    assert len({a["id"] for a in annotations}) == len(annotations)
    for a in annotations:
        x, y, width, height = a["bbox"]
        mask = coco.annToMask(a)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert (x, y, x + width, y + height) == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        assert a["area"] == np.count_nonzero(mask)
        image = coco.imgs[a["image_id"]]
        assert mask.shape == (image["height"], image["width"])


def test_masks_lie_on_the_images_and_share_no_pixel(whole):
    coco = read(whole, "val")
    steps = []
    for image_id, image in coco.imgs.items():
        pixels = cv2.imread(str(whole / "images/val" / image["file_name"])).astype(float)
        masks = [coco.annToMask(a) for a in coco.imgToAnns[image_id]]
        assert not masks or np.max(np.sum(masks, 0)) == 1
        for a, mask in zip(coco.imgToAnns[image_id], masks, strict=True):
            if not a["iscrowd"]:
                ring = cv2.dilate(mask, np.ones((9, 9))) - cv2.dilate(mask, np.ones((3, 3)))
                steps.append(np.linalg.norm(pixels[mask > 0].mean(0) - pixels[ring > 0].mean(0)))
    assert np.percentile(steps, 10) > 50


def test_crowds_empty_images_and_sizes(whole, split):
    coco = read(whole, split)
    annotations = coco.dataset["annotations"]
    crowds = [a for a in annotations if a["iscrowd"]]
    assert len(crowds) >= 4
    assert all(a["area"] > 300 for a in crowds)
    empty = len(coco.imgs) - len({a["image_id"] for a in annotations})
    assert 0.02 <= empty / len(coco.imgs) <= 0.1
    areas = np.array([a["area"] for a in annotations if not a["iscrowd"]])
    small, large = (areas < 32**2).mean(), (areas > 96**2).mean()
    assert small > 0.2
    assert large > 0.02
    assert small + large < 0.6


def test_nothing_is_left_of_a_failed_drawing(tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="No space left on device"):
        demo_dataset(tmp_path, **SMALL)
    assert not list(tmp_path.iterdir())


@pytest.mark.integration
def test_processes_that_start_together(tmp_path):
    arguments = {"folder": tmp_path, "train": 60, "val": 4}
    processes = [CONTEXT.Process(target=demo_dataset, kwargs=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    root = tmp_path / f"{DEMO_VERSION}-60-4"
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0]
    assert list(tmp_path.iterdir()) == [root]
    assert len(contents(root)) == 66


def test_loser_of_the_race_uses_the_winners_set(tmp_path, monkeypatch):
    winner = tmp_path / f"{DEMO_VERSION}-8-4"

    def rename(_self, target):
        target.mkdir()
        (target / "winner").touch()
        raise FileExistsError(17, "File exists")

    monkeypatch.setattr(Path, "rename", rename)
    assert demo_dataset(tmp_path, **SMALL) == winner
    assert list(tmp_path.iterdir()) == [winner]
    assert [path.name for path in winner.iterdir()] == ["winner"]


@pytest.mark.parametrize(
    ("cache", "message"),
    [
        ("{tmp}/file/cache", "cannot draw the demo set in {tmp}/file/cache: Not a directory; set YOLO_ATTN_CACHE to"),
        ("~no-such-user/cache", "~no-such-user/cache: there is no home folder of that user here"),
    ],
)
def test_a_folder_that_cannot_be_used_is_named_in_one_line(tmp_path, monkeypatch, cache, message):
    (tmp_path / "file").touch()
    cache = cache.format(tmp=tmp_path)
    monkeypatch.setenv("YOLO_ATTN_CACHE", cache)
    for folder in (None, cache):
        with pytest.raises(UserError, match=re.escape(message.format(tmp=tmp_path))) as error:
            demo_dataset(folder, **SMALL)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("variables", "cache"),
    [
        ({"YOLO_ATTN_CACHE": "own", "XDG_CACHE_HOME": "xdg"}, "own"),
        ({"XDG_CACHE_HOME": "xdg"}, "xdg/yolo_attn"),
        ({}, ".cache/yolo_attn"),
    ],
)
def test_default_folder(tmp_path, monkeypatch, variables, cache):
    for name in ("YOLO_ATTN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, folder in variables.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    assert demo_dataset(train=1, val=1) == tmp_path / cache / f"{DEMO_VERSION}-1-1"
