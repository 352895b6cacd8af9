"""Time of calls, in turn.

The CUDA half was written where no GPU was at hand, and is untried.
"""

import ctypes
import gc
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

import yolo_attn
from yolo_attn.errors import one_line

BLOCK = 0.02
"""Seconds that a block of equal calls takes at least, so that what is timed is warm and the clock fine enough."""


class Form(NamedTuple):
    """Something to call, and which forms of the layers may run in it."""

    call: Callable[[], Any]
    mode: str = "auto"


class Forms(dict[str, Form]):
    """Forms by name. One that fails is taken out, and the reason is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: dict[str, str] = {}

    @contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """Make, run or judge a form, in its mode."""
        yolo_attn.set_kernels(self[name].mode if name in self else "auto")
        try:
            yield
        except Exception as error:  # compilers, devices and full memories raise anything
            self.pop(name, None)
            self.failures[name] = one_line(error)
        finally:
            yolo_attn.set_kernels("auto")

    def failed(self, about: dict[str, Any]) -> list[dict[str, Any]]:
        """A row for each form that failed."""
        return [about | {"form": name, "failure": failure} for name, failure in self.failures.items()]


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


def compared(reference: Times, taken: Times, device: str) -> dict[str, Any]:
    """Rounds, milliseconds of a form, how many times as fast as the reference it was; on a GPU the host's time too."""
    found = {
        "rounds": len(taken.device),
        "ms": spread([1e3 * t for t in taken.device]),
        "ratio": ratio(reference.device, taken.device),
    }
    return found if device == "cpu" else found | {"host ms": spread([1e3 * t for t in taken.host])}


def interleaved(
    forms: Forms, reference: str, rounds: int, clock: Callable[[Callable[[], Any]], "CallClock | CudaClock"]
) -> dict[str, Times]:
    """Time all forms once in each round, in an order of its own, so that what else the machine does meets all alike.

    Those that fail are not among the times; there are none if the reference fails.
    """
    clocks, times = {}, {name: Times([], []) for name in forms}
    for name in list(forms):
        with forms.attempt(name):
            clocks[name] = clock(forms[name].call)
    draw = random.Random(0)
    gc.disable()
    gc.freeze()  # else each collection below would go through all that was ever imported
    try:
        for _ in range(rounds):
            for name in draw.sample(list(forms), len(forms)):
                with forms.attempt(name):
                    for values, seconds in zip(times[name], clocks[name].tick(), strict=True):
                        values.append(seconds)
            gc.collect()
    finally:
        gc.unfreeze()
        gc.enable()
    return {name: times[name] for name in forms} if reference in forms else {}


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
    """Times blocks of calls on a CUDA device, by replays of a graph, so that it never waits for the host.

    A graph holds several short calls, whose time would else be that of launching it.
    """

    def __init__(self, call: Callable[[], Any], block: float = BLOCK / 4) -> None:
        self.call, self.graph, self.replays = call, torch.cuda.CUDAGraph(), 1
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                call()
        torch.cuda.current_stream().wait_stream(side)
        _wait()
        start = time.perf_counter()
        call()
        _wait()
        self.calls = max(1, min(20, int(block / (time.perf_counter() - start))))
        with torch.cuda.graph(self.graph, stream=side):  # where the libraries have their handles by now
            for _ in range(self.calls):
                call()
        self.graph.replay()
        self.replays = max(1, min(200, int(block / (self.calls * self.tick()[0]))))

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
        for _ in range(self.replays):
            self.graph.replay()
        last.record()
        _wait()
        return first.elapsed_time(last) / 1e3 / (self.calls * self.replays), on_host / self.calls


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def steady() -> None:
    """Prepare the process: one thread, no TF32, and memory that is freed stays with it where the C library allows.

    By default convolutions have TF32 and matrix products do not, and GAM's first two are either, by its form. Maps that
    are given back to the system after each operation come back page by page, which takes longer than the arithmetic,
    and by which the naive forms, with their many temporary maps, lose more than ours.
    """
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    os.environ["KINETO_LOG_LEVEL"] = "99"  # the profiler's chatter, for which Ultralytics sets a lower level
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        trim_threshold, mmap_threshold, gigabyte = -1, -3, 1 << 30
        mallopt(trim_threshold, gigabyte)
        mallopt(mmap_threshold, gigabyte)
