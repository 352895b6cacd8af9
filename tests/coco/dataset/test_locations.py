"""Where annotations and images are looked for, and what is reported where they are not found."""

import json
from pathlib import Path

import pytest
import yaml

from yolo_attn.coco.dataset.locations import as_setting, is_coco_format, load_source, parts_of
from yolo_attn.errors import UserError


def load_val(data):
    return load_source(data, ["val"])["val"]


@pytest.mark.parametrize("root", ["images/val", "val", "val2017", "images", "."])
@pytest.mark.parametrize("name", ["a.jpg", "val2017/0000001/x.jpg"])
def test_images_are_found_where_the_file_names_lead(make_coco, root, name):
    folder = make_coco([(1, name)], root=root)
    assert (load_val(folder).folders[0] / name).is_file()


def test_the_folder_with_the_images_wins_over_an_earlier_empty_one(make_coco):
    folder = make_coco([(1, "a.jpg"), (2, "b.jpg")], root="val2017")
    (folder / "images" / "val").mkdir(parents=True)
    assert load_val(folder).folders[0].name == "val2017"


def test_2017_names(make_coco):
    annotations = make_coco([(1, "a.jpg")]) / "annotations"
    (annotations / "instances_val.json").rename(annotations / "instances_val2017.json")
    assert load_val(annotations.parent).index.files[0].name == "instances_val2017.json"


def test_without_images_the_message_lists_the_places(make_coco):
    folder = make_coco([(1, "a.jpg")])
    (folder / "images/val/a.jpg").unlink()
    with pytest.raises(UserError) as error:
        load_val(folder)
    places = ", ".join(str(folder / place) for place in ("images/val", "val", "val2017", "images", ""))
    assert f"instances_val.json: its images, such as 'a.jpg', are in none of these places: {places}" in str(error.value)


def test_no_readable_image_is_an_error(make_coco):
    folder = make_coco([(1, "a.jpg"), (2, "b.jpg")])
    for name in ("a.jpg", "b.jpg"):
        (folder / "images/val" / name).write_bytes(b"not an image")
    with pytest.raises(UserError, match=r"none of its 2 images under .* can be read"):
        load_val(folder)


def test_yaml_names_files_relative_to_its_path(make_coco, tmp_path):
    folder = make_coco([(1, "a.jpg")], root="pictures")
    text = "val: pictures\nannotations: {val: annotations/instances_val.json}\n"
    for path, place in (("", folder), (f"path: {folder}", tmp_path / "elsewhere"), ("path: ..", folder / "sub")):
        place.mkdir(exist_ok=True)
        (place / "data.yaml").write_text(text + path)
        split = load_val(place / "data.yaml")
        assert split.folders[0] == (folder / "pictures").resolve()
        assert split.index.image_ids.tolist() == [1]


@pytest.mark.parametrize(
    "content",
    [
        b"path: .\ntrain: images/train\nval: images/val\nnames: [a]\n",
        "train: images/train  # fa\u00e7ade\nval: images/val\nnames: [a]\n".encode("latin-1"),
        b"train: {yolo_data: [a.yaml]}\nval: {yolo_data: [b.yaml]}\n",
    ],
    ids=["plain", "latin-1", "of open-vocabulary trainings"],
)
def test_an_ordinary_data_yaml_is_left_to_ultralytics(content, tmp_path):
    (tmp_path / "data.yaml").write_bytes(content)
    assert not is_coco_format(tmp_path / "data.yaml")
    assert load_source(tmp_path / "data.yaml", ["train", "val"]) is None


NO_FILES = "data.yaml: no annotation file and image folder for 'val'; expected train: <image folder>, val: <image"

WRONG_YAML = [
    ("- a\n- b\n", "data.yaml: expected keys and values"),
    ("val: [unclosed\n", "data.yaml: not a readable YAML file"),
    ("val: {annotations: a.json, images: b}\n", NO_FILES),
    ("val: images\nannotations: a.json\n", NO_FILES),
    ("annotations: {val: a.json}\n", NO_FILES),
    ("val: images\nannotations: {val: a.json}\n", "a.json: no such file"),
    (
        "val: images\nannotations: {val: [a.json, b.json]}\n",
        "2 annotation files and 1 image folders for 'val'; expected",
    ),
    (
        "path: ~no-such-user/x\nval: images\nannotations: {val: a.json}\n",
        "data.yaml: path: ~no-such-user/x: there is no home folder of that user here",
    ),
]


@pytest.mark.parametrize(("text", "message"), WRONG_YAML)
def test_a_wrong_yaml_is_reported_in_one_line(tmp_path, text, message):
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        load_val(tmp_path / "data.yaml")
    assert str(error.value).startswith(str(tmp_path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_coco_format_and_what_is_ultralytics_own_to_find(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.v2").mkdir()
    (tmp_path / "plain.yaml").write_text("train: a\nval: b\nnames: [x]\n")
    (tmp_path / "coco.yaml").write_text("annotations: {train: t.json, val: v.json}\n")
    for data in ("folder.v2", tmp_path, "missing/folder", "coco.yaml", tmp_path / "coco.yaml"):
        assert is_coco_format(data), data
    others = ("plain.yaml", "coco8.yaml", "set.zip", "set.ndjson", "https://host/set", "ul://user/set", "", None)
    for data in (*others, {"train": "a"}, ["a"]):
        assert not is_coco_format(data), data


def test_index_is_read_again_when_the_file_changes(make_coco):
    folder = make_coco([(1, "a.jpg")])
    first = load_val(folder).index
    assert load_val(folder).index is first
    file = Path(first.file)
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "images": [{"id": 12, "file_name": "a.jpg"}]}))
    assert load_val(folder).index.image_ids.tolist() == [12]


def test_lists_of_a_yaml_join_with_further_sets(make_coco, tmp_path):
    folder = make_coco([(1, "a.jpg"), (2, "b.jpg")])
    two = {"val": ["images/val"] * 2, "annotations": {"val": ["annotations/instances_val.json"] * 2}}
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(two))
    split = load_val(f"{tmp_path / 'two.yaml'},{folder}")
    assert len(split.index.files) == len(split.folders) == len(split.index.origins) == 3
    assert split.index.file_of.tolist() == [0, 0, 1, 1, 2, 2]
    assert split.index.image_text(5) == "image 2 (b.jpg) of instances_val.json"


@pytest.fixture
def with_comma(make_coco, tmp_path):
    """A set in a folder with a comma in its name."""
    make_coco([(1, "a.jpg")])
    folder = tmp_path / "a, b"
    folder.mkdir()
    for name in ("annotations", "images"):
        (tmp_path / name).rename(folder / name)
    return folder


def test_a_comma_in_a_path(with_comma, small_coco):
    """It belongs to the path wherever it cannot separate sets."""
    for data in (with_comma, str(with_comma), [with_comma], as_setting([with_comma])):
        assert len(load_val(data).index.files) == 1
    assert len(load_val([with_comma, small_coco]).index.files) == 2
    with pytest.raises(UserError, match=r"a, b: commas separate data sets, so none of several may have one"):
        as_setting([small_coco, with_comma])


def test_parts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    for data, parts in {
        "a": ["a"],
        "a,b": ["a", "b"],
        "a,gone": ["a", "gone"],
        "gone,lost": ["gone,lost"],
        "a,": ["a"],
        "~/a": [Path.home() / "a"],
    }.items():
        assert parts_of(data) == list(map(Path, parts)), data
    assert parts_of(["a,b", Path("b")]) == [Path("a,b"), Path("b")]


@pytest.mark.parametrize("data", ["~no-such-user/x", "~no-such-user/x,b", Path("~no-such-user"), ["~no-such-user/x"]])
def test_home_of_nobody(data):
    with pytest.raises(UserError, match=r"^~no-such-user(/x|/x,b|): there is no home folder of that user here"):
        load_val(data)
