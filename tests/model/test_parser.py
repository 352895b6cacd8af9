"""Attention rows in model YAMLs: what they become, and what the user is reported about wrong ones."""

import copy
import inspect
import logging
import pickle
from pathlib import Path

import pytest
import torch
import yaml
from support import run_python, with_rows
from tiers import later
from torch import nn
from ultralytics import YOLO
from ultralytics.nn import tasks
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

import yolo_attn
from yolo_attn import layers
from yolo_attn.errors import UserError
from yolo_attn.layers import GAM, NAM, SimAM
from yolo_attn.model import parser
from yolo_attn.model.rows import RowError


def model_with(*rows, base="yolov8n.yaml", at=4, scale="n"):
    """A model dictionary of `base` with rows put in behind row `at - 1`."""
    return {**with_rows(yaml_model_load(base), at, *rows), "scale": scale}


def build(*rows, **kwargs):
    return DetectionModel(model_with(*rows, **kwargs), verbose=False)


def layers_of(model, kind):
    return [m for m in model.modules() if isinstance(m, kind)]


@pytest.mark.parametrize("layer", [SimAM, NAM, GAM])
@pytest.mark.parametrize(
    "base", later(["yolov5n.yaml", "yolov8n.yaml", "yolov9t.yaml", "yolo11n.yaml", "yolo26n.yaml"], ["yolov8n.yaml"])
)
def test_inserted_layer_builds_runs_and_learns(base, layer):
    plain, model = DetectionModel(base, verbose=False), build([-1, 1, layer.__name__, []], base=base)
    inserted = model.model[4]
    assert type(inserted) is layer
    added = sum(p.numel() for p in inserted.parameters())
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in plain.parameters()) + added
    assert (inserted.i, inserted.f, inserted.np) == (4, -1, added)
    assert inserted.type == f"{layer.__module__}.{layer.__name__}"
    assert [type(a) for a in plain.model] == [type(b) for b in model.model if b is not inserted]
    assert torch.equal(plain.stride, model.stride)
    x = torch.rand(1, 3, 64, 64, requires_grad=True)
    output = model.train()(x)
    output = output["one2many"] if isinstance(output, dict) and "one2many" in output else output
    feats = output["feats"] if isinstance(output, dict) else output
    sum(f.square().mean() for f in feats).backward()
    assert x.grad.isfinite().all()
    assert all(p.grad is not None for p in inserted.parameters())


@pytest.mark.parametrize(("scale", "channels"), [("n", 32), ("s", 64), ("m", 96), ("l", 128), ("x", 160)])
def test_channels_come_from_the_model_at_every_scale(scale, channels):
    model = build([-1, 1, "NAM", []], at=3, scale=scale)
    assert model.model[3].channel.bn.num_features == channels


@pytest.mark.parametrize(
    ("row", "options"),
    [
        ([-1, 1, "GAM", []], (4, 1)),
        ([-1, 1, "GAM", [8]], (8, 1)),
        ([-1, 1, "GAM", [8, 2]], (8, 2)),
        ([-1, 1, "GAM", [{"ratio": 8, "groups": 4}]], (8, 4)),
        ([2, 1, "GAM", [{"groups": 2}]], (4, 2)),
        ([-2, 1, "GAM", []], (4, 1)),
    ],
)
def test_options_by_position_and_by_name(row, options):
    gam = build(row).model[4]
    assert (gam.channel.fc1.in_channels // gam.channel.fc1.out_channels, gam.spatial.conv1.groups) == options


@pytest.mark.trap(15)
def test_row_from_another_row_takes_its_channels_and_gives_them_on():
    model = build([1, 1, "GAM", []], [-1, 1, "Conv", [64, 3, 1]])
    assert model.model[4].channel.fc1.in_channels == 32
    assert model.model[4].f == 1
    assert model.model[5].conv.in_channels == 32
    assert 1 in model.save


def test_first_row_takes_the_picture():
    d = model_with([-1, 1, "SimAM", []], at=0)
    assert isinstance(DetectionModel(d, verbose=False).model[0], SimAM)
    nam = DetectionModel(model_with([-1, 1, "NAM", []], at=0), ch=5, verbose=False)
    assert nam.model[0].channel.bn.num_features == 5


def test_repeats_follow_the_depth_multiple_and_share_nothing():
    repeated = build([-1, 6, "NAM", []]).model[4]
    assert [type(m) for m in repeated] == [NAM, NAM]  # 6 × 0.33
    assert repeated[0].channel.bn.weight is not repeated[1].channel.bn.weight


def test_rows_that_are_one_list_through_an_alias_are_layers_of_their_own_widths():
    text = """
nc: 3
backbone:
  - [-1, 1, Conv, [16, 3, 2]] # 0
  - &attended [-1, 1, NAM, [{spatial: true, gain: 2}]] # 1
  - &block [-1, 1, C2f_NAM, [32, True, {where: out}]] # 2
  - *attended # 3
  - *block # 4
head:
  - [-1, 1, Classify, [nc]] # 5
"""
    model = tasks.ClassificationModel(yaml.safe_load(text), verbose=False)
    assert [model.model[row].channel.bn.num_features for row in (1, 3)] == [16, 32]
    assert [layer.channel.bn.num_features for layer in layers_of(model, NAM)] == [16, 32, 32, 32]
    assert [layer.gain for layer in layers_of(model, NAM)] == [2, 1.0, 2, 1.0]


def test_user_values_survive_model_building():
    nam = build([-1, 1, "NAM", [{"eps": 1e-4, "momentum": 0.2}]]).model[4]
    assert (nam.channel.bn.eps, nam.channel.bn.momentum) == (1e-4, 0.2)
    assert build([-1, 1, "NAM", []]).model[4].channel.bn.eps == 1e-5


def test_numbers_that_yaml_reads_as_text_are_numbers():
    row = yaml.safe_load("[-1, 1, SimAM, [1e-4]]")
    assert row[3] == ["1e-4"]
    assert build(row).model[4].e_lambda == 1e-4
    assert build([-1, 1, "SimAM", [{"e_lambda": "1e-1"}]]).model[4].e_lambda == 0.1


def test_model_yaml_keeps_the_users_row():
    model = build([-1, 1, "GAM", [{"ratio": 8}]])
    assert model.yaml["backbone"][4] == [-1, 1, "GAM", [{"ratio": 8}]]


def test_callers_dictionary_is_left_alone_and_no_name_stays_behind():
    d = model_with([-1, 1, "GAM", []])
    before, names = copy.deepcopy(d), set(vars(tasks))
    tasks.parse_model(d, 3, verbose=False)
    assert d["backbone"] == before["backbone"]
    assert set(vars(tasks)) == names


def test_the_parsers_table_shows_the_layer(caplog):
    logging.getLogger("ultralytics").addHandler(caplog.handler)
    DetectionModel(model_with([-1, 1, "GAM", [{"ratio": 8}]]), verbose=True)
    logging.getLogger("ultralytics").removeHandler(caplog.handler)
    (line,) = [r.message for r in caplog.records if "gam.GAM" in r.message]
    assert "[64, {'ratio': 8}]" in line
    assert line.split()[:4] == ["4", "-1", "1", str(sum(p.numel() for p in GAM(64, ratio=8).parameters()))]


@pytest.mark.trap(8)
def test_many_inputs_rtdetr_has_parameters_at_once():
    model = tasks.RTDETRDetectionModel(
        model_with([-1, 1, "NAM", []], base="rtdetr-l.yaml", at=1, scale="l"), verbose=False
    )
    assert sum(p.numel() for p in model.model[1].parameters()) == 2 * 48


WRONG = [
    ([-1, 1, "GAMM", []], "unknown layer 'GAMM'; did you mean GAM"),
    ([-1, 1, "GAM_Attention", []], "did you mean GAM"),
    ([-1, 1, "NAMAttention", [512]], "did you mean NAM? yolo-attn migrate translates the rows of ports ("),
    ([-1, 1, "C2f_GAMAttention", [64]], "did you mean C2f_GAM? yolo-attn migrate"),
    ([-1, 1, "simam", []], "did you mean SimAM? ("),
    ([-1, 1, "nn.NAM", []], "unknown layer 'nn.NAM'; did you mean NAM"),
    ([-1, 1, "Zebra", []], "for a layer of your own import its module, --import MODULE"),
    ([-1, 1, "Zebra", []], f"attention layers are {', '.join(layers.__all__)}"),
    ([-1, 1, "GAM", [{"rate": 8}]], "no option 'rate' (did you mean ratio?)"),
    ([-1, 1, "GAM", [512, 512]], "512 looks like a channel count"),
    ([-1, 1, "CBAM", [256, 7]], "256 as an option goes by name, ratio: 256"),
    ([-1, 1, "SimAM", [{"e_lambda": 1024}]], "e_lambda must be a finite number with 0 < e_lambda < 10, got 1024"),
    ([-1, 1, "SimAM", [64, 1e-4]], "64 looks like a channel count"),
    ([-1, 1, "SimAM", [0.1, 2.0, 3]], "SimAM has 2 options, found [0.1, 2.0, 3]"),
    ([-1, 1, "GAM", [5]], "5 does not divide"),
    ([-1, 1, "GAM", [{"ratio": 8, "groups": 16}]], "groups=16"),
    ([-1, 1, "GAM", ["many"]], "ratio must be a positive int, got 'many'"),
    ([-1, 1, "GAM", [True]], "ratio must be a positive int, got True"),
    ([-1, 1, "NAM", ["max"]], "weight_norm"),
    ([-1, 1, "GAM", [4, {"groups": 2}]], "by position or one mapping"),
    ([[1, 2], 1, "GAM", []], "takes one input, found from = [1, 2]"),
    ([[2], 1, "GAM", []], "takes one input, found from = [2]"),
    ([7, 1, "GAM", []], "from = 7 is not an earlier row"),
    ([-1, 0, "GAM", []], "repeats must be an int above 0, got 0"),
    (["-1", 1, "GAM", []], "from must be an int, got '-1'"),
    ([-1, 1, "GAM"], "expected four items, [from, repeats, layer, arguments]"),
    ([-1, 1, "GAM", 8], "found 8, expected a list of arguments"),
    ([2, 1, "NAM", {"spatial": True}], "found {'spatial': True}, expected a list of arguments; write [2, 1, NAM, []]"),
    ([2, 0, "NAM", []], "repeats must be an int above 0, got 0; write [2, 1, NAM, []]"),
    ([-1, 1, "NAM", [{"spatial": True, "grid": 100000}]], "(H, W), got 100000; at most 4096 each"),
    ([-1, 3, "C2f", [64, True, {"where": "end"}]], "found {'where': 'end'} behind C2f's arguments; only its variants"),
    ([99, 1, "Conv", [64, 1]], "from = 99: 99 is not an earlier row"),
    ([[-1, 4], 1, "Concat", [1]], "from = [-1, 4]: 4 is not an earlier row"),
    ([-6, 1, "Conv", [64, 1]], "from = -6: -6 is not an earlier row"),
]


@pytest.mark.parametrize(("row", "message"), WRONG, ids=[str(row) for row, _ in WRONG])
def test_wrong_rows_are_reported_in_one_line(row, message):
    with pytest.raises(RowError) as raised:
        build(row)
    text = str(raised.value)
    assert "\n" not in text
    assert text.startswith("yolov8n.yaml, row 4: ")
    assert message in text
    if row[2] in layers.__all__:
        assert "write [" in text
        assert f"{row[2]}, []]" in text


@pytest.mark.parametrize("scale", later("nsmlx", "n"))
@pytest.mark.parametrize("layer", layers.__all__)
def test_a_channel_count_is_refused_and_an_option_is_not(layer, scale):
    """At P3, P4 and P5 of every scale: what rows of other projects give, each layer's own default, usual options."""
    own = inspect.signature(getattr(layers, layer)).parameters.values()
    default = next(p.default for p in own if p.kind is p.KEYWORD_ONLY)
    usual = {"GAM": [8], "CBAM": [8], "SE": [32], "BAM": [8], "CoordAtt": [16], "EMA": [8], "NAM": [True, 40]}
    d = tasks.yaml_model_load("yolov8.yaml")
    for row, unscaled in ((4, 256), (6, 512), (8, 1024)):
        channels = min(unscaled, d["scales"][scale][2]) * d["scales"][scale][1]
        for given in ([unscaled], [int(channels)], [512, 512][: len(own) - 1]):
            with pytest.raises(RowError, match=f"row {row + 1}: {given[0]} looks like a channel count"):
                shallow(d, scale, row, layer, given)
        for options in ([default], usual.get(layer, [])):
            assert type(shallow(d, scale, row, layer, options)).__name__ == layer


def shallow(d, scale, row, *name_and_options):
    """The layer behind a row of the backbone, on the meta device."""
    rows = [*d["backbone"][: row + 1], [-1, 1, *name_and_options]]
    with torch.device("meta"):
        return tasks.parse_model({**d, "scale": scale, "backbone": rows, "head": []}, 3, verbose=False)[0][-1]


def test_default_passes_where_it_equals_the_channels():
    d = tasks.yaml_model_load("yolov8.yaml")
    assert shallow(d, "n", 2, "EMA", [32]).groups == 32
    assert shallow(d, "s", 0, "CoordAtt", [32]).conv1.in_channels == 32
    assert shallow(d, "n", 2, "GAM", [8, 4]).spatial.conv1.groups == 4
    with pytest.raises(RowError, match="row 3: 32 looks like a channel count"):
        shallow(d, "n", 2, "SE", [32])


def test_an_empty_mapping_is_no_options():
    assert isinstance(build([-1, 1, "NAM", [{}]]).model[4], NAM)


def test_stock_models_are_parsed_by_the_stock_parser(monkeypatch):
    def fail(*args):
        raise AssertionError("the self-test belongs to custom rows")

    monkeypatch.setattr(parser, "check_contract", fail)
    DetectionModel("yolov8n.yaml", verbose=False)
    with pytest.raises(AssertionError):
        build([-1, 1, "GAM", []])


def test_changed_parser_is_refused_with_both_versions():
    def other_parser(d, ch, verbose=True):
        layers, save = tasks.parse_model.__wrapped__(d, ch, verbose)
        return nn.Sequential(*list(layers)[:-1], nn.BatchNorm2d(7)), save

    with pytest.raises(UserError, match=r"Ultralytics \d+\.\d+\.\d+ .* supported: 8\.3\.0 to 8\.4"):
        parser.check_contract(other_parser)


def test_the_package_lists_what_it_offers():
    assert set(yolo_attn.__all__) <= set(dir(yolo_attn))


def test_register_is_idempotent_and_has_an_inverse():
    wrapped = tasks.parse_model
    yolo_attn.register()
    assert tasks.parse_model is wrapped
    yolo_attn.unregister()
    try:
        assert tasks.parse_model is wrapped.__wrapped__
        with pytest.raises(KeyError, match="GAM"):
            build([-1, 1, "GAM", []])
        yolo_attn.unregister()
    finally:
        yolo_attn.register()
    assert isinstance(build([-1, 1, "GAM", []]).model[4], GAM)


LIGHT = "import sys, yolo_attn; assert 'torch' not in sys.modules and 'ultralytics' not in sys.modules"
BUILD = "tasks.DetectionModel('yolov8n-gam.yaml', verbose=False)"
FIRST = f"import yolo_attn; from ultralytics.nn import tasks; {BUILD}"


@pytest.mark.smoke
@pytest.mark.parametrize(
    "code",
    later(
        [
            LIGHT,
            FIRST,
            f"from ultralytics.nn import tasks; import yolo_attn; {BUILD}",
            "import yolo_attn; yolo_attn.register(); from ultralytics import YOLO; YOLO('yolov8n-gam.yaml')",
            "from yolo_attn.model import parser",
            "from yolo_attn.patches import table; table.register()",
            "import yolo_attn; yolo_attn.unregister(); from ultralytics.nn import tasks; "
            "assert not hasattr(tasks.parse_model, '__wrapped__')",
        ],
        [LIGHT, FIRST],
    ),
)
def test_import_is_silent_light_and_registers_whichever_comes_first(code, tmp_path):
    result = run_python(code, tmp_path)
    assert (result.stdout, result.stderr) == ("", "")


@pytest.mark.integration
@pytest.mark.trap(9)
@pytest.mark.parametrize("layer", ["gam", "nam", "simam"])
@pytest.mark.parametrize(("first", "safe"), [("", "0"), ("import yolo_attn; ", "1")])
def test_checkpoint_loads_in_a_fresh_process(tmp_path, layer, first, safe):
    """The package need not be imported; where only allow-listed classes may load, its import is what lists them."""
    YOLO(f"yolov8n-{layer}.yaml").save(tmp_path / "attention.pt")
    code = (
        f"{first}from ultralytics import YOLO; m = YOLO('attention.pt'); "
        f"assert sum(type(x).__name__.lower() == '{layer}' for x in m.model.modules()) == 3; import numpy as np; "
        "m.predict(np.zeros((64, 64, 3), np.uint8), imgsz=64, device='cpu', verbose=False)"
    )
    run_python(code, tmp_path, ULTRALYTICS_SAFE_LOAD=safe)


@pytest.mark.integration
@pytest.mark.trap(17)
def test_model_survives_forward_deepcopy_and_pickle(tmp_path):
    model = build([-1, 1, "GAM", []], [-1, 1, "NAM", []], [-1, 1, "SimAM", []])
    x = torch.rand(2, 3, 64, 64)
    model.train()(x)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(model.eval()(x)[0], other.eval()(x)[0])


def test_fuse_folds_gam_and_nam_and_keeps_the_output():
    model = build([-1, 1, "GAM", []], [-1, 1, "NAM", []], [-1, 1, "SimAM", []])
    for m in layers_of(model, nn.BatchNorm2d):
        nn.init.uniform_(m.weight, 0.5, 1.5)
        nn.init.normal_(m.bias)
        m.running_mean.normal_()
        m.running_var.uniform_(0.5, 1.5)
    x = torch.rand(1, 3, 96, 64)
    before = model.eval()(x)[0]
    fused = copy.deepcopy(model).fuse(verbose=False)
    assert layers_of(fused.model[4], nn.BatchNorm2d) == layers_of(fused.model[5], nn.BatchNorm2d) == []
    torch.testing.assert_close(fused(x)[0], before, rtol=1e-4, atol=1e-3)
    fused.fuse(verbose=False)
    torch.testing.assert_close(fused(x)[0], before, rtol=1e-4, atol=1e-3)


def test_info_counts_parameters_and_flops():
    plain, model = DetectionModel("yolov8n.yaml", verbose=False), build([-1, 1, "SimAM", []])
    _, parameters, _, flops = model.info(verbose=True, imgsz=640)
    _, plain_parameters, _, plain_flops = plain.info(verbose=True, imgsz=640)
    elements = 64 * 80 * 80
    per_element = SimAM(64).flops(torch.empty(1, 64, 80, 80)) / elements
    assert parameters == plain_parameters
    assert flops - plain_flops == pytest.approx(per_element * elements / 1e9)
    gam = build([-1, 1, "GAM", []]).info(verbose=True, imgsz=640)
    convolutions = 2 * 80 * 80 * 64 * 16 * (2 + 2 * 49) / 1e9
    assert gam[1] - plain_parameters == sum(p.numel() for p in GAM(64).parameters())
    assert gam[3] - plain_flops == pytest.approx(convolutions, rel=0.01)


@pytest.mark.integration
@pytest.mark.trap(14)
def test_yaml_file_on_disk_beside_its_scale_in_a_misleading_folder(tmp_path):
    folder = tmp_path / "exp2n_x"
    folder.mkdir()
    text = Path(parser.__file__).parents[2].joinpath("model_yamls/yolov8-gam.yaml").read_text()
    (folder / "yolov8-mine.yaml").write_text(text)
    model = DetectionModel(str(folder / "yolov8s-mine.yaml"), verbose=False)
    assert model.yaml["scale"] == "s"
    assert model.model[22].channel.fc1.in_channels == 128
    (folder / "yolov8l-exact.yaml").write_text(text)
    assert DetectionModel(str(folder / "yolov8l-exact.yaml"), verbose=False).yaml["scale"] == "l"
