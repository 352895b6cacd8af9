"""`yolo-attn doctor` in healthy and broken installations, each in its own process."""

import os
import sys
from pathlib import Path

import pytest
import torch
import ultralytics
from support import OLDEST, ROOT, run_python

USED = Path(ultralytics.__file__).parent
DOCTOR = "import sys; from yolo_attn.cli import main; sys.exit(main(['doctor']))"

pytestmark = pytest.mark.integration


@pytest.fixture
def doctor(tmp_path):
    """Runs it behind some code; returns what it printed, and by subject what is wrong and the advice."""

    def run(code="", wrong=1, **variables):
        result = run_python(code + DOCTOR, tmp_path, wrong, **variables)
        assert result.stderr == ""
        lines = result.stdout.splitlines()
        found = {line.split()[1]: (line[15:], lines[i + 1]) for i, line in enumerate(lines) if line.startswith("! ")}
        assert all(advice.startswith(" " * 15 + "-> ") for _, advice in found.values())
        return result.stdout, found

    return run


def test_healthy(doctor):
    shown, found = doctor(wrong=0)
    assert found == {}
    for text in (torch.__version__, ultralytics.__version__, str(USED), sys.executable):
        assert text in shown
    assert "self-test passed" in shown
    assert "kernels      fast PyTorch forms of SimAM, NAM and GAM (YOLO_ATTN_KERNELS=auto)" in shown
    assert shown.endswith("Nothing is wrong.\n")


def test_plain_formulas_are_reported(doctor):
    shown, _ = doctor(wrong=0, YOLO_ATTN_KERNELS="0")
    assert "kernels      plain formulas only (YOLO_ATTN_KERNELS=0)" in shown


@pytest.mark.parametrize(
    "broken",
    [
        *(
            {name: "raise RuntimeError('operator\\n  does not exist')"}
            for name in ("torch", "torchvision", "ultralytics")
        ),
        {"cv2": "raise ImportError('libGL.so.1')", "torchvision": "raise SystemExit(3)", "hotcoco": "1 / 0"},
    ],
    ids=" ".join,
)
def test_packages_that_do_not_import_are_all_reported(broken, doctor, tmp_path):
    for package, code in broken.items():
        (tmp_path / f"{package}.py").write_text(code)
    shown, found = doctor()
    assert broken.keys() <= found.keys()
    assert ("RuntimeError: operator does not exist" in shown) == (len(broken) == 1)
    assert "pip install ultralytics" not in shown
    assert shown.splitlines()[-1] == f"{len(found)} of 18 checks found something wrong."


def test_what_an_extra_lacks_is_named_with_its_line(doctor):
    hide = """
import importlib.util as util
find = util.find_spec
util.find_spec = lambda name, *a: None if name in {"lap", "onnx"} else find(name, *a)
"""
    shown, found = doctor(hide, wrong=0)
    assert found == {}
    assert 'for track: no lap; pip install "yolo_attn[track]"' in shown
    assert 'and its check: no onnx; pip install "yolo_attn[export]"' in shown


def test_two_copies_of_ultralytics(doctor, tmp_path):
    copy = tmp_path / "other" / "ultralytics"
    copy.mkdir(parents=True)
    (copy / "__init__.py").write_text("")
    shown, found = doctor(f"import sys; sys.path.append({str(copy.parent)!r}); ")
    assert found["copies"][0] == f"2 of ultralytics: {USED} is used, not {copy}"
    assert "1 of 18 checks found something wrong." in shown


def test_numpy_too_new_for_an_old_ultralytics(release, doctor):
    """NumPy 2.4 has no trapz; here an earlier one loses it."""
    path = os.pathsep.join([str(release(OLDEST)), str(ROOT)])
    _, found = doctor("import numpy; vars(numpy).pop('trapz', None); ", PYTHONPATH=path)
    line, advice = found["metrics"]
    assert "no validation runs: AttributeError: module 'numpy' has no attribute 'trapz'" in line
    assert advice.endswith("-> pip install 'numpy<2.4'")


def test_an_unknown_parser(doctor):
    changed = """
import ultralytics.nn.tasks as tasks
tasks.parse_model = lambda d, ch, verbose=True: ([], [])
import yolo_attn
"""
    _, found = doctor(changed)
    assert "parses model rows in a way that yolo_attn does not know" in found["layers"][0]


def test_a_driver_that_pytorch_cannot_use(doctor, tmp_path, monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU that PyTorch can use")
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    _, found = doctor()
    assert found["GPU"][0].startswith("none that PyTorch can use, but nvidia-smi is there")
