"""When the plain formula must run: whoever reads or transforms it finds it, and so does whoever asks for it."""

import copy
import io
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from yolo_attn.kernels import choice
from yolo_attn.kernels import simam as fast_simam
from yolo_attn.kernels.choice import runs_fast
from yolo_attn.layers import NAM, SimAM, nam, simam

LAYERS = {"SimAM": lambda: SimAM(4, gain=1.5), "NAM": lambda: NAM(4)}
every_layer = pytest.mark.parametrize("name", LAYERS)
every_fast_form = pytest.mark.parametrize(("name", "training"), [("SimAM", True), ("SimAM", False), ("NAM", True)])


@pytest.fixture
def chosen(monkeypatch):
    """What was chosen for each tensor that came by."""
    seen = []

    def record(x):
        seen.append(choice.runs_fast(x))
        return seen[-1]

    for module in (simam, nam):
        monkeypatch.setattr(module, "runs_fast", record)
    return seen


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_ordinary_tensors_take_the_fast_form(dtype):
    for x in (torch.ones(1, 2, 3, 3, dtype=dtype), nn.Parameter(torch.ones(1, 2, 1, 1, dtype=dtype))):
        assert runs_fast(x)


def test_the_switch(monkeypatch):
    x = torch.ones(1, 2, 3, 3)
    monkeypatch.setenv("YOLO_ATTN_KERNELS", "0")
    assert not runs_fast(x)
    monkeypatch.setenv("YOLO_ATTN_KERNELS", "1")
    assert runs_fast(x)


class Marked(torch.Tensor):
    pass


@pytest.mark.parametrize(
    "x",
    [torch.ones(0, 2, 3, 3), torch.ones(1, 2, 0, 3), torch.ones(2, 3, 3), torch.ones(1, 2, 3, 3).as_subclass(Marked)]
    + [torch.ones(1, 2, 3, 3, dtype=dtype) for dtype in (torch.int32, torch.complex64)],
    ids=["empty batch", "no pixels", "no batch", "subclass", "int", "complex"],
)
def test_tensors_that_take_the_formula(x):
    assert not runs_fast(x)


@every_layer
def test_tracing(name, chosen):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.trace(LAYERS[name](), torch.randn(1, 4, 3, 3), check_trace=False)
    assert chosen
    assert not any(chosen)


@every_layer
def test_torch_export(name, chosen):
    exported = torch.export.export(LAYERS[name]().eval(), (torch.randn(1, 4, 3, 3),))
    assert not any(chosen)
    x = torch.randn(1, 4, 3, 3)
    torch.testing.assert_close(exported.module()(x), LAYERS[name]().eval()(x))


@every_layer
def test_onnx_export(name, chosen):
    """What the file computes is in tests/layers/test_layer_contract.py."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(LAYERS[name]().eval(), (torch.randn(1, 4, 3, 3),), io.BytesIO(), dynamo=False)
    assert not any(chosen)


@every_layer
def test_compile_in_one_graph(name):
    """With the compiler's front end alone, which is what meets the choice."""
    layer = LAYERS[name]().double()
    x = torch.randn(2, 4, 3, 5, dtype=torch.float64, requires_grad=True)
    torch._dynamo.reset()
    nodes = []

    def backend(graph, inputs):
        nodes.extend(str(node.target) for node in graph.graph.nodes)
        return graph

    out = torch.compile(copy.deepcopy(layer), fullgraph=True, backend=backend)(x)
    assert nodes
    assert not any("SimAM" in node or "Gate" in node for node in nodes)
    torch.testing.assert_close(out, layer(x), rtol=1e-12, atol=1e-12)


@every_layer
def test_transforms(name, chosen):
    layer, x = LAYERS[name]().double().eval(), torch.randn(3, 1, 4, 3, 5, dtype=torch.float64)
    want = torch.stack([layer(one) for one in x])
    chosen.clear()
    torch.testing.assert_close(torch.func.vmap(layer)(x), want)
    _, tangent = torch.func.jvp(layer, (x[0],), (torch.ones_like(x[0]),))
    with forward_ad.dual_level():
        dual = layer(forward_ad.make_dual(x[0], torch.ones_like(x[0])))
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, tangent)
    torch.func.grad(lambda x: layer(x).sum())(x[0])
    assert len(chosen) == (4 if name == "SimAM" else 0)  # NAM's is for training, which transforms do not take
    assert not any(chosen)


@every_fast_form
def test_second_derivative(name, training, monkeypatch):
    layer, x = LAYERS[name]().double().train(training), torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r'YOLO_ATTN_KERNELS=0 or call yolo_attn.set_kernels\("0"\)'):
        torch.autograd.grad(grad.sum(), x)
    monkeypatch.setenv("YOLO_ATTN_KERNELS", "0")
    (plain,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    torch.testing.assert_close(grad, plain, rtol=1e-12, atol=1e-12)
    assert torch.autograd.grad(plain.sum(), x)[0].isfinite().all()


@every_fast_form
def test_batches_of_gradients(name, training, monkeypatch):
    """As torch.autograd.functional and torch.func hand them in."""
    layer, x = LAYERS[name]().double().train(training), torch.randn(2, 4, 2, 2, dtype=torch.float64, requires_grad=True)
    out, batch = layer(x), torch.randn(3, 2, 4, 2, 2, dtype=torch.float64)

    def gradient(grad):
        return torch.autograd.grad(out, x, grad, retain_graph=True)[0]

    with pytest.raises(RuntimeError, match=r'not take a batch of gradients.*set_kernels\("0"\)'):
        torch.autograd.functional.jacobian(layer, x, vectorize=True)
    with pytest.raises(RuntimeError, match=r'not take a batch of gradients.*set_kernels\("0"\)'):
        torch.func.vmap(gradient)(batch)
    want = torch.stack([gradient(grad) for grad in batch])
    monkeypatch.setenv("YOLO_ATTN_KERNELS", "0")
    (got,) = torch.autograd.grad(layer(x), x, batch, is_grads_batched=True)
    torch.testing.assert_close(got, want)


@every_layer
def test_activation_checkpoints(name):
    layer, x = LAYERS[name]().double(), torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    (want,) = torch.autograd.grad(layer(x).square().sum(), x)
    for create_graph in (False, True):
        out = checkpoint(layer, x, use_reentrant=False)
        (got,) = torch.autograd.grad(out.square().sum(), x, create_graph=create_graph)
        torch.testing.assert_close(got, want)


@every_layer
def test_what_runs_leaves_nothing_on_the_layer(name):
    layer = LAYERS[name]()
    before = set(vars(layer))
    layer(torch.randn(2, 4, 3, 3, requires_grad=True)).sum().backward()
    assert set(vars(layer)) == before
    assert pickle.dumps(layer)


def test_formula_on_empty_batches():
    for layer in (SimAM(4), NAM(4), NAM(4).eval()):
        x = torch.randn(0, 4, 3, 3, requires_grad=True)
        out = layer(x)
        assert out.shape == x.shape
        out.sum().backward()


def test_a_changed_input_is_noticed():
    """What is kept for the backward pass is x itself, so PyTorch's own check must cover it."""
    x = torch.randn(1, 2, 3, 3, requires_grad=True) * 1
    out = fast_simam.simam(x, 1e-4, 1.0)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()
