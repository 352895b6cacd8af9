"""Packages that do not import: every command says in one line what helps, judged by the error."""

import subprocess
import sys

import pytest
from support import run_python

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

DOCTOR = "import sys; from yolo_attn.cli import main; sys.exit(main(['doctor']))"


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
    "insert": "yolov8n.yaml --layer GAM --at neck -o new.yaml",
    "remove": "yolov8n-gam.yaml -o new.yaml",
    "migrate": "yolov8n-gam.yaml",
    "layers": "",
    "predict": "model=best.pt source=images",
}


@pytest.mark.parametrize("command", [command for command in (*COMMANDS, "predict") if command != "doctor"])
def test_every_command_reports_a_missing_library(command, tmp_path):
    (tmp_path / "cv2.py").write_text(f"raise ImportError({LIBGL!r})")
    command = [sys.executable, "-m", "yolo_attn", command, *GIVEN[command].split()]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1, result.stdout + result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith(
        f"yolo-attn: error: cv2 cannot be imported: ImportError: {LIBGL}; the system lacks libGL.so.1"
    )


def test_doctor_reports_all_broken_packages(tmp_path):
    broken = {"cv2": f"raise ImportError({LIBGL!r})", "torchvision": "raise SystemExit(3)", "hotcoco": "1 / 0"}
    for name, code in broken.items():
        (tmp_path / f"{name}.py").write_text(code)
    result = run_python(DOCTOR, tmp_path)
    assert (result.returncode, result.stderr) == (1, "")
    lines = result.stdout.splitlines()
    for name in broken:
        (at,) = [i for i, line in enumerate(lines) if line.startswith(f"! {name} ")]
        assert "-> " in lines[at + 1]
    assert "pip install ultralytics" not in result.stdout
    assert "checks found something wrong." in lines[-1]
