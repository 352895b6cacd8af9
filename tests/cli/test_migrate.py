"""`yolo-attn migrate`: models of ports become models that build."""

from pathlib import Path

import pytest
import yaml
from tiers import later
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
def port(here):
    (here / "yolov8n-port.yaml").write_text(PORT)
    return here


def test_each_change_is_reported_and_the_model_builds(port, capsys):
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
    ("old", "new", "message"),
    later(
        [
            ("GAM_Attention", "ParNet", "cannot be translated: row 9, ParNet [1024, 1024]: no layer has this name"),
            ("GAM_Attention, [1024, 1024]", "GAM_Attention, [1024, 512]", "[1024, 512]: 1024 channels in and 512 out"),
            (
                "GAM_Attention, [1024, 1024]",
                "TripletAttention, [2]",
                "row 9: TripletAttention: kernel_size must be odd, got 2",
            ),
            ("GAM_Attention, [1024, 1024]", "SEAttention, [[1024]]", "[[1024]]: the meaning of [[1024]] is unknown"),
            ("GAM_Attention, [1024, 1024]", "SEAttention, 1024.5", "[1024.5]: the meaning of [1024.5] is unknown"),
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
        ["GAM_Attention", "[1024, 1024]", PORT],
    ),
)
def test_mistakes(port, refused, old, new, message):
    (port / "yolov8n-port.yaml").write_text(PORT.replace(old, new))
    assert message in refused("migrate", "yolov8n-port.yaml", "-o", "yolov8n-ours.yaml")


@pytest.mark.integration
def test_wrong_channels_and_ambiguous_options_are_reported(port, capsys):
    """Right channels are the map's as written, or at any scale."""
    text = PORT.replace("[1024, 1024]", "[777]").replace("SimAM, [1024]", "EMA, [32]")
    (port / "yolov8n-port.yaml").write_text(text)
    assert main(["migrate", "yolov8n-port.yaml"]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "row 22: EMA, [32] stays as it is, and means groups: 32 here",
        "row 9: 777 channels were given, but its map has 256",
    ]
    for given in (256, 512, 1024):  # as scales n and s have them, and as they are written
        (port / "yolov8n-port.yaml").write_text(PORT.replace("[1024, 1024]", f"[{given}]"))
        assert main(["migrate", "yolov8n-port.yaml"]) == 0
        assert "channels were given" not in capsys.readouterr().out


@pytest.mark.integration
@pytest.mark.usefixtures("port")
def test_other_commands_suggest_migrate_for_a_layer_of_a_port(refused):
    """In a YAML and on the command line."""
    hint = "did you mean GAM? yolo-attn migrate translates the rows of ports"
    line = refused("insert", "yolov8n.yaml", "--layer", "GAM_Attention", "--at", "neck", "-o", "yolov8n-x.yaml")
    assert f"GAM_Attention: no such layer; {hint}" in line
    line = refused("train", "--cfg", "yolov8n-port.yaml")
    assert f"yolov8n-port.yaml, row 9: unknown layer 'GAM_Attention'; {hint}" in line


YOLOV5 = """\
nc: 80
depth_multiple: 0.33
width_multiple: 0.50
anchors:
  - [10, 13, 16, 30, 33, 23]
  - [30, 61, 62, 45, 59, 119]
  - [116, 90, 156, 198, 373, 326]
backbone:
  [[-1, 1, Conv, [64, 6, 2, 2]],  # 0-P1/2
   [-1, 1, Conv, [128, 3, 2]],  # 1-P2/4
   [-1, 3, C3, [128]],
   [-1, 1, Conv, [256, 3, 2]],  # 3-P3/8
   [-1, 6, C3, [256]],
   [-1, 1, Conv, [512, 3, 2]],  # 5-P4/16
   [-1, 9, C3, [512]],
   [-1, 1, Conv, [1024, 3, 2]],  # 7-P5/32
   [-1, 3, C3, [1024]],
   [-1, 1, SEAttention, [1024, 16]],  # 9
   [-1, 1, SPPF, [1024, 5]],  # 10
  ]
head:
  [[-1, 1, Conv, [512, 1, 1]],
   [-1, 1, nn.Upsample, [None, 2, 'nearest']],
   [[-1, 6], 1, Concat, [1]],  # cat backbone P4
   [-1, 3, C3, [512, False]],  # 14
   [-1, 1, Conv, [256, 1, 1]],
   [-1, 1, nn.Upsample, [None, 2, 'nearest']],
   [[-1, 4], 1, Concat, [1]],  # cat backbone P3
   [-1, 3, C3, [256, False]],  # 18 (P3/8-small)
   [-1, 1, SEAttention, [32]],
   [-1, 1, Conv, [256, 3, 2]],
   [[-1, 15], 1, Concat, [1]],  # cat head P4
   [-1, 3, C3, [512, False]],  # 22 (P4/16-medium)
   [[19, 22, 10], 1, Detect, [nc, anchors]],
  ]
"""


def test_yamls_of_yolov5_forks_are_translated(port, capsys):
    """They have one width for all scales, and heads with anchors, which Ultralytics' heads do not take."""
    (port / "yolov5s-se.yaml").write_text(YOLOV5)
    assert main(["migrate", "yolov5s-se.yaml", "-o", "yolov5s-ours.yaml"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "row 9: SEAttention, [1024, 16] -> SE, [{ratio: 16}]",
        "row 19: SEAttention, [32] -> SE, [{ratio: 32}]",
        "row 23: Detect, [nc, anchors] -> Detect, [nc]; heads have no anchors",
    ]
    model = YOLO("yolov5s-ours.yaml").model.model
    assert [model[i].fc1.weight.shape for i in (9, 19)] == [(32, 512), (4, 128)]


@pytest.mark.integration
def test_other_commands_suggest_migrate_for_anchors(port, refused):
    (port / "yolov5s-se.yaml").write_text(YOLOV5.replace("SEAttention", "SE").replace("[1024, 16]", "[16]"))
    for command in (["train", "--cfg"], ["insert", "--layer", "NAM", "--at", "neck", "-o", "yolov5s-nam.yaml"]):
        message = "yolov5s-se.yaml, row 23: Detect takes no anchors in Ultralytics; yolo-attn migrate takes them out"
        assert message in refused(*command, "yolov5s-se.yaml")


@pytest.mark.integration
@pytest.mark.parametrize(
    "command", [["migrate"], ["train", "--cfg"], ["insert", "--layer", "NAM", "--at", "neck", "-o", "yolov8n-nam.yaml"]]
)
def test_a_scale_that_the_yaml_lacks_is_reported(port, refused, command):
    text = PORT if command == ["migrate"] else BASE
    (port / "yolov8n-port.yaml").write_text(text.replace("  n: [", "  k: ["))
    message = "yolov8n-port.yaml: its name gives the scale 'n', and its scales are 'k, s, m, l, x'"
    assert message in refused(*command, "yolov8n-port.yaml")


FORKS = {
    "SimAM, [1024]": ("SimAM", {}),
    "SimAM, [512, 1e-4]": ("SimAM", {"e_lambda": 1e-4}),
    "simam_module, []": ("SimAM", {}),
    "GAM_Attention, [1024, 1024]": ("GAM", {}),
    "GAM_Attention, [256]": ("GAM", {}),
    "GAMAttention, [512, 512, 8]": ("GAM", {"ratio": 8}),
    "NAMAttention, [1024]": ("NAM", {}),
    "NAM, [1024, 1024]": ("NAM", {}),
    "SEAttention, [1024, 16]": ("SE", {"ratio": 16}),
    "SEAttention, [32]": ("SE", {"ratio": 32}),
    "SE_Block, [256]": ("SE", {}),
    "CBAM, [1024, 7]": ("CBAM", {"kernel_size": 7}),
    "CBAM, [256]": ("CBAM", {}),
    "CBAMBlock, [1024, 16, 7]": ("CBAM", {"ratio": 16, "kernel_size": 7}),
    "CoordAtt, [1024, 1024, 32]": ("CoordAtt", {"ratio": 32}),
    "CoordAtt, [1024, 32]": ("CoordAtt", {"ratio": 32}),
    "CA, [1024]": ("CoordAtt", {}),
    "ECA, [1024, 3]": ("ECA", {"kernel_size": 3}),
    "ECAAttention, [5]": ("ECA", {"kernel_size": 5}),
    "eca_layer, [256]": ("ECA", {"kernel_size": 3}),
    "EMA, [1024, 8]": ("EMA", {"groups": 8}),
    "EMA_attention, [512, None, 16]": ("EMA", {"groups": 16}),
    "TripletAttention, [1024]": ("TripletAttention", {}),
    "Triplet_Attention, [False, 7]": ("TripletAttention", {"kernel_size": 7}),
    "BAMBlock, [1024, 16, 2]": ("BAM", {"ratio": 16, "dilation": 2}),
}
"""Rows as public forks write them, of a map that has 256 channels at scale n, 512 at s, 1024 as written."""


def test_rows_of_public_forks_become_the_layer_with_their_options(port):
    scales = BASE[BASE.index("scales:") : BASE.index("# YOLOv8.0n backbone")]
    rows = ["Conv, [64, 3, 2]", "Conv, [1024, 3, 2]", *FORKS]
    backbone = "".join(f"  - [-1, 1, {row}]\n" for row in rows)
    text = f"nc: 3\n{scales}\nbackbone:\n{backbone}head:\n  - [-1, 1, Classify, [nc]]\n"
    (port / "yolov8n-port.yaml").write_text(text)
    assert main(["migrate", "yolov8n-port.yaml", "-o", "yolov8n-ours.yaml"]) == 0
    found = yaml.safe_load((port / "yolov8n-ours.yaml").read_text())["backbone"][2:]
    wanted = [[-1, 1, name, [options] if options else []] for name, options in FORKS.values()]
    assert dict(zip(FORKS, found, strict=True)) == dict(zip(FORKS, wanted, strict=True))
