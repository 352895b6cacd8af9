"""Pretrained weights: each tensor of the base finds its own row in a model with attention."""

import logging
import re

import pytest
import torch
from families import swapped
from support import randomise, with_rows
from torch import nn
from ultralytics import YOLO
from ultralytics.nn import tasks
from ultralytics.nn.tasks import ClassificationModel, DetectionModel, yaml_model_load

from yolo_attn.errors import UserError
from yolo_attn.layers import CBAM, GAM, NAM, SimAM
from yolo_attn.weights.matching import match_rows
from yolo_attn.weights.transfer import transfer_of

ATTENTION = (CBAM, GAM, NAM, SimAM)
C2F = [2, 4, 6, 8, 12, 15, 18, 21]
"""Rows of yolov8's blocks that can have attention inside."""


def described(base, layer=None, after=(), blocks=False):
    """The rows of `base` with `layer` behind some of them, or attention inside its blocks."""
    d = yaml_model_load(base)
    for row in sorted(after, reverse=True):
        d = with_rows(d, row + 1, [-1, 1, layer, []])
    return swapped(d, "NAM") if blocks else d


def outputs(model, x):
    with torch.inference_mode():
        found = model.eval()(x)
    while not isinstance(found, torch.Tensor):
        found = found[0]
    return found


@pytest.mark.integration
@pytest.mark.trap(2)
@pytest.mark.parametrize("base", ["yolov5n.yaml", "yolov8n.yaml", "yolo11n.yaml"])
@pytest.mark.parametrize(
    ("layer", "after", "blocks"),
    [
        ("GAM", (4,), False),
        ("NAM", (2, 4, 6), False),
        ("CBAM", (12, 15, 18), False),
        ("SimAM", (4, 8, 12), False),
        (None, (), True),
    ],
)
def test_identity_attention_gives_the_base(base, layer, after, blocks):
    source = randomise(DetectionModel(base, verbose=False))
    target = DetectionModel(described(base, layer, after, blocks), verbose=False)
    target.load(source, verbose=False)
    ours = dict(target.named_parameters())
    kept = {p.data_ptr() for p in ours.values()}
    assert len(kept) == len(ours)
    for m in target.modules():
        if isinstance(m, ATTENTION):
            m.forward = lambda x: x
    x = torch.rand(1, 3, 64, 96)
    assert torch.equal(outputs(target, x), outputs(source, x))


def test_packaged_necks_keep_every_tensor_and_give_it_back():
    """Into the attended model, and from it into the base again, through YOLO(...).load."""
    base = randomise(DetectionModel("yolov8n.yaml", verbose=False))
    attended = YOLO("yolov8n-gam.yaml").load(base)
    again = DetectionModel("yolov8n.yaml", verbose=False)
    again.load({"model": attended.model}, verbose=False)
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(outputs(again, x), outputs(base, x))


def test_attention_follows_too():
    source = randomise(DetectionModel(described("yolov8n.yaml", "GAM", (4,)), verbose=False))
    target = DetectionModel(described("yolov8n.yaml", "GAM", (2, 4)), verbose=False)
    target.load(source, verbose=False)
    assert isinstance(source.model[5], GAM)
    for key, value in target.model[6].state_dict().items():
        assert torch.equal(value, source.model[5].state_dict()[key])


def test_attention_follows_the_map_that_it_takes():
    """One layer on P5 is the third of a neck, though it is the first of its name."""
    d = yaml_model_load("yolov8n.yaml")
    d["head"][-1:] = [[21, 1, "TripletAttention", []], [[15, 18, 22], 1, "Detect", ["nc"]]]
    source = randomise(DetectionModel(d, verbose=False))
    target = DetectionModel("yolov8n-triplet.yaml", verbose=False)
    before = {k: v.clone() for k, v in target.model[22].state_dict().items()}
    target.load(source, verbose=False)
    assert all(torch.equal(v, before[k]) for k, v in target.model[22].state_dict().items())
    theirs = source.model[22].state_dict()
    assert all(torch.equal(v, theirs[k]) for k, v in target.model[24].state_dict().items())
    assert transfer_of(target).new_attention == [22, 23]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("yolov8n-nam-blocks.yaml", "yolov8n-gam.yaml"),
        ("yolov8n-cbam-blocks.yaml", "yolov8n.yaml"),
        ("yolov8n-cbam-blocks.yaml", "yolov8n-bam-blocks.yaml"),
        ("yolov8n-gam-blocks.yaml", "yolov8n-nam-blocks.yaml"),
    ],
)
def test_attention_inside_blocks_stays_behind_where_the_target_has_other(name, target):
    """Names that two kinds of attention share, such as fc2.bias, mean nothing."""
    source = randomise(DetectionModel(name, verbose=False))
    model = DetectionModel(target, verbose=False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.load(source, verbose=False)
    base = set(DetectionModel("yolov8n.yaml", verbose=False).state_dict())
    taken = transfer_of(model)
    assert {key for key, place in taken.tensors.items() if place} == base
    assert taken.is_whole
    assert "355 of 355 tensors (100%) and 3,157,200 of 3,157,200 parameters (100%) transferred" in taken.line()
    assert f"the checkpoint's attention in rows {', '.join(map(str, C2F))}, which the model lacks" in taken.line()
    state = source.state_dict()
    for key, place in taken.tensors.items():
        assert place is None or torch.equal(model.state_dict()[place], state[key])
    for key in set(before) - taken.taken:
        assert torch.equal(model.state_dict()[key], before[key]), key


def elsewhere(where, **options):
    """yolov8n with NAM at a place of each block."""
    return DetectionModel(swapped(yaml_model_load("yolov8n.yaml"), "NAM", where=where, **options), verbose=False)


@pytest.mark.integration
def test_the_same_layer_elsewhere_in_its_block_is_other_attention():
    """The names are the same: the base's tensors are taken, attention starts anew, gain included, a line says so."""
    source, model = randomise(elsewhere("end", gain=2.0)), elsewhere("pre_bn")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert before.keys() == source.state_dict().keys()
    model.load(source, verbose=False)
    report = transfer_of(model)
    assert report.new_attention == C2F
    assert report.taken == set(DetectionModel("yolov8n.yaml", verbose=False).state_dict())
    assert "23 rows matched (8 with new attention inside)" in report.line()
    for key, value in model.state_dict().items():
        assert torch.equal(value, (source.state_dict() if key in report.taken else before)[key]), key
    assert {m.gain for m in model.modules() if isinstance(m, NAM)} == {1.0}
    again = elsewhere("end")  # by way of the other place, too
    again.load(model, verbose=False)
    assert transfer_of(again).new_attention == report.new_attention


def test_the_place_is_the_same_where_it_is_named_or_not():
    source = randomise(elsewhere("end", gain=2.0))
    model = DetectionModel("yolov8n-nam-blocks.yaml", verbose=False)
    model.load(source, verbose=False)
    assert transfer_of(model).new_attention == []
    assert {m.gain for m in model.modules() if isinstance(m, NAM)} == {2.0}


def gam(name, **options):
    """A model whose GAM has options."""
    d = tasks.yaml_model_load(name)
    for row in (*d["backbone"], *d["head"]):
        if "GAM" in row[2]:
            row[3] = [*row[3], options]
    return DetectionModel(d, verbose=False)


@pytest.mark.parametrize(("name", "rows"), [("yolov8n-gam.yaml", [22, 23, 24]), ("yolov8n-gam-blocks.yaml", C2F)])
@pytest.mark.parametrize("as_tensors", [False, True])
def test_attention_of_other_shapes_is_new_as_a_whole(name, rows, as_tensors):
    """Those of its tensors that would fit are not taken, nor its gain, and the line tells it."""
    source, model = randomise(gam(name, ratio=4, gain=2.0)), gam(name, ratio=8)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.load(source.state_dict() if as_tensors else source, verbose=False)
    report = transfer_of(model)
    assert report.new_attention == list(report.left_out) == rows
    assert len(report.taken) == len(DetectionModel("yolov8n.yaml", verbose=False).state_dict())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items() if k not in report.taken)
    assert {m.gain for m in model.modules() if isinstance(m, GAM)} == {1.0}
    assert f"the checkpoint's attention in rows {', '.join(map(str, rows))}, which" in report.line()
    assert report.is_whole


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "target"), [("yolo11m.yaml", "yolo11l-nam.yaml"), ("yolo11l.yaml", "yolo11m-nam.yaml")]
)
def test_scales_that_differ_in_depth_alone_are_reported_apart(name, target):
    source, model = (DetectionModel(each, verbose=False) for each in (name, target))
    with pytest.raises(UserError, match=f"scale {name[6]}, expected {target[6]}"):
        model.load(source, verbose=False)


def test_other_families_are_left_to_ultralytics():
    plain, other, attended, gam, two = (
        [[-1, 1, name, []] for name in names.split()]
        for names in ("Conv C2f Detect", "Conv C3k2 Detect", "Conv C2f_NAM GAM Detect", "GAM Conv", "NAM GAM Conv")
    )
    assert match_rows(plain, other) is None
    assert match_rows(plain, attended) == {0: 0, 1: 1, 2: 3}
    assert match_rows(gam, two) == {0: 1, 1: 2}
    target = DetectionModel("yolov8n-gam.yaml", verbose=False)
    before = {k: v.clone() for k, v in target.state_dict().items()}
    target.load(nn.Sequential(nn.Linear(2, 2)), verbose=False)
    assert all(torch.equal(before[k], v) for k, v in target.state_dict().items())


def test_source_stays_as_it_is():
    source = DetectionModel("yolov8n.yaml", verbose=False)
    names = list(source.state_dict())
    DetectionModel("yolov8n-gam.yaml", verbose=False).load(source, verbose=False)
    assert list(source.state_dict()) == names
    assert [m.i for m in source.model] == list(range(len(source.model)))


@pytest.mark.integration
def test_one_line_for_one_transfer(caplog, monkeypatch):
    """Ultralytics' own count stays where nothing of ours is said; taking attention out is no warning."""
    monkeypatch.setattr(logging.getLogger("ultralytics"), "handlers", [caplog.handler])
    base, attended = (DetectionModel(name, verbose=False) for name in ("yolov8n.yaml", "yolov8n-gam.yaml"))
    for source, target in ((base, "yolov8n-gam.yaml"), (attended, "yolov8n.yaml"), (attended, "yolov8n-nam.yaml")):
        caplog.clear()
        model = DetectionModel(target, verbose=False)
        caplog.clear()
        model.load(source)
        ((level, message),) = [record[1:] for record in caplog.record_tuples]
        assert (level, message) == (logging.INFO, transfer_of(model).line())
        assert "355 of 355 tensors (100%) and 3,157,200 of 3,157,200 parameters (100%) transferred" in message
        assert ("the checkpoint's attention in rows 22, 23, 24" in message) == (source is attended)
    caplog.clear()
    DetectionModel("yolov8n.yaml", verbose=False).load(base)
    assert "Transferred 355/355 items" in caplog.messages[-1]


def test_a_head_of_other_classes_is_no_warning(caplog, monkeypatch):
    """Though a classifier's holds a third of its parameters; shares of both stand behind their numbers."""
    monkeypatch.setattr(logging.getLogger("ultralytics"), "handlers", [caplog.handler])
    source = ClassificationModel("yolov8n-cls.yaml", nc=1000, verbose=False)
    model = ClassificationModel("yolov8n-cls-nam.yaml", nc=2, verbose=False)
    caplog.clear()
    model.load(source)
    ((level, message),) = [record[1:] for record in caplog.record_tuples]
    assert level == logging.INFO
    assert re.search(r"(\d+) of (\d+) tensors \(98\.\d%\) and [\d,]+ of [\d,]+ parameters \(5\d\.\d%\)", message)
    assert "head rebuilt for 2 classes, the checkpoint has 1000" in message
