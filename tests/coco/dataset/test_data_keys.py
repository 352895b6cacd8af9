"""Keys of a COCO data YAML: each is used, refused where it contradicts the JSON, or reported."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from support import pycocotools_scores, save_noise
from ultralytics.cfg import DEFAULT_CFG_DICT

from yolo_attn.coco.check import check_data
from yolo_attn.coco.dataset.locations import load_source
from yolo_attn.coco.evaluate import Detections, coco_scores
from yolo_attn.coco.reading.masks_and_keypoints import COCO_FLIP
from yolo_attn.engine.data import describe, look_through, split_of, write_data_yaml
from yolo_attn.errors import UserError

CELLS = ((1, "RBC"), (2, "WBC"), (3, "Platelets"))


@pytest.fixture
def cells(tmp_path):
    """Writes a data YAML of two splits with a box of each of three categories, and keypoints; returns it."""

    def make(name="data.yaml", keypoints=17, **keys):
        for split in ("train", "val"):
            images = [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}]
            categories = [{"id": n, "name": name} for n, name in CELLS]
            annotations = [
                {"id": n, "image_id": 1, "category_id": n, "bbox": [4 * n, 5, 10, 20], "area": 200, "iscrowd": 0}
                | {"keypoints": [9, 9, 2] * keypoints, "num_keypoints": keypoints}
                for n, _ in CELLS
            ]
            content = {"images": images, "categories": categories, "annotations": annotations}
            (tmp_path / f"{split}.json").write_text(json.dumps(content))
        save_noise(tmp_path / "images/a.jpg")
        places = {"train": "images", "val": "images", "annotations": {"train": "train.json", "val": "val.json"}}
        (tmp_path / name).write_text(yaml.safe_dump({**places, **keys}, sort_keys=False))
        return tmp_path / name

    return make


def described(data, task="detect", splits=("train", "val")):
    """What a run makes of it, and its settings."""
    args = SimpleNamespace(**{**DEFAULT_CFG_DICT, "data": str(data), "task": task})
    return args, describe(args, splits)


def classes_of(data, split="val"):
    """Names of the classes, the class of each label, and the names of the categories that are scored."""
    args, found = described(data)
    examined = look_through(args, found, split, found["names"])
    assert found["nc"] == len(found["names"]) == len(found["categories"])
    labels = [int(c) for label in examined.labels for c in label["cls"][:, 0]]
    return list(found["names"].values()), labels, examined.labels.source.category_names


@pytest.mark.parametrize(
    ("keys", "names", "labels"),
    [
        ({}, ["RBC", "WBC", "Platelets"], [0, 1, 2]),
        ({"names": None, "nc": None}, ["RBC", "WBC", "Platelets"], [0, 1, 2]),
        ({"nc": 3}, ["RBC", "WBC", "Platelets"], [0, 1, 2]),
        ({"nc": 1, "names": ["RBC"]}, ["RBC"], [0]),
        ({"names": {0: "WBC"}}, ["WBC"], [0]),
        ({"names": ["Platelets", "RBC", "WBC"]}, ["Platelets", "RBC", "WBC"], [1, 2, 0]),
        ({"names": {1: "RBC", 0: "Platelets"}, "nc": "2"}, ["Platelets", "RBC"], [1, 0]),
        ({"names": {"0": "WBC", "1": "RBC"}, "nc": 2.0}, ["WBC", "RBC"], [1, 0]),
    ],
)
def test_names_choose_categories_and_their_order(cells, keys, names, labels):
    file = cells(**keys)
    assert classes_of(file) == (names, labels, [name for _, name in CELLS if name in names])
    assert list(check_data(file, "detect")["val"].labels[0]["cls"][:, 0]) == labels


def test_a_runs_own_yaml_says_the_same(cells, tmp_path):
    _, found = described(cells(names=["Platelets", "RBC"]))
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(dict(found)))
    assert classes_of(tmp_path / "run.yaml") == classes_of(tmp_path / "data.yaml")


def test_names_of_one_set_leave_another_set_alone(cells, small_coco):
    chosen, whole = cells(names=["WBC", "RBC"]), cells("whole.yaml")
    for data in ([chosen, whole], [whole, chosen]):
        _, found = described(",".join(map(str, data)))
        assert found["categories"] == ["WBC", "RBC", "Platelets"]
        split = split_of(found, "val", "detect")
        for n, file in enumerate(data):
            rows = split.index.category_of[split.index.file_of[split.index.image_of] == n]
            assert len(rows) == (2 if file == chosen else 3)


def test_numbers_of_chosen_names_are_those_of_their_categories(cells, tmp_path):
    index = load_source(cells(names=["Platelets", "RBC"]), ["val"])["val"].index
    detections = Detections()
    detections.add(1, [[12, 5, 10, 20], [4, 5, 10, 12], [40, 1, 9, 9]], [0.9, 0.5, 0.6], [3, 1, 1])
    detections.save(tmp_path / "found.json", index)
    stats, _ = pycocotools_scores(tmp_path / "val.json", tmp_path / "found.json", catIds=[1, 3])
    np.testing.assert_allclose(list(coco_scores(index, detections).metrics.values()), stats, rtol=0, atol=1e-9)


def test_a_class_that_one_split_lacks_stays_a_class(cells, tmp_path):
    file = cells(names=["WBC", "Platelets", "RBC"])
    content = json.loads((tmp_path / "val.json").read_text())
    content["categories"] = content["categories"][:2]
    (tmp_path / "val.json").write_text(json.dumps(content))
    assert described(file, splits=("val",))[1]["categories"] == ["WBC", "Platelets", "RBC"]
    assert classes_of(file)[:2] == (["WBC", "Platelets", "RBC"], [2, 0])
    assert described(cells("whole.yaml", nc=3), splits=("val",))[1]["nc"] == 3


def categories_left(folder, split, number):
    """Leave a split its first categories and their annotations."""
    content = json.loads((folder / f"{split}.json").read_text())
    content["categories"] = content["categories"][:number]
    content["annotations"] = content["annotations"][:number]
    (folder / f"{split}.json").write_text(json.dumps(content))


@pytest.mark.parametrize(("split", "classes"), [("train", 2), ("val", 3)])
def test_nc_is_the_number_of_classes_of_a_training(cells, tmp_path, split, classes):
    """No matter what other splits have, or which split is read alone; another number is refused."""
    for nc in (classes, 5 - classes):
        file = cells(nc=nc)
        categories_left(tmp_path, split, 2)
        if nc == classes:
            for splits in (("train", "val"), ("val",)):
                described(file, splits=splits)
        else:
            with pytest.raises(UserError, match=f"nc is {nc}, and train has {classes} categories; names says which"):
                described(file)


def test_nc_counts_the_categories_of_all_jsons_of_a_split(cells, tmp_path):
    places = {"train": ["images", "images"], "annotations": {"train": ["train.json", "val.json"], "val": "val.json"}}
    for nc, refused in ((3, False), (2, True)):
        file = cells(nc=nc, **places)
        categories_left(tmp_path, "val", 2)
        if refused:
            with pytest.raises(UserError, match="nc is 2, and train has 3 categories"):
                described(file)
        else:
            assert described(file)[1]["nc"] == 3


IDENTITY = list(range(17))


@pytest.mark.parametrize(
    ("keys", "flip"),
    [
        ({}, list(COCO_FLIP)),
        ({"flip_idx": IDENTITY, "kpt_shape": [17, 3]}, IDENTITY),
        ({"flip_idx": IDENTITY[::-1]}, IDENTITY[::-1]),
        ({"flip_idx": []}, []),
    ],
)
def test_flip_idx_is_used(cells, keys, flip):
    file = cells(**keys)
    for own in ("person_keypoints_train.json", "person_keypoints_val.json"):
        assert not (file.parent / own).exists()
    _, found = described(file, "pose")
    assert (found["kpt_shape"], found["flip_idx"]) == ([17, 3], flip)


def test_names_of_keypoints_are_kept(cells):
    names = {0: list("abc"), 1: list("abc"), 2: list("abc")}
    assert described(cells(keypoints=3, kpt_names=names), "pose")[1]["kpt_names"] == names


@pytest.mark.parametrize("key", ["kpt_sigmas", "kpt_oks_sigmas"])
def test_sigmas_reach_the_evaluation_from_the_file_and_from_the_runs_own(cells, tmp_path, key):
    sigmas = [0.05, 0.1, 0.2]
    args, found = described(cells(keypoints=3, **{key: sigmas}), "pose")
    assert found["kpt_oks_sigmas"] == sigmas  # which Ultralytics reads
    again = yaml.safe_load(Path(write_data_yaml(args, ["train", "val"], tmp_path, found)).read_text())
    for data in (found, again):
        assert split_of(data, "val", "pose").index.oks_sigmas == tuple(sigmas)
    assert "kpt_oks_sigmas" not in described(cells(**{key: [1]}))[1]  # a detector has no use for them
    with pytest.raises(UserError, match="kpt_sigmas and kpt_oks_sigmas differ"):
        described(cells(keypoints=3, kpt_sigmas=sigmas, kpt_oks_sigmas=[1, 2, 3]), "pose")


CONTRADICTIONS = [
    ({"nc": 1}, "detect", "nc is 1, and train has 3 categories; names says which of them are used"),
    ({"nc": 2, "names": ["RBC"]}, "detect", "nc is 2, and names has 1: RBC"),
    ({"nc": "many"}, "detect", "nc is 'many'; expected the number of classes"),
    ({"names": ["RCB", "WBC"]}, "detect", "names has RCB, which no JSON has; similar names: RBC"),
    ({"names": ["dog"]}, "detect", r"names has dog, which .*train\.json lacks; it has RBC, WBC, Platelets"),
    ({"names": ["RBC", "RBC"]}, "detect", "names has RBC more than once"),
    ({"names": []}, "detect", r"names is \[\]; expected a list of class names, or a mapping from 0 on"),
    ({"names": "RBC"}, "detect", "names is 'RBC'; expected a list of class names"),
    ({"names": {1: "RBC"}}, "detect", "names has the keys 1; expected numbers from 0 on"),
    ({"names": [None]}, "detect", "names is .*; expected a list of class names"),
    ({"channels": 1}, "detect", "channels is 1; COCO-format data has 3"),
    ({"kpt_shape": [5, 3]}, "pose", r"kpt_shape is \[5, 3\]; .*train\.json has 17 keypoints, expected \[17, 3\]"),
    ({"kpt_shape": [17, 2]}, "pose", r"kpt_shape is \[17, 2\]; .*, expected \[17, 3\]"),
    ({"flip_idx": [0, 1, 2]}, "pose", r"flip_idx is \[0, 1, 2\]; .* expected each number from 0 to 16 once"),
    ({"flip_idx": [0] * 17}, "pose", "expected each number from 0 to 16 once"),
    *(({"flip_idx": flip}, "pose", f"flip_idx is {flip!r}; ") for flip in (3, 0, False, "", {})),
    *(
        ({"kpt_sigmas": sigmas}, "pose", "OKS sigmas are .*; .* 17 keypoints, expected 17 numbers above 0")
        for sigmas in ([0.1], [0.1] * 16 + [0], [0.1] * 16 + ["0.1"], 0.1, [0.1] * 16 + [float("nan")], [])
    ),
    ({"kpt_names": ["a"]}, "pose", "kpt_names is .*; .* expected 17 names for each class number"),
]


@pytest.mark.parametrize(("keys", "task", "message"), CONTRADICTIONS)
def test_what_contradicts_the_json_is_refused(cells, keys, task, message):
    file = cells(**keys)
    with pytest.raises(UserError, match=message) as error:
        described(file, task)
    assert str(error.value).startswith(f"{file}: ")
    assert len(str(error.value)) < 500
    with pytest.raises(UserError, match=message):
        check_data(file, task)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("names: {0: RBC, 0: WBC}", "0"),
        ("nc: 3\nnc: 3", "nc"),
        ("val: other", "val"),
        ("a: [{b: &b {c: 1, c: 2}}]", "c"),
    ],
)
def test_a_repeated_key_is_refused(cells, text, key):
    file = cells()
    file.write_text(f"{file.read_text()}\n{text}\n")
    with pytest.raises(UserError, match=f"{file}: it has the key {key!r} more than once in one place"):
        described(file)


def test_keys_of_keypoints_do_not_concern_boxes(cells):
    assert described(cells(kpt_shape=[5, 3], flip_idx=[0], kpt_names="x"))[1]["nc"] == 3


def test_unused_keys_are_reported_once(cells, logged):
    harmless = {"path": ".", "test": "images", "download": "a.zip", "minival": "b", "channels": 3}
    splits = {"train": "train.json", "val": "val.json", "valid": "val.json"}
    keys = {"name_s": ["RBC"], "flipidx": [], "license": "MIT", "masks_dir": "m", "names": ["RBC"]}
    file = cells(**harmless, **keys, annotations=splits)
    described(file)
    described(file)
    unused = "is not a key of COCO-format data and is not used"
    assert [line.removeprefix(f"{file}: ") for line in sorted(logged())] == [
        f"'flipidx' {unused}; did you mean flip_idx?",
        f"'license' {unused}",
        f"'masks_dir' {unused}",
        f"'name_s' {unused}; did you mean names?",
        "'valid' is not a key of annotations and is not used; did you mean val?",
        *(f"names skips 2 annotations of WBC, Platelets in {file.parent / split}.json" for split in ("train", "val")),
    ]
