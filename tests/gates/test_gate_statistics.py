"""Gates as the layers' formulas have them, watched in models that stay as they are; their statistics against numpy."""

import copy
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from support import enliven
from torch import nn
from ultralytics.nn import tasks

from yolo_attn import layers
from yolo_attn.engine.export.verify import flatten
from yolo_attn.gates.statistics import BINS, GateStatistics, gates_line
from yolo_attn.gates.watch import attention_layers, gate_of, label_of, measure_gates, watching
from yolo_attn.model.registry import LAYERS


def norm(bn, x):
    return F.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias, False, 0.0, bn.eps)


def max_mean(part, x, dim):
    pooled = torch.stack([x.amax(dim), x.mean(dim)], 1)
    return torch.sigmoid(norm(part.bn, F.conv2d(pooled, part.conv.weight, padding=part.conv.padding)))


def simam(layer, x):
    variance = x.var((2, 3), keepdim=True)
    return torch.sigmoid((x - x.mean((2, 3), keepdim=True)) ** 2 / (4 * (variance + layer.e_lambda)) + 0.5)


def nam(layer, x):
    bn = layer.channel.bn
    share = bn.weight.abs() / bn.weight.abs().sum()
    return torch.sigmoid(share[:, None, None] * norm(bn, x))


def gam(layer, x):
    a = torch.sigmoid(layer.channel.fc2(F.relu(layer.channel.fc1(x))))
    s = F.relu(norm(layer.spatial.bn1, layer.spatial.conv1(x * a)))
    return a * torch.sigmoid(norm(layer.spatial.bn2, layer.spatial.conv2(s)))


def cbam(layer, x):
    def mlp(v):
        return layer.channel.fc2(F.relu(layer.channel.fc1(v)))

    c = torch.sigmoid(mlp(x.mean((2, 3))) + mlp(x.amax((2, 3))))[..., None, None]
    return c * max_mean(layer.spatial, x * c, 1)


def se(layer, x):
    return torch.sigmoid(layer.fc2(F.relu(layer.fc1(x.mean((2, 3))))))[..., None, None]


def eca(layer, x):
    return torch.sigmoid(layer.conv(x.mean((2, 3))[:, None]))[:, 0, :, None, None]


def bam(layer, x):
    c, s = layer.channel, layer.spatial
    channel = c.fc2(F.relu(norm(c.bn, c.fc1(x.mean((2, 3))))))[..., None, None]
    y = F.relu(norm(s.bn_reduce, s.reduce(x)))
    y = F.relu(norm(s.bn_dil2, s.dil2(F.relu(norm(s.bn_dil1, s.dil1(y))))))
    return 1 + torch.sigmoid(channel * s.final(y))


def coordatt(layer, x):
    strips = torch.cat([x.mean(3), x.mean(2)], 2)[..., None]
    rows, columns = F.hardswish(norm(layer.bn1, layer.conv1(strips))).split([x.shape[2], x.shape[3]], 2)
    return torch.sigmoid(layer.conv_h(rows)) * torch.sigmoid(layer.conv_w(columns)).transpose(2, 3)


def triplet(layer, x):
    cw = max_mean(layer.cw, x, 2).transpose(1, 2)
    hc = max_mean(layer.hc, x.permute(0, 3, 2, 1), 1).permute(0, 3, 2, 1)
    return (cw + hc + max_mean(layer.hw, x, 1)) / 3


def ema(layer, x):
    batch, channels, height, width = x.shape
    u = x.reshape(batch * layer.groups, -1, height, width)
    a = torch.sigmoid(layer.conv1x1(torch.cat([u.mean(3), u.mean(2)], 2)[..., None]))
    p = layer.gn(u * a[:, :, :height] * a[:, :, height:].transpose(2, 3))
    q = layer.conv3x3(u)
    weights = [v.mean((2, 3)).softmax(1)[..., None, None] for v in (p, q)]
    gate = torch.sigmoid((weights[0] * q + weights[1] * p).sum(1))
    return gate.reshape(batch, layer.groups, height, width).repeat_interleave(channels // layer.groups, 1)


FORMULAS = {
    "SimAM": simam,
    "NAM": nam,
    "GAM": gam,
    "CBAM": cbam,
    "SE": se,
    "ECA": eca,
    "BAM": bam,
    "CoordAtt": coordatt,
    "TripletAttention": triplet,
    "EMA": ema,
}
"""The gate of each layer from its parts' parameters, (B, C, H, W) or what broadcasts to it."""

OPTIONS = {"GAM": {"ratio": 2}, "CBAM": {"ratio": 4}, "SE": {"ratio": 4}, "BAM": {"ratio": 4}, "EMA": {"groups": 4}}


def layer_of(name, **more):
    """A layer in float64 whose parameters and statistics are not those of the start."""
    torch.manual_seed(0)
    layer = getattr(layers, name)(16, **OPTIONS.get(name, {}), **more).double().eval()
    for key, value in layer.state_dict().items():
        if value.is_floating_point():
            value.uniform_(0.5, 2) if key.endswith("running_var") else value.normal_(0, 0.5)
    return layer


def seen_gate(layer, x):
    found = []
    with torch.no_grad(), watching({"it": layer}, lambda name, gate: found.append(gate)):
        layer(x)
    (gate,) = found
    return gate


def sample():
    return torch.randn(2, 16, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 + 0.5


@pytest.mark.parametrize("kernels", ["0", "auto"])
@pytest.mark.parametrize("gain", [1.0, 2.5])
@pytest.mark.parametrize("name", FORMULAS)
def test_gate_is_the_formulas(name, gain, kernels, monkeypatch):
    """In float64 to 1e-9, in float32 to its own precision; the gain is none of it."""
    monkeypatch.setenv("YOLO_ATTN_KERNELS", kernels)
    assert set(FORMULAS) == set(layers.__all__)
    layer, x = layer_of(name, gain=gain), sample()
    with torch.no_grad():
        want = FORMULAS[name](layer, x).expand_as(x)
    assert want.std() > 0.01
    torch.testing.assert_close(seen_gate(layer, x), want, rtol=1e-9, atol=0)
    narrow = seen_gate(layer.float(), x.float())
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow.double(), want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["NAM", "GAM"])
def test_folded_layers_have_the_same_gate(name):
    layer, x = layer_of(name), sample()
    before = seen_gate(layer, x)
    layer.fuse()
    torch.testing.assert_close(seen_gate(layer, x), before, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", FORMULAS)
def test_no_gate_where_the_input_is_nothing(name):
    layer, x = layer_of(name), sample()
    x[:, 3:5, 2:4] = 0
    x[0, 7, 0, 0] = -0.0
    x[1, 7, 0, 0] = 1e-307
    gate = seen_gate(layer, x)
    assert torch.equal(gate.isnan(), x.abs() < 1e-300)
    with torch.no_grad():
        want = FORMULAS[name](layer, x).expand_as(x)
    known = ~gate.isnan()
    torch.testing.assert_close(gate[known], want[known], rtol=1e-9, atol=0)


@pytest.mark.parametrize(("dtype", "precision"), [(torch.float16, 2**-10), (torch.bfloat16, 2**-7)])
def test_narrow_inputs_tell_the_gate_as_well_as_they_can(dtype, precision):
    """Down to their smallest numbers, where out has few digits left."""
    x = torch.logspace(-9, 3, 2000).to(dtype).reshape(1, 1, 40, 50)
    want = torch.rand(1, 1, 40, 50) * 0.9 + 0.1
    gate = gate_of(x, (x.float() * want).to(dtype))
    assert gate.dtype == torch.float32
    known = ~gate.isnan()
    assert known.float().mean() > 0.4
    assert ((gate - want)[known].abs() <= precision).all()


class InPlace(nn.Module):
    """Of a user who writes into the input."""

    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return x.mul_(0.25)


class Halving(nn.Module):
    """Of a user who breaks the rule of equal shapes."""

    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return x[:, :, ::2, ::2]


def test_layers_of_users():
    assert torch.equal(seen_gate(InPlace(16), sample()), torch.full((2, 16, 7, 5), 0.25, dtype=torch.float64))
    with watching({"it": Halving(16)}, lambda *_: pytest.fail("no gate of this")):
        Halving(16)(sample())


CONV = [-1, 1, "Conv", [16, 3, 2]]


def small(*rows, task="Classification", head=(-1, 1, "Classify", ["nc"])):
    d = {"nc": 3, "backbone": [list(r) for r in (CONV, *rows)], "head": [list(head)]}
    return getattr(tasks, f"{task}Model")(d)


def pictures(number=3, size=(48, 32)):
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(1, 3, *size, generator=generator) for _ in range(number)]


def test_layers_are_found_and_named_wherever_they_are():
    model = small(
        [-1, 1, "GAM", []],
        [-1, 2, "NAM", []],
        [-1, 2, "C2f_NAM", [16, True]],
        [-1, 1, "C2f_SimAM", [16, True, {"where": "pre_bn"}]],
        [-1, 1, "C2f_SE", [16, True, {"where": "out"}]],
        [-1, 2, "Bottleneck_ECA", [16]],
    )
    found = attention_layers(model)
    kinds = tuple(LAYERS.values())
    assert list(found.values()) == [m for m in model.modules() if isinstance(m, kinds)]
    assert [label_of(model, name) for name in found] == [
        "row 1 GAM",
        "row 2 NAM 0",
        "row 2 NAM 1",
        "row 3 C2f_NAM m.0.cv2",
        "row 3 C2f_NAM m.1.cv2",
        "row 4 C2f_SimAM m.0.cv2",
        "row 5 C2f_SE",
        "row 6 Bottleneck_ECA 0.cv2",
        "row 6 Bottleneck_ECA 1.cv2",
    ]
    assert len({label_of(model, name) for name in measure_gates(model, pictures(1))}) == 9


def test_layer_inside_a_users_layer_is_a_part_of_it(monkeypatch):
    class Twice(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.first, self.second = layers.SE(channels), layers.SE(channels)

        def forward(self, x):
            return self.second(self.first(x))

    monkeypatch.setitem(LAYERS, "Twice", Twice)
    model = small([-1, 1, "Twice", []])
    assert list(attention_layers(model)) == ["model.1"]


def state(model):
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), list(m._forward_hooks)) for m in model.modules()]
    return [m.training for m in model.modules()], hooks, copy.deepcopy(model.state_dict())


def assert_same_state(model, before):
    now = state(model)
    assert now[:2] == before[:2]
    assert all(torch.equal(a, b) for a, b in zip(now[2].values(), before[2].values(), strict=True))


EVERYWHERE = [
    [-1, 1, "GAM", []],
    [-1, 2, "C2f_NAM", [16, True]],
    [-1, 1, "C2f_CBAM", [16, True, {"where": "out"}]],
    [-1, 1, "C2f_BAM", [16, True, {"where": "pre_bn"}]],
]


@pytest.mark.parametrize("training", [True, False])
def test_model_stays_as_it_is(training):
    model = small(*EVERYWHERE).train(training)
    model.model[1].training = not training
    before, x = state(model), torch.rand(2, 3, 48, 32)
    (expected, *_) = flatten(copy.deepcopy(model).eval()(x))
    found = measure_gates(model, pictures())
    assert {gate.pictures for gate in found.values()} == {3}
    assert_same_state(model, before)
    np.testing.assert_array_equal(flatten(copy.deepcopy(model).eval()(x))[0], expected)


@pytest.mark.parametrize("fault", ["reading", "layer"])
def test_model_stays_as_it_is_whatever_happens(fault, monkeypatch):
    model = small(*EVERYWHERE).train()
    before = state(model)

    def failing():
        yield pictures()[0]
        raise KeyboardInterrupt

    if fault == "layer":
        monkeypatch.setattr(model.model[1].spatial, "forward", lambda u: 1 / 0)
    with pytest.raises(ZeroDivisionError if fault == "layer" else KeyboardInterrupt):
        measure_gates(model, failing())
    assert_same_state(model, before)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("Detection", "yolov8n-c2f-simam.yaml"),
        ("Detection", "yolo11n-c3k2-nam.yaml"),
        ("Detection", "yolo26n-triplet.yaml"),
        ("RTDETRDetection", "rtdetr-l-gam.yaml"),
        ("OBB", "yolov8n-obb-gam.yaml"),
        ("Classification", "resnet50-cls-cbam.yaml"),
    ],
)
def test_families_and_tasks(task, name):
    model = enliven(getattr(tasks, f"{task}Model")(name, verbose=False))
    found = measure_gates(model, pictures(2, (64, 64)))
    assert len(found) == len(attention_layers(model)) > 0
    assert all(gate.pictures == 2 and gate.values for gate in found.values())
    assert all(sum(gate.shares.values()) == pytest.approx(1) for gate in found.values())


def test_model_without_attention():
    assert measure_gates(small(), pictures()) == {}


def test_dead_and_living_attention():
    """NAM with the authors' weights barely moves at its start, SimAM does; λ of a channel's size makes a constant."""
    model = small([-1, 1, "NAM", []], [-1, 1, "SimAM", []], [-1, 1, "SimAM", [{"e_lambda": 9}]])
    found = {label_of(model, name): gate for name, gate in measure_gates(model, pictures()).items()}
    nam, living, flat = found.values()
    assert (nam.dead, living.dead, flat.dead) == (True, False, True)
    assert gates_line(found) == (
        f"row 1 NAM dead, gate 0.50 (deviation {100 * nam.deviation:.2g} %); "
        f"row 2 SimAM gate {living.low:.2f}–{living.high:.2f}, deviation {100 * living.deviation:.2g} %; "
        f"row 3 SimAM dead, gate {flat.mean:.2f} (deviation {100 * flat.deviation:.2g} %)"
    )


def reference(gates):
    """Mean, and the three parts of the variance, from all values at once."""
    values = np.concatenate([g[np.isfinite(g)] for g in gates])
    channels = [np.concatenate([g[:, c][np.isfinite(g[:, c])] for g in gates]) for c in range(gates[0].shape[1])]
    parts = np.zeros(3)
    for c, of_channel in enumerate(channels):
        parts[0] += len(of_channel) * (of_channel.mean() - values.mean()) ** 2 if len(of_channel) else 0
        for g in gates:
            for plane in g[:, c]:
                plane = plane[np.isfinite(plane)]
                if len(plane):
                    parts[1] += len(plane) * (plane.mean() - of_channel.mean()) ** 2
                    parts[2] += ((plane - plane.mean()) ** 2).sum()
    return values, parts / len(values)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    channels=st.integers(1, 5),
    shapes=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=5),
    holes=st.sampled_from([0.0, 0.3, 0.9]),
    offset=st.sampled_from([0.0, 0.6, 1e4]),
)
def test_statistics_are_those_of_all_values_at_once(seed, channels, shapes, holes, offset):
    rng = np.random.default_rng(seed)
    gates = [offset + rng.normal(size=(b, channels, h, w)) for b, h, w in shapes]
    for g in gates:
        g[rng.random(g.shape) < holes] = rng.choice([np.nan, np.inf])
    gates[0].flat[0] = offset + 1
    found = GateStatistics()
    for g in gates:
        found.add(torch.from_numpy(g))
    values, parts = reference(gates)
    assert (found.pictures, found.values) == (sum(len(g) for g in gates), len(values))
    assert found.undefined == sum(g.size for g in gates) - len(values)
    assert (found.low, found.high) == (values.min(), values.max())
    np.testing.assert_allclose([found.mean, found.std], [values.mean(), values.std()], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(list(found.parts.values()), parts, rtol=1e-7, atol=1e-10)
    np.testing.assert_array_equal(found.counts, np.histogram(values.clip(0, 2), BINS, (0, 2))[0])
    json.dumps(found.as_json(), allow_nan=False)


def constant(value=0.5):
    return torch.full((2, 3, 4, 5), value)


def test_what_varies_is_reported_apart():
    """A gate that differs across channels alone, from picture to picture alone, from place to place alone."""
    for part, factor in {
        "channels": torch.rand(1, 3, 1, 1),
        "pictures": torch.rand(2, 1, 1, 1),
        "positions": torch.rand(1, 1, 4, 5),
    }.items():
        found = GateStatistics()
        found.add(constant() * factor)
        assert found.shares[part] == pytest.approx(1)
        assert not found.dead


def test_small_deviations_are_not_lost_in_rounding():
    found, noise = GateStatistics(), torch.randn(40, 8, 16, 16, dtype=torch.float64)
    for part in (0.6225 + 1e-7 * noise).split(1):
        found.add(part)
    assert found.std == pytest.approx(1e-7 * float(noise.std(correction=0)), rel=1e-6)
    assert found.dead


def test_constant_empty_and_balanced():
    found = GateStatistics()
    found.add(constant())
    assert (found.std, found.deviation, found.dead) == (0, 0, True)
    assert set(found.as_json()["shares"].values()) == {None}
    found.add(-constant())
    assert found.deviation == float("inf")
    assert found.as_json()["deviation"] is None
    assert gates_line({"row 1 X": found}) == "row 1 X gate -0.50 to 0.50, deviation inf %"
    nothing = GateStatistics()
    nothing.add(constant(torch.nan))
    assert not nothing.dead
    assert nothing.as_json()["mean"] is None
    assert gates_line({"row 1 X": nothing}) == "row 1 X without a finite gate"
    json.dumps([nothing.as_json(), GateStatistics().as_json()], allow_nan=False)


def test_memory_does_not_grow_with_pictures():
    found = GateStatistics()
    found.add(torch.rand(2, 16, 8, 8))
    held = {name: value.numel() for name, value in vars(found).items() if isinstance(value, torch.Tensor)}
    for _ in range(5):
        found.add(torch.rand(3, 16, 9, 7))
    assert held == {name: value.numel() for name, value in vars(found).items() if isinstance(value, torch.Tensor)}
    assert sum(held.values()) <= BINS + 3 * 16


def test_line_of_many_layers_is_short():
    found = {f"row {n} GAM": GateStatistics() for n in range(20)}
    for n, gate in enumerate(found.values()):
        if n < 19:
            gate.add(constant() if n < 8 else torch.rand(1, 3, 4, 5))
    line = gates_line(found)
    assert line.startswith("20 layers, gate 0.0")
    assert line.endswith(
        "; dead: row 0 GAM, row 1 GAM, row 2 GAM, row 3 GAM, row 4 GAM, row 5 GAM and 2 more; "
        "without a finite gate: row 19 GAM"
    )


def test_gates_of_a_registered_layer(monkeypatch):
    monkeypatch.setitem(LAYERS, "InPlace", InPlace)
    ((name, gate),) = measure_gates(small([-1, 1, "InPlace", []]), pictures()).items()
    assert name == "model.1"
    assert (gate.mean, gate.dead) == (0.25, True)
