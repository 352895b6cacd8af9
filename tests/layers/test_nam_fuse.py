"""NAM folded for inference: the same output by two vectors, in every mode, dtype and copy."""

import copy
import io

import onnxruntime
import pytest
import torch
from formulas import check_fuse, randomised
from torch import nn

from yolo_attn.layers import NAM

OPTIONS = [{}, {"weight_norm": "mean", "detach_weights": False, "gain": 2.0}, {"spatial": True, "grid": 4}]
TOLERANCES = [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.float16, 2e-3)]

every_form = pytest.mark.parametrize("mode", ["auto", "0"])


@every_form
@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES, ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_fuse(options, dtype, tolerance, mode, monkeypatch):
    monkeypatch.setenv("YOLO_ATTN_KERNELS", mode)
    check_fuse(randomised(NAM(8, **options)).to(dtype).eval(), torch.randn(2, 8, 7, 5).to(dtype), tolerance)


def test_what_it_folds_to():
    layer = randomised(NAM(6))
    bn, w = layer.channel.bn, layer.channel.weights(torch.float64)
    scale = w * bn.weight / (bn.running_var + bn.eps).sqrt()
    shift = w * bn.bias - scale * bn.running_mean
    layer.fuse()
    assert list(layer.state_dict()) == ["channel.bn.scale", "channel.bn.shift"]
    torch.testing.assert_close((layer.channel.bn.scale, layer.channel.bn.shift), (scale.detach(), shift.detach()))
    assert "FoldedNorm(6)" in repr(layer)
    twin = NAM(6)
    twin.fuse()
    twin.double().load_state_dict(layer.state_dict())
    x = torch.randn(1, 6, 3, 3, dtype=torch.float64)
    assert torch.equal(twin(x), layer(x))


def test_fuse_rounds_once():
    layer = randomised(NAM(8)).half()
    exact = copy.deepcopy(layer).double()
    layer.fuse()
    exact.fuse()
    assert torch.equal(layer.channel.bn.scale, exact.channel.bn.scale.half())
    assert torch.equal(layer.channel.bn.shift, exact.channel.bn.shift.half())


def test_a_copy_remains_as_it_was():
    layer = randomised(NAM(8)).eval()
    x = torch.randn(2, 8, 7, 5, dtype=torch.float64)
    want, folded = layer(x), copy.deepcopy(layer)
    folded.fuse()
    assert torch.equal(layer(x), want)
    assert layer.channel.bn.weight.requires_grad


def test_vanished_scales():
    layer = NAM(4)
    nn.init.zeros_(layer.channel.bn.weight)
    layer.fuse()
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(layer(x), 0.5 * x)


@every_form
def test_training_mode_and_single_values(mode, monkeypatch):
    monkeypatch.setenv("YOLO_ATTN_KERNELS", mode)
    layer = NAM(4)
    layer.fuse()
    for x in (torch.randn(1, 4, 1, 1), torch.randn(0, 4, 2, 2), torch.randn(2, 4, 6, 5).bfloat16()):
        leaf = x.requires_grad_()
        out = layer.train()(leaf)
        assert torch.equal(out, layer.eval()(leaf))
        assert (out.shape, out.dtype) == (x.shape, x.dtype)
        out.sum().backward()
        assert leaf.grad.isfinite().all()


def test_export_of_a_folded_layer():
    layer, file, x = randomised(NAM(4, gain=1.5)).float().eval(), io.BytesIO(), torch.randn(1, 4, 6, 5)
    want = layer(x)
    layer.fuse()
    torch.onnx.export(layer, (x,), file, dynamo=False, input_names=["x"])
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    torch.testing.assert_close(torch.from_numpy(session.run(None, {"x": x.numpy()})[0]), want, rtol=1e-5, atol=1e-5)
