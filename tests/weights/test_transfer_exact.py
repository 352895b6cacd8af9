"""Value by value: where each tensor of a base goes, in every family, task and place, and what is said of it."""

import copy
import os
import subprocess
import sys

import pytest
import torch
from families import FOLDER, FOLDER_VARIABLE, build, builds, inserted, load, rows, scales, swapped
from support import ROOT
from tiers import later
from torch import nn
from ultralytics.nn import tasks

from yolo_attn.errors import UserError
from yolo_attn.model.registry import LAYERS
from yolo_attn.safe.safetensors_file import write_weights
from yolo_attn.weights import transfer
from yolo_attn.weights.checkpoint_files import StateDict
from yolo_attn.weights.transfer import transfer_of

QUICK = ["yolov8", "yolo26", "yolov10n", "yolo11-seg", "yolov8-cls"]
MORE = ["yolov5", "yolov9t", "yolo11", "yolo12", "yolov8-pose", "yolo26-obb", "yolov8-rtdetr", "rtdetr-l"]
FAMILIES = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)]


def middle(model):
    return inserted(model, ["GAM"], ["NAM", "SimAM"])


def neck(model):
    """A row behind the last one of the neck for each map that the head takes."""
    *head, (sources, *last) = model["head"]
    first = len(model["backbone"]) + len(head)
    sources = [s + first if s < 0 else s for s in (sources if isinstance(sources, list) else [sources])]
    own = [[source, 1, "CBAM", [{"ratio": 2}]] for source in sources]
    at = [first + i for i in range(len(own))]
    return {**model, "head": [*head, *own, [at if len(at) > 1 else at[0], *last]]}


def blocks(model):
    return swapped(model, "NAM", where="out") if "A2C2f" in str(model) else swapped(model, "NAM")


def fill(model):
    """Every tensor gets values of its own, its batch norms' and counters too."""
    generator = torch.Generator().manual_seed(0)
    for number, value in enumerate(model.state_dict().values()):
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) + number)
        else:
            value.fill_(number)
    return model


def expected_keys(source, described):
    """The target's key of each of the source's, by counting the rows that are no attention."""
    ours = [index for index, row in enumerate(rows(described)) if row[2] not in LAYERS]
    for key in source.state_dict():
        _, row, rest = key.split(".", 2)
        yield key, f"model.{ours[int(row)]}.{rest}"


@pytest.mark.parametrize("put", [middle, neck, blocks])
@pytest.mark.parametrize("name", [*later(QUICK, ["yolov8"]), *FAMILIES[len(QUICK) :]])
def test_every_tensor_goes_to_its_row_and_to_no_other(name, put):
    if not builds(name):
        pytest.skip("this Ultralytics has no such model")
    base = load(name, scales(name)[0])
    described = put(copy.deepcopy(base))
    source, target = fill(build(name, base)), build(name, described)
    before = copy.deepcopy(target.state_dict())
    target.load(source, verbose=False)
    after, given = target.state_dict(), source.state_dict()
    assert after.keys() == before.keys()
    places = dict(expected_keys(source, described))
    for key, place in places.items():
        assert torch.equal(after[place], given[key]), (key, place)
    for key in after.keys() - set(places.values()):
        assert torch.equal(after[key], before[key]), key
    report = transfer_of(target)
    assert report.tensors == places
    assert (report.is_whole, report.left_out, report.missing) == (True, {}, [])
    assert sum(report.parameters.values()) == sum(p.numel() for p in source.parameters())
    news = [i for i, row in enumerate(rows(described)) if row[2] in LAYERS or row[2].endswith("_NAM")]
    assert report.new_attention == news


@pytest.mark.slow
def test_on_the_oldest(oldest):
    """There with the newest one's YAMLs, as far as it builds them."""
    paths = {"PYTHONPATH": f"{oldest}{os.pathsep}{ROOT}", FOLDER_VARIABLE: str(FOLDER)}
    chosen = "every_tensor and (yolov8 or yolov10n) or other_classes or sources"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "not slow", "-k", chosen, __file__]
    result = subprocess.run(command, cwd=ROOT, env={**os.environ, **paths}, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-3000:]
    assert "26 passed" in result.stdout


def attended(classes=80, put=neck):
    described = put(load("yolov8", "n"))
    described["yaml_file"] = "mine.yaml"
    return tasks.DetectionModel({**described, "nc": classes}, verbose=False)


def plain(classes=80, name="yolov8", scale="n"):
    return fill(tasks.DetectionModel({**load(name, scale), "nc": classes}, verbose=False))


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["checkpoint", "ema", "module", "tensors", "in parallel", "of YOLO"])
@pytest.mark.parametrize("put", [neck, blocks])
def test_sources(put, kind):
    """A checkpoint's content, a model, a state dict as trainers save it: the same transfer."""
    source = plain()
    tensors = source.state_dict()
    weights = {
        "checkpoint": {"model": source, "ema": None},
        "ema": {"model": None, "ema": source},
        "module": source,
        "tensors": tensors,
        "in parallel": {"state_dict": {f"module.{key}": value for key, value in tensors.items()}},
        "of YOLO": {f"model.{key}": value for key, value in tensors.items()},
    }[kind]
    target, reference = attended(put=put), attended(put=put)
    reference.load(source, verbose=False)
    target.load(weights, verbose=False)
    places = transfer_of(reference).tensors
    assert transfer_of(target).tensors == places
    assert all(torch.equal(target.state_dict()[place], tensors[key]) for key, place in places.items())
    assert transfer_of(target).new_attention == transfer_of(reference).new_attention


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_sources_in_files(suffix, tmp_path):
    """By Ultralytics' own loader, which plain Python and trainers call."""
    source, file = plain(), tmp_path / f"weights{suffix}"
    source.names, source.task, source.args = {i: str(i) for i in range(80)}, "detect", {"imgsz": 64}
    if suffix == ".safetensors":
        write_weights(source, file)
    else:
        torch.save(source.state_dict(), file)
    loader = getattr(tasks, "load_checkpoint", None) or tasks.attempt_load_one_weight
    weights, _ = loader(file)
    assert isinstance(weights, StateDict) == (suffix != ".safetensors")
    target = attended()
    target.load(weights, verbose=False)
    assert transfer_of(target).is_whole
    assert None not in transfer_of(target).tensors.values()
    assert str(file) in transfer_of(target).line()
    if suffix != ".safetensors":
        with pytest.raises(UserError, match="a state dict, without its model YAML"):
            _ = weights.task


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["module", "tensors"])
def test_other_classes_rebuild_the_head_and_are_reported(kind):
    source, target = plain(80), attended(5)
    target.load(source if kind == "module" else source.state_dict(), verbose=False)
    report = transfer_of(target)
    assert "head rebuilt for 5 classes, the checkpoint has 80" in report.line()
    lost = {key for key, place in report.tensors.items() if place is None}
    assert lost
    assert all(key.startswith("model.22.cv3.") for key in lost)
    assert all(torch.equal(target.state_dict()[p], source.state_dict()[k]) for k, p in report.tensors.items() if p)
    assert target.state_dict()["model.25.cv3.0.2.weight"].shape[0] == 5


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (lambda: plain(scale="s"), "yolov8.yaml does not fit mine.yaml: scale s, expected n; 45 of its"),
        (
            lambda: plain(name="yolo11"),
            "yolo11.yaml does not fit mine.yaml: another family, it has C3k2 in row 2 where the model has C2f in row 2",
        ),
        (lambda: build("yolov8-seg", load("yolov8-seg", "n")), "another task, its head is Segment, expected Detect"),
        (lambda: plain(scale="s").state_dict(), "a state dict does not fit mine.yaml: other widths; 45 of its"),
        (lambda: build("yolov8", neck(load("yolov8", "s"))).state_dict(), "mine.yaml: other widths"),
        (lambda: plain(name="yolo11").state_dict(), "another family, it has 24 rows, expected 23 or 26"),
        (lambda: build("yolo11", neck(load("yolo11", "n"))).state_dict(), "another family, it has 27 rows, expected"),
        (lambda: plain(name="yolov8-p6").state_dict(), "another family, it has 31 rows, expected 23 or 26"),
        (
            lambda: build("yolov8-seg", load("yolov8-seg", "n")).state_dict(),
            "another task, its head has other tensors than Detect",
        ),
    ],
)
def test_other_models_are_refused_and_change_nothing(source, message):
    target = attended()
    before = copy.deepcopy(target.state_dict())
    with pytest.raises(UserError, match=message) as refused:
        target.load(source(), verbose=False)
    assert "\n" not in str(refused.value)
    assert all(torch.equal(before[key], value) for key, value in target.state_dict().items())
    assert transfer_of(target) is None


def test_a_head_of_another_version_of_ultralytics(monkeypatch):
    """yolov8's head was built of other convolutions for a while: the rest is taken, and the line is a warning."""
    source, target = plain(), attended()
    own = source.model[-1]
    monkeypatch.setattr(type(own), "legacy", not own.legacy)
    other = type(own)(80, ch=[branch[0].conv.in_channels for branch in own.cv2])
    other.i, other.f, other.type, source.model[-1] = own.i, own.f, own.type, other
    warnings = []
    monkeypatch.setattr(transfer.LOGGER, "warning", warnings.append)
    target.load(fill(source))
    report = transfer_of(target)
    lost = {key for key, place in report.tensors.items() if place is None}
    assert lost
    assert all(key.startswith("model.22.cv3.") for key in lost)
    assert not report.is_whole
    assert warnings == [report.line()]


@pytest.mark.integration
@pytest.mark.parametrize(
    "source", [lambda: plain(scale="s"), lambda: plain(name="yolo11"), lambda: nn.Sequential(nn.Linear(2, 2))]
)
def test_models_without_attention_stay_ultralytics_own(source):
    """What is refused for a model with attention, its own `load` takes as far as names and shapes fit."""
    torch.manual_seed(0)
    target, expected = (tasks.DetectionModel(load("yolov8", "n"), verbose=False) for _ in range(2))
    before, source = copy.deepcopy(target.state_dict()), source()
    expected.load_state_dict(before)
    target.load(source, verbose=False)
    tasks.BaseModel.load.__wrapped__(expected, source, verbose=False)
    assert all(torch.equal(value, expected.state_dict()[key]) for key, value in target.state_dict().items())
    changed = [key for key, value in target.state_dict().items() if not torch.equal(value, before[key])]
    assert bool(changed) == hasattr(source, "yaml")


def test_line_and_table():
    """Parameters and tensors add up; a row that the target lacks is reported."""
    target = attended(put=blocks)
    source = fill(attended(put=middle))
    target.load(source, verbose=False)
    report = transfer_of(target)
    assert "23 rows matched (8 with new attention inside), 0 inserted; 355 of 355 tensors (100%)" in report.line()
    dropped = "; the checkpoint's attention in rows 6, 17, 18, which the model lacks there, is dropped"
    assert report.line().endswith(dropped)
    table = report.as_rows()
    assert [row["row"] for row in table] == [*range(23), None, None, None]
    assert [row["layer"] for row in table[23:]] == ["GAM", "NAM", "SimAM"]
    assert sum(row["of_tensors"] for row in table) == len(source.state_dict())
    assert sum(row["of_parameters"] for row in table) == sum(p.numel() for p in source.parameters())
    assert len(report.table().splitlines()) == 1 + 26
    reported = report.as_json()
    assert reported["rows"] == {"matched": 23, "inserted": [], "missing": report.missing}
    assert reported["tensors"] == {"transferred": 355, "of": 355}
    assert reported["left_out"] == {"rows": report.missing, "tensors": len(source.state_dict()) - 355}


def test_two_transfers_are_reported_as_one():
    """As `YOLO(yaml).load(...)` and the training behind it do, the second time with the data's classes."""
    first, second = attended(), attended(5)
    source = plain()
    first.load(source, verbose=False)
    second.load(first, verbose=False)
    report = transfer_of(second)
    assert report.classes == (80, 5)
    assert report.inserted == report.new_attention == [22, 23, 24]
    assert report.tensors.keys() == source.state_dict().keys()
    assert {row["from"] for row in report.as_rows()[22:25]} == {None}
