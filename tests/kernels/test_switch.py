"""The one switch: what it takes, where it is kept, what it says of a slip."""

import os

import pytest
from support import run_python

import yolo_attn
from yolo_attn.kernels.switch import kernels_mode


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    monkeypatch.setenv("YOLO_ATTN_KERNELS", "")


@pytest.mark.parametrize(("mode", "text"), [("0", "0"), ("1", "1"), ("auto", "auto"), (0, "0"), (1, "1")])
def test_modes(mode, text):
    assert kernels_mode() == "auto"
    yolo_attn.set_kernels(mode)
    assert kernels_mode() == os.environ["YOLO_ATTN_KERNELS"] == text


@pytest.mark.parametrize("mode", ["2", 2, True, False, None, "AUTO", "", 1.0])
def test_other_modes(mode):
    with pytest.raises(ValueError, match=rf"^set_kernels: expected 0, 1 or auto, got {mode!r}$"):
        yolo_attn.set_kernels(mode)
    assert kernels_mode() == "auto"


def test_slip_in_the_environment(monkeypatch):
    monkeypatch.setenv("YOLO_ATTN_KERNELS", "on")
    with pytest.raises(ValueError, match=r"^YOLO_ATTN_KERNELS: expected 0, 1 or auto, got 'on'$"):
        kernels_mode()


@pytest.mark.integration
def test_processes_started_from_here_choose_the_same(tmp_path):
    yolo_attn.set_kernels(0)
    code = "from yolo_attn.kernels.switch import kernels_mode; print(kernels_mode())"
    assert run_python(code, tmp_path).stdout.strip() == "0"


@pytest.mark.integration
def test_choosing_loads_no_pytorch(tmp_path):
    code = "import sys, yolo_attn; yolo_attn.set_kernels('auto'); print('torch' in sys.modules)"
    result = run_python(code, tmp_path)
    assert result.stdout.strip() == "False", result.stderr


@pytest.mark.integration
def test_command_line_tells_a_slip_in_one_line(tmp_path):
    code = "import sys; from yolo_attn.cli import main; sys.exit(main(['doctor']))"
    result = run_python(code, tmp_path, ends=2, YOLO_ATTN_KERNELS="on")
    assert result.stderr == "yolo-attn: error: YOLO_ATTN_KERNELS: expected 0, 1 or auto, got 'on'\n"
