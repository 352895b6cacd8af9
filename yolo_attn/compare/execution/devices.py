"""The devices of a comparison: each trains models by itself, and a GPU's trainings see no other GPU."""

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
    """The devices that were named, GPUs by their numbers; without any all GPUs, or the CPU where there is none."""
    if not named:
        return tuple(map(str, range(torch.cuda.device_count()))) or ("cpu",)
    words = [device.strip().lower() for device in named]
    return tuple("0" if word == "cuda" else word.removeprefix("cuda:") for word in words)


def machines(devices: Sequence[str]) -> dict[str, str]:
    """Each device's machine in words. This process takes nothing of any GPU.

    Raises:
        UserError: If there is no such device.
    """
    count = torch.cuda.device_count()
    for device in devices:
        if device.isdecimal() and int(device) >= count:
            seen = f"PyTorch sees {count or 'no'} GPU"
            raise UserError(f"--device {device}: no such device here, {seen}; try --device cpu")
    if set(devices) == {"cpu"}:
        return look(devices)
    try:
        found: dict[str, str] = ask(look, {"devices": devices}, {})
    except RunError as error:
        raise UserError(f"--device {','.join(devices)}: not all can be used: {error}") from error
    return found


def look(devices: Sequence[str]) -> dict[str, str]:
    """What `machines` tells, found out in this process."""
    places = {d: torch.device("cuda", int(d)) if d.isdecimal() else select_device(d, verbose=False) for d in devices}
    return {device: hardware(place)["machine"] for device, place in places.items()}


def alone(device: str) -> tuple[dict[str, str], str]:
    """Give a process one GPU.

    Returns:
        The variables by which it sees no other, and what Ultralytics calls it there: nothing, since early 8.3 would
        replace a scheduler's choice of GPUs by the number.
    """
    if not device.isdecimal():
        return {}, device
    visible = os.environ.get(VISIBLE)
    return {VISIBLE: visible.split(",")[int(device)].strip() if visible else device}, ""


@contextlib.contextmanager
def visible_kept() -> Iterator[None]:
    """Afterwards the same GPUs are visible as before; early 8.3 changes them where it is told of a device."""
    before = os.environ.get(VISIBLE)
    try:
        yield
    finally:
        os.environ.pop(VISIBLE, None)
        if before is not None:
            os.environ[VISIBLE] = before
