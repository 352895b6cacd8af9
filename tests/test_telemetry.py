"""Telemetry of runtimes is off while registered, and what the user chose stays."""

import os
import sys
from types import ModuleType

import pytest

import yolo_attn
from yolo_attn.telemetry import ONNXRUNTIME, OPENVINO, silence


@pytest.fixture(autouse=True)
def unregistered():
    yolo_attn.unregister()
    yield
    yolo_attn.register()


def state():
    return os.environ.get(ONNXRUNTIME), sys.modules.get(OPENVINO, "not imported")


def test_registering_silences_and_unregistering_undoes_it():
    before = state()
    assert before == (None, "not imported")
    yolo_attn.register()
    yolo_attn.register()
    assert state() == ("1", None)
    yolo_attn.unregister()
    assert state() == before


@pytest.mark.parametrize("chosen", ["0", "1", ""])
def test_what_the_environment_says_stays(monkeypatch, chosen):
    monkeypatch.setenv(ONNXRUNTIME, chosen)
    undo = silence()
    assert state() == (chosen, None)
    undo()
    assert state() == (chosen, "not imported")


def test_a_reporter_that_the_program_has_imported_stays(monkeypatch):
    reporter = ModuleType(OPENVINO)
    monkeypatch.setitem(sys.modules, OPENVINO, reporter)
    undo = silence()
    assert sys.modules[OPENVINO] is reporter
    undo()
    assert sys.modules[OPENVINO] is reporter


def test_a_reporter_that_was_imported_in_spite_of_it_is_not_removed():
    undo = silence()
    sys.modules[OPENVINO] = reporter = ModuleType(OPENVINO)
    undo()
    assert sys.modules.pop(OPENVINO) is reporter
