"""Whatever a checkpoint's pickle says, reading it runs nothing, changes nothing, opens nothing else, and ends."""

import json
import os
import pathlib
import pickle
import random
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from programs import archive, attacks, call, dictionary, name, random_program, text, whole
from ultralytics.nn import tasks

from yolo_attn.model.limits import MOST_ROWS

pytestmark = pytest.mark.integration

TINY = {
    "nc": 1,
    "backbone": [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "nn.Identity", []], [-1, 1, "Conv", [16, 3, 2]]],
    "head": [[[2], 1, "Detect", ["nc"]]],
}

INERT = {
    "extra_call", "extra_class_state", "forward_hook", "module_attribute",
    "class_name_call", "train_args_call", "optimizer_calls", "settings_of_lists", "attributes_of_lists",
    "deep_paths", "paths_that_double", "long_paths", "long_names",
}  # fmt: skip
"""Working checkpoints with something evil beside the model, which is never made."""


def tiny(**changes):
    model = tasks.DetectionModel({**TINY, **changes.pop("yaml", {})}, verbose=False)
    model.task = "detect"
    return model


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function, *args, state=None):
        self.function, self.args, self.state = function, args, state

    def __call__(self):
        raise AssertionError

    def __reduce__(self):
        return (self.function, self.args) if self.state is None else (self.function, self.args, self.state)


def evil_checkpoints(folder):
    """Working checkpoints with something more, by name."""
    run = Call(os.system, f"touch {folder / 'canary'}")
    late_class = types.ModuleType("wicked_module")
    sys.modules["wicked_module"] = late_class
    late_class.Wicked = type("Wicked", (), {"__module__": "wicked_module"})

    def with_part(change):
        model = tiny()
        change(model)
        return {"model": model}

    def hook(model):
        model.model[0]._forward_hooks[0] = run

    def attribute(model):
        model.model[0].conv.note = [run]

    def names(model):
        model.names = {0: run}

    def lists(model):
        for part in model.model.modules():
            vars(part).update(dict.fromkeys(("training", "np", "type", "_note"), many))

    def parts(model):
        more = model.model[0]._modules[long] = torch.nn.Module()
        more._modules.update({str(number): torch.nn.Module() for number in range(5_000)})

    long, many, deep, double = "a" * 2**20, [None], pathlib.Path("a"), pathlib.Path("a")
    for _ in range(6):
        many = [many] * 9
    for _ in range(3_000):
        deep = Call(pathlib.PosixPath, deep)
    for _ in range(40):
        double = Call(pathlib.PosixPath, double, double)

    found = {
        "0_good": {"model": tiny(), "train_args": {"imgsz": 64}},
        "0_refused": {"model": None},
        "extra_call": {"model": tiny(), "more": run},
        "extra_class_state": {"model": tiny(), "more": Call(torch.Tensor, state={"evil": run})},
        "forward_hook": with_part(hook),
        "module_attribute": with_part(attribute),
        "class_name_call": with_part(names),
        "train_args_call": {"model": tiny(), "train_args": {"imgsz": run, "data": [run]}},
        "optimizer_calls": {"model": tiny(), "optimizer": {"state": {0: run}}, "ema": None},
        "model_is_a_call": {"model": run},
        "model_is_a_class": {"model": torch.nn.Module},
        "ema_is_a_call": {"model": tiny(), "ema": run},
        "settings_of_lists": {"model": tiny(), "train_args": {f"key{number}": many for number in range(2_000)}},
        "attributes_of_lists": with_part(lists),
        "deep_paths": {"model": tiny(), "train_args": {"data": deep}},
        "paths_that_double": {"model": tiny(), "train_args": {"data": double}},
        "long_paths": {"model": tiny(), "train_args": {"data": Call(pathlib.PosixPath, *[long] * 5_000)}},
        "long_names": with_part(lambda model: setattr(model, "names", {number: [long] for number in range(5_000)})),
        "long_parts": with_part(parts),
        "class_of_a_file": {"model": late_class.Wicked()},
    }
    return found


def evil_yamls():
    """Model dictionaries by name, none of which may be built, and what is reported of each."""
    head, deep = TINY["head"], []
    for _ in range(30):
        deep = [deep]
    first, _, last = TINY["backbone"]

    def row(*row):
        return {"backbone": [first, list(row), last], "head": head}

    doubled = [1]
    for _ in range(9):
        doubled = [doubled] * 4
    return {
        "activation_code": ({"activation": "__import__('os').system('touch canary')"}, "activation"),
        "activation_attribute": ({"activation": "nn.SiLU().__class__"}, "activation 'nn.SiLU().__class__'"),
        "activation_argument": ({"activation": "nn.Module(open('x'))"}, "activation"),
        "activation_list": ({"activation": ["nn.SiLU()"]}, "activation"),
        "activation_deep": ({"activation": "nn.SiLU(" + "(" * 5_000 + ")" * 5_000 + ")"}, "activation"),
        "row_function": (row(-1, 1, "torch_safe_load", ["x.pt"]), "row 1 names 'torch_safe_load', which is no layer"),
        "row_model": (row(-1, 1, "DetectionModel", ["https://example.com/x.yaml"]), "no layer"),
        "row_install": (row(-1, 1, "check_requirements", ["x"]), "no layer"),
        "row_nn_function": (row(-1, 1, "nn.factory_kwargs", []), "no layer"),
        "row_nn_path": (row(-1, 1, "nn.modules.module.torch", []), "no layer"),
        "row_ops_function": (row(-1, 1, "torchvision.ops.nms", []), "no layer"),
        "row_dotted": (row(-1, 1, "os.system", ["touch canary"]), ""),
        "row_dunder": (row(-1, 1, "__builtins__", []), "no layer"),
        "row_list": (row(-1, 1, ["GAM"], []), "no layer"),
        **{
            f"row_parser_variable_{name}": (row(-1, 1, "nn.Identity", [name]), f"the option {name!r}")
            for name in ("ast", "args", "ch", "d", "i", "layers", "m")
        },
        "row_device": (row(-1, 1, "nn.Linear", [9_999, 9_999, True, "cpu"]), "the option 'cpu'"),
        "row_option_deep": (row(-1, 1, "nn.Identity", ["[" * 10_000]), "option"),
        "download": (row(-1, 1, "TorchVision", [16, "fcn_resnet50", "DEFAULT", True, 2]), "fcn_resnet50"),
        "download_of_a_detector": (row(-1, 1, "TorchVision", [16, "maskrcnn_resnet50_fpn", "DEFAULT"]), "maskrcnn"),
        "activation_real": ({"activation": 'nn.Linear(9_000, 9_000, device="cpu")'}, "those of any model"),
        "activation_loop": ({"activation": "nn.LSTM(1, 1, num_layers=10_000_000)"}, "far more layers"),
        "row_real": (row(-1, 60, "nn.Linear", [9_000, 9_000, True, "'cpu'"]), "those of any model"),
        "repeats": (row(-1, 10**8, "nn.Identity", []), "100,000,000 repeats"),
        "repeats_by_depth": ({**row(-1, 1_000, "nn.Identity", []), "depth_multiple": 1e6}, "repeats at depth 1e+06"),
        "repeats_as_text": (row(-1, "100000000", "nn.Identity", []), ""),
        "repeats_within": (row(-1, 1, "C2f", [16, True, 1, 900_000]), ""),
        "loop_in_a_layer": (row(-1, 1, "nn.LSTM", [8, 8, 1_000_000]), ""),
        "loop_as_text": (row(-1, 1, "nn.LSTM", [8, 8, "10000000000"]), "10000000000"),
        "huge_width": (row(-1, 1, "Conv", [10**12, 3]), "found 1000000000000, expected numbers up to 100,000"),
        "wide": (row(-1, 1, "Conv", [1_000_000, 3]), ""),
        "huge_map": (row(-1, 1, "nn.Upsample", ["None", 100_000, "nearest"]), "elements"),
        "slow_pooling": (row(-1, 200, "nn.MaxPool2d", [255, 1, 127]), "more arithmetic than those of any model"),
        "slow_convolution": (row(-1, 1, "Conv", [8, 255, 1]), ""),
        "many_maps": (row(-1, 6, "nn.Upsample", [[4_000, 4_000]]), "those of any model"),
        "many_parameters": (row(-1, 400, "nn.Linear", [2_000, 2_000]), "those of any model"),
        "infinite": (row(-1, 1, "Conv", [float("nan"), 3]), "found nan"),
        "rows": ({"backbone": [first] * 2_000, "head": head}, f"expected at most {MOST_ROWS:,}"),
        "deep_rows": ({"backbone": deep, "head": head}, "deeper"),
        "anchors": ({"backbone": [first, [-1, 1, "Conv", doubled]], "head": head}, "values"),
        "classes": ({"nc": 10**9}, "found 1000000000"),
        "channels": ({"ch": 10**9, "channels": 10**9}, "found 1000000000"),
        "no_rows": ({"backbone": [], "head": []}, ""),
        "head_nothing": ({"head": None}, "no rows to build"),
        "rows_of_text": ({"backbone": "abc", "head": "def"}, "no rows to build"),
        "scales_of_text": ({"scales": {"n": "abc"}, "scale": "n"}, "make no model"),
        "scales_list": ({"scales": [1, 2, 3]}, "make no model"),
    }


def watch(folder):
    """What reading every file of a folder does."""
    command = [sys.executable, Path(__file__).with_name("watch.py")]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1_800, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


def check_nothing_happened(told):
    assert {file: did for file, (_, did) in told["files"].items() if did} == {}
    assert told["changed"] == []
    assert told["new"] == []
    for file, (outcome, _) in told["files"].items():
        assert outcome == "loaded" or outcome.startswith(f"{file}: "), (file, outcome)
        assert "\n" not in outcome
        assert len(outcome) < 600, outcome


def write_checkpoints(folder):
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        for key, content in evil_checkpoints(folder).items():
            torch.save(content, folder / f"{key}.pt")
    finally:
        sys.setrecursionlimit(limit)
    del sys.modules["wicked_module"]


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    """The outcome of every attack by name."""
    folder = tmp_path_factory.mktemp("attacks")
    (folder / "wicked_module.py").write_text("open('canary', 'w')\nclass Wicked: pass\n")
    write_checkpoints(folder)
    for key, content in attacks(folder / "canary").items():
        (folder / f"{key}.pt").write_bytes(content)
    absent = call(name("no_such_module", "nothing.at.all"), text("x"))
    texts = (b"V\\u00e9\n", b"S'\\xe9'\n", pickle.BINUNICODE + b"\2\0\0\0\xc3\xa9", pickle.BINSTRING + b"\1\0\0\0\xe9")
    for key, value in {"never_looked_up": absent, **{f"text_{n}": each for n, each in enumerate(texts)}}.items():
        (folder / f"{key}.pt").write_bytes(archive(whole(dictionary(model=value))))
    for key, (change, _) in evil_yamls().items():
        model = tiny()
        model.yaml = {**model.yaml, **change}
        torch.save({"model": model}, folder / f"yaml_{key}.pt")
    told = watch(folder)
    assert not (folder / "canary").exists()
    return told


def test_no_attack_does_anything(attacked):
    """Nor does text of any form, which is read without an import."""
    check_nothing_happened(attacked)
    assert len(attacked["files"]) > 120


def test_only_what_has_a_whole_model_loads(attacked):
    loaded = {file.removesuffix(".pt") for file, (outcome, _) in attacked["files"].items() if outcome == "loaded"}
    assert loaded == {*INERT, "0_good"}


def test_yamls_are_refused_for_what_they_name(attacked):
    for key, (_, reason) in evil_yamls().items():
        assert reason in attacked["files"][f"yaml_{key}.pt"][0], key


def test_the_attacks_work_where_they_are_believed(tmp_path):
    """Otherwise the tests above would see nothing."""
    programs = attacks(tmp_path / "canary")
    files = [tmp_path / f"{key}.pt" for key in ("reduce_system", "inst", "stack_global")]
    for file in files:
        file.write_bytes(programs[file.stem])
    code = (
        "import contextlib, pathlib, sys, torch\n"
        "for file in sys.argv[1:]:\n"
        "    with contextlib.suppress(Exception): torch.load(file, weights_only=False)\n"
        "    pathlib.Path('canary').unlink()"
    )
    result = subprocess.run([sys.executable, "-c", code, *files], cwd=tmp_path, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("number", [300, pytest.param(5_000, marks=pytest.mark.slow)])
def test_random_programs_do_nothing(number, tmp_path):
    write_checkpoints(tmp_path)
    for seed in range(number):
        program = random_program(random.Random(seed))
        (tmp_path / f"random_{seed}.pt").write_bytes(archive(program, {"0": bytes(16)}))
    check_nothing_happened(watch(tmp_path))


def test_names_of_a_pickle_are_never_looked_up(attacked):
    assert attacked["files"]["never_looked_up.pt"][0] == "never_looked_up.pt: refused, the model is no module"
