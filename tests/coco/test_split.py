"""One JSON divided into splits, which are read back as they were listed."""

import json
import shutil

import numpy as np
import pytest
import yaml
from support import listing, save_noise

from yolo_attn.cli import main
from yolo_attn.coco.dataset.locations import load_source
from yolo_attn.coco.dataset.subsets import original_ids
from yolo_attn.coco.split import divide, write
from yolo_attn.errors import UserError


@pytest.fixture
def one(tmp_path):
    """Writes a set of one JSON, as Label Studio exports it: 60 images in folders, three classes, one of them rare."""

    def make(images=60, ids=int, folders=6):
        rng = np.random.default_rng(0)
        root = tmp_path / "set"
        listed = [{"id": ids(n), "file_name": f"f{n % folders}/{n}.jpg"} for n in range(1, images + 1)]
        boxes = []
        for n in range(1, images + 1):
            kinds = [1] * int(rng.integers(1, 5)) + [2] * (n % 2) + [3] * (n % 10 == 0) if n % 7 else []
            boxes += [{"image_id": ids(n), "category_id": kind, "bbox": [1, 2, 30, 20]} for kind in kinds]
        categories = [{"id": n, "name": name} for n, name in enumerate(("cell", "half", "rare"), 1)]
        annotations = [{"id": n, **box} for n, box in enumerate(boxes, 1)]
        root.mkdir()
        content = {"images": listed, "categories": categories, "annotations": annotations}
        (root / "result.json").write_text(json.dumps(content))
        for image in listed:
            save_noise(root / "images" / image["file_name"])
        return root

    return make


def ids_of(folder):
    return {file.stem.removesuffix("_ids"): json.loads(file.read_text()) for file in folder.glob("*_ids.json")}


@pytest.mark.parametrize(
    "ids", [int, str, lambda n: f"image {n}", lambda n: -n], ids=["int", "text", "name", "negative"]
)
def test_splits_are_apart_whole_and_read_back(one, tmp_path, ids):
    root, output = one(ids=ids), tmp_path / "splits"
    before = listing(root)
    file = write(divide(root, {"val": 0.2, "test": 0.1}), output)
    found = ids_of(output)
    assert {split: len(each) for split, each in found.items()} == {"train": 42, "val": 12, "test": 6}
    assert sorted(str(i) for each in found.values() for i in each) == sorted(str(ids(n)) for n in range(1, 61))
    source = load_source(file, ["train", "val", "test"])
    assert {split: original_ids(each.index) for split, each in source.items()} == found
    assert all(each.index.category_names == ["cell", "half", "rare"] for each in source.values())
    assert listing(root) == before


def test_crowds_that_are_taken_as_objects_stay_so(one, tmp_path, capsys):
    root = one()
    content = json.loads((root / "result.json").read_text())
    content["annotations"] = [{**each, "iscrowd": 1} for each in content["annotations"]]
    (root / "result.json").write_text(json.dumps(content))
    output = tmp_path / "splits"
    assert main(["split", str(root), "-o", str(output), "--crowds-as-objects"]) == 0
    source = load_source(output / "data.yaml", ["train", "val"])
    assert not any(split.index.crowd.any() for split in source.values())


def test_classes_keep_their_shares_whatever_the_seed(one):
    root = one(images=400)
    for seed in range(5):
        division = divide(root, {"val": 0.25}, seed)
        index, rows = division.index, division.rows["val"]
        chosen = np.isin(index.image_of, rows)
        shares = np.bincount(index.category_of[chosen], minlength=3) / np.bincount(index.category_of)
        assert len(rows) == 100
        np.testing.assert_allclose(shares, 0.25, atol=0.05)
    empty = np.setdiff1d(np.arange(400), index.image_of)
    assert np.isin(empty, rows).mean() == pytest.approx(0.25, abs=0.03)


def test_the_seed_decides(one):
    root = one()
    first, again, other = (divide(root, {"val": 0.2}, seed).rows["val"].tolist() for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_groups_stay_together(one, share):
    division = divide(one(folders=20), {"val": share}, by_folder=True)
    folders = [
        {division.index.file_names[row].split("/")[0] for row in rows.tolist()} for rows in division.rows.values()
    ]
    assert not folders[0] & folders[1]
    assert len(division.rows["val"]) == pytest.approx(60 * share, abs=3)


def test_groups_of_encoded_links(tmp_path):
    names = [f"/data/local-files/?d=v{n % 5}%2F{n}.jpg" for n in range(20)]
    images = [{"id": n, "file_name": name} for n, name in enumerate(names)]
    annotations = [{"id": n, "image_id": n, "category_id": 1, "bbox": [1, 2, 3, 4]} for n in range(20)]
    content = {"images": images, "categories": [{"id": 1, "name": "a"}], "annotations": annotations}
    (tmp_path / "result.json").write_text(json.dumps(content))
    for n in range(20):
        save_noise(tmp_path / f"images/v{n % 5}/{n}.jpg")
    division = divide(tmp_path, {"val": 0.2}, by_folder=True)
    assert len({n % 5 for n in division.rows["val"].tolist()}) == 1
    assert len(division.rows["val"]) == 4


def test_the_table_counts_images_and_classes(one, tmp_path, capsys):
    assert main(["split", str(one()), "--val", "0.2", "--test", "0.1", "-o", str(tmp_path / "splits")]) == 0
    headings, images, *classes = capsys.readouterr().out.splitlines()[:5]
    assert headings.split() == ["train", "val", "test"]
    assert images.split() == ["images", "42", "12", "6"]
    counted = [int(number.replace(",", "")) for line in classes for number in line.split()[1:]]
    assert sum(counted) == len(json.loads((tmp_path / "set/result.json").read_text())["annotations"])


def test_cvat(one, tmp_path):
    root = one(images=10)
    (root / "annotations").mkdir()
    (root / "result.json").rename(root / "annotations/instances_default.json")
    (root / "images").rename(root / "pictures")
    (root / "images").mkdir()
    (root / "pictures").rename(root / "images/default")
    division = divide(root / "annotations/instances_default.json", {"val": 0.3})
    assert division.images == (root / "images/default").resolve()
    with pytest.raises(UserError, match="it is among the data"):
        write(division, root / "splits")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["{set}", "-o", "{set}/splits"], "-o {set}/splits: it is among the data, in {set}"),
        (["{set}", "-o", "{set}/images/splits"], "it is among the data"),
        (["{set}", "-o", "{tmp}"], "-o {tmp}: it holds files already"),
        (["{tmp}/gone.json", "-o", "{tmp}/out"], "gone.json: no such file"),
        (["{tmp}/empty", "-o", "{tmp}/out"], "empty: expected one COCO JSON in it, found none"),
        (
            ["{tmp}/two", "-o", "{tmp}/out"],
            "two: expected one COCO JSON in it, found a.json, b.json; give",
        ),
        (["{set}", "-o", "{tmp}/out", "--val", "0.7", "--test", "0.3"], "nothing is left to train on"),
        (["{set}", "-o", "{tmp}/out", "--val", "1.5"], "expected a share above 0, up to 1"),
        (
            ["{set}", "-o", "{tmp}/out", "--images", "{tmp}/empty"],
            "its images, such as 'f1/1.jpg', are in none of",
        ),
        (["{set}", "-o", "{tmp}/out", "--group-by", "name"], "invalid choice"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(one, tmp_path, capsys, words, line):
    root = one(images=10)
    (tmp_path / "empty").mkdir()
    (tmp_path / "two").mkdir()
    for name in "ab":
        shutil.copy(root / "result.json", tmp_path / f"two/{name}.json")
    before = listing(tmp_path)
    assert main(["split", *(word.format(set=root, tmp=tmp_path) for word in words)]) == 2
    error = capsys.readouterr().err
    assert line.format(set=root, tmp=tmp_path) in error
    assert len(error.splitlines()) == 1
    assert listing(tmp_path) == before


def test_a_link_that_leads_nowhere_is_refused(one, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"-o .*/link: it is a link that leads nowhere"):
        write(divide(one(), {"val": 0.2}), tmp_path / "link")


@pytest.mark.parametrize("images", [1, 2, 3])
def test_too_few_images_are_refused(one, images):
    shares = {"val": 0.2, "test": 0.2}
    if images < 3:
        with pytest.raises(UserError, match=r"are too few for '(train|val|test)'"):
            divide(one(images=images), shares)
    else:
        assert [len(rows) for rows in divide(one(images=images), shares).rows.values()] == [1, 1, 1]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("{", "train_ids.json: not JSON"),
        ("[]", "train_ids.json: expected a list of image ids"),
        ('{"a": 1}', "train_ids.json: expected a list of image ids"),
        ("[1000]", "result.json has none of its 1 image ids"),
        ("[1e400, 1]", "train_ids.json: expected a list of image ids, such as .1, 2., found inf"),
        ("[1, null]", "train_ids.json: expected a list of image ids"),
        ("[1, [2]]", "train_ids.json: expected a list of image ids"),
    ],
)
def test_lists_that_are_wrong_are_refused(one, tmp_path, content, line):
    file = write(divide(one(images=10), {"val": 0.3}), tmp_path / "splits")
    (tmp_path / "splits/train_ids.json").write_text(content)
    with pytest.raises(UserError, match=line):
        load_source(file, ["train"])
    described = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**described, "image_ids": "train_ids.json"}))
    with pytest.raises(UserError, match=r"data.yaml: image_ids is 'train_ids.json'; expected a JSON of image ids"):
        load_source(file, ["val"])


@pytest.mark.integration
def test_a_split_set_is_trained_on_and_validated(small_coco, tmp_path, monkeypatch):
    root = tmp_path / "set"
    shutil.copytree(small_coco / "images/train", root / "images")
    shutil.copy(small_coco / "annotations/instances_train.json", root / "result.json")
    monkeypatch.chdir(tmp_path)
    assert main(["split", "set", "--val", "0.25", "-o", "splits"]) == 0
    settings = ["--epochs", "1", "--imgsz", "64", "--device", "cpu", "--project", "runs", "plots=False"]
    assert main(["train", "--cfg", "yolov8n.yaml", "--data", "splits/data.yaml", *settings]) == 0
    ids = ids_of(tmp_path / "splits")
    report = json.loads((tmp_path / "runs/train/data_report.json").read_text())
    assert {split: report[split]["images"] for split in ids} == {split: len(each) for split, each in ids.items()}
    shutil.rmtree(tmp_path / "splits/nothing", ignore_errors=True)
    assert (
        main(["val", "--weights", "runs/train/weights/best.pt", "--device", "cpu", "--project", "runs", "conf=0.0001"])
        == 0
    )
    predictions = json.loads((tmp_path / "runs/val/predictions.json").read_text())
    assert {each["image_id"] for each in predictions} <= set(ids["val"])
