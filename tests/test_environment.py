"""What commands tell the processes that they start goes with them, and leaves what was there before."""

import os

import pytest

from yolo_attn.cli import main
from yolo_attn.coco import check as checking
from yolo_attn.engine import api as engine_run
from yolo_attn.environment import CACHE_VARIABLE, OUTSIDE_VARIABLE, environment

OPTIONS = (OUTSIDE_VARIABLE, CACHE_VARIABLE)


def present(*names):
    return [os.environ.get(name) for name in names]


@pytest.mark.parametrize("former", [None, "before"])
def test_former_values_come_back(monkeypatch, former):
    for name in "YOLO_ATTN_ONE", "YOLO_ATTN_TWO":
        monkeypatch.setenv(name, former or "")
        if former is None:
            monkeypatch.delenv(name)

    def fail():
        with environment({"YOLO_ATTN_ONE": "1", "YOLO_ATTN_TWO": None}):
            assert present("YOLO_ATTN_ONE", "YOLO_ATTN_TWO") == ["1", former]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert present("YOLO_ATTN_ONE", "YOLO_ATTN_TWO") == [former, former]


@pytest.mark.parametrize(
    ("arguments", "module", "function"),
    [
        (["check-data", "data"], checking, "check_data"),
        (["train", "--cfg", "yolov8n.yaml"], engine_run, "train"),
        (["train", "--resume", "last.pt"], engine_run, "resume"),
        (["val", "--weights", "best.pt"], engine_run, "validate"),
    ],
)
def test_options_of_the_reader_hold_for_one_command(tmp_path, monkeypatch, arguments, module, function):
    seen, former = [], present(*OPTIONS)
    monkeypatch.setattr(module, function, lambda *_: seen.append(present(*OPTIONS)) or {})
    assert main([*arguments, "--allow-outside", "--cache-dir", str(tmp_path)]) == 0
    assert main(arguments) == 0
    assert seen == [["1", str(tmp_path)], former]
    assert present(*OPTIONS) == former
