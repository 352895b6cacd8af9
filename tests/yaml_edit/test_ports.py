"""Rows of popular ports, translated; tests/cli/test_migrate.py has those that public forks use."""

import pytest

from yolo_attn.errors import UserError
from yolo_attn.yaml_edit import ModelText, migrate, without_attention

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


CHANNELS = (256, 1024, 512)
"""Of every map in these tests: at the model's scale, as written, and at another scale."""


def translated(row, channels=CHANNELS):
    text = TEXT.format(row=row)
    found = migrate(ModelText(text, "my.yaml"), LAYERS, BLOCKS, KNOWN, lambda index: channels)
    lines, old = found.text.splitlines(), text.splitlines()
    assert [line for i, line in enumerate(lines) if i != 2] == [line for i, line in enumerate(old) if i != 2]
    return lines[2].removeprefix("  - ").removesuffix(" # {1}"), found


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ("[-1, 1, GAM_Attention, [512]]", "[-1, 1, GAM, []]"),
        ("[-1, 1, GAM_Attention, [512, 512, 8]]", "[-1, 1, GAM, [{ratio: 8}]]"),
        ("[-1, 1, NAMAttention, [1024, 1024, False]]", "[-1, 1, NAM, [{spatial: true}]]"),
        ("[-1, 1, NAM_Att, []]", "[-1, 1, NAM, []]"),
        ("[-1, 1, ECA, [1024]]", "[-1, 1, ECA, [{kernel_size: 3}]]"),
        ("[-1, 1, SimAM, [1024, 0.1]]", "[-1, 1, SimAM, [{e_lambda: 0.1}]]"),
        ("[-1, 1, simam_module, [200]]", "[-1, 1, SimAM, []]"),
        ("[ 0 ,1,  'CBAM', [1024]]", "[ 0 ,1,  'CBAM', []]"),
        ("[-1, 1, SELayer, [1024]]", "[-1, 1, SE, []]"),
        ("[-1, 1, ECAAttention, [512]]", "[-1, 1, ECA, [{kernel_size: 3}]]"),
        ("[-1, 1, eca_layer, [512, 5]]", "[-1, 1, ECA, [{kernel_size: 5}]]"),
        ("[-1, 1, EfficientChannelAttention, [512]]", "[-1, 1, ECA, []]"),
        ("[-1, 1, CoordAttention, [512, 512]]", "[-1, 1, CoordAtt, []]"),
        ("[-1, 1, CBAM, [7]]", "[-1, 1, CBAM, [{kernel_size: 7}]]"),
        ("[-1, 1, NAMAttention, ['1024']]", "[-1, 1, NAM, []]"),
        ("[-1, 1, CABlock, [512]]", "[-1, 1, CoordAtt, []]"),
        ("[-1, 3, C3CA, [512]]", "[-1, 3, C3_CoordAtt, [512]]"),
        ("[-1, 1, Triplet_Attention, []]", "[-1, 1, TripletAttention, []]"),
        ("[-1, 1, SEAttention, [256]]", "[-1, 1, SE, []]"),
        ("[-1, 1, SEAttention, [512, 512, 32]]", "[-1, 1, SE, [{ratio: 32}]]"),
        ("[-1, 1, SE, [1024, 4]]", "[-1, 1, SE, [{ratio: 4}]]"),
        ("[-1, 1, ECA, [512, 512, 5]]", "[-1, 1, ECA, [{kernel_size: 5}]]"),
        ("[-1, 1, EMA_attention, [32]]", "[-1, 1, EMA, [{groups: 32}]]"),
        ("[-1, 1, EMA, [512, null, 16]]", "[-1, 1, EMA, [{groups: 16}]]"),
        ("[-1, 1, EMA, [1024]]", "[-1, 1, EMA, []]"),
        ("[-1, 1, BAMBlock, [8, 2]]", "[-1, 1, BAM, [{ratio: 8, dilation: 2}]]"),
        ("[-1, 1, GAM_Attention, [512, 512, False, 4]]", "[-1, 1, GAM, [{ratio: 4}]]"),
        ("[-1, 1, CBAM, [1024, 1024, 16, 7]]", "[-1, 1, CBAM, [{ratio: 16, kernel_size: 7}]]"),
        ("[-1, 1, CBAMBlock, [512, 16, 49]]", "[-1, 1, CBAM, [{ratio: 16, kernel_size: 49}]]"),
        ("[-1, 1, CBAM_attention, [16, 7]]", "[-1, 1, CBAM, [{ratio: 16, kernel_size: 7}]]"),
        ("[-1, 1, TripletAttention, [False]]", "[-1, 1, TripletAttention, []]"),
        ("[-1, 1, TripletAttention, [256]]", "[-1, 1, TripletAttention, []]"),
        ("[-1, 1, NAMAttention, [False]]", "[-1, 1, NAM, [{spatial: true}]]"),
        ("[-1, 3, C2f_GAMAttention, [128, True]]", "[-1, 3, C2f_GAM, [128, True]]"),
        ("[-1, 3, C3SE, [128]]", "[-1, 3, C3_SE, [128]]"),
        ("[-1, 3, C3k2_EMA_attention, [128, False, 0.25]]", "[-1, 3, C3k2_EMA, [128, False, 0.25]]"),
    ],
)
def test_rows_are_translated(row, wanted):
    found, migrated = translated(row)
    assert found == wanted
    assert not migrated.unknown
    (line,) = migrated.changes
    assert line.startswith("row 1: ")
    assert " -> " in line


UNCHANGED = """\
[-1, 1, GAM, []]
[-1, 1, GAM, [8]]
[-1, 1, EMA, [32]]
[-1, 1, TripletAttention, [7]]
[-1, 1, TripletAttention, [2]]
[-1, 1, NAM, [True]]
[-1, 1, Detect, [nc]]
[-1, 1, SimAM, [{e_lambda: 0.1}]]
[-1, 1, SimAM, [1e-4]]
[-1, 1, SimAM, [nc]]
[-1, 1, CBAM, [16, 7]]
[-1, 1, NAM, [{spatial: true}]]
[-1, 3, C2f_NAM, [128, true, {where: end}]]
[-1, 3, C2fAttn, [256, 128, 4]]
[-1, 1, ChannelAttention, [512]]
[-1, 1, nn.Upsample, [None, 2, nearest]]
"""


@pytest.mark.parametrize("row", UNCHANGED.splitlines())
def test_rows_that_stay_unchanged(row):
    found, migrated = translated(row)
    assert (found, migrated.changes, migrated.unknown) == (row, [], [])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("[-1, 1, ParNetAttention, [512]]", "row 1, ParNetAttention [512]: no layer has this name"),
        ("[-1, 3, C2f_DCN, [512]]", "row 1, C2f_DCN [512]: no layer has this name"),
        ("[-1, 1, SimAM_with_slicing, []]", "row 1, SimAM_with_slicing []: no layer has this name"),
        ("[-1, 1, GAM_Attention, [512, 256]]", "512 channels in and 256 out"),
        ("[-1, 1, Triplet_Attention, [2]]", "the meaning of [2] is unknown"),
        ("[-1, 1, Triplet_Attention, [True]]", "the meaning of [true] is unknown"),
        ("[-1, 1, GAM_Attention, [512, 512, True, 4]]", "the meaning of [true, 4] is unknown"),
        ("[-1, 1, SEAttention, [2.5]]", "the meaning of [2.5] is unknown"),
        ("[-1, 1, SEAttention, [-1]]", "the meaning of [-1] is unknown"),
        ("[-1, 1, eca_layer, [512, 4]]", "the meaning of [4] is unknown"),
        ("[-1, 1, SEAttention, [512, nan]]", "the meaning of [.nan] is unknown"),
        ("[-1, 1, SEAttention, [512, 16, relu]]", "the meaning of [16, relu] is unknown"),
        ("[-1, 1, SimAM, [512, 1, 2]]", "the meaning of [1, 2] is unknown"),
        ("[-1, 1, GAM_Attention, [nc]]", "the meaning of [nc] is unknown"),
    ],
)
def test_rows_that_cannot_be_translated_are_reported(row, message):
    found, migrated = translated(row)
    assert (found, migrated.changes) == (row, [])
    assert message in migrated.unknown[0]


def test_shared_arguments_are_refused():
    text = TEXT.format(row="[-1, 1, SimAM, &c [1024]]").replace("[nc]", "*c")
    with pytest.raises(UserError, match="row 1: it is repeated through an alias"):
        migrate(ModelText(text, "my.yaml"), LAYERS, BLOCKS, KNOWN, lambda index: CHANNELS)


@pytest.mark.parametrize(
    ("row", "channels", "wanted", "note"),
    [
        ("SEAttention, [32]", (32, 128), "SE, []", "32 is taken for the channels of its map; if it means ratio"),
        ("SEAttention, [32]", (64, 256), "SE, [{ratio: 32}]", ""),
        ("SEAttention, [16, 16]", (16, 64), "SE, [{ratio: 16}]", ""),
        ("GAM_Attention, [16, 16]", (16, 64), "GAM, []", ""),
        ("SEAttention, [100]", (64, 256), "SE, []", "100 channels were given, but its map has 64"),
        ("EMA, [64]", (64, 256), "EMA, []", "64 is taken for the channels of its map; if it means groups"),
        ("EMA, [64]", (16, 64), "EMA, []", "64 is taken for the channels of its map"),
        ("EMA, [32]", (16, 32), "EMA, [32]", ""),
        ("EMA, [16]", (16, 32), "EMA, []", "16 is taken for the channels of its map"),
        ("SimAM, [48]", (48, 192), "SimAM, []", ""),
        ("CBAM_attention, [16, 7]", (16, 64), "CBAM, [{kernel_size: 7}]", ""),
    ],
)
def test_the_map_channels_decide_what_a_number_means(row, channels, wanted, note):
    found, migrated = translated(f"[-1, 1, {row}]", channels)
    assert found == f"[-1, 1, {wanted}]"
    assert len(migrated.notes) == bool(note)
    assert all(line.startswith(f"row 1: {note}") for line in migrated.notes)


@pytest.mark.parametrize("anchors", ["anchors", "[[10, 13, 16, 30], [30, 61, 62, 45]]"])
def test_heads_lose_their_anchors(anchors):
    text = TEXT.format(row="[-1, 1, Conv, [64]]").replace("[nc]", f"[nc, {anchors}]")
    migrated = migrate(ModelText(text, "my.yaml"), LAYERS, BLOCKS, KNOWN, lambda index: CHANNELS)
    assert migrated.text == TEXT.format(row="[-1, 1, Conv, [64]]")
    (line,) = migrated.changes
    assert line.endswith("-> Detect, [nc]; heads have no anchors")


def test_channels_are_not_measured_if_a_name_is_unknown():
    """There is no model to measure them on."""

    def channels(index):
        raise AssertionError

    text = TEXT.format(row="[-1, 1, ParNet, [512]]").replace("Conv,", "SimAM,")
    migrated = migrate(ModelText(text, "my.yaml"), LAYERS, BLOCKS, KNOWN, channels)
    assert len(migrated.unknown) == 1
    assert migrated.text == text


def test_without_attention_a_model_has_rows_that_ultralytics_knows():
    text = TEXT.format(row="[-1, 3, C2f_GAMAttention, [128, True, {where: end}]]").replace(
        "Conv, [64, 3, 2]", "SE, [4]"
    )
    rows = without_attention(ModelText(text.replace("[nc]", "[nc, anchors]"), "my.yaml"), LAYERS, BLOCKS, KNOWN)
    assert rows == [[-1, 1, "nn.Identity", []], [-1, 3, "C2f", [128, True]], [[0, 1], 1, "Detect", ["nc"]]]
