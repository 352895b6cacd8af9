"""`yolo-attn doctor`: report what is installed, from where, and whether the layers work."""

import argparse
import functools
import importlib
import os
import platform
import shutil
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from yolo_attn.cli.installation import advice, package
from yolo_attn.errors import one_line
from yolo_attn.extras import EXTRAS, installing, not_installed

PACKAGES = ("numpy", "cv2", "torch", "torchvision", "ultralytics", "hotcoco", "cloudpickle")
"""What must be importable."""

SUPPORTED = "supported is Ultralytics 8.3.0 to 8.4: pip install 'ultralytics>=8.3,<8.5'"
"""Advice for an Ultralytics that is not as expected."""


USES = {"export": "export to ONNX and OpenVINO, and its check", "track": "track", "graph": "show --svg"}
"""What each extra is for."""


class WrongError(Exception):
    """Something is wrong: what was found, and what to do about it."""


def add(commands: Any) -> None:
    """Add the command's parser."""
    commands.add_parser("doctor", help="check this installation; exit code 1 if something is wrong")


def run(args: argparse.Namespace, further: list[str]) -> int:
    """Print what each check found, with advice where something is wrong, and return 1 if anything is."""
    wrong = 0
    for subject, check in CHECKS.items():
        try:
            print(f"  {subject:<12} {check()}")
        except (Exception, SystemExit) as error:  # a broken installation raises anything at import
            named = subject if subject in PACKAGES else package(error)
            found, how = error.args if isinstance(error, WrongError) else (one_line(error), advice(error, named))
            print(f"! {subject:<12} {found}\n  {'':<12} -> {how}")
            wrong += 1
    print(f"\n{wrong} of {len(CHECKS)} checks found something wrong." if wrong else "\nNothing is wrong.")
    return min(wrong, 1)


def _package(name: str) -> str:
    module = importlib.import_module(name)
    version = getattr(module, "__version__", None) or metadata.version(name)
    return f"{version}  {Path(module.__file__ or '').parent}"


def _copies() -> str:
    """Check whether Python finds several copies of Ultralytics, of which the user may expect another one."""
    places = [os.path.realpath(os.path.join(entry or ".", "ultralytics")) for entry in sys.path]  # noqa: PTH118  as the next line
    copies = list(dict.fromkeys(place for place in places if os.path.isfile(f"{place}/__init__.py")))  # noqa: PTH113  entries are text, some of them empty
    if len(copies) > 1:
        raise WrongError(
            f"{len(copies)} of ultralytics: {copies[0]} is used, not {', '.join(copies[1:])}",
            "keep one: pip uninstall ultralytics, or remove the other one's folder from PYTHONPATH",
        )
    return "no second ultralytics on the import path"


def _metrics() -> str:
    """Check that Ultralytics' metrics compute; up to 8.3.100 they need NumPy below 2.4."""
    from ultralytics.utils.metrics import compute_ap

    try:
        compute_ap([0.5], [0.5])
    except AttributeError as error:
        raise WrongError(f"no validation runs: {one_line(error)}", "pip install 'numpy<2.4'") from error
    return "Ultralytics' metrics compute with this NumPy"


def _gpu() -> str:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return f"{', '.join(names)}; CUDA {torch.version.cuda}"
    if shutil.which("nvidia-smi"):
        build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        raise WrongError(
            f"none that PyTorch can use, but nvidia-smi is there; PyTorch is {build}",
            "install a PyTorch whose CUDA your driver supports (https://pytorch.org/get-started), or update the driver",
        )
    return "none; trainings run on the CPU"


def _patches() -> str:
    """Check that this Ultralytics has every function that is wrapped."""
    importlib.import_module("ultralytics.engine.model")
    from yolo_attn.patches.table import missing

    absent = missing()
    if absent:
        lost = "; ".join(f"{patch.described}: without it no {patch.use}" for patch in absent)
        needed = "Ultralytics stays without attention layers" if any(patch.required for patch in absent) else "skipped"
        raise WrongError(f"Ultralytics has no {lost} ({needed})", SUPPORTED)
    return "this Ultralytics has all functions that are wrapped"


def _layers() -> str:
    """Check that a packaged model with attention builds; that also runs the parser's self-test."""
    from ultralytics.nn import tasks

    from yolo_attn.model.registry import LAYERS

    try:
        tasks.DetectionModel("yolov8n-gam.yaml", verbose=False)
    except Exception as error:  # a changed Ultralytics may raise anything
        raise WrongError(one_line(error), SUPPORTED) from error
    return f"{len(LAYERS)} registered; the parser's self-test passed, yolov8n-gam.yaml builds"


def _kernels() -> str:
    """Report which kernels the layers use."""
    from yolo_attn.kernels.choice import described

    return described()


def _extra(name: str) -> str:
    """Report what a command lacks; a machine without it may have no need of it."""
    lacking = not_installed(*EXTRAS[name])
    return f"for {USES[name]}: " + (f"no {', '.join(lacking)}; {installing(name)}" if lacking else "installed")


CHECKS: dict[str, Callable[[], str]] = {
    "python": lambda: f"{platform.python_version()}  {sys.executable}",
    **{name: functools.partial(_package, name) for name in ("yolo_attn", *PACKAGES)},
    "copies": _copies,
    "metrics": _metrics,
    "GPU": _gpu,
    "patches": _patches,
    "layers": _layers,
    "kernels": _kernels,
    **{f"[{name}]": functools.partial(_extra, name) for name in USES},
}
"""The checks by their names in the report; each returns what it found, or raises if something is wrong."""
