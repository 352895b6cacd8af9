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


def test_healthy(tmp_path):
    result = run_python(DOCTOR, tmp_path)
    assert result.returncode == 0, result.stdout
    for text in (torch.__version__, ultralytics.__version__, str(USED), sys.executable):
        assert text in result.stdout
    assert "self-test passed" in result.stdout
    assert "kernels      fast PyTorch forms of SimAM, NAM and GAM (YOLO_ATTN_KERNELS=auto)" in result.stdout
    assert result.stdout.endswith("Nothing is wrong.\n")


def test_plain_formulas_are_reported(tmp_path):
    result = run_python(DOCTOR, tmp_path, YOLO_ATTN_KERNELS="0")
    assert "kernels      plain formulas only (YOLO_ATTN_KERNELS=0)" in result.stdout


@pytest.mark.parametrize("package", ["torch", "torchvision", "ultralytics"])
def test_package_that_does_not_import(package, tmp_path):
    (tmp_path / f"{package}.py").write_text("raise RuntimeError('operator\\n  does not exist')")
    result = run_python(DOCTOR, tmp_path)
    assert result.returncode == 1, result.stderr
    lines = result.stdout.splitlines()
    (i,) = [i for i, line in enumerate(lines) if line.startswith(f"! {package} ")]
    assert "RuntimeError: operator does not exist" in lines[i]
    assert "-> " in lines[i + 1]
    assert result.stderr == ""


def test_two_copies_of_ultralytics(tmp_path):
    copy = tmp_path / "other" / "ultralytics"
    copy.mkdir(parents=True)
    (copy / "__init__.py").write_text("")
    end = f"import sys; sys.path.append({str(copy.parent)!r}); "
    result = run_python(end + DOCTOR, tmp_path)
    assert result.returncode == 1
    assert f"! copies       2 of ultralytics: {USED} is used, not {copy}" in result.stdout
    assert "1 of 15 checks found something wrong." in result.stdout


def test_numpy_too_new_for_an_old_ultralytics(release, tmp_path):
    """NumPy 2.4 has no trapz; here an earlier one loses it."""
    without = "import numpy; vars(numpy).pop('trapz', None); "
    result = run_python(without + DOCTOR, tmp_path, PYTHONPATH=os.pathsep.join([str(release(OLDEST)), str(ROOT)]))
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    (i,) = [i for i, line in enumerate(lines) if line.startswith("! metrics ")]
    assert "no validation runs: AttributeError: module 'numpy' has no attribute 'trapz'" in lines[i]
    assert lines[i + 1].endswith("-> pip install 'numpy<2.4'")


def test_an_unknown_parser(tmp_path):
    changed = """
import ultralytics.nn.tasks as tasks
tasks.parse_model = lambda d, ch, verbose=True: ([], [])
import yolo_attn
"""
    result = run_python(changed + DOCTOR, tmp_path)
    assert result.returncode == 1
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("! layers")]
    assert "parses model rows in a way that yolo_attn does not know" in line


def test_a_driver_that_pytorch_cannot_use(tmp_path, monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU that PyTorch can use")
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    result = run_python(DOCTOR, tmp_path)
    assert result.returncode == 1
    assert "! GPU          none that PyTorch can use, but nvidia-smi is there" in result.stdout
