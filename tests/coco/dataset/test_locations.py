"""Where annotations and pictures are looked for, and what is said where they are not found."""

import json
from pathlib import Path

import pytest
import yaml

from yolo_attn.coco.dataset.locations import as_setting, is_coco_format, load_source, parts_of
from yolo_attn.errors import UserError


@pytest.mark.parametrize("root", ["images/val", "val", "val2017", "images", "."])
@pytest.mark.parametrize("name", ["a.jpg", "val2017/0000001/x.jpg"])
def test_pictures_are_found_where_the_file_names_lead(make_coco, root, name):
    folder = make_coco([(1, name)], root=root)
    assert (load_source(folder, ["val"])["val"].folders[0] / name).is_file()


def test_the_folder_with_the_pictures_wins_over_an_earlier_empty_one(make_coco):
    folder = make_coco([(1, "a.jpg"), (2, "b.jpg")], root="val2017")
    (folder / "images" / "val").mkdir(parents=True)
    assert load_source(folder, ["val"])["val"].folders[0].name == "val2017"


def test_2017_names(make_coco):
    folder = make_coco([(1, "a.jpg")])
    annotations = folder / "annotations"
    (annotations / "instances_val.json").rename(annotations / "instances_val2017.json")
    assert load_source(folder, ["val"])["val"].index.files[0].name == "instances_val2017.json"


def test_pictures_nowhere_lists_the_places(make_coco):
    folder = make_coco([(1, "a.jpg")])
    (folder / "images/val/a.jpg").unlink()
    with pytest.raises(UserError) as told:
        load_source(folder, ["val"])
    text = str(told.value)
    assert "instances_val.json: its images, such as 'a.jpg', are in none of these places" in text
    for place in ("images/val", "val", "val2017", "images"):
        assert f"{folder / place}" in text
    assert "\n" not in text


def test_no_readable_picture_is_an_error(make_coco):
    folder = make_coco([(1, "a.jpg"), (2, "b.jpg")])
    for name in ("a.jpg", "b.jpg"):
        (folder / "images/val" / name).write_bytes(b"not a picture")
    with pytest.raises(UserError, match=r"none of its 2 images under .* can be read"):
        load_source(folder, ["val"])


def test_missing_split_names_what_was_expected(make_coco):
    folder = make_coco([(1, "a.jpg")])
    with pytest.raises(UserError, match=r"no annotations for 'train'; expected annotations/instances_train.json or"):
        load_source(folder, ["train", "val"])


def test_yaml_names_files_relative_to_its_path(make_coco, tmp_path):
    folder = make_coco([(1, "a.jpg")], root="pictures")
    for text, place in (
        ("val: pictures\nannotations: {val: annotations/instances_val.json}", folder),
        (
            f"path: {folder}\nval: pictures\nannotations: {{val: annotations/instances_val.json}}",
            tmp_path / "elsewhere",
        ),
        ("path: ..\nval: pictures\nannotations: {val: annotations/instances_val.json}", folder / "sub"),
    ):
        place.mkdir(exist_ok=True)
        (place / "data.yaml").write_text(text)
        split = load_source(place / "data.yaml", ["val"])["val"]
        assert split.folders[0] == (folder / "pictures").resolve()
        assert split.index.image_ids.tolist() == [1]


def test_ordinary_ultralytics_yaml_is_left_to_ultralytics(tmp_path):
    (tmp_path / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nnames: [a]\n")
    assert load_source(tmp_path / "data.yaml", ["train", "val"]) is None


@pytest.mark.parametrize(
    "content",
    [
        "train: images/train  # fa\u00e7ade\nval: images/val\nnames: [a]\n".encode("latin-1"),
        b"train: {yolo_data: [a.yaml]}\nval: {yolo_data: [b.yaml]}\n",
    ],
    ids=["latin-1", "of open-vocabulary trainings"],
)
def test_ordinary_yaml_of_another_kind_is_left_to_ultralytics(content, tmp_path):
    (tmp_path / "data.yaml").write_bytes(content)
    assert not is_coco_format(tmp_path / "data.yaml")


WRONG_YAML = [
    ("- a\n- b\n", "expected keys and values"),
    ("val: [unclosed\n", "not a readable YAML file"),
    (
        "val: {annotations: a.json, images: b}\n",
        "no annotation file and image folder for 'val'; expected train: <image",
    ),
    ("val: images\nannotations: a.json\n", "no annotation file and image folder for 'val'"),
    ("annotations: {val: a.json}\n", "no annotation file and image folder for 'val'"),
    ("val: images\nannotations: {val: a.json}\n", "a.json: no such file"),
    (
        "path: ~no-such-user/x\nval: images\nannotations: {val: a.json}\n",
        "data.yaml: path: ~no-such-user/x: there is no home folder of that user here",
    ),
]


@pytest.mark.parametrize(("text", "message"), WRONG_YAML)
def test_wrong_yaml_is_told_in_one_line(tmp_path, text, message):
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(UserError) as told:
        load_source(tmp_path / "data.yaml", ["val"])
    assert str(told.value).startswith(str(tmp_path))
    assert message in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["missing", "missing.yaml"])
def test_missing_data(tmp_path, name):
    with pytest.raises(UserError, match="no such folder or file"):
        load_source(tmp_path / name, ["val"])


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


def test_a_json_is_not_data(make_coco):
    folder = make_coco([(1, "a.jpg")])
    with pytest.raises(UserError, match=r"found a \.json file"):
        load_source(folder / "annotations/instances_val.json", ["val"])


WRONG_JSON = [
    (b"", "not valid JSON"),
    (b'{"images": [', "not valid JSON"),
    (b"\xff\xfe\x00", "not valid JSON"),
    (b"[1, 2]", "not a COCO detection file: Expected `object`, got `array`"),
    (b'{"images": []}', "missing required field `categories`"),
    (
        b'{"images": [{"id": null, "file_name": "a"}], "categories": []}',
        "no usable image in it",
    ),
    (b'{"images": [], "categories": [{"id": 1, "name": "a"}]}', "no usable image in it"),
    (b'{"images": [{"id": 1, "file_name": "a.jpg"}], "categories": []}', "no usable category in it"),
    (b'{"info": ' + b"[" * 100_000, "not valid JSON"),
]


@pytest.mark.parametrize(("content", "message"), WRONG_JSON, ids=[m for _, m in WRONG_JSON])
def test_broken_json_is_told_in_one_line(make_coco, content, message):
    folder = make_coco([(1, "a.jpg")])
    file = folder / "annotations" / "instances_val.json"
    file.write_bytes(content)
    with pytest.raises(UserError) as told:
        load_source(folder, ["val"])
    assert str(told.value).startswith(f"{file.resolve()}: ")
    assert message in str(told.value)


def test_index_is_read_again_when_the_file_changes(make_coco):
    folder = make_coco([(1, "a.jpg")])
    first = load_source(folder, ["val"])["val"].index
    assert load_source(folder, ["val"])["val"].index is first
    file = Path(first.file)
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "images": [{"id": 12, "file_name": "a.jpg"}]}))
    assert load_source(folder, ["val"])["val"].index.image_ids.tolist() == [12]


def test_lists_of_a_yaml_join_with_further_sets(make_coco, tmp_path):
    folder = make_coco([(1, "a.jpg"), (2, "b.jpg")])
    two = {"val": ["images/val"] * 2, "annotations": {"val": ["annotations/instances_val.json"] * 2}}
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(two))
    split = load_source(f"{tmp_path / 'two.yaml'},{folder}", ["val"])["val"]
    assert len(split.index.files) == len(split.folders) == len(split.index.origins) == 3
    assert split.index.file_of.tolist() == [0, 0, 1, 1, 2, 2]
    assert split.index.image_text(5) == "image 2 (b.jpg) of instances_val.json"


def test_lists_of_different_lengths_are_told(make_coco, tmp_path):
    make_coco([(1, "a.jpg")])
    uneven = {"val": ["images/val"] * 2, "annotations": {"val": "annotations/instances_val.json"}}
    (tmp_path / "uneven.yaml").write_text(yaml.safe_dump(uneven))
    with pytest.raises(UserError, match="1 annotation files and 2 image folders for 'val'"):
        load_source(tmp_path / "uneven.yaml", ["val"])


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
    """It is taken as it is wherever it cannot be meant to stand between sets."""
    for data in (with_comma, str(with_comma), [with_comma], as_setting([with_comma])):
        assert len(load_source(data, ["val"])["val"].index.files) == 1
    assert len(load_source([with_comma, small_coco], ["val"])["val"].index.files) == 2
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
        load_source(data, ["val"])
