"""What a model's rows are, make and cost, and what differs between two models."""

import re
import shutil
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import families
import pytest
import torch
import yaml
from support import TINY_GAM, with_rows
from tiers import later
from ultralytics.nn import tasks

from yolo_attn import register_layer
from yolo_attn.cli import main
from yolo_attn.engine.cost import cost_of
from yolo_attn.errors import UserError
from yolo_attn.model import graph
from yolo_attn.model.registry import LAYERS
from yolo_attn.show import Shown, differences, mermaid, shown, svg, table


@pytest.fixture(scope="module")
def gam():
    return shown(["yolov8n-gam.yaml"])[0]


def test_rows_are_those_of_the_yaml(gam):
    assert [(row.number, row.name) for row in gam.rows if row.attends] == [(22, "GAM"), (23, "GAM"), (24, "GAM")]
    conv, concat, detect = gam.rows[0], gam.rows[11], gam.rows[25]
    assert (conv.sources, conv.arguments, conv.shape, conv.strides) == ((-1,), "[64, 3, 2]", (16, 320, 320), (2,))
    assert (concat.given, concat.sources, concat.readers) == ([-1, 6], (10, 6), (12,))
    assert (detect.sources, detect.strides, detect.readers) == ((22, 23, 24), (8, 16, 32), ())
    assert gam.rows[4].readers == (5, 14)


def test_parameters_are_counted_from_the_formula(gam):
    """GAM of c channels, ratio 4: two linear layers and two 7×7 convolutions with batch norms, all with biases."""
    for row in gam.rows[22:25]:
        c, hidden = row.shape[0], row.shape[0] // 4
        linear = c * hidden + hidden + hidden * c + c
        convolutions = 2 * 49 * c * hidden + hidden + c + 2 * hidden + 2 * c
        assert row.parameters == linear + convolutions


@pytest.mark.parametrize(
    "name",
    later(
        ["yolov8n-gam", "yolo11n", "yolov9t", "yolov10n", "yolo12n-seg", "yolo26n-pose", "yolov8n-cls", "rtdetr-l"],
        ["yolov8n-gam", "yolo11n"],
    ),
)
@pytest.mark.parametrize("size", later([96, 640], [96]))
def test_sums_are_the_models(name, size):
    (found,) = shown([f"{name}.yaml"], size)
    parameters, gflops = cost_of(tasks.yaml_model_load(f"{name}.yaml"), size)
    assert found.parameters == parameters
    assert found.gflops == pytest.approx(gflops)


@pytest.mark.parametrize("name", later(sorted(families.YAMLS), ["yolov8-worldv2", "yolo26-sem", "yoloe-11"]))
def test_every_model_of_ultralytics_is_listed(name):
    (found,) = shown([str(families.YAMLS[name])], 128)
    assert found.rows[-1].readers == ()
    assert all(row.shape for row in found.rows)


def test_all_rows_are_in_the_table(gam):
    title, _, headings, *lines, _, sums = table(gam)
    assert title == "yolov8n-gam.yaml on 640 × 640 pixels"
    assert headings.split()[:3] == ["row", "from", "n"]
    assert len(lines) == 26
    assert lines[22].split() == ["*", "22", "15", "1", "GAM", "[]", "64×80×80", "8", "102,720", "1.315", "25"]
    whole, attention = f"{gam.parameters:,} parameters, {gam.gflops:.3f} GFLOPs", "2,152,640 parameters, 3.939 GFLOPs"
    assert sums == f"26 rows, {whole}; rows with attention (*): 3, {attention}"


def test_only_what_differs(gam):
    base, inside, other = shown(["yolov8n.yaml", "yolov8n-c2f-nam.yaml", "yolo11n.yaml"])
    lines = differences(gam, base)
    assert [line.split()[:2] for line in lines[3:-2]] == [
        *(["+*", str(row)] for row in (22, 23, 24)),
        ["-", "22"],
        ["+", "25"],
    ]
    assert lines[-1].startswith(f"rows: 23 → 26; parameters: {base.parameters:,} → {gam.parameters:,} (+2,152,640); ")
    assert lines[-1].endswith(f"; GFLOPs: {base.gflops:.3f} → {gam.gflops:.3f} (+3.939)")
    assert {line[:2].strip() for line in differences(inside, base)[3:-2]} == {"-", "+*"}
    assert len(differences(inside, base)[3:-2]) == 16
    assert "no row differs" in differences(base, base)
    assert differences(other, base)[-1].startswith("rows: 23 → 24; ")


@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_row_anywhere_is_all_that_differs(at, tmp_path):
    """Its reader reads another row than before; all others only have other numbers."""
    model = tasks.yaml_model_load(TINY_GAM)
    file = tmp_path / "more.yaml"
    edited = with_rows(model, at, [-1, 1, "SE", []])
    file.write_text(yaml.safe_dump({key: edited[key] for key in ("nc", "backbone", "head")}))
    more, base = shown([str(file), TINY_GAM], 64)
    signs = [line.split()[0] for line in differences(more, base)[3:-2]]
    assert signs.count("+*") >= 1
    assert len(signs) <= 1 + 2 * len(more.rows[at].readers)


def test_a_checkpoint_beside_a_yaml_has_its_classes_and_its_size(tmp_path, capsys):
    model = tasks.DetectionModel("yolov8n-simam.yaml", nc=3, verbose=False)
    torch.save({"model": model, "train_args": {"imgsz": 96}}, tmp_path / "best.pt")
    assert main(["show", str(tmp_path / "best.pt"), "--against", "yolov8n-simam.yaml"]) == 0
    printed = capsys.readouterr().out
    assert "on 96 × 96 pixels" in printed
    assert "no row differs" in printed


def test_idle_attention_is_shown_with_a_warning(tmp_path, capsys, monkeypatch):
    reported = []
    monkeypatch.setattr(graph, "_warn_once", reported.append)
    text = families.YAMLS["yolov8"].read_text().replace("  - [[15, 18, 21]", "  - [-1, 1, GAM, []]\n  - [[15, 18, 21]")
    (tmp_path / "yolov8n-mine.yaml").write_text(text)
    assert main(["show", str(tmp_path / "yolov8n-mine.yaml"), "--mermaid", str(tmp_path / "graph.mmd")]) == 0
    assert "row 22: no row reads GAM" in reported[0]
    assert re.search(r'^  r22\["22 GAM<br>.*"\]:::idle$', (tmp_path / "graph.mmd").read_text(), re.MULTILINE)


def test_a_layer_that_looks_at_values_is_run_on_the_cpu(users_layer, tmp_path):
    (found,) = shown([users_layer], 64)
    assert [row.shape for row in found.rows if row.attends]


@pytest.fixture
def users_layer(tmp_path):
    class Looks(torch.nn.Module):
        def __init__(self, channels):
            super().__init__()

        def forward(self, x):
            return x if float(x.mean()) < 1e9 else x * 2

    register_layer(Looks)
    file = tmp_path / "looks.yaml"
    file.write_text(Path(TINY_GAM).read_text().replace("GAM", "Looks"))
    yield str(file)
    LAYERS.pop("Looks")


def edges(text):
    return {tuple(pair) for pair in re.findall(r"^  (\w+) --> (\w+)$", text, re.MULTILINE)}


def test_mermaid_has_every_row_and_every_reading(gam, tmp_path):
    file = tmp_path / "graph.mmd"
    assert main(["show", "yolov8n-gam.yaml", "--mermaid", str(file)]) == 0
    expected = {
        (f"r{source}" if source >= 0 else "image", f"r{row.number}") for row in gam.rows for source in row.sources
    }
    assert edges(file.read_text()) == expected
    assert file.read_text().count(":::attention") == 3


needs_dot = pytest.mark.skipif(not shutil.which("dot"), reason="Graphviz' dot is not installed")


@needs_dot
@pytest.mark.integration
def test_svg_has_every_row_and_every_reading(gam, tmp_path):
    file = tmp_path / "graph.svg"
    assert main(["show", "yolov8n-gam.yaml", "--svg", str(file)]) == 0
    expected = {f"{source if source >= 0 else 'image'}->{row.number}" for row in gam.rows for source in row.sources}
    titles = [title.text for title in ET.parse(file).iter("{http://www.w3.org/2000/svg}title")]
    assert {title for title in titles if "->" in title} == expected
    assert {"image", *map(str, range(26))} <= set(titles)


@pytest.fixture
def odd():
    """A model whose first row has arguments that drawings could take for their own signs."""
    (tiny,) = shown([TINY_GAM], 64)
    row = replace(tiny.rows[0], arguments='["]; <b> & #quot; \\n \\N"]')
    return Shown(tiny.name, tiny.size, [row, *tiny.rows[1:]])


def test_texts_in_rows_cannot_break_mermaid(odd):
    (line,) = [line for line in mermaid(odd).decode().splitlines() if line.startswith("  r0[")]
    assert line.count('"') == 2
    assert not set("<>&") & set(line.replace("<br>", ""))


@needs_dot
@pytest.mark.integration
def test_texts_in_rows_cannot_break_an_svg(odd):
    texts = [text.text for text in ET.fromstring(svg(odd)).iter("{http://www.w3.org/2000/svg}text")]
    assert odd.rows[0].arguments in texts


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["nope.yaml"], "nope.yaml: no such model"),
        (["nope.pt"], "nope.pt: no such file"),
        (["yolov8n.yaml", "--imgsz", "650"], "--imgsz 650: yolov8n.yaml needs a multiple of 32"),
        (["yolov8n.yaml", "--against", "nope.yaml"], "nope.yaml: no such model"),
        (["yolov8n.yaml", "--mermaid", "{there}"], "it exists already"),
        (["yolov8n.yaml", "--mermaid", "{tmp}/x", "--svg", "{tmp}/x"], "--mermaid names the same file"),
        (["yolov8n.yaml", "--svg", "{tmp}/no/graph.svg"], "there is no folder"),
    ],
)
def test_mistakes_are_one_line(words, line, tmp_path, capsys):
    there = tmp_path / "graph.mmd"
    there.write_text("mine")
    assert main(["show", *(word.format(there=there, tmp=tmp_path) for word in words)]) == 2
    assert line in capsys.readouterr().err
    assert there.read_text() == "mine"


def test_the_package_that_an_svg_needs_is_named(gam, monkeypatch):
    monkeypatch.setitem(sys.modules, "graphviz", None)
    with pytest.raises(UserError, match=r'needs the package graphviz; pip install "yolo_attn\[graph\]"'):
        svg(gam)


@pytest.mark.integration
def test_the_program_that_an_svg_needs_is_named(gam, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="needs Graphviz' program dot"):
        svg(gam)
