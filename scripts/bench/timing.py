"""Time and memory of calls, in turn.

The CUDA half was written where no GPU was at hand, and is untried.
"""

import ctypes
import gc
import itertools
import os
import random
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

import yolo_attn

BLOCK = 0.02
"""Seconds that a block of equal calls takes at least, so that what is timed is warm and the clock fine enough."""


class Form(NamedTuple):
    """Something to call, and which forms of the layers may run in it."""

    call: Callable[[], Any]
    mode: str = "auto"


class Times(NamedTuple):
    """Seconds of a call in each round: on the device, and until the call had returned on the host."""

    device: list[float]
    host: list[float]


class Spread(NamedTuple):
    """Median and quartiles."""

    median: float
    low: float
    high: float


def spread(values: list[float]) -> Spread:
    """Median and quartiles of one value or more, to five digits."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return Spread(*(float(f"{value:.5g}") for value in (median, low, high)))


def ratio(reference: list[float], taken: list[float]) -> Spread:
    """How many times as long the reference took, round by round."""
    return spread([a / b for a, b in zip(reference, taken, strict=True)])


def compared(reference: Times, taken: Times, device: str) -> dict[str, Spread]:
    """Milliseconds of a form, and how many times as fast as the reference it was; on a GPU the host's time too."""
    found = {"ms": spread([1e3 * t for t in taken.device]), "ratio": ratio(reference.device, taken.device)}
    return found if device == "cpu" else found | {"host ms": spread([1e3 * t for t in taken.host])}


class Clock(Protocol):
    """What times a call, made ready for it."""

    def tick(self) -> tuple[float, float]:
        """Seconds of a call on the device, and until it has returned on the host."""


def interleaved(forms: dict[str, Form], rounds: int, clock: Callable[[Callable[[], Any]], Clock]) -> dict[str, Times]:
    """Time all forms once in each round, in an order of its own, so that what else the machine does meets all alike."""
    clocks, times = {}, {name: Times([], []) for name in forms}
    order, shuffle = list(forms), random.Random(0).shuffle
    try:
        for name, form in forms.items():
            yolo_attn.set_kernels(form.mode)
            clocks[name] = clock(form.call)
        gc.disable()
        for _ in range(rounds):
            shuffle(order)
            for name in order:
                yolo_attn.set_kernels(forms[name].mode)
                for values, seconds in zip(times[name], clocks[name].tick(), strict=True):
                    values.append(seconds)
            gc.collect()
    finally:
        gc.enable()
        yolo_attn.set_kernels("auto")
    return times


class CallClock:
    """Times blocks of calls: on a CPU by the process's own time, since others may take the core meanwhile.

    Where there is a CUDA device, it is the time until that has done all that the calls ask for.
    """

    def __init__(self, call: Callable[[], Any], block: float = BLOCK) -> None:
        self.call, self.calls = call, 1
        call()
        self.calls = max(1, min(200, int(block / self.tick()[0])))

    def tick(self) -> tuple[float, float]:
        """Seconds of a call, twice."""
        now = time.perf_counter if torch.cuda.is_available() else time.process_time
        _wait()
        start = now()
        for _ in range(self.calls):
            self.call()
        _wait()
        seconds = (now() - start) / self.calls
        return seconds, seconds


class CudaClock:
    """Times blocks of calls on a CUDA device, by replays of a graph, so that it never waits for the host."""

    def __init__(self, call: Callable[[], Any], block: float = BLOCK) -> None:
        self.call, self.calls, self.graph = call, 1, torch.cuda.CUDAGraph()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                call()
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(self.graph):
            call()
        self.calls = max(1, min(200, int(block / self.tick()[0])))

    def tick(self) -> tuple[float, float]:
        """Seconds of a call on the device, and until it has returned on the host."""
        _wait()
        start = time.perf_counter()
        for _ in range(self.calls):
            self.call()
        on_host = time.perf_counter() - start
        _wait()
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        for _ in range(self.calls):
            self.graph.replay()
        last.record()
        _wait()
        return first.elapsed_time(last) / 1e3 / self.calls, on_host / self.calls


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak(form: Form, device: str) -> int:
    """Bytes that a call holds at its fullest, beyond what was held before."""
    yolo_attn.set_kernels(form.mode)
    form.call()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        form.call()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        form.call()
    found = profile.profiler.kineto_results.events()
    return max(itertools.accumulate((e.nbytes() for e in found if e.name() == "[memory]"), initial=0))


def saved(forward: Callable[[], Tensor], mode: str, parameters: list[Tensor]) -> int:
    """Bytes that a forward pass keeps for its backward pass, each storage once, the parameters' apart."""
    own, kept = {p.untyped_storage().data_ptr() for p in parameters}, {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    yolo_attn.set_kernels(mode)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = forward()
    assert out.requires_grad
    return sum(kept.values())


def steady() -> None:
    """Prepare the process: one thread, and memory that is freed stays with it where the C library can be told so.

    Else large maps are given back to the system after each operation and come back page by page, which takes longer
    than the arithmetic, and by which the naive forms, with their many temporary maps, lose more than ours.
    """
    torch.set_num_threads(1)
    os.environ["KINETO_LOG_LEVEL"] = "99"  # the profiler's chatter, for which Ultralytics sets a lower level
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        trim_threshold, mmap_threshold, gigabyte = -1, -3, 1 << 30
        mallopt(trim_threshold, gigabyte)
        mallopt(mmap_threshold, gigabyte)
