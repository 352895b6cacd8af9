"""Memory of calls."""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def peak(call: Callable[[], Any], device: str) -> int:
    """Bytes that a call holds at its fullest, beyond what was held before."""
    call()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    found = profile.profiler.kineto_results.events()
    return max(itertools.accumulate((e.nbytes() for e in found if e.name() == "[memory]"), initial=0))


def saved(forward: Callable[[], Tensor], parameters: list[Tensor]) -> int:
    """Bytes that a forward pass keeps for its backward pass, each storage once, the parameters' apart."""
    own, kept = {p.untyped_storage().data_ptr() for p in parameters}, {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = forward()
    assert out.requires_grad
    return sum(kept.values())
