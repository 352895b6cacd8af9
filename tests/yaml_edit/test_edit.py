"""Rows inserted into a model YAML's text and removed again."""

import re

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layouts import models

from yolo_attn.errors import UserError
from yolo_attn.yaml_edit import ModelText, insert, remove, with_header

BLOCKS, LAYERS = {"C2f", "C3k2", "ResNetLayer"}, {"GAM", "NAM"}
FEW = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

YOLO = """\
# my model
nc: 3
backbone:
  # [from, repeats, module, args]
  - [-1, 1, Conv, [64, 3, 2]] # 0-P1/2
  - [-1, 3, C2f, [128, True]]
  - [-1, 1, Conv, [256, 3, 2]] # 2-P3/8
  - [-1, 3, C2f, [256, True]]
  - [-1, 1, SPPF, [256, 5]] # 4

head:
  - [-1, 1, nn.Upsample, [None, 2, "nearest"]]
  - [[-1, 1], 1, Concat, [1]] # cat backbone P2
  - [-1, 3, C2f, [128]] # 7 (P2/4-small)

  - [[7, 4], 1, Detect, [nc]] # Detect(P2, P3)
"""


def edit(text, place, layer="GAM", options=None, **more):
    return insert(ModelText(text, "my.yaml"), layer, place, options, blocks=BLOCKS, **more)


def removed(text):
    return remove(text, "my.yaml", LAYERS, BLOCKS).text


def rows_of(text):
    content = yaml.safe_load(text)
    return [*content["backbone"], *content["head"]]


def lines_changed(old, new):
    before = old.splitlines()
    return [line for line in new.splitlines() if line not in before]


CHANGED = {
    "neck": [
        "  - [-1, 1, GAM, []] # 8, P2",
        "  - [4, 1, GAM, []] # 9, P3",
        "  - [[8, 9], 1, Detect, [nc]] # Detect(P2, P3)",
    ],
    "backbone": [
        "  - [-1, 1, GAM, []] # 4, P3",
        "  - [-1, 1, SPPF, [256, 5]] # 5",
        "  - [-1, 3, C2f, [128]] # 8 (P2/4-small)",
        "  - [[8, 5], 1, Detect, [nc]] # Detect(P2, P3)",
    ],
    "after:1,4": [
        "  - [-1, 1, GAM, []] # 2",
        "  - [-1, 1, Conv, [256, 3, 2]] # 3-P3/8",
        "  - [-1, 1, SPPF, [256, 5]] # 5",
        "  - [-1, 1, GAM, []] # 6, P3",
        "  - [[-1, 2], 1, Concat, [1]] # cat backbone P2",
        "  - [-1, 3, C2f, [128]] # 9 (P2/4-small)",
        "  - [[9, 6], 1, Detect, [nc]] # Detect(P2, P3)",
    ],
    "blocks": [
        "  - [-1, 3, C2f_GAM, [128, True]]",
        "  - [-1, 3, C2f_GAM, [256, True]]",
        "  - [-1, 3, C2f_GAM, [128]] # 7 (P2/4-small)",
    ],
    "blocks:backbone": ["  - [-1, 3, C2f_GAM, [128, True]]", "  - [-1, 3, C2f_GAM, [256, True]]"],
    "blocks:neck": ["  - [-1, 3, C2f_GAM, [128]] # 7 (P2/4-small)"],
}


@pytest.mark.parametrize("options", [{}, {"ratio": 8}])
@pytest.mark.parametrize("place", CHANGED)
def test_lines_that_each_place_changes(place, options):
    edited = edit(YOLO, place, options=options, strides={3: 8, 4: 8, 7: 4})
    written = [line.replace("GAM, []", "GAM, [{ratio: 8}]") if options else line for line in CHANGED[place]]
    if options and place.startswith("blocks"):
        written = [line.replace("]]", ", {ratio: 8}]]") for line in written]
    assert lines_changed(YOLO, edited.text) == written


def test_added_rows_follow_the_last_row_directly():
    assert (
        "# 7 (P2/4-small)\n  - [-1, 1, GAM, []] # 8\n  - [4, 1, GAM, []] # 9\n\n  - [[8, 9]" in edit(YOLO, "neck").text
    )


def test_stages():
    strides = {0: 2, 1: 4, 2: 8, 3: 8, 4: 8, 5: 4, 6: 4, 7: 4}
    edited = edit(YOLO, "stages", strides=strides)
    assert edited.record.rows == [2, 5]
    assert [row[:3] for row in rows_of(edited.text)][5:7] == [[-1, 1, "GAM"], [-1, 1, "SPPF"]]
    with pytest.raises(UserError, match="makes a map of stride 4 or more"):
        edit(YOLO, "stages", strides={0: 2})


def test_older_headers_are_read():
    """They wrote "rows" for one row, too."""
    written = with_header(edit(YOLO, "backbone"), "my.yaml", "train")
    assert "# Inserted GAM as row 4; " in written
    assert removed(written.replace("as row 4", "as rows 4")) == YOLO


def test_numbers_that_are_not_row_numbers_stay():
    text = YOLO.replace("# 4\n", "# 5\n").replace("# cat", "# 3x3 6 cat")
    edited = edit(text, "backbone")
    assert "SPPF, [256, 5]] # 5\n" in edited.text
    assert "# 3x3 6 cat" in edited.text
    written = with_header(edited, "my.yaml", "train")
    assert "past the comments of row 5;" in written
    assert removed(written) == text


def test_remove_undoes_the_last_insertion_first():
    texts = [YOLO]
    for place, layer in zip(
        ("neck", "after:1,3", "blocks:neck", "neck", "neck"), ["GAM", "NAM", "GAM", "NAM", "GAM"], strict=True
    ):
        texts.append(with_header(edit(texts[-1], place, layer), "my.yaml", "train"))
    assert [row[2] for row in rows_of(texts[-1])[-7:-1]] == ["GAM", "GAM", "NAM", "NAM", "GAM", "GAM"]
    for before, after in zip(texts[-2::-1], texts[:0:-1], strict=True):
        assert removed(after) == before


def test_without_a_header_all_attention_is_removed():
    text = edit(edit(edit(YOLO, "neck").text, "after:1", "NAM").text, "blocks", options={"ratio": 2}).text
    assert removed(text) == YOLO


WRITTEN = with_header(edit(YOLO, "neck"), "my.yaml", "train")
MOVED = WRITTEN.replace("  - [-1, 1, SPPF, [256, 5]] # 4\n", "").replace("[[8, 9], 1", "[[7, 4], 1")
NO_ROWS = "backbone: [[-1, 1, GAM, []]]\nhead: [[-1, 1, Conv, [8]], [[-1], 1, Detect, []]]"
IMAGE = "backbone: [[-1, 1, GAM, []], [-1, 1, Conv, [8]]]\nhead: [[[-1], 1, Detect, []]]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# my note\n" + WRITTEN, "my.yaml: the header of an insertion is below other lines; move it to the top"),
        (YOLO, "my.yaml: found no attention layer in it"),
        (NO_ROWS, "my.yaml: backbone or head would be left without rows"),
        (
            IMAGE.replace("Conv, [8]]]", "Conv, [8]], [0, 1, Conv, [8]]]"),
            "my.yaml, row 2: it takes the image through attention",
        ),
        (MOVED, "my.yaml, row 9: found Detect, but the header says that GAM was inserted there"),
    ],
)
def test_removal_that_is_refused(text, message):
    """Under a header below other lines, all attention would be removed and the header would stay."""
    with pytest.raises(UserError, match=f"^{message}"):
        removed(text)


def test_attention_on_the_image_is_removed_before_the_next_row():
    assert rows_of(removed(IMAGE))[0] == [-1, 1, "Conv", [8]]


@pytest.mark.parametrize("args", ["[]", "[{where: end}]", "[{where: end}, {where: end}]"])
def test_blocks_without_arguments_of_their_own_are_refused(args):
    text = YOLO.replace("[128, True]", args)
    for change in (lambda: edit(text, "blocks"), lambda: removed(text.replace("C2f", "C2f_GAM"))):
        with pytest.raises(UserError, match=r"my.yaml, row 1: found .*, expected C2f's own arguments"):
            change()


def targets(rows):
    """For each row, the rows that it takes, -1 for the image."""
    found = []
    for i, row in enumerate(rows):
        given = row[0] if isinstance(row[0], list) else [row[0]]
        found.append([range(-1, i)[source] if source < 0 else source for source in given])
    return found


def check_models(model, data):
    text, rows = model
    last = len(rows) - 2
    after = st.lists(st.integers(0, last), min_size=1, max_size=3, unique=True).map(
        lambda n: f"after:{','.join(map(str, n))}"
    )
    place = data.draw(st.one_of(after, st.sampled_from(["neck", "backbone", "blocks", "blocks:neck"])))
    options = data.draw(st.sampled_from([None, {"ratio": 8, "act": "x y"}]))
    has_blocks = any(row[2] in BLOCKS for row in rows[(last + 2 if "neck" in place else 0) :])
    if place.startswith("blocks") and not has_blocks:
        return
    edited = edit(text, place, options=options)
    new = rows_of(edited.text)
    own = [] if edited.record.inside else edited.record.rows
    assert [new[i][2:] for i in own] == [["GAM", [options] if options else []]] * len(own)
    assert [i for i in range(len(new)) if i not in own] == list(edited.places)
    for old, place_now in zip(rows_of(text), edited.places, strict=True):
        name, *args = new[place_now][2:]
        assert name.removesuffix("_GAM") == old[2]
        assert [[a for a in arg if not isinstance(a, dict)] for arg in args] == old[3:]
        assert new[place_now][1] == old[1]
        pairs = zip(*(r[0] if isinstance(r[0], list) else [r[0]] for r in (old, new[place_now])), strict=True)
        assert all((a < 0) == (b < 0) for a, b in pairs)
    taken = targets(new)

    def through(row):
        return through(taken[row][0]) if row in own else row

    for i, row in enumerate(targets(rows_of(text))):
        assert [through(source) for source in taken[edited.places[i]]] == [
            edited.places[source] if source >= 0 else -1 for source in row
        ]
    attended = {through(i) for i in own}
    for i, row in enumerate(taken):
        if i not in own and (place != "neck" or i == len(new) - 1):
            assert not attended & set(row)
        elif i not in own:
            assert not {*own} & set(row)  # only the head takes the attended map
    characters = iter(edited.text)
    assert all(character in characters for character in re.sub(r"\d", "", text))  # in this order
    written = with_header(edited, "my.yaml", "train")
    back = remove(written, "my.yaml", LAYERS, BLOCKS)
    assert back.text == text
    assert list(back.places) == list(edited.places)


@pytest.mark.integration
@pytest.mark.parametrize("quantity", [150, pytest.param(2000, marks=pytest.mark.slow)])
def test_insert_and_remove_restore_any_model(quantity):
    settings(FEW, max_examples=quantity)(given(models(), st.data())(check_models))()


def test_comments_behind_rows_on_one_line():
    """A row inserted on the same line comes between a row and its comment."""
    text = "nc: 80\nbackbone: [[-1, 1, Conv, [64]],\n [-1, 1, Conv, [64]]] # 1\nhead: [[-1, 1, Detect, [64]]]"
    edited = edit(text, "after:0,1")
    assert "# 2\nhead" in edited.text
    assert removed(with_header(edited, "my.yaml", "train")) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not YAML"),
        ("- 1\n", "not a model YAML"),
        ("nc: 3\nbackbone: []\nhead: []\n", "not a model YAML"),
        ("path: data\ntrain: images\n", "not a model YAML: expected a list of rows under backbone and head"),
        (YOLO.replace("[-1, 1, SPPF, [256, 5]]", "[-1, 1, SPPF]"), "row 4: found [-1, 1, 'SPPF'], expected"),
        (YOLO.replace("[-1, 1, SPPF, [256, 5]]", "5"), "row 4: found 5, expected"),
        (YOLO.replace("[[7, 4]", "[[7, 9]"), "row 8: from = [7, 9] is not an earlier row"),
        (YOLO.replace("[[7, 4]", "[[seven, 4]"), "row 8: from must be an int or a list of ints, got ['seven', 4]"),
        (YOLO.replace("- [-1, 1, SPPF", "- [-9, 1, SPPF"), "row 4: from = -9 is not an earlier row"),
        (YOLO.replace("[[7, 4]", "[[0x7, 4]"), "row 8: a number of its from is written as 0x7; write 7"),
        (YOLO.replace("- [-1, 3, C2f, [128]]", "- *up"), "not YAML"),
        (
            YOLO.replace("- [-1, 3, C2f, [128]]", "- *up").replace("- [-1, 1, nn", "- &up [-1, 1, nn"),
            "through an alias",
        ),
        (
            "base: &b [[-1, 1, Conv, [8]]]\nbackbone: *b\nhead: *b\n",
            "my.yaml, backbone: it is repeated through an alias",
        ),
        ("a: &a\n  backbone: []\n<<: *a\nhead: []\n", "not a model YAML"),
        ("x" * 10 + ": [" * 5000, "not YAML"),
    ],
)
def test_refused(text, message):
    with pytest.raises(UserError) as error:
        edit(text, "neck")
    assert str(error.value).startswith("my.yaml")
    assert message in str(error.value)


def test_aliases_elsewhere_are_kept():
    text = YOLO.replace("[128, True]", "&args [128, True]").replace("[256, True]", "*args")
    edited = edit(text, "after:0")
    assert "&args [128, True]" in edited.text
    assert "C2f, *args]" in edited.text
    assert removed(edited.text) == text
    with pytest.raises(UserError, match="row 1: it is repeated through an alias"):
        edit(text, "blocks", options={"ratio": 8})


UNKNOWN = "expected one of neck, backbone, stages, after:4,6,9, blocks"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        *((place, UNKNOWN) for place in ("nek", "after:", "after:x", "after:1,", "after:-1", "blocks:head", "")),
        ("after:8", "--at after:8: row 8 is the head; expected rows from 0 to 7"),
        ("after:1,99", "--at after:1,99: row 99 does not exist"),
        ("blocks", "--at blocks: found Conv, Conv_, .* there"),
    ],
)
def test_place_that_is_none_or_that_the_model_lacks(place, message):
    with pytest.raises(UserError, match=message):
        edit(YOLO.replace("C2f", "Conv_"), place)


def test_json_is_yaml_too():
    text = '{"nc": 1, "backbone": [[-1, 1, "Conv", [8]]], "head": [[-1, 1, "C2f", [8]], [[-1], 1, "Detect", ["nc"]]]}'
    for place in ("neck", "after:0", "blocks"):
        edited = edit(text, place, options={"ratio": 2})
        assert "\n" not in edited.text
        assert remove(with_header(edited, "my.json", "train"), "my.json", LAYERS, BLOCKS).text == text
    assert '[-1, 1, "C2f_GAM", [8, {ratio: 2}]]' in edited.text
