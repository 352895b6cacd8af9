"""Training in processes that torchrun started: on one machine or several, on GPUs or on CPUs.

Ultralytics counts the processes of a training by its device string and joins them late, each with a run folder of its
own. Here they join before anything is set up, as the environment describes them (RANK, LOCAL_RANK, WORLD_SIZE, …), and
share the folder that the first one chooses. The workers that Ultralytics itself launches come the same way.
"""

import atexit
import contextlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from ultralytics.engine import validator
from ultralytics.utils import LOCAL_RANK, LOGGER, RANK

from yolo_attn.engine.run_folder import run_folder, way_on
from yolo_attn.environment import replaced
from yolo_attn.errors import UserError, like

TIMEOUT = timedelta(minutes=30)
"""How long a process waits for the others: longer than the first one reads data or validates while they wait."""

REPORTING = timedelta(seconds=10)
"""How long a process that ends takes to learn whether another has reported why."""

BROKEN_OFF = re.compile(r"gloo.*(closed|reset|time.?out|timed out|broken pipe|refused)", re.IGNORECASE | re.DOTALL)
"""What gloo, which has no exception of its own, says when another process does not answer."""


def enter(args: SimpleNamespace) -> None:
    """Join the processes of this training, whose `batch` is that of all together; alone, do nothing.

    Raises:
        UserError: If there are too few images or GPUs for the processes, or they do not find each other.
    """
    if RANK == -1:
        return
    size = int(os.environ["WORLD_SIZE"])
    if args.batch < size:
        raise UserError(f"batch={args.batch}: a training in {size} processes needs at least one image for each")
    if args.rect and size > 1:
        LOGGER.warning("rect=True does not go with several processes; going on with rect=False")
        args.rect = False
    if not dist.is_initialized():
        _join(args.device, size)


def _join(device: Any, size: int) -> None:
    backend = "gloo"
    if str(device) != "cpu" and torch.cuda.is_available():
        local_size, visible = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), os.environ.get("CUDA_VISIBLE_DEVICES")
        torch.cuda.set_device(own_gpu(device, visible, LOCAL_RANK, local_size, torch.cuda.device_count()))
        backend = "nccl" if dist.is_nccl_available() else "gloo"
        os.environ["TORCH_NCCL_BLOCKING_WAIT"] = "1"  # without it the timeout ends the process without a word
    try:
        dist.init_process_group(backend, store=_store(TIMEOUT), rank=RANK, world_size=size, timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        failure = UserError(f"the {size} processes of this training did not find each other: {_line(error)}")
        raise like(error, failure) from error
    atexit.register(_leave)


def _leave() -> None:
    """Stop gloo's threads before the interpreter does, which may end a finished process with an abort."""
    if dist.is_initialized():
        dist.destroy_process_group()


def own_gpu(device: Any, visible: str | None, local_rank: int, local_size: int, count: int) -> int:
    """Index of the GPU that a process trains on: as many are named as it has processes on its machine, or none.

    Args:
        device: Ultralytics' setting: None or "" for the machine's first GPUs, else their numbers, such as "2,3".
        visible: CUDA_VISIBLE_DEVICES.
        local_rank: Which of its machine's processes this is, from 0.
        local_size: Processes on this machine.
        count: GPUs that this process sees.

    Raises:
        UserError: If there are not as many GPUs as processes.
    """
    named = "" if device is None else str(device).replace("cuda:", "")
    numbers = "".join(c for c in named if c not in "[]() '")
    if numbers in {"", "cuda"}:
        gpus = list(range(min(count, local_size)))
    elif all(number.isdecimal() for number in numbers.split(",")):
        # old versions of Ultralytics hide all other GPUs, which renumbers those that they name
        gpus = list(range(count)) if visible == numbers else [int(number) for number in numbers.split(",")]
    else:
        failure = UserError(f"device={device}: expected cpu, or the numbers of this machine's GPUs, such as 0,1")
        raise like(ValueError(), failure)  # as Ultralytics' own check of the device
    if len(gpus) != local_size or max(gpus) >= count:
        raise UserError(
            f"device={device}: {local_size} processes on this machine need a GPU each; it has {count}, "
            f"{len(gpus)} to be used"
        )
    return gpus[local_rank]


def share_folder(args: SimpleNamespace) -> None:
    """Put the first process's run folder into the settings of all, `args.save_dir`; alone, do nothing.

    Raises:
        UserError: If some do not see what the first one writes there, or a process was lost.
    """
    if RANK == -1:
        return
    chosen: list[Any] = [None, None]
    seen: list[Any] = [None] * dist.get_world_size()
    with lost_workers_reported(), contextlib.ExitStack() as stack:
        if RANK == 0:
            folder = run_folder(args)
            existing = next(f for f in (folder, *folder.parents) if f.exists())
            chosen = [str(folder), stack.enter_context(tempfile.NamedTemporaryFile(dir=existing)).name]
        dist.broadcast_object_list(chosen, 0)
        dist.all_gather_object(seen, Path(chosen[1]).exists())
    if not all(seen):
        raise UserError(
            f"{chosen[0]}: {seen.count(False)} of {len(seen)} processes do not see what the first one writes there; "
            "choose a --project folder that all machines share"
        )
    args.save_dir = chosen[0]


class ModuleDeviceDDP(nn.parallel.DistributedDataParallel):
    """Trains on the device that the module lies on; Ultralytics gives an index, and old versions that of the rank."""

    def __init__(self, module: nn.Module, device_ids: Any = None, **kwargs: Any) -> None:
        super().__init__(module, **kwargs)


@contextlib.contextmanager
def own_device(device: torch.device) -> Iterator[None]:
    """While it lasts, Ultralytics trains and validates on this device, not on the GPU of the rank's number."""
    build = validator.AutoBackend

    def on_device(*args: Any, **kwargs: Any) -> Any:
        return build(*args, **{**kwargs, "device": device})

    backend = SimpleNamespace(current_device=lambda: 0)
    with (
        replaced(nn.parallel, DistributedDataParallel=ModuleDeviceDDP),
        replaced(validator, AutoBackend=on_device, get_torch_device_backend=lambda _: backend),
    ):
        yield


@contextlib.contextmanager
def lost_workers_reported(last: Path | None = None) -> Iterator[None]:
    """Say in one line that another process was lost, or that the workers that Ultralytics launched have failed.

    Raises:
        UserError: Instead of what PyTorch raises when another process does not answer, and Ultralytics of its workers.
    """
    try:
        yield
    except (RuntimeError, subprocess.CalledProcessError) as error:
        if isinstance(error, subprocess.CalledProcessError):
            failure = UserError(f"the workers of this training have failed, as reported above; {way_on(last)}")
            raise like(error, failure) from error
        if isinstance(error, UserError) or not (isinstance(error, dist.DistError) or BROKEN_OFF.search(str(error))):
            raise
        raise like(error, UserError(f"a worker of this training was lost ({_line(error)}); {way_on(last)}")) from error


def first_to_report() -> bool:
    """Whether no other process of this training has reported why it ends, as far as they can know of each other."""
    if not _stores and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return True  # they have not met, and no launcher holds a store for them
    try:
        store = _store(REPORTING)
        store.set_timeout(REPORTING)
        return bool(store.add("reported", 1) == 1)
    except (RuntimeError, ValueError):  # the store is gone with its machine, or there never was one
        return True


_stores: list[Any] = []


def _store(timeout: timedelta) -> Any:
    """What the processes tell each other by; whoever needs it first says how long the others are waited for."""
    if not _stores:
        _stores.append(next(dist.rendezvous("env://", timeout=timeout))[0])
    return _stores[0]


def _line(error: Exception) -> str:
    """What an error of the communication says, without its place in the source and its advice."""
    return re.sub(r"^\[\S+\] ", "", " ".join(str(error).split())).partition(". ")[0][:200]
