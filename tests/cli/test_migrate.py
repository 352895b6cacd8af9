"""`yolo-attn migrate`: models of ports in, models that build out."""

from pathlib import Path

import pytest
from ultralytics import YOLO
from ultralytics.utils.checks import check_yaml

from yolo_attn.cli import main

BASE = Path(check_yaml("yolov8.yaml")).read_text()
PORT = (
    BASE.replace("- [-1, 1, SPPF, [1024, 5]] # 9", "- [-1, 1, GAM_Attention, [1024, 1024]]")
    .replace("  - [-1, 3, C2f, [512]] # 12", "  - [-1, 3, C2f_CoordAttention, [512]] # 12")
    .replace("  - [[15, 18, 21], 1, Detect", "  - [-1, 1, SimAM, [1024]]\n  - [[15, 18, 22], 1, Detect")
)


@pytest.fixture
def port(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "yolov8n-port.yaml").write_text(PORT)
    return tmp_path


def test_each_change_is_told_and_the_model_builds(port, capsys):
    lines = [
        "row 9: GAM_Attention, [1024, 1024] -> GAM, []",
        "row 12: C2f_CoordAttention, [512] -> C2f_CoordAtt, [512]; inside each unit, where: end",
        "row 22: SimAM, [1024] -> SimAM, []",
    ]
    assert main(["migrate", "yolov8n-port.yaml"]) == 0
    assert capsys.readouterr().out.splitlines() == lines
    assert [f.name for f in port.iterdir()] == ["yolov8n-port.yaml"]
    assert main(["migrate", "yolov8n-port.yaml", "-o", "yolov8n-ours.yaml"]) == 0
    assert capsys.readouterr().out.splitlines() == lines
    assert (port / "yolov8n-port.yaml").read_text() == PORT
    model = YOLO("yolov8n-ours.yaml").model.model
    assert [type(model[i]).__name__ for i in (9, 22)] == ["GAM", "SimAM"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("GAM_Attention", "ParNet", "cannot be translated: row 9, ParNet [1024, 1024]: no layer here has that name"),
        ("[1024, 1024]", "[1024, 1024, 7]", "as translated, row 9: "),
        (PORT, BASE, "yolov8n-port.yaml: no row of it is written for a port"),
        (PORT, "nc: 3\n", "not a model YAML"),
    ],
)
def test_mistakes(port, capsys, old, new, told):
    (port / "yolov8n-port.yaml").write_text(PORT.replace(old, new))
    assert main(["migrate", "yolov8n-port.yaml", "-o", "yolov8n-ours.yaml"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert not (port / "yolov8n-ours.yaml").exists()
