"""What is kept of large JSONs: whole, shared by trainings that run at once, never code, and never needed."""

import dataclasses
import json
import os
import pickle
import resource
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from yolo_attn.coco.dataset import image_files
from yolo_attn.coco.reading import cache
from yolo_attn.coco.reading import reader as read
from yolo_attn.coco.reading.index import CocoIndex, Strings
from yolo_attn.coco.reading.problems import Problems
from yolo_attn.coco.reading.reader import read_index


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Lists the files of a cache folder of this test's own, which takes every JSON."""
    monkeypatch.setenv("YOLO_ATTN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cache, "WORTHWHILE", 0)
    read._read.cache_clear()
    yield lambda: sorted(f for f in (tmp_path / "cache").rglob("*") if f.is_file())
    read._read.cache_clear()


def read_afresh(file, task="detect"):
    """Read a JSON as a new process does."""
    read._read.cache_clear()
    return read_index(file, task)


def assert_same(a, b):
    for field in dataclasses.fields(CocoIndex):
        one, other = getattr(a, field.name), getattr(b, field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype, field.name
            np.testing.assert_array_equal(one, other, field.name)
        elif isinstance(one, Problems):
            assert one.as_json() == other.as_json()
        elif isinstance(one, Strings):
            assert list(one) == list(other), field.name
        else:
            assert one == other, field.name


@pytest.fixture
def annotations(small_coco):
    return small_coco / "annotations/instances_train.json"


@pytest.mark.parametrize("task", ["detect", "segment", "pose", "obb"])
@pytest.mark.parametrize("ids", ["numbers", "text"])
def test_the_same_comes_back(kept, small_coco, small_poses, tmp_path, ids, task, monkeypatch):
    name = "annotations/person_keypoints_train.json" if task == "pose" else "annotations/instances_train.json"
    content = json.loads(((small_poses if task == "pose" else small_coco) / name).read_text())
    content["annotations"].append({"id": 1, "image_id": "none"})
    if ids == "text":
        for image in content["images"]:
            image["id"] = str(image["id"])
        for annotation in content["annotations"]:
            annotation["image_id"] = str(annotation["image_id"])
    annotations = tmp_path / "annotations.json"
    annotations.write_text(json.dumps(content))
    first = read_afresh(annotations, task)
    (file,) = kept()
    assert file.name.startswith(f"index-{task}-")
    monkeypatch.setattr(read, "decode", None)  # it is not read again
    assert_same(read_afresh(annotations, task), first)


TEMPORARY = ".yolo_attn-0123456789abcdef-abcdefg_.part"


def test_only_our_old_files_are_removed(kept, annotations, tmp_path):
    """In any folder, only files that were kept here and not read for long are removed."""
    place = tmp_path / "cache/data"
    place.mkdir(parents=True)
    names = [
        "labels.csv",
        "model.safetensors",
        "index-detect-x.safetensors",
        f"images-{'a' * 40}.safetensors.old",
        "folder",
    ]
    ours = [f"index-detect-{'0' * 40}.safetensors", TEMPORARY]
    for name in (*names[:-1], *ours):
        (place / name).write_text("x")
    (place / "folder").mkdir()
    for name in (*names, *ours):
        os.utime(place / name, (0, 0))
    read_afresh(annotations)
    left = {f.name for f in place.iterdir()}
    assert left > set(names)
    assert not left & set(ours)


class Exploding:
    """Leaves a folder in the working folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def damages(whole, other, number):
    """Files as a failing disk, a full one or a mistaken copy leave them: what was done, and the bytes."""
    rng = np.random.default_rng(0)
    header = 8 + int.from_bytes(whole[:8], "little")
    places = [*rng.choice(header, number, replace=False), *rng.choice(len(whole), number, replace=False)]
    for n, place in enumerate(map(int, places)):
        changed = bytearray(whole)
        if n % 5 == 0:
            changed[place] ^= 1 << int(rng.integers(8))
        elif n % 5 == 1:
            changed[place : place + 512] = bytes(len(changed[place : place + 512]))
        elif n % 5 == 2:
            del changed[place:]
        elif n % 5 == 3:
            changed[place:place] = rng.bytes(int(rng.integers(1, 9)))
        else:
            changed[place : place + 64] = rng.bytes(len(changed[place : place + 64]))
        yield f"{n % 5} at {place}", bytes(changed)
    yield "extended", whole + bytes(4096)
    yield "emptied", b""
    yield "garbage", b"garbage" * 100
    yield "an absurd length", b"\xff" * 8 + whole[8:]
    yield "a pickle", pickle.dumps(Exploding())
    yield "another set's", other


@pytest.mark.parametrize("number", [60, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("task", ["detect", "segment", "pose", "obb"])
def test_a_damaged_cache_is_read_anew(kept, annotations, small_poses, tmp_path, task, number):
    """However it is damaged, the index stays the same, the cache is whole again, and no code has run."""
    if task == "pose":
        annotations = small_poses / "annotations/person_keypoints_train.json"
    two = tmp_path / "two.json"
    two.write_bytes(annotations.read_bytes().replace(b"circle", b"square"))
    read_afresh(two, task)
    (file,) = kept()
    other = file.read_bytes()
    file.unlink()
    first = read_afresh(annotations, task)
    (file,) = kept()
    whole = file.read_bytes()
    assert len(whole) == len(other)
    for damage, content in damages(whole, other, number):
        if content != whole:
            file.write_bytes(content)
            assert cache.load(file.stem) is None, damage
            assert_same(read_afresh(annotations, task), first)
            assert file.read_bytes() == whole, damage
    assert not (tmp_path / "unpickled").exists()


CHANGES = {
    "value": lambda arrays, about: arrays["boxes"].__setitem__((3, 2), 1e3),
    "dtype": lambda arrays, about: arrays.update(areas=arrays["areas"].view(np.int64)),
    "shape": lambda arrays, about: arrays.update(boxes=arrays["boxes"].reshape(4, -1)),
    "name": lambda arrays, about: arrays.update(area=arrays.pop("areas")),
    "further": lambda arrays, about: about.update(further=about["further"].replace("circle", "square")),
    "no checksum": lambda arrays, about: about.update(further=about["further"].partition(" ")[2]),
}


@pytest.mark.parametrize("change", ["key", *CHANGES])
def test_a_cache_with_another_checksum_is_read_anew(kept, annotations, change):
    """Though the file itself is whole, as that of an earlier version is."""
    first = read_afresh(annotations)
    (file,) = kept()
    with cache.safe_open(file, framework="numpy") as stored:
        arrays, about = {name: stored.get_tensor(name) for name in stored.keys()}, stored.metadata()  # noqa: SIM118
    if change == "key":
        cache.save_arrays("index-detect-" + "0" * 40, arrays, json.loads(about["further"].partition(" ")[2]))
        next(other for other in kept() if other != file).replace(file)
    else:
        CHANGES[change](arrays, about)
        file.write_bytes(cache.save(arrays, about))
    assert cache.load(file.stem) is None
    assert_same(read_afresh(annotations), first)


def test_a_fifo_is_not_waited_for(kept, annotations):
    first = read_afresh(annotations)
    (file,) = kept()
    file.unlink()
    os.mkfifo(file)
    assert_same(read_afresh(annotations), first)
    assert file.is_file()


def test_many_writers_at_once(kept, annotations):
    """Each reads the same, before, while and after others write."""
    first = read_afresh(annotations)
    (file,) = kept()
    file.unlink()
    with ThreadPoolExecutor(8) as pool:
        for index in pool.map(lambda _: read._read.__wrapped__(annotations, "detect", (), 2**20), range(40)):
            assert_same(index, first)
    assert kept() == [file]


@pytest.mark.parametrize("read_again", [read_afresh, read_index], ids=["new process", "same process"])
def test_another_content_of_the_same_size_and_time_is_read_again(kept, annotations, tmp_path, read_again):
    file = tmp_path / "own.json"
    text = annotations.read_text()
    file.write_text(text)
    stat = file.stat()
    assert "circle" in read_again(file).category_names
    time.sleep(0.05)  # the clock of the file system ticks
    file.write_text(text.replace("circle", "CIRCLE"))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert "CIRCLE" in read_again(file).category_names
    assert len(kept()) == 2


def test_a_replaced_image_is_examined_again(kept, small_coco, tmp_path, monkeypatch):
    """Also one with the same number of bytes and time, such as a rotated image."""
    monkeypatch.setattr(image_files, "WORTHWHILE", 0)
    index = read_afresh(small_coco / "annotations/instances_train.json")
    for name in index.file_names:
        Image.new("RGB", (64, 48)).save(tmp_path / name, "BMP")
    turned = tmp_path / index.file_names[3]
    assert (image_files.find_images(index, [tmp_path]).sizes == (64, 48)).all()
    stat = turned.stat()
    time.sleep(0.05)  # the clock of the file system ticks
    Image.new("RGB", (48, 64)).save(turned, "BMP")
    os.utime(turned, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert turned.stat().st_size == stat.st_size
    sizes = image_files.find_images(index, [tmp_path]).sizes.tolist()
    assert sizes == [[64, 48]] * 3 + [[48, 64]] + [[64, 48]] * (len(sizes) - 4)


def test_a_full_disk_is_only_reported(kept, annotations, caplog):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        assert len(read_afresh(annotations).image_ids) == 16
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cannot keep anything there: File too large; --cache-dir names another folder" in caplog.text
    assert kept() == []


def test_a_file_in_place_of_the_folder_is_reported_once(kept, annotations, tmp_path, caplog):
    (tmp_path / "cache").write_text("mine")
    for task in ("detect", "segment"):
        assert len(read_afresh(annotations, task).image_ids) == 16
    (line,) = [record.message for record in caplog.records]
    assert line.startswith(f"{tmp_path}/cache/data: cannot keep anything there: Not a directory; --cache-dir names ")
    assert (tmp_path / "cache").read_text() == "mine"
