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
        (
            PORT,
            BASE.replace("SPPF, [1024, 5]", "CBAM, [16, 7]"),
            "written for a port; row 9: CBAM, [16, 7] stays as it is, and means ratio: 16, kernel_size: 7 here",
        ),
        (
            PORT,
            BASE.replace("SPPF, [1024, 5]", "SimAM, [nc]"),
            "yolov8n-port.yaml, row 9: SimAM: e_lambda must be a finite number with 0 < e_lambda < 10, got 'nc'",
        ),
        (PORT, "nc: 3\n", "not a model YAML"),
    ],
)
def test_mistakes(port, capsys, old, new, told):
    (port / "yolov8n-port.yaml").write_text(PORT.replace(old, new))
    assert main(["migrate", "yolov8n-port.yaml", "-o", "yolov8n-ours.yaml"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert not (port / "yolov8n-ours.yaml").exists()


def test_channels_that_the_map_has_not_and_options_that_may_mean_other_are_told(port, capsys):
    """Channels by hand are the map's as written or at its scale; others would have been another layer."""
    text = PORT.replace("[1024, 1024]", "[512]").replace("SimAM, [1024]", "EMA, [32]")
    (port / "yolov8n-port.yaml").write_text(text)
    assert main(["migrate", "yolov8n-port.yaml"]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "row 22: EMA, [32] stays as it is, and means groups: 32 here",
        "row 9: 512 channels were given, 128 at this scale, and its map has 256",
    ]
    for given in (256, 1024):
        (port / "yolov8n-port.yaml").write_text(PORT.replace("[1024, 1024]", f"[{given}]"))
        assert main(["migrate", "yolov8n-port.yaml"]) == 0
        assert "channels were given" not in capsys.readouterr().out


def test_other_commands_point_here(port, capsys):
    """Where a YAML names a port's layer, or the command line does."""
    assert main(["insert", "yolov8n.yaml", "--layer", "GAM_Attention", "--at", "neck", "-o", "yolov8n-x.yaml"]) == 2
    hint = "did you mean GAM? yolo-attn migrate translates the rows of ports"
    assert f"--layer GAM_Attention: no such layer; {hint}" in capsys.readouterr().err
    assert main(["train", "--cfg", "yolov8n-port.yaml"]) == 2
    assert f"yolov8n-port.yaml, row 9: unknown layer 'GAM_Attention'; {hint}" in capsys.readouterr().err
