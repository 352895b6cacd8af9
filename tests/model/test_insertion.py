"""Attention put into Ultralytics' own models: nothing of them changes beside it."""

import random

import families
import pytest
import torch
from support import USERS_LAYER
from test_family_matrix import LARGE
from tiers import later
from ultralytics.nn import tasks

from yolo_attn.errors import UserError
from yolo_attn.model import graph
from yolo_attn.model.insertion import describe, insert, remove
from yolo_attn.model.registry import LAYERS
from yolo_attn.model.shapes import check_same, measure
from yolo_attn.yaml_edit import with_header

PLACES = ("neck", "backbone", "stages", "blocks")
LACKING = {("yolov6", "blocks"), ("yolov3-tiny", "blocks"), ("yolo11-cls-resnet18", "blocks")}
ZOO = [name for name in families.YAMLS if families.builds(name)]
SMALL = ["yolo11-seg", "yolov9t", "yolov10n", "yolov5-p6", "yolov8-cls", "yolov8-world", "yolov3-tiny", "yolo26"]
SMALL = [name for name in SMALL if name in ZOO]


@pytest.fixture(autouse=True)
def silent(monkeypatch):
    """Nothing about the wiring is reported of what is inserted, nor of what it is inserted into."""
    lines = []
    monkeypatch.setattr(graph, "_warn_once", lines.append)
    yield
    assert lines == []


def text_of(name):
    """The YAML; torchvision's pretrained weights, which would be downloaded, are skipped."""
    return families.YAMLS[name].read_bytes().decode().replace("DEFAULT", "null")


def places(name, seed):
    """Every named place that the model has, and random rows."""
    rows = len(families.rows(families.load(name, ""))) - 1
    some = random.Random(f"{seed} {name}").sample(range(rows), min(3, rows))
    takes_map = [i for i in some if not makes_no_map(name, i)]
    named = [place for place in PLACES if (name, place) not in LACKING]
    return [*named, *([f"after:{','.join(map(str, takes_map))}"] if takes_map else [])]


def makes_no_map(name, row):
    return families.rows(families.load(name, ""))[row][2] in ("CBLinear", "ImagePoolingAttn")


def build(text, name, scale):
    torch.manual_seed(0)
    model = getattr(tasks, families.HEADS[families.head(name)][1])(describe(text, f"{name}.yaml", scale), verbose=False)
    return model.eval()


def check_identity(name, layer, place):
    """With the attention's place taken by an identity, the outputs are the base's bit for bit."""
    scale = families.scales(name)[0]
    text = text_of(name)
    edited = insert(text, name, layer, place, None, scale)
    base, model = build(text, name, scale), build(edited.text, name, scale)
    number = dict(zip(map(str, range(len(edited.places))), map(str, edited.places), strict=True))
    renamed = {f"model.{number[k.split('.')[1]]}.{k.split('.', 2)[2]}": v for k, v in base.state_dict().items()}
    missing, unexpected = model.load_state_dict(renamed, strict=False)
    assert not unexpected
    rows = {str(row) for row in edited.record.rows}
    assert all(key.split(".")[1] in rows for key in missing)
    attention = [m for m in model.modules() if isinstance(m, LAYERS[layer])]
    assert len(attention) >= len(rows)
    for m in attention:
        m.forward = lambda x: x
    size = 128 if "rtdetr" in name else 64
    x = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        for mine, theirs in zip(tensors(model(x)), tensors(base(x)), strict=True):
            assert torch.equal(mine, theirs)
    check_inverse(name, text, edited, scale)


def check_inverse(name, text, edited, scale):
    back = remove(with_header(edited, name, "train"), name, scale)
    assert back.text == text
    assert list(back.places) == list(edited.places)


def tensors(output):
    if isinstance(output, torch.Tensor):
        yield output
    elif output is not None:
        for part in output.values() if isinstance(output, dict) else output:
            yield from tensors(part)


@pytest.mark.parametrize("name", later(SMALL, ["yolov5-p6", "yolov8-cls", "yolov3-tiny"]))
def test_identity_in_its_place_is_the_base(name):
    place = random.Random(name).choice(places(name, 0))
    check_identity(name, "SE", place)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ZOO if name not in LARGE])
def test_identity_in_every_place_is_the_base(name):
    for place in places(name, 2):
        check_identity(name, random.Random(f"{name} {place}").choice(["SimAM", "NAM", "ECA", "SE"]), place)


@pytest.mark.parametrize("place", PLACES)
def test_every_place_of_yolov8_is_the_base(place):
    check_identity("yolov8", "NAM", place)


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_every_model_takes_attention_in_every_place(name):
    for place in places(name, 1):
        edited = insert(text_of(name), name, "SimAM", place, None, families.scales(name)[0])
        check_inverse(name, text_of(name), edited, families.scales(name)[0])


def test_levels_and_stages_are_measured():
    edited = insert(text_of("yolov5-p6"), "yolov5-p6.yaml", "SimAM", "stages", None, "n")
    rows = [line.strip() for line in edited.text.splitlines() if "SimAM" in line]
    assert rows == [f"- [-1, 1, SimAM, []] # {i}, P{p}" for i, p in ((3, 2), (6, 3), (9, 4), (12, 5), (15, 6))]


@pytest.mark.integration
def test_insertions_upon_insertions():
    text = text_of("yolov8")
    first = insert(text, "a", "GAM", "neck", {"ratio": 8}, "n")
    second = insert(first.text, "a", "NAM", "stages", {"spatial": True}, "n")
    third = insert(second.text, "a", "SimAM", "blocks:neck", {"where": "pre_bn"}, "n")
    model = build(third.text, "yolov8", "n")
    kinds = [type(m).__name__ for m in model.model]
    assert (kinds.count("GAM"), kinds.count("NAM")) == (3, 4)
    assert sum(type(m).__name__ == "SimAM" for m in model.modules()) == 4
    assert remove(third.text, "a", "n").text == text


@pytest.mark.integration
@pytest.mark.parametrize(
    ("layer", "place", "options"),
    [("NAM", "neck", {"gain": 2}), ("SimAM", "blocks", {"where": "pre_bn", "gain": 1.5}), ("SE", "backbone", {})],
)
def test_gains_in_rows_stay_as_they_are(layer, place, options):
    """Those of attention that is there, those that are put in, and all of them go with their rows."""
    text = insert(text_of("yolov8"), "a", "GAM", "neck", None, "n").text.replace("GAM, []", "GAM, [{gain: 4}]")
    edited = insert(text, "a", layer, place, options, "n")
    model = build(edited.text, "yolov8", "n")
    gains = {m.gain for m in model.modules() if isinstance(m, LAYERS[layer])}
    assert gains == {options.get("gain", 1.0)}
    assert [m.gain for m in model.model if isinstance(m, LAYERS["GAM"])] == [4, 4, 4]
    check_inverse("a", text, edited, "n")
    bare = remove(edited.text, "a", "n").text
    assert "gain" not in bare
    assert not [m for m in build(bare, "yolov8", "n").modules() if isinstance(m, tuple(LAYERS.values()))]


@pytest.mark.parametrize(
    ("layer", "place", "options", "reported"),
    [
        ("C2f", "neck", {}, "C2f: no such layer; attention layers are"),
        ("GAM", "neck", {"ratio": 5}, "row 22: "),
        ("GAM", "neck", {"where": "out"}, "row 22: GAM has no option 'where'"),
        ("GAM", "blocks", {"where": "in"}, "row 2: found where: in, expected end or pre_bn or out"),
        ("GAM", "after:11", {"ratio": 0}, "row 12: "),
    ],
)
def test_refused(layer, place, options, reported):
    with pytest.raises(UserError) as error:
        insert(text_of("yolov8"), "yolov8n.yaml", layer, place, options, "n")
    assert reported in str(error.value)


@pytest.mark.integration
def test_rows_without_one_map_take_none():
    with pytest.raises(UserError, match=r"yolov9e with SE at after:13, row 14"):
        insert(text_of("yolov9e"), "yolov9e", "SE", "after:13")


def test_model_that_does_not_build_is_reported():
    with pytest.raises(UserError, match=r"^bad.yaml: not a model that Ultralytics can build: "):
        insert(text_of("yolov8").replace("SPPF, [1024, 5]", "SPPF, [x, 5]"), "bad.yaml", "SE", "neck", None, "n")


def test_a_row_that_would_make_something_else_is_seen():
    text = text_of("yolov8")
    wrong = text.replace("SPPF, [1024, 5]", "SPPF, [512, 5]")
    plain, other = (measure(describe(t, "a.yaml", "n")) for t in (text, wrong))
    with pytest.raises(
        UserError, match=r"a.yaml: row 9 would no longer make the same: SPPF made \(\(1, 256, 20, 20\),\)"
    ):
        check_same("a.yaml", plain, other, range(23))


def test_users_own_layer(tmp_path, monkeypatch):
    """It runs on the meta device as an identity: it may need a GPU."""
    (tmp_path / "my_own_layers.py").write_text(USERS_LAYER.replace("Scale", "OwnScale"))
    monkeypatch.syspath_prepend(tmp_path)
    __import__("my_own_layers")
    edited = insert(text_of("yolov8"), "a.yaml", "ownscale", "neck", {"start": 0.5}, "n")
    assert "[15, 1, OwnScale, [{start: 0.5}]]" in edited.text
    check_inverse("a.yaml", text_of("yolov8"), edited, "n")
    del LAYERS["OwnScale"]
