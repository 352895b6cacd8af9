"""The building blocks of the formulas in numpy, in the tests' own words, and layers with no neutral start value."""

import copy
import pickle

import numpy as np
import torch
from torch import nn


def randomised(layer, seed=0):
    """The layer in float64 with normal parameters and statistics, the variances in [0.5, 2)."""
    rng = np.random.default_rng(seed)
    state = layer.double().state_dict()
    for key, value in state.items():
        if value.is_floating_point():
            drawn = rng.uniform(0.5, 2, value.shape) if key.endswith("running_var") else rng.normal(size=value.shape)
            state[key] = torch.from_numpy(np.asarray(drawn)) / max(1, value[0].numel()) ** 0.5
    layer.load_state_dict(state)
    return layer


def numbers(layer):
    """Parameters and statistics as they stand, by key."""
    return {key: value.numpy().copy() for key, value in layer.state_dict().items()}


def sample(channels, size, batch=2):
    return np.random.default_rng(1).normal(0.5, 2, (batch, channels, *size))


def assert_same(layer, x, want):
    got = layer(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-11)


def check_fuse(layer, x, tolerance):
    """After fuse() the layer gives the same, has no BatchNorm2d left, and can be fused again, copied and pickled."""
    want = layer(x)
    layer.fuse()
    assert not [m for m in layer.modules() if isinstance(m, nn.BatchNorm2d)]
    out = layer(x)
    assert out.dtype == x.dtype
    torch.testing.assert_close(out, want, rtol=tolerance, atol=tolerance)
    assert {t.dtype for t in layer.state_dict().values() if t.is_floating_point()} == {x.dtype}

    layer.fuse()
    twins = [layer, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    assert all(torch.equal(twin(x), out) for twin in twins)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def relu(a):
    return np.maximum(a, 0)


def softmax(a):
    return np.exp(a) / np.exp(a).sum()


def conv(x, weight, bias=None, groups=1, dilation=1):
    """Shifted copies of the padded map, weighed and added up, group by group."""
    batch, _, height, width = x.shape
    size = weight.shape[-1]
    pad = size // 2 * dilation
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    outputs = []
    for maps, filters in zip(np.split(padded, groups, 1), np.split(weight, groups, 0), strict=True):
        total = np.zeros((batch, len(filters), height, width))
        for i in range(size):
            for j in range(size):
                top, left = i * dilation, j * dilation
                shifted = maps[:, :, top : top + height, left : left + width]
                total += np.einsum("oc,bchw->bohw", filters[:, :, i, j], shifted)
        outputs.append(total)
    out = np.concatenate(outputs, 1)
    return out if bias is None else out + bias[:, None, None]


def norm(x, state, key, training, eps=1e-5):
    """Batch norm of a (B, C, ...) x."""
    others = (0, *range(2, x.ndim))
    mean = x.mean(others) if training else state[f"{key}.running_mean"]
    var = x.var(others) if training else state[f"{key}.running_var"]
    scale = state[f"{key}.weight"] / np.sqrt(var + eps)
    shape = (-1, *[1] * (x.ndim - 2))
    return (x - mean.reshape(shape)) * scale.reshape(shape) + state[f"{key}.bias"].reshape(shape)


def max_mean_gate(pooled_max, pooled_mean, state, key, training):
    """CBAM's and triplet attention's gate for a plane: (B, H, W) twice → (B, H, W)."""
    stacked = np.stack([pooled_max, pooled_mean], 1)
    return sigmoid(norm(conv(stacked, state[f"{key}.conv.weight"]), state, f"{key}.bn", training))[:, 0]
