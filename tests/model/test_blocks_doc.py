"""docs/blocks.md says what the tables of model/blocks.py say, and what real builds do."""

import copy
import functools
import itertools
import re
from unittest.mock import Mock

import pytest
import torch
from support import ROOT
from test_blocks import MODELS, build, randomise, swapped
from torch import nn
from ultralytics.nn import tasks

from yolo_attn.layers import NAM
from yolo_attn.layers.attended import AttendedConv
from yolo_attn.model.blocks import END, LAST_SPATIAL, UNITS, WHERE, _is_a, place_attention

TEXT = (ROOT / "docs/blocks.md").read_text()


def table(title):
    section = TEXT.split(f"## {title}\n")[1].split("\n## ")[0]
    header, _, *rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [dict(zip((c.strip() for c in header), (c.strip() for c in row), strict=True)) for row in rows]


BLOCKS = table("Block × where")
UNIT_ROWS = {row["unit"].strip("`"): row for row in table("Unit × where")}
BLOCK_OF = {unit: block for block, units in reversed(UNITS.items()) for unit in units}

HAVING = {"PSABlock": "yolo26n.yaml", "resnet.BasicBlock": "torchvision-resnet18-cls.yaml"}
"""Models for units that those of `MODELS` lack."""


@functools.cache
def whole(block):
    """A model with every unit of the block in it; yolo12's A2C2f hold both kinds."""
    return randomise(build(tasks.yaml_model_load(MODELS.get(block, "yolov8n.yaml"))))


def units_of(model, unit):
    inside = [m for m in model.modules() if _is_a(m, unit)]
    block = BLOCK_OF[unit]
    return [u for b in model.modules() if _is_a(b, block) for u in b.modules() if u in inside]


def test_block_table_repeats_the_units():
    assert list(BLOCKS[0])[2:] == [f"`{where}`" for where in WHERE]
    found = {row["block"].strip("`"): tuple(re.findall(r"`([\w.]+)`", row["units"])) for row in BLOCKS}
    assert found == UNITS


@pytest.mark.parametrize("row", BLOCKS, ids=lambda row: row["block"].strip("`"))
def test_block_table_repeats_what_is_built(row):
    block = row["block"].strip("`")
    spatial = [unit for unit in UNITS[block] if unit in LAST_SPATIAL]
    if not spatial:
        assert row["`pre_bn`"] == "refused"
    elif len(spatial) == len(UNITS[block]):
        assert row["`pre_bn`"] == "each unit"
    else:
        assert row["`pre_bn`"] == "each " + ", ".join(f"`{unit}`" for unit in spatial)
    if block == "Bottleneck":  # no model of Ultralytics' has it as a row
        d = tasks.yaml_model_load("yolov8n.yaml")
        d["backbone"][4] = [-1, 6, "Bottleneck", [256]]
        layers = build(d).model[4]
    else:
        layers = whole(block).model
    for where, built in itertools.product(WHERE, [m for m in layers if _is_a(m, block)]):
        if block == "ResNetLayer" and built.is_first:
            continue  # the stem, below
        units = [u for u in built.modules() for kind in UNITS[block] if _is_a(u, kind)]
        places = {"end": units, "pre_bn": [u for u in units if any(_is_a(u, kind) for kind in spatial)], "out": [built]}
        layer = Mock(side_effect=nn.Identity)
        if row[f"`{where}`"].startswith("refused") or not places[where]:
            with pytest.raises(ValueError, match=f"where: {where} means nothing in this {block}"):
                place_attention(copy.deepcopy(built), block, where, layer, 8)
        else:
            place_attention(copy.deepcopy(built), block, where, layer, 8)
            assert layer.call_count == len(places[where])


def resolve(unit, path):
    """What a path of the table names: `cv1[4]`, `m[-1].conv2`."""
    return eval(f"unit.{path}", {"unit": unit})


def test_unit_table_has_every_unit():
    assert set(UNIT_ROWS) == set(END)
    assert set(LAST_SPATIAL) < set(END)


@pytest.mark.parametrize("unit", UNIT_ROWS)
def test_unit_table_repeats_the_places(unit):
    row = UNIT_ROWS[unit]
    model = HAVING.get(unit)
    found = units_of(randomise(build(tasks.yaml_model_load(model))) if model else whole(BLOCK_OF[unit]), unit)
    assert found
    spatial = re.findall(r"`(\S+)`", row["`pre_bn`: inside"])
    assert bool(spatial) == (unit in LAST_SPATIAL)
    used = set()
    for one in found:
        target = END[unit](one)
        where = row["`end`: on the output of"].strip("`")
        assert target is (one if where == "the unit" else resolve(one, where))
        last = _last_activation(target)
        assert row["last activation there"] == ("none" if isinstance(last, nn.Identity) else type(last).__name__)
        if spatial:
            owner, name = LAST_SPATIAL[unit](one)
            conv = owner.get_submodule(name)
            (path,) = [p for p in spatial if _names(one, p, conv)]
            used.add(path)
    assert used == set(spatial)


def _names(unit, path, conv):
    try:
        return resolve(unit, path) is conv
    except AttributeError:
        return False


def _last_activation(module):
    if isinstance(module, nn.Sequential):  # of torchvision: convolution and batch norm come last
        assert isinstance(module[-1], nn.BatchNorm2d)
        return nn.Identity()
    if isinstance(module, nn.BatchNorm2d):
        return nn.Identity()
    return module.cv1.act if hasattr(module, "cv1") else module.act


@pytest.mark.parametrize("unit", UNIT_ROWS)
def test_addition_comes_behind_the_attention(unit):
    """With attention that gives 0, what is left of a unit is what it adds."""
    block = BLOCK_OF[unit]
    model = randomise(build(swapped(block, "NAM", model=HAVING.get(unit))))
    seen = []
    for one in units_of(model, unit):
        one.register_forward_pre_hook(lambda m, x: seen.append((m, x[0].clone())))
    with torch.inference_mode():
        model(torch.rand(1, 3, 64, 64))
        for m in model.modules():
            if isinstance(m, NAM):
                m.forward = torch.zeros_like
        left = [bool(one(x).abs().sum()) for one, x in seen[:]]
    assert any(left) == (UNIT_ROWS[unit]["adds its input"] == "yes")


@pytest.mark.integration
def test_fusing_leaves_pre_bn_unfolded_and_folds_the_rest():
    model = build(swapped("C2f", "NAM", {"where": "pre_bn"})).fuse(verbose=False)
    kept = [m for m in model.modules() if isinstance(m, AttendedConv)]
    assert kept
    assert all(isinstance(m.bn, nn.BatchNorm2d) for m in kept)
    norms = [m for m in model.modules() if type(m) is nn.BatchNorm2d]
    assert len(norms) == len(kept)
