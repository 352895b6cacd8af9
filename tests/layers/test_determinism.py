"""Nothing that CUDA runs in a random order: what the sources name, what runs, and a GPU if there is one."""

import ast
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from test_layer_contract import LAYERS, build, every_layer, every_mode, example
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import yolo_attn.layers

FILES = sorted(Path(yolo_attn.layers.__file__).parent.glob("*.py"))

# From the list of torch.use_deterministic_algorithms: what raises there on CUDA, forward or backward.
FORBIDDEN = (
    "adaptive",
    "avgpool",
    "maxpool",
    "maxunpool",
    "upsample",
    "interpolate",
    "gridsample",
    "reflectionpad",
    "replicationpad",
    "scatter",
    "indexadd",
    "indexput",
    "cumsum",
    "histc",
    "bincount",
    "kthvalue",
    "median",
    "embeddingbag",
    "nllloss2d",
    "ctcloss",
)


def forbidden(names):
    """The names that stand for such an operation, as a function (max_pool2d) or as a module (MaxPool2d)."""
    return {name for name in names if any(word in name.lower().replace("_", "") for word in FORBIDDEN)}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_sources_name_no_such_operation(file):
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    names |= {node.id for node in nodes if isinstance(node, ast.Name)}
    assert not forbidden(names)


class Recorder(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def operations(layer, x):
    with Recorder() as forward:
        out = layer(x.requires_grad_())
    with Recorder() as backward:
        out.sum().backward()
    assert len(backward.names) > 1  # more than the gradient of the sum: the backward pass was seen
    return forward.names | backward.names


@every_mode
@every_layer
def test_no_such_operation_runs(name, training):
    assert not forbidden(operations(build(name, training), example(2, 8, 7, 5)))


@pytest.mark.parametrize(
    "pooling",
    [nn.AdaptiveAvgPool2d(2), nn.AdaptiveMaxPool2d(1), nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear")],
    ids=str,
)
def test_the_check_finds_such_operations(pooling):
    assert forbidden(operations(pooling, example(2, 8, 7, 5)))


def run_twice(name, training, device):
    results = []
    for _ in range(2):
        layer = build(name, training).to(device)
        x = example(2, 8, 23, 17).to(device).requires_grad_()
        out = layer(x)
        out.square().sum().backward()
        results.append([out, x.grad, *(p.grad for p in layer.parameters()), *layer.buffers()])
    for got, want in zip(*results, strict=True):
        assert torch.equal(got, want)


@pytest.fixture
def deterministic(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("deterministic")
@every_mode
@every_layer
def test_deterministic_mode_on_the_cpu(name, training):
    run_twice(name, training, "cpu")


@pytest.mark.gpu
@pytest.mark.usefixtures("deterministic")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@every_mode
@every_layer
def test_deterministic_mode_on_a_gpu(name, training):
    run_twice(name, training, "cuda")


@pytest.mark.gpu
@pytest.mark.usefixtures("deterministic")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_the_mode_refuses_adaptive_pooling_on_a_gpu():
    x = torch.randn(2, 8, 7, 5, device="cuda", requires_grad=True)
    with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
        F.adaptive_max_pool2d(x, 1).sum().backward()


def test_every_exported_layer_is_held_to_the_contract():
    assert {name.split("-")[0] for name in LAYERS} == set(yolo_attn.layers.__all__)
