"""Bilinear resizing as two matrix products.

The values are those of F.interpolate(mode="bilinear", align_corners=False), with antialias=True for an axis that
shrinks. Two small matrices, because the backward of interpolation is not deterministic on CUDA and its antialiased
form has no place in ONNX, where a dynamic size moreover becomes one part of a computed shape.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def resize(maps: Tensor, size: Sequence[Any]) -> Tensor:
    """Resize maps (n, H0, W0) to size (H, W), in the dtype of maps; the same maps at equal size.

    Args:
        maps: a floating-point tensor.
        size: two numbers, or scalar tensors under tracing.
    """
    # A traced graph must serve every size, so nothing is skipped there: the matrices are then exact identities.
    if not torch.jit.is_tracing() and tuple(size) == tuple(maps.shape[1:]):
        return maps
    rows, columns = (_weights(have, want, maps) for have, want in zip(maps.shape[1:], size, strict=True))
    with _no_autocast(maps.device):
        # In this order: OpenVINO mistakes constant maps behind a matrix of dynamic size for a linear layer's weights.
        return rows @ (maps @ columns.transpose(0, 1))


def _weights(have: Any, want: Any, like: Tensor) -> Tensor:
    """Return the (want, have) matrix of one axis: each row a triangle around that pixel's centre, of sum 1.

    The triangle reaches one source pixel to either side, or one target pixel where those are larger. Cut at the border
    and brought to sum 1, the former is the clamped interpolation.
    """
    step = _number(have, like) / _number(want, like)
    reach = step.clamp(min=1)
    here, there = (torch.arange(n, dtype=like.dtype, device=like.device) + 0.5 for n in (want, have))
    weights = (1 - (there - (here * step)[:, None]).abs() / reach).clamp(min=0)
    return weights / weights.sum(1, keepdim=True)


def _number(n: Any, like: Tensor) -> Tensor:
    return n.to(like) if isinstance(n, Tensor) else torch.tensor(n, dtype=like.dtype, device=like.device)


def _no_autocast(device: torch.device) -> AbstractContextManager[Any]:
    # Autocast would round the matrices. Devices other than these two do not all have it, and refuse to turn it off.
    return torch.autocast(device.type, enabled=False) if device.type in ("cpu", "cuda") else nullcontext()
