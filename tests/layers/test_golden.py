"""The layers against numbers that the sources' own code gave in float64 (tests/golden/manifest.json)."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from yolo_attn.layers import BAM, CBAM, ECA, EMA, GAM, NAM, SE, CoordAtt, SimAM, TripletAttention
from yolo_attn.layers.nam import SCALE_NORMS

GOLDEN = Path(__file__).parents[1] / "golden"
MANIFEST = json.loads((GOLDEN / "manifest.json").read_text(encoding="utf-8"))
CASES = MANIFEST["cases"]
SGD = [case for case in CASES if "optimizer" in case["options"]]
HALF = [case for case in CASES if case.get("dtype", "").startswith("f16")]
PLAIN = [case for case in CASES if case not in SGD and case not in HALF]
SINGLE = [case for case in PLAIN if "tol_f32" in case]


def each(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case["id"])


class SpatialAlone(nn.Module):
    """NAM without its channel part, under the same keys."""

    def __init__(self, channels, **options):
        super().__init__()
        self.spatial = NAM(channels, spatial=True, **options).spatial

    def forward(self, x):
        return self.spatial(x)


BUILDERS = {
    "simam": lambda c, size, o: SimAM(c, e_lambda=o["e_lambda"]),
    "nam_channel": lambda c, size, o: NAM(c),
    "nam_full": lambda c, size, o: NAM(c, spatial=True, grid=size),
    "nam_spatial": lambda c, size, o: SpatialAlone(c, grid=size),
    "gam_sigmoid": lambda c, size, o: GAM(c, ratio=o["ratio"], channel_act="sigmoid"),
    "gam_noact": lambda c, size, o: GAM(c, ratio=o["ratio"], channel_act="none"),
    "gam_seed003": lambda c, size, o: GAM(c, ratio=o["ratio"], channel_act="none"),
    "cbam": lambda c, size, o: CBAM(c, ratio=o["reduction"]),
    "se": lambda c, size, o: SE(c, ratio=o["reduction"]),
    "eca": lambda c, size, o: ECA(c, kernel_size=o["k_size"]),
    "bam": lambda c, size, o: BAM(c, ratio=o["reduction"], dilation=o["dilation"]),
    "coordatt": lambda c, size, o: CoordAtt(c, ratio=o["reduction"]),
    "triplet": lambda c, size, o: TripletAttention(c),
    "ema": lambda c, size, o: EMA(c, groups=o["factor"]),
}


def build(case, dtype):
    channels, *size = case["shape"][1:]
    layer = BUILDERS[case["module"]](channels, size, case["options"])
    norms = [m for m in layer.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert {norm.eps for norm in norms} == ({case["bn_eps"]} if norms else set())
    if case.get("bn_momentum"):
        assert {norm.momentum for norm in norms} == {case["bn_momentum"]}
    return layer.to(dtype).train(case["mode"] == "train")


def arrays(case):
    with np.load(GOLDEN / case["file"]) as file:
        return dict(file)


def named(want, prefix):
    return {key.removeprefix(prefix): value for key, value in want.items() if key.startswith(prefix)}


def load(layer, state):
    own = layer.state_dict()
    assert own.keys() == state.keys()
    # The golden fully connected weights are (out, in); those of GAM are 1×1 convolutions.
    layer.load_state_dict({key: torch.from_numpy(state[key].reshape(own[key].shape)) for key in own})


def run(layer, want, dtype):
    """Return every array the golden file may hold, by its name there, without the sampled forms."""
    x = torch.from_numpy(want["x"]).to(dtype).requires_grad_()
    out = layer(x)
    assert out.dtype == dtype
    (out * torch.from_numpy(want["gout"]).to(dtype)).sum().backward()
    got = {"out": out.detach(), "gx": x.grad}
    got |= {f"gp/{name}": parameter.grad for name, parameter in layer.named_parameters()}
    got |= {f"after/{name}": buffer for name, buffer in layer.named_buffers()}
    return {name: value.double().numpy() for name, value in got.items()}


def compare(got, want, rtol, atol):
    """Hold each wanted array against its tolerance; atol is a function of the array's name. Returns the names seen."""
    seen = set()
    for key, value in want.items():
        name, _, form = key.partition("@")
        if key.split("/")[0] in ("x", "gout", "state", "f32", "gpp", "out_steps") or form == "index":
            continue
        array = got[name].ravel()
        limit = np.full(value.size, atol(name))
        if form == "sample":
            array = array[want[f"{name}@index"]]
        elif form == "moments":
            # [sum, sumsq, sumabs, min, max]: errors add up in the first three, where |sum| may cancel but not sumabs.
            array = np.array([array.sum(), (array**2).sum(), abs(array).sum(), array.min(), array.max()])
            limit[:3] = atol(name) * got[name].size + rtol * value[2]
        difference = abs(array - value.ravel())
        assert (difference <= limit + rtol * abs(value.ravel())).all(), f"{key}: off by {difference.max()}"
        seen.add(name)
    return seen


def expected(case):
    want = arrays(case)
    if case["official_output_has_nan"]:
        assert case["module"] == "simam"
        assert case["shape"][2:] == [1, 1]
        gate = 1 / (1 + np.exp(-0.5))
        want |= {"out": want["x"].astype(float) * gate, "gx": want["gout"].astype(float) * gate}
    return want


def check(case, dtype, rtol, atol, zero):
    """Run a plain case; gradients that are zero in exact arithmetic have a bound of their own."""
    want = expected(case)
    layer = build(case, dtype)
    load(layer, named(want, "state/"))
    got = run(layer, want, dtype)
    zeros = case["analytically_zero_grads"]
    for name in zeros:
        assert abs(got[name]).max() <= zero * case["max_abs_gp"], name
    held = {key: value for key, value in want.items() if key.partition("@")[0] not in zeros}
    seen = compare(got, held, rtol, atol)
    buffers = {name for name in got if name.startswith("after/")} if case["mode"] == "train" else set()
    assert seen | set(zeros) == {name for name in got if not name.startswith("after/")} | buffers
    return layer, want


def test_no_case_is_missing():
    assert Counter(case["module"] for case in CASES) == {
        "simam": 24,
        "nam_channel": 20,
        "gam_sigmoid": 10,
        "gam_noact": 10,
        "gam_seed003": 2,
        "nam_full": 12,
        "nam_spatial": 12,
        "cbam": 8,
        "se": 3,
        "eca": 3,
        "bam": 4,
        "coordatt": 6,
        "triplet": 5,
        "ema": 3,
    }
    assert len(SGD) == 2
    assert len(HALF) == 2
    assert {case["file"] for case in CASES} == {path.name for path in GOLDEN.glob("*.npz")}


@pytest.fixture(params=["auto", "0"])
def form(request, monkeypatch):
    """The fast forms of the layers that have one, and the plain formulas."""
    monkeypatch.setenv("YOLO_ATTN_KERNELS", request.param)


@pytest.mark.usefixtures("form")
@each(PLAIN)
def test_float64(case):
    tolerance = case["tol_f64"]
    layer, want = check(case, torch.float64, tolerance["rtol"], lambda name: tolerance["atol"], zero=1e-9)
    penalised = named(want, "gpp/")
    assert bool(penalised) == ("sparsity_s" in case)
    for name, value in penalised.items():
        parameter = layer.get_parameter(name)
        scale = parameter.detach().sign() if name.endswith("bn.weight") else 0
        got = parameter.grad + case["sparsity_s"] * scale
        np.testing.assert_allclose(got.numpy(), value, **tolerance)


@pytest.mark.usefixtures("form")
@each(SINGLE)
def test_float32(case):
    tolerance = case["tol_f32"]
    # A source that gave NaN has no deviation of its own to go by.
    atol = {"out": 2e-6, "gx": 2e-6} if case["official_output_has_nan"] else tolerance["atol_by_array"]
    counted = dict.fromkeys((name for name in case["arrays"] if name.endswith("num_batches_tracked")), 0.0)
    check(case, torch.float32, tolerance["rtol"], (atol | counted).__getitem__, zero=1e-4)


@pytest.mark.usefixtures("form")
@each(HALF)
def test_float16(case):
    want = expected(case)
    got = run(build(case, torch.float16), want, torch.float16)
    tolerance = case["tol_f16"]
    assert compare(got, want, tolerance["rtol"], lambda name: tolerance["atol"]) == {"out", "gx"}


@pytest.mark.usefixtures("form")
@each(HALF)
def test_float16_input_in_float64(case):
    want = expected(case)
    got = run(build(case, torch.float64), want, torch.float64)
    assert compare(got, want, 1e-9, lambda name: 1e-11) == {"out", "gx"}


@pytest.mark.usefixtures("form")
@each(SGD)
def test_three_sgd_steps_with_the_sparsity_sub_gradient(case):
    want, options = arrays(case), case["options"]
    layer = build(case, torch.float64)
    load(layer, named(want, "state/"))
    settings = {key: options[key] for key in ("lr", "momentum", "weight_decay")}
    optimizer = torch.optim.SGD(layer.parameters(), **settings)
    assert len(want["x"]) == options["steps"]
    for x, gout, out in zip(want["x"], want["gout"], want["out_steps"], strict=True):
        got = layer(torch.from_numpy(x).double())
        np.testing.assert_allclose(got.detach().numpy(), out, **case["tol_f64"])
        optimizer.zero_grad()
        (got * torch.from_numpy(gout).double()).mean().backward()
        for norm in (m for m in layer.modules() if isinstance(m, SCALE_NORMS)):
            norm.weight.grad += case["sparsity_s"] * norm.weight.detach().sign()
        optimizer.step()
    after = {f"after/{name}": value.double().numpy() for name, value in layer.state_dict().items()}
    assert compare(after, want, **{"rtol": case["tol_f64"]["rtol"], "atol": lambda name: 1e-11}) == after.keys()


@pytest.mark.parametrize("failure", MANIFEST["expected_failures"], ids=lambda f: f"{f['module']}-{f['mode']}")
def test_expected_failure(failure):
    layer = BUILDERS[failure["module"]](failure["shape"][1], failure["shape"][2:], failure["options"])
    x = torch.randn(failure["shape"])
    if failure["module"] == "bam":
        # The authors' pooling window is square; ours is the plane.
        assert failure["shape"][2] > failure["shape"][3]
        assert layer.train(failure["mode"] == "train")(x).isfinite().all()
        return
    words = {
        "nam_channel": "batch statistics need more than one value per channel",
        "triplet": "Expected more than 1 value per channel when training",
    }
    assert (failure["raises"], failure["mode"]) == ("ValueError", "train")
    with pytest.raises(ValueError, match=words[failure["module"]]):
        layer(x)
    if failure["module"] == "nam_channel":
        assert layer.channel.bn.num_batches_tracked == 0
