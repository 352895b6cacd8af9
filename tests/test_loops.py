"""No loop and no wait of the package is without a bound: a table of all whose bound does not stand beside them."""

import ast
import subprocess
import sys

import pytest
from source import functions

from yolo_attn.coco.reading.problems import Problems
from yolo_attn.coco.reading.reader import _unique_names
from yolo_attn.compare.analysis.seeds import MOST_SEEDS, seeds_needed
from yolo_attn.compare.execution import processes
from yolo_attn.errors import RunError, UserError
from yolo_attn.model.insertion import insert, remove
from yolo_attn.weights.matching import _feeding

FILLED = "at the end of a file that has bytes, as only plain ones have"

ENDS = {
    "coco/reading/json_text _text while": "at the end of a plain file, or behind the most bytes that it may have",
    "coco/dataset/image_files _header_settles read_bytes": "at the end of a plain file, whose size is within its bound",
    "coco/dataset/image_files _header_settles read": "at the end of a plain file, of which it reads the last bytes",
    "coco/reading/reader _unique_names while": "the name grows, and there are finitely many to be unlike",
    "compare/planning/compared_data _images read": "at the end of a plain file",
    "compare/planning/variants wider while": "the step doubles up to the widest",
    "compare/execution/processes ask Popen": "waits for nothing; a timer ends it after some hours",
    "compare/execution/processes answer read": "when the process that asks closes its end",
    "compare/execution/runner _start Popen": "waits for nothing",
    "compare/execution/runner run_all while": "when all trainings have ended, each after its epochs",
    "compare/execution/worker _end_with_the_comparison read": "in a thread, until the comparison or this process ends",
    "compare/execution/worker main readline": "when the comparison has written the line, or has ended",
    "compare/execution/worker peak_memory read_text": "at the end of what the system says of this process",
    "model/graph _behind while": "each turn goes to an earlier row",
    "model/graph _families read_text": "at the end of a YAML of Ultralytics' own",
    "model/graph check_graph get": "waits for nothing; it is a context variable's",
    "yaml_edit/edit remove.taken while": "every row takes earlier ones: others were refused when the text was read",
    "yaml_edit/text _shared while": "what aliases stand for counts as often, and `load_yaml` has bounded it",
    "yaml_edit/text _span while": "a text in which a node contains itself has an alias, and is refused",
    "engine/training/run_files RunFiles._write_header read_text": FILLED,
    "engine/training/run_files RunFiles.resume_training read_text": FILLED,
    "engine/training/run_files RunFiles.save_metrics read_text": FILLED,
    "safe/missing_classes missing_class while": "each turn goes to an error that it has not met yet",
    "patches/workers generate_ddp_file read_text": "at the end of the file that Ultralytics has just written",
    "bounded_reading chunks while": "at the end of a plain file",
    "bounded_reading read_plain while": "at the end of a plain file, or behind the most bytes that it may have",
    "bounded_reading repeated_key while": "each list and mapping is gone through once",
    "safe/checkpoints modules_below while": "at MOST_MODULES modules",
}
"""Why each loop, wait and reading without a number ends."""

WAITING = {
    "run",
    "Popen",
    "wait",
    "communicate",
    "join",
    "acquire",
    "result",
    "recv",
    "get",
    "read",
    "read_bytes",
    "read_text",
    "readline",
    "FileLock",
}


def unbounded(node):
    """What a node that may go on without a bound is called."""
    if isinstance(node, ast.While):
        return "while"
    if isinstance(node, ast.Call):
        owner, _, name = ast.unparse(node.func).rpartition(".")
        if name in {"count", "cycle"} and owner in {"itertools", ""} and len(node.args) < 2:
            return None if name == "count" and node.args else name
        bounded = node.args or any(keyword.arg == "timeout" for keyword in node.keywords)
        if name == "run" and owner != "subprocess":
            return None
        if name in {"run", "Popen", "FileLock"}:
            bounded = any(keyword.arg == "timeout" for keyword in node.keywords)
        if name in WAITING and not bounded and owner != "self":
            return name
    return None


def test_the_table_names_every_loop_and_wait_without_a_number():
    assert {f"{where} {unbounded(node)}" for where, node in functions() if unbounded(node)} == ENDS.keys()


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("while True: pass", "while"),
        ("process.wait()", "wait"),
        ("process.wait(10)", None),
        ("thread.join()", "join"),
        ("subprocess.run(command)", "run"),
        ("subprocess.run(command, timeout=9)", None),
        ("itertools.count()", "count"),
        ("lock.acquire()", "acquire"),
        ("FileLock(file)", "FileLock"),
        ("stream.read()", "read"),
        ("stream.read(100)", None),
    ],
)
def test_a_new_one_would_be_found(code, name):
    (statement,) = ast.parse(code).body
    assert unbounded(statement if isinstance(statement, ast.While) else statement.value) == name


def test_names_that_are_repeated_become_unlike():
    names = _unique_names(["a", "a", "a (2)", "a", "a (2) (3)"], [1, 2, 3, 4, 5], Problems())
    assert len(set(names)) == 5


@pytest.mark.parametrize(
    ("gain", "deviation"), [(1e-300, 1.0), (1.0, 1e-300), (float("nan"), 1.0), (1e300, 1e300), (0.01, 0.01)]
)
def test_the_search_for_seeds_ends(gain, deviation):
    needed = seeds_needed(gain, deviation, 3)
    assert needed is None or 2 <= needed <= MOST_SEEDS


@pytest.mark.parametrize("taken", [0, 1, 2, 5])
def test_rows_that_take_themselves_or_each_other_are_gone_through_once(taken):
    _feeding(
        [[-1, 1, "Conv", []], [taken, 1, "SimAM", []], [1, 1, "SimAM", []]][: 3 if taken < 3 else 2]
        + [[-1, 1, "Conv", []]] * 4
    )


LOOPING = """nc: 3
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
  - [{0}, 1, SimAM, []]
  - [{1}, 1, SimAM, []]
head:
  - [2, 1, Conv, [16]]
  - [[3], 1, Detect, [nc]]
"""
HOLDS_ITSELF = """nc: 3
backbone: &rows
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, SimAM, []]
  - *rows
head:
  - [[1], 1, Detect, [nc]]
"""


@pytest.mark.parametrize("text", [LOOPING.format(1, 1), LOOPING.format(2, 1), LOOPING.format(-9, 1), HOLDS_ITSELF])
def test_an_edit_of_a_text_that_goes_round_is_refused(text):
    for edit in (lambda: remove(text, "model.yaml"), lambda: insert(text, "model.yaml", "SimAM", "neck", {})):
        with pytest.raises(UserError, match=r"model\.yaml"):
            edit()


@pytest.mark.integration
@pytest.mark.integration
def test_a_question_to_a_process_ends(monkeypatch):
    monkeypatch.setattr(processes, "LONGEST", 0.5)
    monkeypatch.setattr(processes, "python", lambda *_: [sys.executable, "-c", "import time; time.sleep(600)"])
    with pytest.raises(RunError, match="did not end within"):
        processes.ask(subprocess.run, {}, {})
