"""The models of a comparison: attention by layer, place and options, and wider bases of equal cost."""

import re
from argparse import ArgumentTypeError
from functools import partial

import pytest
import yaml

from yolo_attn.cli.compare import layers
from yolo_attn.compare.planning.variants import FARTHEST, SAME_COST, WIDEST, Wanted, plan, wider
from yolo_attn.engine.cost import cost_of
from yolo_attn.errors import UserError
from yolo_attn.model.insertion import describe
from yolo_attn.model.names import read_model

SIZE = 96

NEAR = 0.1
"""Channels grow in steps of 8, which are large steps for the smallest scale."""


def gflops(text, name="yolov8n", scale="n", **changes):
    return cost_of(describe(text, name, scale) | changes, SIZE)[1]


def skip_without(base):
    try:
        read_model(f"{base}.yaml")
    except UserError as error:
        pytest.skip(f"this Ultralytics: {error}")


def rows(text):
    content = yaml.safe_load(text)
    return [*content["backbone"], *content["head"]]


def test_the_base_comes_first_and_each_attention_by_itself():
    models = plan("yolov8n.yaml", [Wanted("simam", "neck"), Wanted("GAM", "blocks", {"ratio": 8, "groups": 2})])
    assert [model.variant.name for model in models] == ["base", "simam-neck", "gam-blocks-ratio8-groups2"]
    labels = [model.variant.label for model in models]
    assert labels == ["yolov8n", "SimAM at neck", "GAM (ratio=8, groups=2) at blocks"]
    base, simam, gam = (rows(model.text) for model in models)
    assert [row[2] for row in simam if row[2] not in {r[2] for r in base}] == ["SimAM"] * 3
    assert len(gam) == len(base)
    assert models[2].variant.layer == "GAM"
    assert models[2].variant.options == {"ratio": 8, "groups": 2}


@pytest.mark.integration
def test_only_a_costlier_variant_gets_a_wider_base_and_it_costs_as_much():
    models = plan("yolov8n.yaml", [Wanted("SimAM", "neck"), Wanted("GAM", "neck")], SIZE)
    base, simam, gam, wide = models
    assert wide.variant.name == "wide-gam-neck"
    assert wide.variant.control_for == "gam-neck"
    assert wide.variant.layer is None
    assert gflops(simam.text) < gflops(base.text) * (1 + SAME_COST)
    assert gflops(wide.text) == pytest.approx(gflops(gam.text), rel=NEAR)
    found = f"{gflops(wide.text):.2f} GFLOPs (GAM at neck: {gflops(gam.text):.2f})"
    assert wide.variant.label == f"yolov8n, wider to {found}"
    changed = [pair for pair in zip(base.text.splitlines(), wide.text.splitlines(), strict=True) if pair[0] != pair[1]]
    assert len(changed) == 1
    assert changed[0][0].strip().startswith("n:")


@pytest.mark.integration
@pytest.mark.parametrize("base", ["yolov5n", "yolov6n", "yolov8n", "yolov10n", "yolo11n", "yolo26n"])
def test_a_wider_base_of_every_family_builds_and_costs_more_than_the_base(base):
    """Attention in YOLOv10, 11 and 26 refuses most widths, and the next width of YOLOv6 costs more than GAM."""
    skip_without(base)
    models = plan(f"{base}.yaml", [Wanted("GAM", "neck")], SIZE)
    plain, attended, wide = (gflops(each.text, base) for each in models)
    assert plain < attended
    assert plain < wide < attended * (1 + FARTHEST)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("yolov9t", "yolov9t has no scales and no width_multiple"),
        ("yolo12n", r"there is no wider yolo12n of about as many; the nearest that builds needs 0\.\d\d$"),
    ],
)
def test_a_base_that_cannot_be_that_wide_is_reported(base, message):
    skip_without(base)
    with pytest.raises(UserError, match=f"^--equal-gflops: .*{message}"):
        plan(f"{base}.yaml", [Wanted("GAM", "neck")], SIZE)


@pytest.mark.integration
def test_a_wider_base_is_the_nearest_that_builds_up_to_the_widest():
    """Where no width builds, and beyond WIDEST, there is none."""
    text = plan("yolov8n.yaml", [])[0].text

    def cost(text):
        width = yaml.safe_load(text)["scales"]["n"][1]
        if width not in buildable:
            raise RuntimeError("shape '[1, 3, 148, 64]' is invalid")
        return width**2

    buildable = {0.25, *(0.25 + step / 128 for step in (3, 40, 41, 150))}
    for wanted, found in ((0.0626, 3), (0.3, 40), (0.324, 41), (2.5, 150), (99, 150)):
        assert wider(text, "yolov8n", "n", wanted, cost)[1] == (0.25 + found / 128) ** 2
    buildable = {0.25, 0.25 * (WIDEST + 1)}
    assert wider(text, "yolov8n", "n", 0.3, cost) is None


@pytest.mark.integration
def test_operations_are_counted_at_the_classes_of_the_data():
    label = plan("yolov8n.yaml", [Wanted("GAM", "neck")], SIZE, classes=3)[-1].variant.label
    wanted = plan("yolov8n.yaml", [Wanted("GAM", "neck")])[1].text
    assert label.endswith(f"(GAM at neck: {gflops(wanted, nc=3):.2f})")
    assert round(gflops(wanted, nc=3), 2) != round(gflops(wanted), 2)


@pytest.mark.integration
def test_a_model_without_scales_is_widened_by_its_width_multiple():
    text = plan("yolov8n.yaml", [])[0].text
    content = yaml.safe_load(text)
    _, width, _ = content.pop("scales")["n"]
    plain = yaml.safe_dump({"nc": 3, "depth_multiple": 0.33, "width_multiple": width, **content}, sort_keys=False)
    of = partial(gflops, name="plain", scale="")
    made, needed = wider(plain, "plain", "", of(plain) * 1.5, of)
    assert of(made) == needed == pytest.approx(of(plain) * 1.5, rel=NEAR)
    assert {k for k, v in yaml.safe_load(made).items() if v != yaml.safe_load(plain)[k]} == {"width_multiple"}
    with pytest.raises(UserError, match="plain has no scales and no width_multiple"):
        wider(plain.replace("width_multiple", "width"), "plain", "", 1.0, of)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ([Wanted("GEM", "neck")], "GEM: no such layer"),
        ([Wanted("GAM", "nose")], "nose"),
        ([Wanted("GAM", "neck", {"ration": 8})], "ration"),
        ([Wanted("GAM", "neck"), Wanted("gam", "neck")], "GAM at neck is given twice"),
        ([Wanted("GAM", "neck"), Wanted("GAM", "neck", {"ratio": 4})], "GAM at neck is given twice"),
        (
            [Wanted("GAM", "neck", {"ratio": 8, "groups": 4}), Wanted("GAM", "neck", {"groups": 4, "ratio": 8})],
            r"GAM \(ratio=8, groups=4\) at neck is given twice",
        ),
        ([Wanted("SimAM", "blocks"), Wanted("SimAM", "blocks", {"where": "end"})], "SimAM at blocks is given twice"),
        (
            [Wanted("NAM", "after:15,18"), Wanted("NAM", "after:18,15")],
            "NAM at after:18,15 is the same model as NAM at after:15,18",
        ),
    ],
)
def test_what_cannot_be_compared_is_reported(wanted, message):
    with pytest.raises(UserError, match=message):
        plan("yolov8n.yaml", wanted)


def test_layers_as_they_are_typed():
    assert layers("SimAM,NAM") == [("SimAM", {}, None), ("NAM", {}, None)]
    assert layers("GAM:ratio=8:groups=4@after:4,6,SimAM:where=pre_bn@blocks:neck") == [
        ("GAM", {"ratio": 8, "groups": 4}, "after:4,6"),
        ("SimAM", {"where": "pre_bn"}, "blocks:neck"),
    ]
    assert layers("GAM:k=[a,b],NAM:k=[1,2]:ratio=8@neck") == [
        ("GAM", {"k": ["a", "b"]}, None),
        ("NAM", {"k": [1, 2], "ratio": 8}, "neck"),
    ]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("NAM,GAM:ratio=8:ratio=4@neck", "expected each option once, found 'GAM:ratio=8:ratio=4@neck'"),
        ("GAM:k=[a,b", "expected a value as in YAML, such as 8 or [20, 20], found 'k=[a'"),
        ("GAM@", "expected LAYER:option=value@PLACE, such as GAM:ratio=8@neck, found 'GAM@'"),
    ],
)
def test_mistyped_layers_are_reported(typed, message):
    with pytest.raises(ArgumentTypeError, match=re.escape(message)):
        layers(typed)


def test_towernets_four_places_are_those_of_its_yamls():
    """As docs/classifiers.md says."""
    _, model = plan("towernet-cls.yaml", [Wanted("SimAM", "after:5,7,9,11")])
    text, _ = read_model("towernet-cls-simam.yaml")
    made, packaged = yaml.safe_load(model.text), yaml.safe_load(text)
    assert {key: made[key] for key in ("backbone", "head", "stretch")} == {
        key: packaged[key] for key in ("backbone", "head", "stretch")
    }
