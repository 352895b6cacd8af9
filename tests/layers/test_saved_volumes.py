"""How much each layer keeps for its backward pass, in volumes: one is the size of x in its own dtype."""

import copy

import pytest
import torch
from test_layer_contract import build, every_mode

from yolo_attn.layers import GAM, NAM, SimAM

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def saved_volumes(layer, x):
    """Storages that stand in the graph when a forward pass is done, each counted once, parameters apart."""
    own = {t.untyped_storage().data_ptr() for t in (*layer.parameters(), *layer.buffers())}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = layer(x)
    assert out.requires_grad
    return sum(kept.values()) / (x.numel() * x.element_size())


def sample(dtype=torch.float32, memory_format=torch.contiguous_format):
    return torch.randn(2, 32, 40, 40).to(dtype, memory_format=memory_format).requires_grad_()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layer", [SimAM(32), SimAM(32, gain=1.4), NAM(32), NAM(32, detach_weights=False, gain=2.0)])
def test_simam_and_nam_keep_x_alone(layer, dtype, memory_format):
    assert 1 <= saved_volumes(layer.train(), sample(dtype, memory_format)) <= 1.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_under_autocast_too(dtype):
    for layer in (SimAM(32), NAM(32)):
        with torch.autocast("cpu", torch.bfloat16):
            assert saved_volumes(layer, sample(dtype)) <= 1.01


@pytest.mark.integration
def test_gam_under_autocast():
    """Convolutions keep their weights in half precision too, so with more pixels the share of these vanishes."""
    x = torch.randn(2, 32, 160, 160, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert saved_volumes(GAM(32), x) <= 5.78


DOCUMENTED = [
    (SimAM(32), (4, 1), (8, 1)),
    (NAM(32), (2, 1), (4, 1)),
    (NAM(32, spatial=True, grid=40), (5.06, 4.06), (10.13, 7.13)),
    (GAM(32), (5.75, 5.75), (7.75, 5.75)),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("layer", "single", "half"), DOCUMENTED, ids=lambda value: type(value).__name__)
def test_the_counts_of_the_documentation(layer, single, half, dtype, monkeypatch):
    """Of the plain formula and of the fast form."""
    for mode, count in zip(("0", "auto"), single if dtype == torch.float32 else half, strict=True):
        monkeypatch.setenv("YOLO_ATTN_KERNELS", mode)
        assert saved_volumes(copy.deepcopy(layer).to(dtype), sample(dtype)) == pytest.approx(count, abs=0.01)


@pytest.mark.parametrize("name", ["SimAM", "SimAM-0.1-gain", "NAM", "NAM-mean-attached"])
@every_mode
def test_nothing_is_kept_without_gradients(name, training):
    layer, x = build(name, training).requires_grad_(False), torch.randn(2, 8, 7, 5)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda tensor: tensor):
        assert layer(x).grad_fn is None
        with torch.no_grad():
            layer(x.requires_grad_())
    assert kept == []
