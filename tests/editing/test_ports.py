"""Rows of popular ports in the words of this package."""

import pytest

from yolo_attn.editing import ModelText, migrate
from yolo_attn.errors import UserError

LAYERS = {"SimAM", "NAM", "GAM", "CBAM", "SE", "ECA", "BAM", "CoordAtt", "TripletAttention", "EMA"}
BLOCKS = {"C2f", "C3", "C3k2"}
KNOWN = {"Conv", "C2f", "C3", "C2fAttn", "ChannelAttention", "Detect", "SPPF"}
TEXT = """\
backbone:
  - [-1, 1, Conv, [64, 3, 2]] # 0
  - {row} # {{1}}
head:
  - [[0, 1], 1, Detect, [nc]] # 2
"""


def translated(row):
    text = TEXT.format(row=row)
    found = migrate(ModelText(text, "my.yaml"), LAYERS, BLOCKS, KNOWN)
    lines, old = found.text.splitlines(), text.splitlines()
    assert [line for i, line in enumerate(lines) if i != 2] == [line for i, line in enumerate(old) if i != 2]
    return lines[2].removeprefix("  - ").removesuffix(" # {1}"), found


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ("[-1, 1, GAM_Attention, [512, 512]]", "[-1, 1, GAM, []]"),
        ("[-1, 1, GAM_Attention, [512]]", "[-1, 1, GAM, []]"),
        ("[-1, 1, GAM_Attention, [512, 512, 8]]", "[-1, 1, GAM, [{ratio: 8}]]"),
        ("[-1, 1, GAMAttention, [512, 8]]", "[-1, 1, GAM, [{ratio: 8}]]"),
        ("[-1, 1, NAMAttention, [1024]]", "[-1, 1, NAM, []]"),
        ("[-1, 1, NAMAttention, [1024, 1024, False]]", "[-1, 1, NAM, [{spatial: true}]]"),
        ("[-1, 1, NAM_Att, []]", "[-1, 1, NAM, []]"),
        ("[-1, 1, SimAM, [1024]]", "[-1, 1, SimAM, []]"),
        ("[-1, 1, SimAM, [1024, 1e-4]]", "[-1, 1, SimAM, [{e_lambda: 0.0001}]]"),
        ("[-1, 1, ECA, [1024]]", "[-1, 1, ECA, [{kernel_size: 3}]]"),
        ("[-1, 1, SimAM, [1024, 0.1]]", "[-1, 1, SimAM, [{e_lambda: 0.1}]]"),
        ("[-1, 1, simam_module, [200]]", "[-1, 1, SimAM, []]"),
        ("[-1, 1, CBAM, [1024, 7]]", "[-1, 1, CBAM, [{kernel_size: 7}]]"),
        ("[-1, 1, CBAMBlock, [1024, 16, 7]]", "[-1, 1, CBAM, [{ratio: 16, kernel_size: 7}]]"),
        ("[ 0 ,1,  'CBAM', [1024]]", "[ 0 ,1,  'CBAM', []]"),
        ("[-1, 1, SEAttention, [1024, 16]]", "[-1, 1, SE, [{ratio: 16}]]"),
        ("[-1, 1, SE_Block, [96]]", "[-1, 1, SE, []]"),
        ("[-1, 1, SELayer, [1024]]", "[-1, 1, SE, []]"),
        ("[-1, 1, ECAAttention, [512]]", "[-1, 1, ECA, [{kernel_size: 3}]]"),
        ("[-1, 1, eca_layer, [512, 5]]", "[-1, 1, ECA, [{kernel_size: 5}]]"),
        ("[-1, 1, EfficientChannelAttention, [512]]", "[-1, 1, ECA, []]"),
        ("[-1, 1, CoordAtt, [512, 512, 16]]", "[-1, 1, CoordAtt, [{ratio: 16}]]"),
        ("[-1, 1, CoordAtt, [512, 32]]", "[-1, 1, CoordAtt, [{ratio: 32}]]"),
        ("[-1, 1, CoordAttention, [512, 512]]", "[-1, 1, CoordAtt, []]"),
        ("[-1, 1, EMA, [512, 8]]", "[-1, 1, EMA, [{groups: 8}]]"),
        ("[-1, 1, EMA_attention, [512]]", "[-1, 1, EMA, []]"),
        ("[-1, 1, BAMBlock, [512, 16, 2]]", "[-1, 1, BAM, [{ratio: 16, dilation: 2}]]"),
        ("[-1, 1, SimAM, [999]]", "[-1, 1, SimAM, []]"),
        ("[-1, 1, CBAM, [7]]", "[-1, 1, CBAM, [{kernel_size: 7}]]"),
        ("[-1, 1, NAMAttention, ['1024']]", "[-1, 1, NAM, []]"),
        ("[-1, 1, CA, [512, 512, 16]]", "[-1, 1, CoordAtt, [{ratio: 16}]]"),
        ("[-1, 1, CABlock, [512]]", "[-1, 1, CoordAtt, []]"),
        ("[-1, 3, C3CA, [512]]", "[-1, 3, C3_CoordAtt, [512]]"),
        ("[-1, 1, Triplet_Attention, []]", "[-1, 1, TripletAttention, []]"),
        ("[-1, 3, C2f_GAMAttention, [128, True]]", "[-1, 3, C2f_GAM, [128, True]]"),
        ("[-1, 3, C3SE, [128]]", "[-1, 3, C3_SE, [128]]"),
        ("[-1, 3, C3k2_EMA_attention, [128, False, 0.25]]", "[-1, 3, C3k2_EMA, [128, False, 0.25]]"),
    ],
)
def test_translated(row, wanted):
    found, migrated = translated(row)
    assert found == wanted
    assert not migrated.unknown
    (line,) = migrated.changes
    assert line.startswith("row 1: ")
    assert " -> " in line


@pytest.mark.parametrize(
    "row",
    [
        "[-1, 1, GAM, []]",
        "[-1, 1, GAM, [8]]",
        "[-1, 1, EMA, [32]]",
        "[-1, 1, SimAM, [{e_lambda: 0.1}]]",
        "[-1, 1, SimAM, [1e-4]]",
        "[-1, 1, SimAM, [nc]]",
        "[-1, 1, CBAM, [16, 7]]",
        "[-1, 1, NAM, [{spatial: true}]]",
        "[-1, 3, C2f_NAM, [128, true, {where: end}]]",
        "[-1, 3, C2fAttn, [256, 128, 4]]",
        "[-1, 1, ChannelAttention, [512]]",
        "[-1, 1, nn.Upsample, [None, 2, nearest]]",
    ],
)
def test_left_as_it_is(row):
    found, migrated = translated(row)
    assert found == row
    assert not migrated.changes
    assert not migrated.unknown


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("[-1, 1, ParNetAttention, [512]]", "row 1, ParNetAttention [512]: no layer here has that name"),
        ("[-1, 3, C2f_DCN, [512]]", "row 1, C2f_DCN [512]: no layer here has that name"),
        ("[-1, 1, GAM_Attention, [512, 256]]", "512 channels in and 256 out"),
        ("[-1, 1, SEAttention, [512, 16, relu]]", "what [16, relu] means is not known"),
        ("[-1, 1, SimAM, [512, 1, 2]]", "what [1, 2] means is not known"),
        ("[-1, 1, GAM_Attention, [nc]]", "what [nc] means is not known"),
    ],
)
def test_what_cannot_be_translated_is_told(row, told):
    found, migrated = translated(row)
    assert found == row
    assert not migrated.changes
    assert told in migrated.unknown[0]


def test_shared_arguments_are_refused():
    text = TEXT.format(row="[-1, 1, SimAM, &c [1024]]").replace("[nc]", "*c")
    with pytest.raises(UserError, match="row 1: it stands in several places"):
        migrate(ModelText(text, "my.yaml"), LAYERS, BLOCKS, KNOWN)
