"""Packages that do not import: every command says in one line what helps, judged by the error."""

import subprocess
import sys

import pytest

from yolo_attn.cli import COMMANDS
from yolo_attn.cli.installation import advice

LIBGL = "libGL.so.1: cannot open shared object file: No such file or directory"

RAISED = {
    "a library of the system": (f"raise ImportError({LIBGL!r})", "the system lacks libGL.so.1: apt install libgl1, or"),
    "another library of the system": (
        "raise OSError('libgomp.so.1: cannot open shared object file: No such file or directory')",
        "the system lacks libgomp.so.1: apt install libgomp1",
    ),
    "a library of the package": (
        "raise ImportError('libcudart.so.12: cannot open shared object file: No such file or directory')",
        "libcudart.so.12 is missing; reinstall it: pip install --force-reinstall opencv-python",
    ),
    "an old system": (
        'raise ImportError("/lib/libc.so.6: version `GLIBC_2.38\' not found (required by x.so)")',
        "this system has no GLIBC_2.38: install a release of cv2 that supports it, or use a newer system",
    ),
    "another NumPy": (
        "raise ValueError('numpy.dtype size changed, may indicate binary incompatibility. Expected 96, got 88')",
        "install them together: pip install --upgrade --force-reinstall opencv-python numpy",
    ),
    "another NumPy's main release": (
        "raise AttributeError('_ARRAY_API not found')",
        "install them together: pip install --upgrade --force-reinstall opencv-python numpy",
    ),
    "a symbol": (
        "raise ImportError('/x/cv2.abi3.so: undefined symbol: _ZN3c10')",
        "install them together: pip install --upgrade --force-reinstall opencv-python numpy",
    ),
    "a missing package": ("import package_that_is_absent.part", "pip install package_that_is_absent"),
    "a missing part": ("import json.absent", "json has no json.absent; reinstall it"),
    "another release": (
        "from json import absent",
        "json is not the expected release: pip install --upgrade json",
    ),
    "an own error": ("1 / 0", "cv2.py, line 1, not in an installed package; fix that file, or rename it if it hides"),
    "a name that a file hides": (
        "from cv2 import imread",
        "cv2.py is not part of an installed package; rename it if it hides cv2",
    ),
    "an end": ("raise SystemExit('no licence')", "cv2.py, line 1, not in an installed package"),
}


@pytest.mark.parametrize(("code", "helps"), RAISED.values(), ids=RAISED)
def test_advice_follows_the_error(code, helps, tmp_path, monkeypatch):
    (tmp_path / "cv2.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    with pytest.raises((Exception, SystemExit)) as caught:
        __import__("cv2")
    assert helps in advice(caught.value, "cv2")


GIVEN = {
    "train": "--cfg yolov8n-gam.yaml",
    "val": "--weights best.pt",
    "check-data": "data",
    "attention-maps": "--weights best.pt --source images",
    "export": "--weights best.pt --format onnx",
    "compare": "--base yolov8n.yaml --layers GAM",
    "show": "yolov8n.yaml",
    "split": "set -o splits",
    "insert": "yolov8n.yaml --layer GAM --at neck -o new.yaml",
    "remove": "yolov8n-gam.yaml -o new.yaml",
    "migrate": "yolov8n-gam.yaml",
    "layers": "",
    "predict": "model=best.pt source=images",
}


ALL = """
import sys
from yolo_attn.cli import main
for command in sys.argv[1:]:
    assert main(command.split()) == 1, command
"""


@pytest.mark.integration
def test_every_command_reports_a_missing_library(tmp_path):
    """In one process: a module that fails to import is imported anew each time."""
    assert GIVEN.keys() == {*COMMANDS, "predict"} - {"doctor"}
    (tmp_path / "cv2.py").write_text(f"raise ImportError({LIBGL!r})")
    command = [sys.executable, "-c", ALL, *(f"{name} {given}" for name, given in GIVEN.items())]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == len(GIVEN)
    message = f"yolo-attn: error: cv2 cannot be imported: ImportError: {LIBGL}; the system lacks libGL.so.1"
    assert all(line.startswith(message) for line in lines)
