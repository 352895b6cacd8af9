"""Model YAMLs from strangers: nothing that they name is run, and none can make a command wait."""

import itertools
import os
import signal
from pathlib import Path

import pytest
import torch
from ultralytics import YOLO
from ultralytics.utils.checks import check_yaml

from yolo_attn.cli import main
from yolo_attn.errors import LONGEST_LINE

BASE = Path(check_yaml("yolov8.yaml")).read_text()
SPPF = "[-1, 1, SPPF, [1024, 5]]"

EDITS = {
    "insert": ["insert", "yolov8n-x.yaml", "--layer", "NAM", "--at", "neck", "-o", "yolov8n-out.yaml"],
    "inside": ["insert", "yolov8n-x.yaml", "--layer", "NAM", "--at", "blocks", "-o", "yolov8n-out.yaml"],
    "remove": ["remove", "yolov8n-x.yaml", "-o", "yolov8n-out.yaml"],
    "migrate": ["migrate", "yolov8n-x.yaml", "-o", "yolov8n-out.yaml"],
    "name": ["insert", "yolov8n-x-nam.yaml", "--layer", "SE", "--at", "neck", "-o", "yolov8n-out.yaml"],
}
"""Commands that edit text; the last one reads a name that means the file with attention inserted."""

BUILDS = {
    "train": ["train", "--cfg", "yolov8n-x.yaml", "--data", "nothing"],
    "compare": ["compare", "--base", "yolov8n-x.yaml", "--layers", "NAM", "--data", "nothing"],
    "show": ["show", "yolov8n-x.yaml"],
}
"""Commands that build a model, to train it or to run an image through it."""

COMMANDS = EDITS | BUILDS

FIRST = {"insert", "migrate", "train"}
"""Commands that the first tier tries the largest YAMLs with."""

SECONDS = 60
"""Limit of CPU time; that of waiting is longer, since other processes run too."""

WAITED = 300


@pytest.fixture(autouse=True)
def no_waiting():
    """Fail a test that waits or works without end."""

    def interrupt(*_):
        pytest.fail("it did not end")  # which no `except Exception` catches

    signals = {signal.SIGALRM: (signal.ITIMER_REAL, WAITED), signal.SIGPROF: (signal.ITIMER_PROF, SECONDS)}
    before = {number: signal.signal(number, interrupt) for number in signals}
    for timer, seconds in signals.values():
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for number, (timer, _) in signals.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def text_for(command, text):
    """Return a text that the command changes."""
    if command == "remove":
        return text.replace("  - [[15, 18, 21], 1, Detect", "  - [-1, 1, NAM, []]\n  - [[15, 18, 22], 1, Detect")
    return text.replace(SPPF, "[-1, 1, SimAM, [1024]]") if command == "migrate" else text


@pytest.mark.parametrize("command", EDITS)
def test_editing_does_not_run_the_activation_and_keeps_its_text(here, command):
    activation = "activation: (__import__('pathlib').Path('run').touch(), torch.nn.ReLU())[1]\n"
    (here / "yolov8n-x.yaml").write_text(activation + text_for(command, BASE))
    assert main(EDITS[command]) == 0
    assert activation in (here / "yolov8n-out.yaml").read_text()
    assert not (here / "run").exists()


@pytest.mark.parametrize("command", BUILDS)
@pytest.mark.parametrize(
    "activation", ["__import__('pathlib').Path('run').touch()", "nn.SiLU", "ReLU()", "[1]", "5", "x" * 300]
)
def test_training_refuses_an_activation_outside_torch(here, refused, command, activation):
    (here / "yolov8n-x.yaml").write_text(f"activation: {activation}\n{BASE}")
    line = refused(*BUILDS[command])
    assert "yolov8n-x.yaml: activation " in line
    assert "is none of torch.nn, such as nn.SiLU()" in line
    assert len(line) < 300


@pytest.mark.parametrize("command", ["train", "compare"])
def test_training_takes_an_activation_of_torch(here, refused, command):
    (here / "yolov8n-x.yaml").write_text(f"activation: torch.nn.LeakyReLU(0.1)\n{BASE}")
    assert "nothing" in refused(*BUILDS[command])


CALLED = {
    "torch_safe_load": "[x.pt]",
    "load_checkpoint": "[x.pt]",
    "check_requirements": "[nothing-of-this-name]",
    "check_file": "['https://example.com/x.yaml']",
    "deepcopy": "[1]",
    "DetectionModel": "[x.yaml]",
    "nn.factory_kwargs": "[{}]",
    "nn.init": "[]",
    "torchvision.ops.nms": "[]",
}
"""Names that are not layers, but that Ultralytics' parser would find and call."""


@pytest.mark.parametrize("name", CALLED)
@pytest.mark.parametrize("command", COMMANDS)
def test_rows_that_do_not_name_a_layer_are_refused(here, refused, command, name):
    row = f"[-1, 1, {name}, {CALLED[name]}]"
    text = text_for(command, BASE.replace("  # [from, repeats", f"  - {row}\n  # [from, repeats"))
    (here / "yolov8n-x.yaml").write_text(text)
    line = refused(*COMMANDS[command])
    assert name in line
    assert "no layer" in line


@pytest.mark.integration
@pytest.mark.parametrize("args", ["[576, mobilenet_v3_small]", "[576, mobilenet_v3_small, DEFAULT]"])
@pytest.mark.parametrize("command", ["insert", "remove", "migrate"])
def test_editing_downloads_no_weights_of_torchvision(here, monkeypatch, command, args):
    def fetch(*_, **__):
        raise AssertionError("weights were asked for")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fetch)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)
    row = {"insert": "", "remove": "  - [-1, 1, NAM, []]\n", "migrate": "  - [-1, 1, SimAM, [576]]\n"}[command]
    text = f"nc: 3\nbackbone:\n  - [-1, 1, TorchVision, {args}]\nhead:\n{row}  - [-1, 1, Classify, [nc]]\n"
    (here / "yolov8n-x.yaml").write_text(text)
    assert main(EDITS[command]) == 0
    assert f"TorchVision, {args}" in (here / "yolov8n-out.yaml").read_text()


def laughs():
    lines = ["a0: &a0 [lol, lol]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12))]
    return "\n".join(lines)


LARGE = {
    "laughs": f"{laughs()}\n{BASE}",
    "laughs in a row": f"{laughs()}\n{BASE.replace('[1024, 5]', '*a6')}",
    "brackets": f"{BASE}\nx: {'[' * 100_000}",
    "repeats": BASE.replace(SPPF, "[-1, 100000000, SPPF, [1024, 5]]"),
    "repeats of nothing": BASE.replace(SPPF, "[-1, 100000000, nn.Identity, []]"),
    "depth": BASE.replace("n: [0.33, 0.25, 1024]", "n: [1.0e+9, 0.25, 1024]"),
    "channels": BASE.replace("Conv, [1024, 3, 2]", "Conv, [1000000000, 3, 2]"),
    "channels as text": BASE.replace("Conv, [1024, 3, 2]", "Conv, ['1000000000', 3, 2]"),
    "width": BASE.replace("n: [0.33, 0.25, 1024]", "n: [0.33, 1.0e+9, 1024]"),
    "classes": BASE.replace("nc: 80", "nc: 1000000000"),
    "pools": BASE.replace("[1024, 5]", "[1024, 5, 1000000000]"),
    "parameters": BASE.replace("Conv, [1024, 3, 2]", "nn.Embedding, [65536, 65536]"),
    "modules": BASE.replace(SPPF, "[-1, 1, ResNetLayer, [256, 16, 1, False, 60000]]"),
    "rows": BASE.replace("head:", "  - [-1, 1, Conv, [8]]\n" * 100_000 + "head:"),
    "some rows": BASE.replace("head:", "  - [-1, 1, Conv, [8]]\n" * 2000 + "head:"),
    "a text": BASE.replace("[1024, 5]", f"[1024, '{'(' * 100_000}']"),
    "a name": BASE.replace("SPPF", "x" * 100_000),
    "a number": BASE.replace("[1024, 5]", f"[{'9' * 100_000}, 5]"),
    "a tag": BASE.replace("[1024, 5]", f"!{'x' * 100_000} [1024, 5]"),
    "a source": BASE.replace(SPPF, f"[[{'-1, ' * 20_000}-1], 1, SPPF, [1024, 5]]"),
}


@pytest.mark.parametrize(
    ("command", "case"),  # of trainings the number of classes is the data's
    [
        pytest.param(*each, marks=pytest.mark.integration if each[1] == "modules" or each[0] not in FIRST else ())
        for each in itertools.product(COMMANDS, LARGE)
        if each[0] in EDITS or each[1] != "classes"
    ],
)
def test_excessive_yamls_are_refused_soon_in_one_short_line(here, small_coco, refused, command, case):
    (here / "yolov8n-x.yaml").write_text(text_for(command, LARGE[case]))
    line = refused(*(word if word != "nothing" else small_coco for word in COMMANDS[command]))
    assert "yolov8n-x" in line
    assert len(line) < LONGEST_LINE + 100


@pytest.mark.parametrize("case", LARGE)
def test_excessive_yamls_are_refused_in_plain_python_too(here, case):
    (here / "yolov8n-x.yaml").write_text(LARGE[case])
    with pytest.raises(Exception, match=r".") as error:  # PyTorch's own, where it has no such memory
        YOLO("yolov8n-x.yaml")
    assert len(str(error.value)) < LONGEST_LINE + 100


def test_a_few_aliases_work(here):
    text = BASE.replace("[256, True]", "&args [256, True]", 1).replace("[512, True]", "*args")
    (here / "yolov8n-x.yaml").write_text(text)
    assert main(EDITS["insert"]) == 0
    assert "*args" in (here / "yolov8n-out.yaml").read_text()
    YOLO("yolov8n-x.yaml")


SPECIAL = {
    "a FIFO": lambda file: os.mkfifo(file),
    "a folder": lambda file: file.mkdir(),
    "a device": lambda file: file.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("command", COMMANDS)
def test_special_files_are_refused_before_they_are_opened(here, refused, command, kind):
    SPECIAL[kind](here / "yolov8n-x.yaml")
    assert f"yolov8n-x.yaml: {kind}, expected a plain file" in refused(*COMMANDS[command])


@pytest.mark.parametrize("kind", ["a FIFO", "a device"])
@pytest.mark.parametrize(
    "arguments",
    [
        "train model=yolov8n-x.yaml data=coco8.yaml",
        "train model=yolov8n.yaml data=coco8.yaml cfg=yolov8n-x.yaml",
        "val model=yolov8n.yaml data=yolov8n-x.yaml",
    ],
)
def test_special_files_are_refused_in_ultralytics_grammar_too(here, refused, arguments, kind):
    SPECIAL[kind](here / "yolov8n-x.yaml")
    assert f"yolov8n-x.yaml: {kind}, expected a plain file" in refused(*arguments.split())


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("command", ["insert", "remove", "migrate"])
def test_special_files_as_outputs_are_refused(here, refused, command, kind):
    (here / "yolov8n-x.yaml").write_text(text_for(command, BASE))
    SPECIAL[kind](here / "yolov8n-out.yaml")
    assert "yolov8n-out.yaml: " in refused(*EDITS[command], "--force")


def test_a_url_is_no_model_yaml(refused):
    line = refused("train", "--cfg", "https://example.com/yolov8n.yaml")
    assert "expected a file or a name; nothing is downloaded here" in line
