"""The gain of new attention: measured so that each layer keeps the magnitude of its input, and kept in the YAML."""

import copy

import pytest
import torch
from support import randomise
from torch import nn
from ultralytics import YOLO
from ultralytics.nn import tasks

import yolo_attn
from yolo_attn.errors import UserError
from yolo_attn.layers import CBAM, GAM, NAM, SimAM
from yolo_attn.model import registry
from yolo_attn.safe.safetensors_file import write_weights
from yolo_attn.weights.checkpoint_files import load_safe
from yolo_attn.weights.gains import calibrate, gains_line, own_gains
from yolo_attn.weights.transfer import transfer_of

ATTENTION = (CBAM, GAM, NAM, SimAM)


def small(*rows, head=((-1, 1, "Classify", ["nc"]),)):
    """A classifier of a few rows, its batch norms as if it had learnt."""
    torch.manual_seed(0)
    d = {"nc": 3, "backbone": [list(r) for r in rows], "head": [list(r) for r in head]}
    return randomise(tasks.ClassificationModel(d))


def pictures(batches=3):
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(2, 3, 48, 32, generator=generator) for _ in range(batches)]


def magnitudes(model, batches):
    """Mean |input| and mean |output| of each attention layer over all batches, in evaluation."""
    found = {}

    def note(layer, inputs, output):
        before, after = found.get(layer, (0, 0))
        found[layer] = (before + inputs[0].abs().mean().item(), after + output.abs().mean().item())

    hooks = [m.register_forward_hook(note) for m in model.modules() if isinstance(m, ATTENTION)]
    with torch.inference_mode():
        for batch in batches:
            model.eval()(batch)
    for hook in hooks:
        hook.remove()
    return found


CONV = (-1, 1, "Conv", [16, 3, 2])


@pytest.mark.parametrize("layer", ["GAM", "NAM", "SimAM", "CBAM"])
def test_each_layer_keeps_the_magnitude_of_what_it_gets(layer):
    model = small(CONV, (-1, 1, layer, []), CONV, (-1, 1, layer, [{"gain": 1.0}]), CONV, (-1, 1, layer, []))
    gains = calibrate(model, pictures())
    assert list(gains) == [1, 5]
    first, given, last = magnitudes(model, pictures()).values()
    assert first[1] == pytest.approx(first[0], rel=2e-3)
    assert given[1] < 0.9 * given[0]
    assert last[1] == pytest.approx(last[0], rel=2e-3)


@pytest.mark.parametrize(
    "row",
    [
        (-1, 2, "NAM", []),
        (-1, 2, "C2f_NAM", [16, True]),
        (-1, 1, "C2f_GAM", [16, True, {"where": "pre_bn", "ratio": 2}]),
    ],
)
def test_layers_of_a_row_share_one_gain(row):
    model = small(CONV, row)
    (gain,) = calibrate(model, pictures()).values()
    found = magnitudes(model, pictures())
    assert {m.gain for m in found} == {gain}
    before, after = (sum(values) for values in zip(*found.values(), strict=True))
    assert after == pytest.approx(before, rel=0.1)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([-1, 1, "GAM", [8]], [{"ratio": 8}]),
        ([-1, 1, "GAM", [{"ratio": 8}]], [{"ratio": 8}]),
        ([-1, 1, "SimAM", ["1e-3"]], [{"e_lambda": "1e-3"}]),
        ([-1, 1, "C2f_NAM", [16]], [16, {}]),
        ([-1, 1, "C2f_NAM", [16, True, {"where": "out"}]], [16, True, {"where": "out"}]),
    ],
)
def test_the_yaml_of_the_model_keeps_it(row, expected):
    """In a fresh build from that YAML, in a copy, in a pickle; what the caller gave stays as it was."""
    described = [list(CONV), copy.deepcopy(row)]
    model = small(*described)
    (gain,) = calibrate(model, pictures()).values()
    *own, options = expected
    assert model.yaml["backbone"][1][3] == [*own, {**options, "gain": gain}]
    again = tasks.ClassificationModel(model.yaml, verbose=False)
    again.load_state_dict(model.state_dict())
    x = pictures(1)[0]
    assert torch.equal(again.eval()(x)[0], model.eval()(x)[0])
    assert torch.equal(copy.deepcopy(model)(x)[0], model(x)[0])
    assert own_gains(again) == {1: gain}
    assert calibrate(again, pictures()) == {}


def test_rows_that_are_one_list_through_an_alias_have_gains_of_their_own():
    row = [-1, 1, "C2f_NAM", [16, True]]
    model = tasks.ClassificationModel(
        {"nc": 3, "backbone": [list(CONV), row, row], "head": [[-1, 1, "Classify", ["nc"]]]}, verbose=False
    )
    gains = calibrate(randomise(model), pictures())
    assert list(gains) == [1, 2]
    assert gains[1] != gains[2]
    assert own_gains(model) == gains
    assert {index: {m.gain for m in model.model[index].modules() if isinstance(m, NAM)} for index in gains} == {
        index: {gain} for index, gain in gains.items()
    }
    assert row == [-1, 1, "C2f_NAM", [16, True]]


def test_nothing_but_the_gains_changes():
    model = small(CONV, (-1, 1, "GAM", []), CONV, (-1, 1, "C2f_CBAM", [16, True]))
    model.train()
    model.model[2].eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    hooks = [len(m._forward_hooks) for m in model.modules()]
    calibrate(model, pictures())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes
    assert [len(m._forward_hooks) for m in model.modules()] == hooks
    assert all(p.grad is None for p in model.parameters())


def test_maps_of_zeros_give_no_gain():
    assert calibrate(small((-1, 1, "SimAM", [])), [torch.zeros(1, 3, 32, 32)]) == {}


def test_layers_of_a_user(recwarn):
    """One with an option `gain` takes part, another is said to have none."""

    class Halved(nn.Module):
        def __init__(self, channels, *, gain=1.0):
            super().__init__()
            self.gain = gain

        def forward(self, x):
            return x * 0.5 * self.gain

    class Plain(nn.Module):
        def __init__(self, channels):
            super().__init__()

        def forward(self, x):
            return x * 0.5

    try:
        yolo_attn.register_layer(Halved)
        yolo_attn.register_layer(Plain)
        model = small(CONV, (-1, 1, "Halved", []), (-1, 1, "Plain", []))
        assert calibrate(model, pictures()) == {1: 2.0}
        line = gains_line(model, {1: 2.0}, [1, 2])
        assert line == "identity-init, gain of rows: 1 Halved 2, 2 Plain without, it has no option gain"
    finally:
        registry.LAYERS.pop("Halved", None)
        registry.LAYERS.pop("Plain", None)


@pytest.mark.integration
def test_plain_python(small_coco):
    """After load, by pictures in a folder or by batches; layers that came with weights stay; a copy keeps its own."""
    model = YOLO("yolov8n-gam.yaml")
    with pytest.raises(UserError, match="loaded no checkpoint"):
        yolo_attn.identity_init(model, small_coco / "images/train", 64)
    model.load(tasks.DetectionModel("yolov8n.yaml", verbose=False))
    with pytest.raises(UserError, match="no images there"):
        yolo_attn.identity_init(model, small_coco / "nothing")
    with pytest.raises(UserError, match="no images to measure on"):
        yolo_attn.identity_init(model, [])
    gains = yolo_attn.identity_init(model, small_coco / "images/train", 64)
    assert list(gains) == transfer_of(model.model).new_attention == [22, 23, 24]
    assert all(3 < gain < 5 for gain in gains.values())
    fresh = YOLO("yolov8n-gam.yaml").load(model.model)
    assert own_gains(fresh.model) == gains
    with torch.inference_mode():
        x = torch.rand(1, 3, 64, 64)
        assert torch.equal(fresh.model.eval()(x)[0], model.model.eval()(x)[0])


def test_a_gain_is_loaded_with_its_weights():
    """Into a row that gives none; one that does keeps its own. In the reloaded model nothing is new."""
    source = YOLO("yolov8n-nam.yaml").load(tasks.DetectionModel("yolov8n.yaml", verbose=False))
    gains = yolo_attn.identity_init(source, [torch.rand(2, 3, 64, 64)])
    trained = copy.deepcopy(source.model)
    described = tasks.yaml_model_load("yolov8n-nam.yaml")
    next(row for row in described["head"] if row[2] == "NAM")[3] = [{"gain": 7}]
    target = tasks.DetectionModel(described, verbose=False)
    target.load(trained, verbose=False)
    assert [target.model[i].gain for i in (22, 23, 24)] == [7, gains[23], gains[24]]
    assert transfer_of(target).new_attention == []


def test_safetensors_and_fused(tmp_path):
    model = YOLO("yolov8n-c2f-nam.yaml").load(tasks.DetectionModel("yolov8n.yaml", verbose=False))
    yolo_attn.identity_init(model, [torch.rand(2, 3, 64, 64)])
    network = model.model.eval()
    network.args, network.task, network.names = {"imgsz": 64}, "detect", {i: str(i) for i in range(80)}
    write_weights(network, tmp_path / "model.safetensors")
    again = load_safe(tmp_path / "model.safetensors")
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        expected = network(x)[0]
        assert torch.equal(again(x)[0], expected)
        torch.testing.assert_close(again.fuse(verbose=False)(x)[0], expected, rtol=1e-3, atol=1e-2)
        assert again.half()(x.half())[0].isfinite().all()
