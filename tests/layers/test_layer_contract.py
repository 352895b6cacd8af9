"""What every layer promises, whatever its formula: dtypes, memory formats, copies, tracing, export, gradients."""

import copy
import inspect
import io
import pickle
import re
import warnings

import onnxruntime
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from yolo_attn.layers import BAM, CBAM, ECA, EMA, GAM, NAM, SE, CoordAtt, SimAM, TripletAttention

LAYERS = {
    "SimAM": lambda: SimAM(8),
    "SimAM-0.1-gain": lambda: SimAM(8, e_lambda=0.1, gain=1.4),
    "NAM": lambda: NAM(8),
    "NAM-mean-attached": lambda: NAM(8, weight_norm="mean", detach_weights=False),
    "NAM-gain": lambda: NAM(8, gain=1.97),
    "NAM-spatial": lambda: NAM(8, spatial=True, grid=(3, 4)),
    "NAM-spatial-6-mean-attached": lambda: NAM(8, spatial=True, grid=6, weight_norm="mean", detach_weights=False),
    "GAM": lambda: GAM(8),
    "GAM-grouped-gain": lambda: GAM(8, ratio=2, groups=2, kernel_size=3, gain=4.1),
    "GAM-none": lambda: GAM(8, channel_act="none"),
    "CBAM": lambda: CBAM(8, ratio=2),
    "CBAM-narrow-3": lambda: CBAM(8, kernel_size=3),
    "SE": lambda: SE(8, ratio=2),
    "ECA": lambda: ECA(8),
    "ECA-1": lambda: ECA(8, kernel_size=1),
    "BAM": lambda: BAM(8, ratio=2),
    "BAM-narrow-1": lambda: BAM(8, dilation=1),
    "CoordAtt": lambda: CoordAtt(8),
    "CoordAtt-gain": lambda: CoordAtt(8, gain=3.9),
    "TripletAttention": lambda: TripletAttention(8),
    "EMA": lambda: EMA(8),
    "EMA-grouped": lambda: EMA(8, groups=2),
}
ELEMENTWISE = [name for name in LAYERS if name.startswith(("SimAM", "NAM"))]
DETACHED = ["NAM", "NAM-gain", "NAM-spatial"]
SIZES = [(1, 1), (1, 9), (7, 5), (31, 17)]

every_layer = pytest.mark.parametrize("name", LAYERS)
every_mode = pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
every_low_dtype = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["f16", "bf16"])


def build(name, training=False):
    """A layer in which no parameter or statistic has its neutral start value."""
    torch.manual_seed(0)
    layer = LAYERS[name]()
    for key, value in layer.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif ("bn" in key or "gn" in key) and value.is_floating_point():
            value.normal_()
    return layer.train(training)


def example(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)


@every_mode
@pytest.mark.parametrize("size", SIZES)
@every_layer
def test_shape_dtype_and_input_are_kept(name, size, training):
    for dtype in (torch.float32, torch.float64):
        x = example(2, 8, *size, dtype=dtype)
        before = x.clone()
        out = build(name, training).to(dtype)(x)
        assert (out.shape, out.dtype) == (x.shape, dtype)
        assert out.isfinite().all()
        assert torch.equal(x, before)
        assert x._version == 0


@every_low_dtype
@every_mode
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_low_precision_is_the_float32_result_rounded(name, training, dtype):
    x = example(2, 8, 7, 5, dtype=dtype)
    out, exact = build(name, training)(x), build(name, training)(x.float())
    assert out.dtype == dtype
    assert torch.equal(out, exact.to(dtype))


@every_low_dtype
@every_mode
@every_layer
def test_low_precision_parameters(name, training, dtype):
    layer = build(name, training).to(dtype)
    exact = copy.deepcopy(layer).float()
    x = example(2, 8, 7, 5, dtype=dtype)
    out, want = layer(x), exact(x.float())
    assert out.dtype == dtype
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(out.float(), want, rtol=4 * eps, atol=8 * eps)
    for (key, buffer), expected in zip(layer.named_buffers(), exact.buffers(), strict=True):
        assert buffer.dtype == (dtype if buffer.is_floating_point() else torch.int64)
        torch.testing.assert_close(buffer.to(expected.dtype), expected, rtol=2 * eps, atol=2 * eps, msg=key)
    if name in ELEMENTWISE:
        assert torch.equal(out, want.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=["f32", "f16", "bf16"])
@every_mode
@every_layer
def test_autocast_keeps_the_input_dtype(name, training, dtype):
    x = example(2, 8, 7, 5, dtype=dtype).requires_grad_()
    want = build(name, training)(x.float())
    layer = build(name, training)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    assert out.dtype == dtype
    if name in ELEMENTWISE:
        assert torch.equal(out, want.to(dtype))
    else:
        torch.testing.assert_close(out.float(), want, rtol=0.03, atol=0.03)
    out.float().sum().backward()
    assert x.grad.dtype == dtype
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(
    ("name", "opened"),
    [
        *((name, None) for name in ("SE", "ECA", "BAM", "TripletAttention", "EMA", "EMA-grouped")),
        ("CBAM", "channel.fc2"),
        ("CBAM", "spatial.bn"),
        ("CoordAtt", "conv_h"),
        ("CoordAtt", "conv_w"),
    ],
)
def test_every_gate_is_formed_in_float32(name, opened):
    """The gate under bfloat16 autocast, alone: formed in bfloat16, it would have bfloat16 values only.

    Of a layer with two gates, the other one is opened by the bias before it.
    """
    layer, x = build(name), example(2, 8, 7, 5)
    if opened:
        nn.init.zeros_(layer.get_submodule(opened).weight)
        nn.init.constant_(layer.get_submodule(opened).bias, 100)
    with torch.autocast("cpu", torch.bfloat16):
        gate = layer(x) / x
    assert (gate - gate.bfloat16()).abs().max() > 1e-4


@every_mode
@every_layer
def test_copies_and_pickles_after_a_forward(name, training):
    layer = build(name, training)
    x = example(2, 8, 7, 5).requires_grad_()
    layer(x).sum().backward()
    twins = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    want = layer(x)
    for twin in twins:
        assert str(twin) == str(layer)
        assert torch.equal(twin(x), want)


@pytest.mark.trap(12)
@every_mode
@every_layer
def test_channels_last(name, training):
    x = example(2, 8, 7, 5)
    results = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        layer = build(name, training).to(memory_format=memory_format)
        leaf = x.clone(memory_format=memory_format).requires_grad_()
        out = layer(leaf)
        assert out.is_contiguous(memory_format=memory_format)
        out.square().sum().backward()
        results.append((out.detach(), leaf.grad))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@every_layer
def test_sliced_input(name):
    x = example(2, 8, 14, 10)[:, :, ::2, ::2]
    assert not x.is_contiguous()
    torch.testing.assert_close(build(name)(x), build(name)(x.contiguous()))


@every_layer
def test_trace_follows_other_sizes(name):
    layer = build(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("error", torch.jit.TracerWarning)
        traced = torch.jit.trace(layer, example(2, 8, 6, 6))
    for shape in [(1, 8, 1, 1), (3, 8, 7, 5)]:
        x = example(*shape)
        torch.testing.assert_close(traced(x), layer(x))


@every_layer
def test_onnx_follows_other_sizes(name):
    layer, file = build(name), io.BytesIO()
    axes = {0: "batch", 2: "height", 3: "width"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            layer,
            (example(2, 8, 6, 6),),
            file,
            opset_version=17,
            dynamo=False,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": axes, "y": axes},
        )
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    for shape in [(1, 8, 1, 1), (2, 8, 6, 6), (3, 8, 7, 5)]:
        x = example(*shape)
        got = torch.from_numpy(session.run(None, {"x": x.numpy()})[0])
        torch.testing.assert_close(got, layer(x), rtol=1e-5, atol=1e-5)


@every_mode
@pytest.mark.parametrize("name", [name for name in LAYERS if name not in DETACHED])
def test_gradients_of_input_and_parameters(name, training):
    layer = build(name, training).double()
    names = [key for key, _ in layer.named_parameters()]

    def call(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), x)

    x = example(2, 8, 2, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(call, (x, *layer.parameters()), fast_mode=True)


@every_mode
@pytest.mark.parametrize("name", DETACHED)
def test_gradients_of_detached_nam(name, training):
    """γ and λ have no finite difference to compare with, by design: test_nam.py has their formula."""
    layer = build(name, training).double()
    names = [key for key, _ in layer.named_parameters() if key.endswith("bias")]
    x = example(2, 8, 2, 3, dtype=torch.float64).requires_grad_()

    def call(x, *biases):
        return torch.func.functional_call(layer, dict(zip(names, biases, strict=True)), x)

    assert torch.autograd.gradcheck(call, (x, *map(layer.get_parameter, names)))


@every_layer
def test_only_filters_have_more_than_one_dimension(name):
    """Ultralytics gives every 2-D and 4-D parameter to Muon: a scale must not look like one."""
    layer = build(name)
    for key, parameter in layer.named_parameters():
        owner = layer.get_submodule(key.rpartition(".")[0])
        is_filter = isinstance(owner, nn.Linear | nn.Conv1d | nn.Conv2d) and key.endswith("weight")
        assert (parameter.ndim > 1) == is_filter, key


@pytest.mark.trap(16)
@settings(deadline=None, max_examples=30, derandomize=True)
@given(
    name=st.sampled_from(list(LAYERS)),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    scale=st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e4]),
    offset=st.sampled_from([0.0, -3.0, 300.0]),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
)
def test_finite_everywhere(name, size, scale, offset, dtype):
    # Without a sigmoid the attention grows with x, and 1e4 squared is beyond float16.
    assume(not (name == "GAM-none" and dtype == torch.float16 and scale > 1))
    x = (example(2, 8, *size) * scale + offset).to(dtype).requires_grad_()
    out = build(name).to(dtype)(x)
    assert out.isfinite().all()
    out.sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["f32", "f16"])
@every_mode
@every_layer
def test_gain_is_a_factor_on_the_output(name, training, dtype):
    """A power of two, so that no product is rounded; the input is kept small enough for float16."""
    x = example(2, 8, 7, 5, dtype=dtype)
    plain, doubled = build(name, training).to(dtype), build(name, training).to(dtype)
    doubled.gain = 2 * plain.gain
    torch.testing.assert_close(doubled(x), 2 * plain(x), rtol=0, atol=torch.finfo(dtype).tiny)


KINDS = sorted({type(build(name)) for name in LAYERS}, key=str)
INTS = [
    (layer, name)
    for layer in KINDS
    for name, option in inspect.signature(layer).parameters.items()
    if name in ("channels", "kernel_size") or type(option.default) is int
]

every_kind = pytest.mark.parametrize("layer", KINDS)


@every_kind
def test_options_are_keyword_only(layer):
    with pytest.raises(TypeError, match="positional argument"):
        layer(8, 4)


@pytest.mark.parametrize(("layer", "name"), INTS)
def test_whole_numbers_are_ints_above_0(layer, name):
    default = inspect.signature(layer).parameters[name].default
    for value in (0, -7, True, 4.0, "8", (7, 7), *([None] if default is not None else [])):
        words = rf"{name} must be a positive int( or None)?, got {re.escape(repr(value))}"
        with pytest.raises(ValueError, match=rf"^{layer.__name__}: {words}(;|$)"):
            layer(**{"channels": 8, name: value})


@pytest.mark.parametrize("layer", [layer for layer, name in INTS if name == "kernel_size"])
def test_kernels_are_odd(layer):
    words = r"kernel_size must be odd, got 6; allowed: 1, 3, 5, 7, \.\.\."
    with pytest.raises(ValueError, match=f"^{layer.__name__}: {words}$"):
        layer(8, kernel_size=6)


@pytest.mark.parametrize("name", ["BAM", "CBAM", "TripletAttention"])
def test_a_single_pixel_cannot_be_trained_on(name):
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        build(name, training=True)(torch.ones(1, 8, 1, 1))


@pytest.mark.parametrize("gain", [0, -1.0, float("inf"), float("nan"), True, "2", None])
@every_kind
def test_gain_must_be_a_finite_number_above_0(layer, gain):
    with pytest.raises(ValueError, match=f"{layer.__name__}: gain must be a finite number > 0, got"):
        layer(8, gain=gain)
    assert list(inspect.signature(layer).parameters)[-1] == "gain"
    assert layer(8, gain=1.97).gain == 1.97


def test_layers_pickled_before_there_was_a_gain():
    layer = build("SE")
    expected = layer(example(2, 8, 3, 3))
    del layer.__dict__["gain"]
    assert torch.equal(pickle.loads(pickle.dumps(layer))(example(2, 8, 3, 3)), expected)
