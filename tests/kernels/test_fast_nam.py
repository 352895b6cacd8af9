"""The fast form of NAM's channel part in training against the formula of its layer."""

import contextlib
import copy

import pytest
import torch
from test_fast_simam import SIZES, TOLERANCES, layouts, relative
from torch import nn
from torch.nn.modules import module

from yolo_attn.kernels.nam import batch_norm_gate
from yolo_attn.layers import NAM, nam

OPTIONS = [{}, {"detach_weights": False, "weight_norm": "mean", "gain": 1.9}]

every_mode = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


def randomised(layer):
    """The layer in float64, no parameter or statistic at its neutral start value."""
    for key, value in layer.double().state_dict().items():
        if value.is_floating_point():
            value.uniform_(0.5, 2) if key.endswith("var") else value.normal_()
    return layer


def results(layer, x, grad, mode, monkeypatch):
    """Output, all gradients, and the running statistics afterwards."""
    monkeypatch.setenv("YOLO_ATTN_KERNELS", mode)
    layer, leaf = copy.deepcopy(layer), x.detach().requires_grad_()
    out = layer(leaf)
    return out, *torch.autograd.grad(out, (leaf, *layer.parameters()), grad), *layer.buffers()


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_same_as_the_formula_in_float64(size, options, dtype, monkeypatch):
    layer = randomised(NAM(3, **options)).train()
    for x in layouts((2, 3, *size), dtype):
        grad = torch.randn_like(x)
        got = results(copy.deepcopy(layer).to(torch.promote_types(dtype, torch.float32)), x, grad, "auto", monkeypatch)
        want = results(layer, x.double(), grad.double(), "0", monkeypatch)
        assert got[0].dtype == got[1].dtype == dtype
        for a, b in zip(got, want, strict=True):
            assert relative(a, b) <= TOLERANCES[dtype] * (30 if x.stride(0) == 0 else 3)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_statistics_of_maps_far_from_zero(memory_format):
    x = (1000 + torch.randn(3, 4, 31, 17)).to(memory_format=memory_format)
    got, want = NAM(4, momentum=1.0).train(), nn.BatchNorm2d(4, momentum=1.0).double()
    got(x)
    want(x.double())
    torch.testing.assert_close(got.channel.bn.running_mean.double(), want.running_mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(got.channel.bn.running_var.double(), want.running_var, rtol=1e-5, atol=0)


@every_mode
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_norm_of_half_precision(dtype, training, monkeypatch):
    layer, x = randomised(NAM(3)).to(dtype).train(training), torch.randn(4, 3, 7, 5).to(dtype)
    got, want = (results(layer, x, torch.ones_like(x), mode, monkeypatch) for mode in ("auto", "0"))
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype
        assert relative(a, b) <= TOLERANCES[dtype]


@every_mode
@pytest.mark.parametrize("frozen", ["x", "norm"])
def test_only_what_is_asked_for_has_a_gradient(frozen, training):
    layer, x = NAM(3).train(training), torch.randn(2, 3, 5, 4, requires_grad=frozen == "norm")
    layer.requires_grad_(frozen == "x")
    layer(x).sum().backward()
    assert (x.grad is None) == (frozen == "x")
    assert all((p.grad is None) == (frozen == "norm") for p in layer.parameters())


def test_gradcheck():
    vectors = [torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(3)]

    def gate(x, *vectors):
        return batch_norm_gate(x, *vectors, torch.zeros_like(vectors[0]), torch.ones_like(vectors[0]), 0.1, 1e-5)

    for x in list(layouts((2, 3, 4, 3), torch.float64))[:4]:
        assert torch.autograd.gradcheck(gate, (x.detach().requires_grad_(), *vectors))


def test_layouts_are_kept():
    layer = NAM(4).train()
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(2, 4, 6, 5).to(memory_format=memory_format).requires_grad_()
        out = layer(x)
        (grad,) = torch.autograd.grad(out, x, torch.randn(2, 4, 6, 5))
        assert out.is_contiguous(memory_format=memory_format)
        assert grad.is_contiguous(memory_format=memory_format)


@pytest.fixture
def never(monkeypatch):
    def fail(*args):
        raise AssertionError("the fast form ran")

    monkeypatch.setattr(nam.NAMChannel, "_fast", fail)


@pytest.mark.usefixtures("never")
def test_norms_that_are_asked_themselves():
    x = torch.randn(2, 4, 5, 3)

    for register in ("forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook"):
        heard, layer = [], NAM(4)
        getattr(layer.channel.bn, f"register_{register}")(lambda *_, heard=heard: heard.append(1))
        layer(x.clone().requires_grad_()).sum().backward()
        assert heard, register

    for register in ("forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook"):
        heard, layer = set(), NAM(4)
        with getattr(module, f"register_module_{register}")(lambda m, *_, heard=heard: heard.add(m) and None):
            layer(x.clone().requires_grad_()).sum().backward()
        assert layer.channel.bn in heard, register

    layer = NAM(4)
    layer.channel.bn.momentum = None  # a cumulative average, as torch.optim.swa_utils.update_bn wants it
    layer(x)
    layer(x + 1)
    torch.testing.assert_close(layer.channel.bn.running_mean, (x.mean((0, 2, 3)) + 0.5))

    layer = torch.func.replace_all_batch_norm_modules_(NAM(4))
    torch.testing.assert_close(layer(x), x * (nn.functional.batch_norm(x, None, None, training=True) / 4).sigmoid())

    layer = nn.SyncBatchNorm.convert_sync_batchnorm(NAM(4))
    with contextlib.suppress(RuntimeError, ValueError):  # older PyTorch has it on GPUs alone
        layer(x)
