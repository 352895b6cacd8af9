"""Attention inside blocks: the base's keys, the head, fusing, exporting, and what means nothing."""

import copy
import functools

import pytest
import torch
from support import randomise, run_python
from tiers import later
from ultralytics import YOLO
from ultralytics.nn import tasks

from yolo_attn import layers
from yolo_attn.layers import NAM, SimAM
from yolo_attn.layers.attended import AttendedConv
from yolo_attn.model.blocks import UNITS
from yolo_attn.model.rows import RowError
from yolo_attn.model.run_rows import each_row

MODELS = {
    "C3": "yolov5n.yaml",
    "C2f": "yolov8n.yaml",
    "RepNCSPELAN4": "yolov9c.yaml",
    "C2fCIB": "yolov10s.yaml",
    "C3k2": "yolo26n.yaml",
    "A2C2f": "yolo12n.yaml",
    "C3Ghost": "yolov8n-ghost.yaml",
    "HGBlock": "rtdetr-l.yaml",
    "RepC3": "rtdetr-l.yaml",
    "ResNetLayer": "rtdetr-resnet50.yaml",
    "TorchVision": "mobilenetv2.yaml",
    "Stage": "torchvision-resnet50-cls.yaml",
}
NOWHERE = {("A2C2f", "pre_bn"), ("C3Ghost", "pre_bn"), ("RepC3", "pre_bn"), ("TorchVision", "out")}
PLACES = [(b, w) for b in MODELS for w in ("end", "pre_bn", "out") if (b, w) not in NOWHERE]


def swapped(block, layer, arguments=None, model=None):
    """A model dictionary with every row of a block that has residual units turned into its variant."""
    d = tasks.yaml_model_load(model or MODELS[block])
    for row in [*d["backbone"], *d["head"]]:
        if row[2] == block and not (block == "ResNetLayer" and row[3][3]):  # the stem has no residual unit
            row[2] += f"_{layer}"
            row[3] = [*row[3], *([arguments] if arguments else [])]
    return d


def build(d):
    kinds = {"RTDETRDecoder": tasks.RTDETRDetectionModel, "FC": tasks.ClassificationModel}
    return kinds.get(d["head"][-1][2], tasks.DetectionModel)(d, verbose=False)


@functools.cache
def plain(block):
    return build(tasks.yaml_model_load(MODELS[block]))


def feature(model, x):
    """The map behind the last attention: what the head sees, without its thresholds and sorting."""
    *_, (_, found) = each_row(model.model[:-1], x)
    return found


@pytest.mark.parametrize(("block", "where"), later(PLACES, ["C2f", "C3k2"]))
def test_variant_has_the_blocks_keys_plus_the_attentions(block, where):
    stock, model = plain(block), build(swapped(block, "NAM", {"where": where}))
    base, ours = stock.state_dict(), model.state_dict()
    assert {k: v.shape for k, v in base.items()} == {k: v.shape for k, v in ours.items() if ".attention." not in k}
    attention = [m for m in model.modules() if isinstance(m, NAM)]
    added = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in stock.parameters())
    assert added == sum(p.numel() for m in attention for p in m.parameters()) > 0
    assert [type(m) for m in model.model] == [type(m) for m in stock.model]
    assert getattr(model.model[-1], "legacy", None) == getattr(stock.model[-1], "legacy", None)


@pytest.mark.integration
@pytest.mark.parametrize(("block", "where"), PLACES)
def test_attention_acts_survives_fusing_and_is_all_that_differs(block, where):
    stock = randomise(copy.deepcopy(plain(block)))
    model = build(swapped(block, "NAM", {"where": where}))
    randomise(model).load_state_dict(stock.state_dict(), strict=False)
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        ours = feature(model, x)
        fused = feature(copy.deepcopy(model).fuse(verbose=False), x)
        torch.testing.assert_close(fused, ours, rtol=1e-3, atol=1e-3 * ours.abs().max().item())
        assert not torch.allclose(ours, feature(stock, x), rtol=1e-2)
        for m in model.modules():
            if isinstance(m, NAM):
                m.forward = lambda z: z
        torch.testing.assert_close(feature(model, x), feature(stock, x), rtol=0, atol=0)


def test_places_in_c2f():
    bottleneck = build(swapped("C2f", "SimAM")).model[2].m[0]
    assert isinstance(bottleneck.cv2.attention, SimAM)
    assert not hasattr(bottleneck.cv1, "attention")
    bottleneck = build(swapped("C2f", "SimAM", {"where": "pre_bn", "e_lambda": 0.1})).model[2].m[0]
    assert isinstance(bottleneck.cv2, AttendedConv)
    assert bottleneck.cv2.attention.e_lambda == 0.1
    whole = build(swapped("C2f", "GAM", {"where": "out", "ratio": 8})).model[2]
    assert whole.attention.channel.fc1.in_channels == 32
    assert whole.attention.channel.fc1.out_channels == 4


def test_bottleneck_rows_repeat_and_count():
    d = tasks.yaml_model_load("yolov8n.yaml")
    d["backbone"][4] = [-1, 6, "Bottleneck_NAM", [256]]
    built = build(d).model[4]
    assert [type(m.cv2.attention) for m in built] == [NAM, NAM]
    assert built.np == sum(p.numel() for p in built.parameters())


@pytest.mark.parametrize(("block", "where"), sorted(NOWHERE))
def test_places_that_mean_nothing_are_refused(block, where):
    instead = "end or pre_bn" if where == "out" else "end or out"
    with pytest.raises(RowError, match=rf"row \d+: where: {where} means nothing in this {block}; .* write {instead}$"):
        build(swapped(block, "NAM", {"where": where}))


def test_stem_without_residual_units_is_refused():
    d = tasks.yaml_model_load("rtdetr-resnet50.yaml")
    d["backbone"][0][2] += "_NAM"
    for where in ("end", "pre_bn"):
        d["backbone"][0][3] = [3, 64, 1, True, 1, {"where": where}]
        with pytest.raises(
            RowError, match=f"where: {where} means nothing in this .*; it has no residual unit; write out"
        ):
            build(d)


@pytest.mark.parametrize("model", ["mobilenet_v3_small", "shufflenet_v2_x0_5", "resnet18"])
@pytest.mark.parametrize("where", ["end", "pre_bn"])
def test_other_models_of_torchvision_are_refused(model, where):
    """Also those whose blocks bear MobileNetV2's name."""
    d = tasks.yaml_model_load("mobilenetv2-nam.yaml")
    d["backbone"][0][3][1:] = [model, None, True, 2, True, {"where": where}]
    with pytest.raises(RowError, match=f"row 0: where: {where} means nothing .* only mobilenet_v2 .* write out$"):
        build(d)


def test_pixels_scales_in_torchvision_need_a_grid():
    d = tasks.yaml_model_load("mobilenetv2-nam.yaml")
    options = {"spatial": True}
    d["backbone"][0][3].append(options)
    with pytest.raises(RowError, match=r"row 0: TorchVision has maps of several sizes; write grid: \[height, width\]$"):
        build(d)
    options["grid"] = [20, 20]
    attention = [m for m in build(d).modules() if isinstance(m, NAM)]
    assert {tuple(m.spatial.grid) for m in attention} == {(20, 20)}


OWN_FIRST = "expected C2f's own arguments, then one mapping or none"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([-1, 3, "C2f_NAMM", [128]], "unknown layer 'C2f_NAMM'"),
        ([-1, 3, "SPPF_NAM", [128, 5]], f"SPPF has no attention variant; blocks that have are {', '.join(UNITS)}"),
        ([-1, 3, "C2f_NAM", [128, True, {"were": "end"}]], "C2f_NAM has no option 'were' (did you mean where?)"),
        ([-1, 3, "C2f_NAM", [128, True, {"where": "middle"}]], "found where: middle, expected end or pre_bn or out"),
        ([-1, 3, "C2f_GAM", [128, True, {"ratio": 5}]], "ratio=5 does not divide channels=16"),
        ([-1, 3, "C2f_nam", [128]], "unknown layer 'C2f_nam'; did you mean C2f_NAM?"),
        ([-1, 3, "C2F_NAM", [128]], "did you mean C2f_NAM?"),
        ([-1, 3, "C2f_Nam", [128]], "did you mean C2f_NAM?"),
        ([-1, 3, "C2f_Scale", [128]], "for a layer of your own import its module, --import MODULE"),
        ([-1, 3, "C2f_NAM", 128], "found 128, expected a list of arguments"),
        (
            [-1, 3, "C2f_NAM", [128, True, "end"]],
            f"found [128, True, 'end'], {OWN_FIRST}",
        ),
        ([-1, 3, "C2f_NAM", [128, True, ["where", "end"]]], OWN_FIRST),
        ([-1, 3, "C2f_NAM", ["abc"]], "C2f of ['abc'] raised TypeError: "),
        ([-1, 3, "C2f_NAM", [128, True, 1, 0.5, 7]], "C2f of [128, True, 1, 0.5, 7] raised TypeError: "),
        ([-1, 3, "C2f_NAM", [128, True, "some"]], "C2f of [128, True, 'some'] raised TypeError: "),
        ([-1, 3, "C2f_NAM", []], OWN_FIRST),
        (
            [-1, 3, "C2f_NAM", [128, {"where": "out"}, {"eps": 0.1}]],
            OWN_FIRST,
        ),
        ([-1, 3, "C2f_NAM", [128, {"where": "out"}, True]], OWN_FIRST),
        ([[0, 1], 3, "C2f_NAM", [128, True]], "takes one input"),
        ([7, 3, "C2f_NAM", [128, True]], "not an earlier row"),
        ([-1, "3x", "C2f_NAM", [128, True]], "got '3x'"),
        ([-1, 0, "C2f_NAM", [128, True]], "above 0, got 0"),
    ],
)
def test_wrong_rows_are_reported_in_one_line(row, message):
    d = tasks.yaml_model_load("yolov8n.yaml")
    d["backbone"][2] = row
    with pytest.raises(RowError) as raised:
        build(d)
    assert str(raised.value).startswith("yolov8n.yaml, row 2: ")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.integration
def test_other_hooks_do_not_take_the_attentions_place(tmp_path):
    """In a fresh process PyTorch numbers hooks from 0 again; a hook put on and taken off must leave the attention."""
    yolo = YOLO("yolov8n.yaml")
    yolo.model = randomise(build(swapped("C2f", "NAM", {"where": "out"})))
    yolo.save(tmp_path / "blocks.pt")
    x = torch.rand(1, 3, 64, 64)
    torch.save((x, copy.deepcopy(yolo.model).half().float()(x)[0]), tmp_path / "expected.pt")
    code = """
import torch
from ultralytics import YOLO
x, expected = torch.load("expected.pt")
model = YOLO("blocks.pt").model.eval()
for _ in range(8):
    for handle in [m.register_forward_hook(lambda *a: None) for m in model.modules()]:
        handle.remove()
torch.testing.assert_close(model(x)[0], expected, rtol=1e-3, atol=1e-2)
"""
    run_python(code, tmp_path)


@pytest.mark.integration
def test_model_with_blocks_survives_pickling_and_safe_loading(tmp_path):
    model = YOLO("yolov8n.yaml")
    model.model = build(swapped("C2f", "NAM", {"where": "pre_bn"}))
    model.model.yaml["yaml_file"] = "yolov8n.yaml"
    mixed = swapped("C2f", "GAM")
    for where, d in (("pre_bn", model.model.yaml), ("end", mixed)):
        model.model = build(d) if where == "end" else model.model
        model.save(tmp_path / f"{where}.pt")
        code = f"import yolo_attn; from ultralytics import YOLO; m = YOLO('{where}.pt'); import numpy as np; " + (
            "m.predict(np.zeros((64, 64, 3), np.uint8), imgsz=64, device='cpu', verbose=False)"
        )
        for safe in ("0", "1"):
            run_python(code, tmp_path, ULTRALYTICS_SAFE_LOAD=safe)


OWN = {"C3": [True], "C2f": [True], "C2fCIB": [True, True], "C3k2": [False, 0.5], "A2C2f": [True, 1], "C3Ghost": [True]}


@pytest.mark.parametrize("block", OWN)
def test_every_layer_learns_in_every_yolo_block(block):
    variants = [[-1, 1, f"{block}_{layer}", [64, *OWN[block]]] for layer in layers.__all__]
    rows = [*[[-1, 1, "Conv", [64, 3, 2]]] * 4, *variants]
    model = tasks.DetectionModel({"nc": 3, "backbone": rows, "head": [[[-1], 1, "Detect", ["nc"]]]}, verbose=False)
    found = feature(model.train(), torch.rand(2, 3, 64, 64))
    assert found.isfinite().all()
    found.square().mean().backward()
    for built, layer in zip(model.model[4:-1], layers.__all__, strict=True):
        attention = [m for m in built.modules() if isinstance(m, getattr(layers, layer))]
        assert attention
        assert all(p.grad is not None for m in attention for p in m.parameters())
