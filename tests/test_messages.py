"""messages.md has what a user meets after a mistake; each line there is what the command prints today."""

import json
import re
import shlex

import pytest
import yaml
from support import ROOT, TINY, txt_data
from ultralytics import YOLO

from yolo_attn.cli import main

PAGE = ROOT / "tests/messages.md"
MESSAGES = re.findall(r"^    \$ yolo-attn (.*)\n    (.*)$", PAGE.read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def place(small_coco, tmp_path_factory):
    """The folder that the page's commands are run in."""
    home = tmp_path_factory.mktemp("messages")
    coco = json.loads((small_coco / "annotations/instances_val.json").read_text())
    for folder in ("coco", "crowds", "lost", "unknown"):
        (home / folder / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        name = f"annotations/instances_{split}.json"
        content = json.loads((small_coco / name).read_text())
        (home / "coco" / name).write_text(json.dumps(content))
        (home / "lost" / name).write_text(json.dumps(content))
        crowds = [{**each, "iscrowd": 1} for each in content["annotations"]]
        (home / "crowds" / name).write_text(json.dumps({**content, "annotations": crowds}))
    for folder in ("coco", "crowds"):
        (home / folder / "images").symlink_to(small_coco / "images")
    (home / "one").mkdir()
    (home / "one/result.json").write_text(json.dumps(coco))
    (home / "one/images").symlink_to(small_coco / "images/val")
    (home / "broken/annotations").mkdir(parents=True)
    (home / "broken/annotations/instances_train.json").write_text('{"images": [')
    (home / "empty").mkdir()
    txt_data(home / "txt")
    yamls = {
        "nc": {"nc": 7},
        "names": {"names": ["trinagle"]},
        "channels": {"channels": 1},
        "switch": {"drop_unused": "yes"},
        "nofile": {"annotations": {"train": "gone.json", "val": "gone.json"}},
    }
    usual = {"train": "coco/images/train", "val": "coco/images/val"}
    usual["annotations"] = {split: f"coco/annotations/instances_{split}.json" for split in ("train", "val")}
    for name, keys in yamls.items():
        (home / f"{name}.yaml").write_text(yaml.safe_dump({**usual, **keys}))
    (home / "tab.yaml").write_text("train:\n\tval: x\n")
    (home / "list.yaml").write_text("[1, 2]\n")
    with open(TINY) as file:  # noqa: PTH123
        tiny = yaml.safe_load(file)
    rows = {
        "typo": [-1, 1, "GEM", []],
        "width": [-1, 1, "SimAM", [1024]],
        "option": [-1, 1, "GAM", [{"ration": 8}]],
        "value": [-1, 1, "GAM", [{"ratio": 0}]],
        "text": [-1, 1, "GAM", [{"ratio": "eight"}]],
        "from": [99, 1, "GAM", []],
        "two": [[-1, 0], 1, "GAM", []],
        "repeats": [-1, 0, "GAM", []],
        "where": [-1, 1, "C2f_SimAM", [16, True, {"where": "middle"}]],
        "block": [-1, 1, "Conv_GEM", [16, 3, 1]],
    }
    for name, row in rows.items():
        backbone = [*tiny["backbone"], row]
        head = [[[len(tiny["backbone"])], *each[1:]] if each[2] == "Detect" else each for each in tiny["head"]]
        (home / f"row-{name}.yaml").write_text(yaml.safe_dump({**tiny, "backbone": backbone, "head": head}))
    unread = {**tiny, "backbone": [*tiny["backbone"], [-1, 1, "GAM", []]]}
    unread["head"] = [[[len(tiny["backbone"]) - 1], *each[1:]] for each in tiny["head"]]
    (home / "unread.yaml").write_text(yaml.safe_dump(unread))
    (home / "sparse.yaml").write_text(yaml.safe_dump({**tiny, "nam_sparsity": 0.1}))
    (home / "no-rows.yaml").write_text("nc: 3\n")
    YOLO(TINY).save(home / "plain.pt")
    named = YOLO(TINY)
    named.model.names = {n: category["name"] for n, category in enumerate(coco["categories"])}
    named.save(home / "named.pt")
    (home / "text.pt").write_text("hello")
    (home / "notes.txt").write_text("mine")
    (home / "mine").mkdir()
    (home / "mine/notes.txt").write_text("mine")
    return home


@pytest.mark.parametrize(("command", "line"), MESSAGES, ids=[command for command, _ in MESSAGES])
def test_message(command, line, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    try:
        code = main(shlex.split(command))
    except SystemExit as error:
        code = error.code
    (shown,) = capsys.readouterr().err.splitlines()[-1:]
    assert code == 2
    assert shown.replace(str(place), "…") == f"yolo-attn: error: {line}"


def test_the_page_has_a_hundred_messages_each_once():
    commands = [command for command, _ in MESSAGES]
    assert len(commands) >= 100
    assert len(set(commands)) == len(commands)
    assert PAGE.read_text().count("    $ ") == len(commands)
