"""Measure the models of a comparison on this machine: parameters, operations, and latency of one image."""

import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from ultralytics.utils.ops import Profile
from ultralytics.utils.torch_utils import get_cpu_info, select_device

from yolo_attn.compare.study_folder import Cost, Costs
from yolo_attn.engine.cost import cost_of
from yolo_attn.engine.preflight.checks import read_checkpoint
from yolo_attn.model.registry import import_modules

ROUNDS = 30
"""Rounds in which all models are timed in turn."""

WARM_UP = 3
"""Untimed rounds before them."""

ROUND = "timed rounds: "
"""Before how many are done, in the lines that a measurement prints."""


def hardware(device: torch.device) -> dict[str, str]:
    """Return the kind of device, and the processor in words."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else get_cpu_info()
    return {"device": device.type, "machine": f"{name}, {os.cpu_count()} CPU cores"}


def measure(
    checkpoints: Mapping[str, str], size: int, device: str, modules: Sequence[str], trust: bool = False
) -> dict[str, Any]:
    """Measure trained models by variant, fused as they are deployed, on one image of size × size pixels at a time.

    All are timed in turn in one process, so that other load on the machine affects them equally, and how many rounds
    are done is printed. With `trust` Ultralytics reads the checkpoints, which runs code that they name. Returns the
    content of costs.json.
    """
    import_modules(modules)
    place = select_device(device, verbose=False)
    image = torch.rand(1, 3, size, size, device=place)
    models, sizes = {}, {}
    for name, file in checkpoints.items():
        model: Any = read_checkpoint(file, trust=trust)[0]
        sizes[name] = cost_of(model.yaml, size)
        models[name] = model.float().to(place).eval().fuse(verbose=False)
    times: dict[str, list[float]] = {name: [] for name in models}
    with torch.inference_mode():
        for done in range(WARM_UP + ROUNDS):
            print(f"{ROUND}{max(done - WARM_UP, 0)}", flush=True)
            for name, model in models.items():
                with Profile(device=place) as call:
                    model(image)
                times[name].append(1e3 * call.dt)
    costs = {}
    for name, taken in times.items():
        low, middle, high = statistics.quantiles(taken[WARM_UP:], n=4)
        parameters, gflops = sizes[name]
        costs[name] = Cost(parameters, round(gflops, 3), round(middle, 3), (round(low, 3), round(high, 3)))
    return asdict(Costs(**hardware(place), imgsz=size, variants=costs))
