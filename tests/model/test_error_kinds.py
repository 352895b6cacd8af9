"""What wraps a function of Ultralytics' raises what Ultralytics raises, in one line of our own."""

import copy
import pickle
import subprocess
from collections import OrderedDict

import pytest
import torch
from torch import nn
from ultralytics import YOLO
from ultralytics.nn import tasks

import yolo_attn
from yolo_attn.engine.preflight.checks import read_checkpoint
from yolo_attn.errors import RunError, UserError, like
from yolo_attn.model import parser

LOADER = "load_checkpoint" if hasattr(tasks, "load_checkpoint") else "attempt_load_one_weight"


def saved(content):
    def load(folder):
        torch.save(content, folder / "weights.pt")
        getattr(tasks, LOADER)(folder / "weights.pt")

    return load


def load_file(name, content=None):
    def load(folder):
        if content is not None:
            (folder / name).write_bytes(content)
        getattr(tasks, LOADER)(folder / name)

    return load


def row(*items, at=4):
    def build(_):
        d = tasks.yaml_model_load("yolov8n.yaml")
        d["backbone"][at] = items[0] if len(items) == 1 else list(items)
        tasks.DetectionModel(d, verbose=False)

    return build


ONE = torch.zeros(1)
CASES = {
    "state dict under model": saved({"model": OrderedDict(a=ONE)}),
    "dict under model": saved({"model": {"a": ONE}}),
    "state dict": saved(OrderedDict(a=ONE)),
    "hostile names": saved({"model.99999999.a": ONE}),
    "folder": load_file(""),
    "other suffix": load_file("my.yaml", b"nc: 1"),
    "missing checkpoint": load_file("gone.pt"),
    "empty checkpoint": load_file("empty.pt", b""),
    "text as checkpoint": load_file("text.pt", b"no pickle"),
    "missing model": lambda _: YOLO("yolov8n-no-such.yaml"),
    "unknown layer": row(-1, 1, "Zebra", []),
    "unknown variant": row(-1, 1, "Conv_Zebra", []),
    "unknown layer of torch": row(-1, 1, "nn.Zebra", []),
    "later source": row(99, 1, "Conv", [64, 1]),
    "earliest source": row(-6, 1, "Conv", [64, 1]),
    "one of two sources": row([-1, 9], 1, "Concat", [1]),
    "two items": row(-1, 1),
    "five items": row(-1, 1, "Conv", [64, 1], 5),
    "number as row": row(7),
    "weights without a model": lambda _: tasks.DetectionModel("yolov8n.yaml", verbose=False).load({"epoch": 1}),
}


def raised(call, folder):
    try:
        call(folder)
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize("case", CASES)
def test_the_kind_is_that_of_ultralytics_without_us(case, tmp_path):
    yolo_attn.unregister()
    try:
        own = raised(CASES[case], tmp_path)
    finally:
        yolo_attn.register()
    ours = raised(CASES[case], tmp_path)
    assert own is not None
    assert isinstance(ours, type(own)), (repr(own), repr(ours))
    assert "\n" not in str(ours) or type(ours) is type(own)


@pytest.mark.parametrize(("name", "arguments"), [("C2f_GAM", ["many"]), ("C3_NAM", [64, 1, 2, 3, 4, 5, 6, 7])])
def test_wrong_arguments_of_a_block_are_of_the_kind_that_the_block_raises(name, arguments, tmp_path):
    own = raised(row(-1, 3, name.partition("_")[0], arguments), tmp_path)
    ours = raised(row(-1, 3, name, arguments), tmp_path)
    assert isinstance(ours, UserError)
    assert isinstance(ours, type(own))
    assert str(ours).startswith("yolov8n.yaml, row 4: ")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("gone.pt", FileNotFoundError), ("model.onnx", AssertionError), ("text.pt", Exception), ("", Exception)],
)
def test_checkpoints_that_the_engine_reads(name, kind, tmp_path):
    for file in ("model.onnx", "text.pt"):
        (tmp_path / file).write_text("no pickle")
    with pytest.raises(UserError, match=r"^pretrained ") as refused:
        read_checkpoint(str(tmp_path / name), "pretrained")
    assert isinstance(refused.value, kind)


class Boost(nn.Identity):
    pass


def test_layers_that_register_inside_the_parser_are_the_parsers_to_judge(monkeypatch):
    """As packages do that edit Ultralytics' files: before the parser runs, nobody knows their names."""
    own = tasks.parse_model.__wrapped__

    def edited(d, ch, verbose=True):
        monkeypatch.setattr(tasks, "Boost", Boost, raising=False)
        return own(d, ch, verbose)

    d = tasks.yaml_model_load("yolov8n.yaml")
    d["backbone"][4:5] = [[-1, 1, "Boost", []]]
    for attention in (None, [-1, 1, "GAM", []]):
        if attention:
            d["backbone"][6] = attention
        layers, _ = parser.parse_model(edited, copy.deepcopy(d), 3, False)
        assert type(layers[4]) is Boost
        monkeypatch.delattr(tasks, "Boost")


@pytest.mark.parametrize("at", [2, 8])
@pytest.mark.parametrize("attention", [None, "GAM"])
def test_an_unknown_name_is_reported_with_its_row_around_attention_too(at, attention):
    d = tasks.yaml_model_load("yolov8n.yaml")
    d["backbone"][4] = [-1, 1, attention or "Conv", [] if attention else [64, 1]]
    d["backbone"][at] = [-1, 1, "Zebra", []]
    with pytest.raises(KeyError) as refused:
        tasks.DetectionModel(d, verbose=False)
    assert str(refused.value).startswith(f"yolov8n.yaml, row {at}: unknown layer 'Zebra'; ")
    assert isinstance(refused.value.__cause__, KeyError)


ERRORS = [
    KeyError("a"),
    TypeError("a"),
    FileNotFoundError(2, "No such file", "a.pt"),
    AssertionError(),
    SyntaxError("a"),
    NotImplementedError(),
    subprocess.CalledProcessError(3, "command"),
    UserError("a"),
]


@pytest.mark.parametrize("ours", [UserError("what was found"), RunError("disk full", "go on so")], ids=["user", "run"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_of_both_kinds(error, ours):
    both = like(error, ours)
    for each in (both, pickle.loads(pickle.dumps(both))):
        assert isinstance(each, type(error))
        assert isinstance(each, type(ours))
        assert str(each) == str(ours)
        assert each.exit_code == ours.exit_code
        assert getattr(each, "reason", None) == getattr(ours, "reason", None)
        for name in ("errno", "strerror", "filename", "returncode"):
            assert getattr(each, name, None) == getattr(error, name, None)
