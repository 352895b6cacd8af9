"""`yolo-attn check-data`."""

import json

import pytest
from support import listing

from yolo_attn.cli import main


@pytest.fixture
def data(make_coco):
    boxes = [{"image_id": 1, "category_id": 7, "bbox": [-5, 5, 20, 20]}]
    return make_coco([(1, "a.jpg")], boxes)


def test_it_reports_draws_and_leaves_the_data_alone(data, tmp_path, capsys):
    before, out = listing(data), tmp_path.parent / f"{tmp_path.name}-out"
    assert main(["check-data", str(data), "--pictures", str(out)]) == 0
    shown = capsys.readouterr()
    assert not shown.err
    assert "val        1  box clipped to its image  annotation 1 of image 1 (a.jpg)" in shown.out.splitlines()
    assert shown.out.splitlines()[-1] == f"{out}: data_report.json, and drawings of suspicious boxes: 1"
    assert sorted(f.name for f in out.iterdir()) == ["data_report.json", "val-001-a.jpg"]
    assert listing(data) == before
    assert main(["check-data", str(data), "--pictures", str(out)]) == 2
    assert "it holds files already; choose another folder, or --force" in capsys.readouterr().err
    assert main(["check-data", str(data), "--pictures", str(out), "--force"]) == 0


def test_several_data_sets_and_a_comma_in_a_path(data, small_coco, tmp_path, capsys):
    (tmp_path / "x,y").symlink_to(data)
    for given, images in (([f"{data},{small_coco}"], 9), ([tmp_path / "x,y", small_coco], 9), ([tmp_path / "x,y"], 1)):
        assert main(["check-data", *map(str, given)]) == 0
        rows = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert ["val", str(images)] in [row[:2] for row in rows]


def test_strict(data, capsys):
    assert main(["check-data", str(data), "--strict"]) == 2
    shown = capsys.readouterr()
    assert "box clipped to its image" in shown.out
    assert shown.err == f"yolo-attn: error: --strict: {data}: skipped, clipped or suspicious items: 1\n"
    file = data / "annotations/instances_val.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "annotations": []}))
    assert main(["check-data", str(data), "--strict"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "arguments are required: DATA"),
        (["{data}/missing"], "missing: no such folder or file"),
        (["~no-such-user/x"], "~no-such-user/x: there is no home folder of that user here"),
        (["{data}", "--pictures", "~no-such-user/x"], "~no-such-user/x: there is no home folder of that user"),
        (["{data}", "--task", "pose"], "no annotations for 'train'; expected annotations/person_keypoints_train.json"),
        (["{data}", "--task", "classify"], "invalid choice: 'classify'"),
        (["{data}", "--epochs=3"], "'--epochs=3': unknown to check-data"),
        (["{data}", "--pictures", "{data}/out"], "out: it is among the data"),
        (["{data}", "--pictures", "{data}/images/val/a.jpg"], "--pictures"),
    ],
)
def test_mistakes(data, refused, arguments, message):
    assert message in refused("check-data", *(a.format(data=data) for a in arguments))
