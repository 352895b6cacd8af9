"""Rows that read others than they should: attention that nothing reads is refused, the rest reported."""

import copy

import families
import pytest
import torch
import yaml
from tiers import later
from ultralytics import YOLO
from ultralytics.nn import tasks

from yolo_attn import load_safe
from yolo_attn.errors import UserError
from yolo_attn.model import graph, parser
from yolo_attn.model.graph import check_graph
from yolo_attn.model.names import MODEL_YAMLS
from yolo_attn.model.rows import RowError
from yolo_attn.model.shapes import measure

OURS = {file.stem: file for file in MODEL_YAMLS.glob("*.yaml")}
SHIFT = "yolo-attn insert puts a row in and shifts the numbers of those behind it"


@pytest.fixture
def reported(monkeypatch):
    """The lines that are reported."""
    lines = []
    monkeypatch.setattr(graph, "_warn_once", lines.append)
    return lines


@pytest.mark.parametrize("name", [*families.YAMLS, *OURS])
def test_models_of_ultralytics_and_ours_are_silent(name, reported):
    check_graph(yaml.safe_load({**families.YAMLS, **OURS}[name].read_text()))
    assert reported == []


def body(model):
    return [*model["backbone"], *model["head"]]


def mutants(model):
    """A row of attention put in anywhere without shifting a number, and each number in a `from` off by one."""
    rows, split = body(model), len(model["backbone"])
    for at in range(1, len(rows)):
        changed = copy.deepcopy(rows)
        changed.insert(at, [-1, 1, "SimAM", []])
        yield f"inserted {at}", changed, split + (at <= split)
    for index, row in enumerate(rows):
        sources = row[0] if isinstance(row[0], list) else [row[0]]
        for n, source in enumerate(sources):
            for other in (source - 1, source + 1):
                if source >= 0 and 0 <= other < index:
                    changed = copy.deepcopy(rows)
                    changed[index][0] = [*sources[:n], other, *sources[n + 1 :]]
                    yield f"row {index} from {other}", changed, split


@pytest.mark.parametrize(
    "name",
    later(
        ["yolov8n", "yolo11n", "yolov8n-gam", "yolov9t", "yolov10n", "yolo12n", "yolo26n", "yolov5n", "rtdetr-l"],
        ["yolov8n"],
    ),
)
def test_all_mutants_that_build_are_caught(name, reported, monkeypatch):
    """All of those that differ: where two rows next to each other give the same map, nobody can tell."""
    model = {**tasks.yaml_model_load(f"{name}.yaml"), "yaml_file": "model.yaml"}
    monkeypatch.setattr(parser, "check_graph", lambda _: True)
    built, missed = 0, []
    for what, rows, split in mutants(model):
        mutant = {**model, "backbone": rows[:split], "head": rows[split:]}
        try:
            measure(mutant)
        except UserError:
            continue
        built += 1
        reported.clear()
        try:
            check_graph(mutant)
        except RowError:
            continue
        if not reported:
            missed.append(what)
    assert built > 20
    assert missed == []


def model(rows, head, name="mine.yaml"):
    return {"nc": 2, "backbone": rows, "head": [[head, 1, "Detect", ["nc"]]], "yaml_file": name}


CONV = [-1, 1, "Conv", [16, 3, 2]]
THREE = [CONV, CONV, CONV, CONV]


@pytest.mark.parametrize("row", [[-1, 1, "GAM", []], [-1, 1, "C2f_NAM", [16]], [2, 2, "SimAM", []]])
def test_attention_that_nothing_reads_is_refused(row):
    rows = [*THREE, row, [3, 1, "Conv", [16, 3, 2]]]
    line = rf"^mine.yaml, row 4: no row reads {row[2]}, it does nothing; Detect, row 6, reads 5 \(Conv\); {SHIFT}$"
    with pytest.raises(RowError, match=line):
        tasks.DetectionModel(model(rows, [5]), verbose=False)


def test_attention_that_only_idle_rows_read_is_refused():
    rows = [*THREE, [-1, 1, "GAM", []], [[4], 1, "Concat", [1]], [3, 1, "Conv", [16, 3, 2]]]
    with pytest.raises(RowError, match="row 4: only rows that do nothing read GAM, it does nothing; Detect, row 7"):
        tasks.DetectionModel(model(rows, [6]), verbose=False)


def test_a_checkpoint_with_idle_attention_loads_with_a_warning(tmp_path, monkeypatch, reported):
    """As a release that did not look trained it."""
    described = model([*THREE, [-1, 1, "GAM", []], [3, 1, "Conv", [16, 3, 2]]], [5])
    with monkeypatch.context() as patch:
        patch.setattr(parser, "check_graph", lambda _: True)
        trained = tasks.DetectionModel(described, verbose=False)
    torch.save({"model": trained, "train_args": {}}, tmp_path / "old.pt")
    assert str(load_safe(tmp_path / "old.pt")) == str(trained)
    assert "row 4: no row reads GAM" in reported[0]
    with pytest.raises(RowError):
        tasks.DetectionModel(described, verbose=False)


def test_the_line_says_what_the_head_should_read(tmp_path):
    """The commonest mistake: attention behind the last map, and the head's numbers as they were."""
    text = families.YAMLS["yolov8"].read_text()
    file = tmp_path / "yolov8n-mine.yaml"
    file.write_text(text.replace("  - [[15, 18, 21]", "  - [-1, 1, GAM, []]\n  - [[15, 18, 21]"))
    with pytest.raises(RowError, match=r"row 22: no row reads GAM.*; Detect, row 23, reads 15 \(C2f\)"):
        YOLO(file)
    shifted = text.replace(
        "  - [-1, 1, Conv, [256, 3, 2]]\n  - [[-1, 12]",
        "  - [-1, 1, GAM, []]\n  - [15, 1, Conv, [256, 3, 2]]\n  - [[-1, 12]",
    )
    assert shifted != text
    file.write_text(shifted)
    with pytest.raises(
        RowError,
        match=r"row 16: no row reads GAM.* and as in yolov8.yaml it would read 16 \(GAM\), 19 \(C2f\), 22 \(C2f\)",
    ):
        YOLO(file)


UNREAD, JOINED, LARGER = [[3], 1, "Concat", [1]], [[-1], 1, "Concat", [1]], [-1, 1, "nn.Upsample", [None, 2, "nearest"]]


@pytest.mark.parametrize(
    ("rows", "head", "line"),
    [
        ([*THREE, UNREAD, [3, 1, "Conv", [16, 3, 2]]], [5], "mine.yaml: no row reads row 4 (Concat)"),
        ([*THREE, JOINED], [4], "mine.yaml: row 5 (Detect) reads 4 (Concat), no head of Ultralytics' does"),
        ([*THREE, LARGER], [4], "mine.yaml: row 5 (Detect) reads 4 (nn.Upsample), no head of Ultralytics' does"),
        ([*THREE, LARGER, [-1, 1, "SimAM", []]], [5], "mine.yaml: row 6 (Detect) reads 5 (SimAM), no head"),
    ],
)
def test_other_rows_are_reported(rows, head, line, reported):
    tasks.DetectionModel(model(rows, head), verbose=False)
    assert len(reported) == 1
    assert reported[0].startswith(line)
    assert reported[0].endswith(SHIFT)


@pytest.mark.parametrize(("head", "strides"), [([2, 3, 4], "8, 16, 16"), ([4, 2], "16, 8"), ([2, 4], None)])
def test_strides_that_do_not_ascend_are_reported(head, strides, reported):
    tasks.DetectionModel(model([*THREE, [-1, 1, "GAM", []]], head), verbose=False)
    line = f"mine.yaml, row 5: Detect reads maps of strides {strides}, expected ascending ones; {SHIFT}"
    assert reported == ([line] if strides else [])


def test_a_warning_comes_once(caplog):
    described = model([*THREE, [[3], 1, "Concat", [1]]], [4], "once.yaml")
    for _ in range(2):
        tasks.DetectionModel(described, verbose=False)
    assert caplog.text.count("once.yaml: row 5 (Detect) reads 4 (Concat)") == 1
