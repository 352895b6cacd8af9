"""The devices of a comparison: each training uses one, and sees no other GPU."""

import contextlib
import os
from collections.abc import Iterator, Sequence

import torch
from ultralytics.utils.torch_utils import select_device

from yolo_attn.compare.execution.costs import hardware
from yolo_attn.compare.execution.processes import ask
from yolo_attn.errors import RunError, UserError

VISIBLE = "CUDA_VISIBLE_DEVICES"


def chosen(named: Sequence[str]) -> tuple[str, ...]:
    """Return the named devices, GPUs by number; by default all GPUs, or the CPU if there is none."""
    if not named:
        return tuple(map(str, range(torch.cuda.device_count()))) or ("cpu",)
    words = [device.strip().lower() for device in named]
    return tuple("0" if word == "cuda" else word.removeprefix("cuda:") for word in words)


def machines(devices: Sequence[str]) -> dict[str, str]:
    """Return each device's machine in words; this process uses no GPU for it."""
    count = torch.cuda.device_count()
    for device in devices:
        if device.isdecimal() and int(device) >= count:
            seen = f"PyTorch sees {count or 'no'} GPU"
            raise UserError(f"--device {device}: no such device here, {seen}; try --device cpu")
    if set(devices) == {"cpu"}:
        return describe(devices)
    try:
        found: dict[str, str] = ask(describe, {"devices": devices}, {})
    except RunError as error:
        raise UserError(f"--device {','.join(devices)}: not all of them can be used: {error}") from error
    return found


def describe(devices: Sequence[str]) -> dict[str, str]:
    """Return the result of `machines`, using the devices in this process."""
    places = {d: torch.device("cuda", int(d)) if d.isdecimal() else select_device(d, verbose=False) for d in devices}
    return {device: hardware(place)["machine"] for device, place in places.items()}


def one_gpu(device: str) -> tuple[dict[str, str], str]:
    """Return the variables by which a process sees only this GPU, and its `device` setting there.

    The setting is empty for a GPU, since early 8.3 would replace a scheduler's choice of GPUs by a number.
    """
    if not device.isdecimal():
        return {}, device
    visible = os.environ.get(VISIBLE)
    return {VISIBLE: visible.split(",")[int(device)].strip() if visible else device}, ""


@contextlib.contextmanager
def visible_kept() -> Iterator[None]:
    """Restore the visible GPUs afterwards; early 8.3 changes them with the `device` setting."""
    before = os.environ.get(VISIBLE)
    try:
        yield
    finally:
        os.environ.pop(VISIBLE, None)
        if before is not None:
            os.environ[VISIBLE] = before
