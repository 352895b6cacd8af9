"""Folders as tools lay them out, and file names of other machines."""

import gzip
import json
import shutil

import pytest
import yaml
from support import listing, save_noise

from yolo_attn.cli import main
from yolo_attn.coco.dataset import image_files, layouts
from yolo_attn.coco.dataset.image_files import Finder, find_images
from yolo_attn.coco.dataset.locations import load_source
from yolo_attn.errors import UserError

SPLITS = ("train", "val")


def content(names, key="file_name"):
    """A COCO JSON of one box an image."""
    return {
        "images": [{"id": n, key: name, "width": 64, "height": 48} for n, name in enumerate(names, 1)],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "bbox": [1, 2, 30, 20], "area": 600, "iscrowd": 0}
            for n in range(1, len(names) + 1)
        ],
    }


def write(root, jsons, images):
    """Write JSONs by their paths, and images by theirs."""
    for name, value in jsons.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(json.dumps(value))
    for name in images:
        save_noise(root / name)
    return root


def found_in(data):
    """The val split, its images' paths, and what is reported of them."""
    split = load_source(data, ["val"])["val"]
    files = find_images(split.index, split.folders)
    return split, list(files.paths), files.problems.lines()


TWO = content(["a.jpg", "b.jpg"])
LVIS = content([f"http://images.cocodataset.org/val2017/{n}.jpg" for n in "ab"], "coco_url")
LAYOUTS = {
    "Roboflow": ({f"{split}/_annotations.coco.json": TWO for split in ("train", "valid", "test")}, "valid/"),
    "words": ({"Training/x.coco.json": TWO, "Validation/y.coco.json": TWO}, "Validation/"),
    "LVIS": ({f"lvis_v1_{split}.json": LVIS for split in SPLITS}, "val2017/"),
    "LVIS, annotations": ({f"annotations/lvis_v1_{split}.json": LVIS for split in SPLITS}, "val2017/"),
    "CVAT's subsets": (
        {f"annotations/instances_{split}.json": TWO for split in ("Train", "Validation")},
        "images/val/",
    ),
    "any name": ({"train/mine.json": TWO, "val/other.json": TWO}, "val/images/"),
    "splits": ({"train.json": TWO, "val.json": TWO}, "images/"),
    "annotations": ({"annotations/train.json": TWO, "annotations/val.json": TWO}, "valid/"),
    "2014": ({f"annotations/instances_{split}2014.json": TWO for split in SPLITS}, "val2014/"),
    "wrapped": ({f"set/annotations/instances_{split}.json": TWO for split in SPLITS}, "set/images/val/"),
    "wrapped, no annotations": ({f"x/y/{split}.json": TWO for split in SPLITS}, "x/y/val/"),
    "COCO first": ({f"annotations/instances_{s}.json": TWO for s in SPLITS} | {"val/old.json": TWO}, "images/val/"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_tools_are_read(layout, tmp_path):
    jsons, images = LAYOUTS[layout]
    root = write(tmp_path / "set", jsons, [f"{images}{name}.jpg" for name in "ab"])
    before = listing(root)
    _, paths, _ = found_in(root)
    assert paths == [str(root.resolve() / f"{images}{name}.jpg") for name in "ab"]
    assert listing(root) == before


def test_a_folder_of_very_many_images_has_its_json_beside_them(tmp_path):
    root = write(tmp_path / "set", {"train/_annotations.coco.json": TWO, "valid/_annotations.coco.json": TWO}, [])
    for n in range(10_100):
        (root / f"valid/{n:05}.jpg").touch()
    for name in "ab":
        save_noise(root / f"valid/{name}.jpg")
    assert found_in(root)[1] == [str(root.resolve() / f"valid/{name}.jpg") for name in "ab"]


@pytest.mark.parametrize("odd", ["link", "gzip", "late keys", "unreadable"])
def test_odd_jsons_are_found(odd, tmp_path, monkeypatch):
    root = write(tmp_path / "set", {"valid/x.json": TWO}, ["valid/a.jpg", "valid/b.jpg"])
    file = root / "valid/x.json"
    if odd == "link":
        (root / "valid").rename(tmp_path / "elsewhere")
        (root / "valid").symlink_to(tmp_path / "elsewhere")
    elif odd == "gzip":
        (root / "valid/x.json.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    elif odd == "late keys":
        file.write_text(json.dumps({"info": "x" * 300_000, **TWO, "licenses": "y" * 300_000}))
    else:
        monkeypatch.setattr(layouts, "open_plain", raises_denied)
    assert found_in(root)[0].index.files[0].parent == (root / "valid").resolve()


def raises_denied(*_):
    raise PermissionError


def test_jsons_that_are_not_used_are_reported(tmp_path, logged):
    jsons = {"val.json": TWO, "train_test.json": TWO, "lvis_v1_image_info_test_dev.json": TWO}
    write(tmp_path / "set", jsons, ["a.jpg", "b.jpg"])
    load_source(tmp_path / "set", ["val"])
    assert [line for line in logged() if "not used, since no one split is in the name: train_test.json" in line]


@pytest.mark.parametrize(
    ("jsons", "line"),
    [
        (
            {"annotations/a_val.json": TWO, "annotations/b_val.json": TWO},
            "several JSONs may be of 'val': annotations/a_val.json, annotations/b_val.json; name one in a",
        ),
        (
            {"result.json": TWO},
            "no annotations for 'val'; expected annotations/instances_val.json or annotations/instances_val2017.json; "
            "found result.json, which a data YAML can name: train: <image folder>",
        ),
        (
            {"annotations/person_keypoints_val.json": TWO},
            "found annotations/person_keypoints_val.json, which is for models of the task pose, or --task pose",
        ),
        ({"train_val.json": TWO}, "found train_val.json, which a data YAML can name"),
        (
            {"annotations/captions_val2017.json": TWO},
            "expected annotations/instances_val.json or annotations/instances",
        ),
        ({"val/settings.json": {"theme": "dark"}}, "no annotations for 'val'; expected annotations/instances_val.json"),
    ],
)
def test_what_cannot_be_decided_is_refused(jsons, line, tmp_path):
    root = write(tmp_path / "set", jsons, ["images/a.jpg", "images/b.jpg"])
    with pytest.raises(UserError) as error:
        load_source(root, ["val"])
    assert line in str(error.value)


@pytest.mark.parametrize("where", ["data.yaml", "elsewhere/data.yaml"])
def test_a_yaml_of_ultralytics_guide(where, tmp_path):
    root = write(tmp_path / "set", {"train.json": TWO, "val.json": TWO}, ["train/a.jpg", "val/a.jpg", "val/b.jpg"])
    described = {"path": str(root), **{split: split for split in SPLITS}, "nc": 1, "names": {0: "cat"}}
    described |= {f"{split}_json": f"{split}.json" for split in SPLITS}
    (root / where).parent.mkdir(exist_ok=True)
    (root / where).write_text(yaml.safe_dump(described))
    split, paths, _ = found_in(root / where)
    assert paths == [str(root.resolve() / f"val/{name}.jpg") for name in "ab"]
    assert split.names == ["cat"]


OTHER_MACHINES = (
    "C:\\Users\\me\\set\\images\\{}.jpg",
    "/home/other/set/images/{}.jpg",
    "..\\..\\media\\upload\\4\\{}.jpg",
    "/data/local-files/?d=images/{}.jpg",
    "/data/upload/4/{}.jpg",
    "s3://bucket/set/{}.jpg",
    "https://host/images/{}.jpg?token=1",
    "Old/Images/{}.JPG",
)


@pytest.mark.parametrize("written", OTHER_MACHINES)
def test_file_names_of_other_machines_are_matched_by_their_end(written, tmp_path):
    names = [written.format(name) for name in "ab"]
    root = write(tmp_path / "set", {"annotations/instances_val.json": content(names)}, ["images/a.jpg", "images/b.jpg"])
    _, paths, lines = found_in(root)
    assert paths == [str(root.resolve() / f"images/{name}.jpg") for name in "ab"]
    assert [line.startswith("2 × image file found ") for line in lines] == [True]


def test_the_longest_end_decides_and_two_alike_are_skipped(tmp_path):
    names = ["/other/x/1.jpg", "/other/y/1.jpg", "/other/2.jpg", "/other/z/3.jpg"]
    files = ["x/1.jpg", "y/1.jpg", "x/2.jpg", "y/2.jpg", "z/3.jpg"]
    root = write(tmp_path / "set", {"val.json": content(names)}, [f"images/{file}" for file in files])
    _, paths, lines = found_in(root)
    expected = [f"images/{file}" for file in ("x/1.jpg", "y/1.jpg")]
    assert paths == [*(str(root.resolve() / file) for file in expected), "", str(root.resolve() / "images/z/3.jpg")]
    assert any("1 × image whose file_name ends like those of several files, skipped" in line for line in lines)
    assert any("3 × image file found by the end of its file_name" in line for line in lines)


@pytest.mark.parametrize(
    ("name", "files", "expected"),
    [
        ("C:\\x\\50%25.jpg", ["50%25.jpg", "50%.jpg"], "50%25.jpg"),
        ("C:\\x\\50%25.jpg", ["50%.jpg"], "50%.jpg"),
        ("/o/frame%2B1.jpg", ["a/frame%2B1.jpg"], "a/frame%2B1.jpg"),
        ("/o/what?/1.jpg", ["what?/1.jpg"], "what?/1.jpg"),
        ("/o/y?z.jpg", ["y?z.jpg"], "y?z.jpg"),
        ("s3://b/c#d.jpg", ["x/c#d.jpg"], "x/c#d.jpg"),
        ("/data/local-files/?d=v0%2F0.jpg", ["v0/0.jpg", "v1/0.jpg"], "v0/0.jpg"),
        ("C:\\x\\a.jpg", ["y/A.jpg", "z/a.jpg"], "z/a.jpg"),
        ("http://[fe80/x.jpg", ["y/A.jpg"], None),
        ("..", ["y/A.jpg"], None),
    ],
)
def test_ends_are_read_as_they_stand_first(name, files, expected, tmp_path):
    for file in files:
        save_noise(tmp_path / file)
    finder = Finder(tmp_path)
    if expected is None:
        assert not finder.has(name)
    else:
        assert finder.find(name)[0] == str(tmp_path.resolve() / expected)


def test_many_files_of_one_name_are_not_all_looked_at_for_each(tmp_path, monkeypatch):
    for n in range(2000):
        (tmp_path / f"video{n}").mkdir()
        (tmp_path / f"video{n}/1.jpg").touch()
    finder, looked, shared = Finder(tmp_path), [], image_files._shared_end
    monkeypatch.setattr(image_files, "_shared_end", lambda *parts: looked.append(parts) or shared(*parts))
    for n in range(2000):
        assert finder.find(f"C:\\d\\video{n}\\1.jpg")[0] == str(tmp_path.resolve() / f"video{n}/1.jpg")
    assert len(looked) == 2 * 2000


def test_a_missing_image_is_not_another_of_its_name(tmp_path):
    """Where other file names are right as written, a plain one that is not there is missing."""
    root = write(tmp_path / "set", {"val.json": content(["x/1.jpg", "y/1.jpg"])}, ["images/x/1.jpg"])
    _, paths, _ = found_in(root)
    assert paths == [str(root.resolve() / "images/x/1.jpg"), ""]


def test_ends_do_not_lead_outside(tmp_path):
    write(tmp_path, {}, ["outside/a.jpg", "set/images/b.jpg"])
    root = write(tmp_path / "set", {"val.json": content(["/other/a.jpg", "/other/b.jpg"])}, [])
    (root / "images/link").symlink_to(tmp_path / "outside")
    (root / "images/a.jpg").symlink_to(tmp_path / "outside/a.jpg")
    _, paths, _ = found_in(root)
    assert paths == ["", str(root.resolve() / "images/b.jpg")]


@pytest.mark.integration
def test_a_folder_of_roboflow_trains(small_coco, tmp_path):
    root = tmp_path / "set"
    for split, folder in (("train", "train"), ("val", "valid")):
        shutil.copytree(small_coco / f"images/{split}", root / folder)
        shutil.copy(small_coco / f"annotations/instances_{split}.json", root / folder / "_annotations.coco.json")
    before = listing(root)
    settings = ["--epochs", "1", "--imgsz", "64", "--device", "cpu", "--project", str(tmp_path / "runs"), "plots=False"]
    assert main(["check-data", str(root)]) == 0
    assert main(["train", "--cfg", "yolov8n.yaml", "--data", str(root), *settings]) == 0
    best = str(tmp_path / "runs/train/weights/best.pt")
    assert main(["val", "--weights", best, "--device", "cpu", "--project", str(tmp_path / "runs")]) == 0
    assert listing(root) == before
