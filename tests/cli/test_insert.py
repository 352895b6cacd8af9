"""`yolo-attn insert` and `remove`: the files that they read and write, and one line for every mistake."""

import shlex
from pathlib import Path

import pytest
from support import USERS_LAYER, listing, script
from ultralytics import YOLO
from ultralytics.utils.checks import check_yaml

from yolo_attn.cli import main
from yolo_attn.model.registry import LAYERS

BASE = Path(check_yaml("yolov8.yaml"))


pytestmark = pytest.mark.usefixtures("here")


def run(*arguments):
    return main([*map(str, arguments)])


def test_insert_and_remove(here, capsys):
    command = "insert yolov8s.yaml --layer gam --at neck -o yolov8s-gam8.yaml --option ratio=8"
    assert run(*command.split()) == 0
    assert capsys.readouterr().out == "yolov8s-gam8.yaml: GAM as rows 22, 23, 24\n"
    lines = (here / "yolov8s-gam8.yaml").read_text().splitlines()
    assert lines[:4] == [
        "# yolo-attn insert yolov8s.yaml --layer GAM --at neck --option ratio=8",
        "# Inserted GAM as rows 22, 23, 24; yolo-attn remove undoes it and deletes these lines.",
        "# yolo-attn train --cfg yolov8s-gam8.yaml --data path/to/data",
        "",
    ]
    model = YOLO("yolov8s-gam8.yaml").model
    assert model.yaml["scale"] == "s"
    assert [row[2:] for row in model.yaml["head"][12:15]] == 3 * [["GAM", [{"ratio": 8}]]]
    (here / "out").mkdir()
    assert run("remove", "yolov8s-gam8.yaml", "-o", "out/yolov8s-plain.yaml") == 0
    assert (here / "out/yolov8s-plain.yaml").read_bytes() == BASE.read_bytes()


@pytest.mark.integration
def test_one_row_is_a_row(here, capsys):
    """Also after spaces between numbers, and in the header that `remove` reads."""
    arguments = ["yolov8n.yaml", "--layer", "NAM", "-o"]
    assert run("insert", *arguments, "yolov8n-a.yaml", "--at", "backbone") == 0
    assert run("insert", *arguments, "yolov8n-b.yaml", "--at", "after:4, 6") == 0
    assert run("insert", "yolo12n.yaml", *arguments[1:], "yolo12n-c.yaml", "--at", "blocks:backbone") == 0
    assert run("remove", "yolov8n-a.yaml", "-o", "yolov8n-d.yaml") == 0
    lines = [
        "yolov8n-a.yaml: NAM as row 9",
        "yolov8n-b.yaml: NAM as rows 5, 8",
        "yolo12n-c.yaml: NAM inside rows 2, 4, 6, 8",
    ]
    assert capsys.readouterr().out.splitlines() == [*lines, "yolov8n-d.yaml: NAM removed from row 9"]
    assert "# Inserted NAM as row 9; yolo-attn remove" in (here / "yolov8n-a.yaml").read_text()
    assert (here / "yolov8n-d.yaml").read_bytes() == BASE.read_bytes()


@pytest.mark.integration
def test_script_is_the_same(here):
    arguments = ["yolo11n.yaml", "--layer", "NAM", "--at", "stages", "-o"]
    assert run("insert", *arguments, "yolo11n-a.yaml") == 0
    script("scripts/insert_attention.py", *arguments, "yolo11n-b.yaml", cwd=here)
    a, b = (here / f"yolo11n-{x}.yaml" for x in "ab")
    assert a.read_bytes().replace(b"yolo11n-a", b"yolo11n-b") == b.read_bytes()


@pytest.mark.integration
def test_the_users_file_keeps_its_line_breaks(here):
    text = BASE.read_bytes().replace(b"\n", b"\r\n").rstrip()
    (here / "mine.yaml").write_bytes(text)
    before = listing(here)
    assert run("insert", "mine.yaml", "--layer", "SE", "--at", "after:4,21", "-o", "mine-se.yaml") == 0
    assert (here / "mine-se.yaml").read_bytes().count(b"\n") == (here / "mine-se.yaml").read_bytes().count(b"\r\n")
    assert run("remove", "mine-se.yaml", "-o", "back.yaml") == 0
    assert (here / "back.yaml").read_bytes() == text
    assert [entry for entry in listing(here) if entry in before] == before


@pytest.mark.integration
def test_packaged_models_and_other_families_can_be_edited(here):
    assert run("insert", "yolov8n-gam.yaml", "--layer", "NAM", "--at", "backbone", "-o", "yolov8n-both.yaml") == 0
    kinds = [type(m).__name__ for m in YOLO("yolov8n-both.yaml").model.model]
    assert (kinds.count("GAM"), kinds.count("NAM")) == (3, 1)
    assert run("insert", "rtdetr-x.yaml", "--layer", "ECA", "--at", "blocks:backbone", "-o", "rtdetr-x-eca.yaml") == 0


def test_the_users_own_layer(here, monkeypatch):
    (here / "my_layer_file.py").write_text(USERS_LAYER.replace("Scale", "Scale2"))
    monkeypatch.syspath_prepend(here)
    arguments = ["--layer", "Scale2", "--at", "neck", "--import", "my_layer_file", "-o", "yolov8n-mine.yaml"]
    assert run("insert", "yolov8n.yaml", *arguments) == 0
    assert "--import my_layer_file" in (here / "yolov8n-mine.yaml").read_text().splitlines()[2]
    del LAYERS["Scale2"]


MISTAKES = {
    "gone.yaml": "gone.yaml: no such file, and no model that Ultralytics or yolo_attn knows",
    "yolov8n.pt": "yolov8n.pt: expected a model YAML, such as yolov8n.yaml",
    "list.yaml": "list.yaml: not a model YAML",
    "broken.yaml": "broken.yaml: not YAML",
    "bytes.yaml": "bytes.yaml: not readable as UTF-8 text",
    "folder.yaml": "folder.yaml: a folder, expected a plain file",
    "coco8.yaml": "coco8.yaml: not a model YAML",
    "yolov8n.yaml --layer GEM": "GEM: no such layer; did you mean GAM or EMA?",
    "yolov6n.yaml --at blocks": "--at blocks: found Conv, SPPF",
    "yolov8n.yaml --option ratio": "expected name=value, such as ratio=8, found 'ratio'",
    "yolov8n.yaml --option 'ratio=['": "'ratio=['",
    "yolov8n.yaml --option ration=8": "GAM has no option 'ration' (did you mean ratio",
    "yolov8n.yaml -o there.yaml": "-o there.yaml: it exists already; choose another name, or --force",
    "there.yaml -o there.yaml --force": "-o there.yaml: it is the file that is read",
    "there.yaml -o link.yaml --force": "-o link.yaml: it is the file that is read",
    "yolov5n.yaml -o yolov5.yaml --force": "-o yolov5.yaml: it is the file that is read",
    "yolov5n-ema.yaml -o yolov5.yaml --force": "-o yolov5.yaml: it is the file that is read",
    "yolov8n.yaml -o folder.yaml --force": "-o folder.yaml: it exists already",
    "yolov8n.yaml -o out.txt": "-o 'out.txt': expected the name of a YAML file",
    "yolov8n.yaml -o 'a\nb.yaml'": "-o 'a\\nb.yaml': expected the name of a YAML file",
    "yolov8n.yaml -o there.yaml/x.yaml": "-o there.yaml/x.yaml: there is no folder there.yaml",
    "yolov8n.yaml -o deep/er/new.yaml": "-o deep/er/new.yaml: there is no folder deep/er; create it first",
    "yolov8m.yaml -o mine.yaml": (
        "-o mine.yaml: Ultralytics finds no scale in this name and takes 'n', and the model's is 'm'"
    ),
    "yolov8m.yaml -o yolov8s-mine.yaml": "reads scale 's' off this name, and the model's is 'm'",
    "yolov8n.yaml --layer GAM --layer SE": "--layer: given more than once, GAM, SE",
    "yolov8n.yaml --at neck --at backbone": "--at: given more than once, neck, backbone",
    "yolov8n.yaml --option ratio=8 --option ratio=4": "--option ratio: given more than once, 8, 4",
    "yolov8n.yaml --at after:4,6,4": "--at after:4,6,4: row 4 is given more than once",
    "yolov8n-nam-blocks.yaml --at blocks:backbone": (
        "--at blocks:backbone: its blocks already have attention, in rows 2, 4, 6, 8; yolo-attn remove takes"
    ),
    "yolov8n-cls.yaml --at blocks:neck": (
        "--at blocks:neck: found no rows there; Classify, the head, follows the backbone directly"
    ),
    "yolov8n.yaml --layer SimAM --option e_lambda=1024": (
        "the constant σ(0.5) = 0.62; write [15, 1, SimAM, []] or [15, 1, SimAM, [{e_lambda: 0.0001}]]"
    ),
    "yolov8n.yaml extra": "'extra': unknown to insert",
    "yolov8n.yaml epochs=3": "'epochs=3': unknown to insert",
}
"""Arguments of `insert`, and the message; --layer, --at and -o have a right value unless given."""


@pytest.mark.parametrize("arguments", MISTAKES)
def test_insert_mistakes(here, refused, arguments):
    (here / "there.yaml").write_bytes(BASE.read_bytes())
    (here / "yolov5.yaml").write_bytes(BASE.read_bytes())
    (here / "link.yaml").symlink_to("there.yaml")
    (here / "list.yaml").write_text("- 1\n")
    (here / "broken.yaml").write_text("backbone: [")
    (here / "bytes.yaml").write_bytes(b"backbone: \xff")
    (here / "folder.yaml").mkdir()
    given = shlex.split(arguments)
    defaults = {"--layer": "GAM", "--at": "neck", "-o": "out.yaml"}
    more = [word for option in defaults.items() if option[0] not in given for word in option]
    assert MISTAKES[arguments] in refused("insert", *more, *given)


def test_remove_mistakes(refused):
    given = ["-o", "yolov8n-x.yaml"]
    assert refused("remove", "yolov8n.yaml", *given) == "yolov8n.yaml: found no attention layer in it"
    assert "'--layer': unknown to remove" in refused("remove", "yolov8n-gam.yaml", *given, "--layer", "GAM")


def test_force_overwrites(here, refused):
    (here / "yolov8n-x.yaml").write_text("old")
    arguments = ["insert", "yolov8n.yaml", "--layer", "SE", "--at", "neck", "-o", "yolov8n-x.yaml"]
    refused(*arguments)
    assert run(*arguments, "--force") == 0
    assert "SE" in (here / "yolov8n-x.yaml").read_text()


def test_help_lists_the_rule_of_each_place(capsys):
    with pytest.raises(SystemExit):
        run("insert", "--help")
    shown = capsys.readouterr().out
    assert "neck             a row for each map that feeds the head" in shown
    assert shown.count("consumers take the attended map") == 3
    assert "only the head takes the attended map" in shown
