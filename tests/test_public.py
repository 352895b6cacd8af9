"""The package's public face: light to import, complete, and typed for the users' type checkers."""

import importlib
import re
import subprocess
import sys

import pytest
from support import ROOT, run_python

import yolo_attn
from yolo_attn import layers

HERE = {"__version__", "register", "unregister"}
"""Public names that the face itself holds."""

USER = """
import torch
import yolo_attn
from yolo_attn import {names}

layer = GAM(64, ratio=8)
reveal_type(layer)
reveal_type(register_layer(SimAM))
reveal_type(load_safe("best.pt"))
reveal_type(identity_init(None, "images"))
reveal_type(measure_gates(None, [torch.zeros(1, 3, 64, 64)]))
reveal_type(set_kernels)
reveal_type(register)
reveal_type(unregister)
reveal_type(DetectionTrainer)
reveal_type(PoseValidator)
reveal_type(UserError("x").exit_code)
reveal_type(yolo_attn.NAM)
GAM(64, ratio="8")
yolo_attn.Gam
"""

REVEALED = [
    "yolo_attn.layers.gam.GAM",
    "yolo_attn.layers.simam.SimAM",
    "torch.nn.modules.module.Module",
    "dict[int, float]",
    "dict[str, yolo_attn.gates.statistics.GateStatistics]",
    "def (mode: str | int)",
    "def ()",
    "def ()",
    "yolo_attn.engine.training.trainer.DetectionTrainer",
    "yolo_attn.engine.validation.validator.PoseValidator",
    "int",
    "yolo_attn.layers.nam.NAM",
]
"""What each `reveal_type` shows; of what returns something, that alone."""


def test_every_name_is_where_the_table_says():
    homes = {name: f"yolo_attn.{module}" for module, names in yolo_attn._HOMES.items() for name in names.split()}
    assert {*homes} | HERE == {*yolo_attn.__all__}
    assert {*layers.__all__} <= {*homes}
    for name, module in homes.items():
        assert getattr(yolo_attn, name) is getattr(importlib.import_module(module), name)
    with pytest.raises(AttributeError, match="module 'yolo_attn' has no attribute 'Gam'"):
        _ = yolo_attn.Gam


@pytest.mark.smoke
def test_a_name_loads_only_what_it_needs(tmp_path):
    code = """
import sys
from yolo_attn import UserError
assert not {"torch", "ultralytics", "numpy"} & {*sys.modules}
from yolo_attn import GAM
assert "ultralytics" not in sys.modules
"""
    run_python(code, tmp_path)


def test_the_page_lists_every_public_name():
    page = (ROOT / "docs/public.md").read_text()
    listed = set(re.findall(r"`(\w+)`", page.split("## Names")[1].split("\n## ")[0]))
    assert {*yolo_attn.__all__} <= listed


def test_modules_on_the_page_import():
    page = (ROOT / "docs/public.md").read_text()
    modules = re.findall(r"`(yolo_attn\.[\w.]+)`", page.split("## Module paths")[1].split("\n## ")[0])
    assert len(modules) >= 2
    for module in modules:
        importlib.import_module(module)


@pytest.mark.integration
def test_type_checkers_see_the_face(tmp_path):
    names = ", ".join(name for name in yolo_attn.__all__ if name != "__version__")
    (tmp_path / "user.py").write_text(USER.format(names=names))
    shared = ["--config-file", ROOT / "pyproject.toml", "--cache-dir", ROOT / ".mypy_cache"]  # that of `make lint`
    command = [sys.executable, "-m", "mypy", *shared, "user.py"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    revealed = re.findall(r'Revealed type is "(.*)"$', result.stdout, re.MULTILINE)
    assert [line.rpartition(" -> ")[2] for line in revealed] == REVEALED, result.stdout + result.stderr
    assert re.findall(r"error: .*", result.stdout) == [
        'error: Argument "ratio" to "GAM" has incompatible type "str"; expected "int"  [arg-type]',
        'error: Module has no attribute "Gam"  [attr-defined]',
    ]
