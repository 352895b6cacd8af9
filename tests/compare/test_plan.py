"""What is compared: attention by layer, place and options, and wider bases of the same cost."""

import pytest
import yaml

from yolo_attn.cli.compare import layers
from yolo_attn.compare.plan import SAME_COST, Wanted, plan, wider
from yolo_attn.engine.cost import cost_of
from yolo_attn.errors import UserError
from yolo_attn.plugin.insertion import describe

SIZE = 96

NEAR = 0.1
"""Channels grow in steps of 8, which are large steps for the smallest scale."""


def gflops(model, name="yolov8n", scale="n"):
    return cost_of(describe(model.text, name, scale), SIZE)[1]


def rows(text):
    content = yaml.safe_load(text)
    return [*content["backbone"], *content["head"]]


def test_the_base_comes_first_and_each_attention_by_itself():
    models = plan("yolov8n.yaml", [Wanted("simam", "neck"), Wanted("GAM", "blocks", {"ratio": 4, "groups": 2})])
    assert [model.variant.name for model in models] == ["base", "simam-neck", "gam-blocks-ratio4-groups2"]
    labels = [model.variant.label for model in models]
    assert labels == ["yolov8n", "SimAM at neck", "GAM (ratio=4, groups=2) at blocks"]
    base, simam, gam = (rows(model.text) for model in models)
    assert [row[2] for row in simam if row[2] not in {r[2] for r in base}] == ["SimAM"] * 3
    assert len(gam) == len(base)
    assert models[2].variant.layer == "GAM"
    assert models[2].variant.options == {"ratio": 4, "groups": 2}


def test_only_a_costlier_variant_gets_a_wider_base_and_it_costs_as_much():
    models = plan("yolov8n.yaml", [Wanted("SimAM", "neck"), Wanted("GAM", "neck")], SIZE)
    base, simam, gam, wide = models
    assert wide.variant.name == "wide-gam-neck"
    assert wide.variant.control_for == "gam-neck"
    assert wide.variant.layer is None
    assert gflops(simam) < gflops(base) * (1 + SAME_COST)
    assert gflops(wide) == pytest.approx(gflops(gam), rel=NEAR)
    changed = [pair for pair in zip(base.text.splitlines(), wide.text.splitlines(), strict=True) if pair[0] != pair[1]]
    assert len(changed) == 1
    assert changed[0][0].strip().startswith("n:")


def test_a_model_without_scales_is_widened_by_its_width_multiple():
    text = plan("yolov8n.yaml", [])[0].text
    content = yaml.safe_load(text)
    _, width, _ = content.pop("scales")["n"]
    plain = yaml.safe_dump({"nc": 3, "depth_multiple": 0.33, "width_multiple": width, **content}, sort_keys=False)
    before = cost_of(describe(plain, "plain"), SIZE)[1]
    made = wider(plain, "plain", "", SIZE, before * 1.5)
    assert cost_of(describe(made, "plain"), SIZE)[1] == pytest.approx(before * 1.5, rel=NEAR)
    assert {k for k, v in yaml.safe_load(made).items() if v != yaml.safe_load(plain)[k]} == {"width_multiple"}
    with pytest.raises(UserError, match="plain has no scales and no width_multiple"):
        wider(plain.replace("width_multiple", "width"), "plain", "", SIZE, before)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ([Wanted("GEM", "neck")], "--layer GEM: no such layer"),
        ([Wanted("GAM", "nose")], "nose"),
        ([Wanted("GAM", "neck", {"ration": 8})], "ration"),
        ([Wanted("GAM", "neck"), Wanted("gam", "neck")], "GAM at neck is there twice"),
    ],
)
def test_what_cannot_be_compared_is_told(wanted, told):
    with pytest.raises(UserError, match=told):
        plan("yolov8n.yaml", wanted)


def test_layers_as_they_are_typed():
    assert layers("SimAM,NAM") == [("SimAM", {}, None), ("NAM", {}, None)]
    assert layers("GAM:ratio=8:groups=4@after:4,6,SimAM:where=pre_bn@blocks:neck") == [
        ("GAM", {"ratio": 8, "groups": 4}, "after:4,6"),
        ("SimAM", {"where": "pre_bn"}, "blocks:neck"),
    ]
