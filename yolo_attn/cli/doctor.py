"""`yolo-attn doctor`: report what is installed, from where, and whether the layers work."""

import argparse
import functools
import importlib
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yolo_attn
from yolo_attn.cli.installation import advice, package
from yolo_attn.errors import UserError, one_line

PACKAGES = ("numpy", "cv2", "torch", "torchvision", "ultralytics", "hotcoco", "cloudpickle")
"""What must be importable."""

SUPPORTED = "supported is Ultralytics 8.3.0 to 8.4: pip install 'ultralytics>=8.3,<8.5'"
"""Advice for an Ultralytics that is not as expected."""


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        subject: What was checked.
        found: The result.
        advice: What to do about it; empty if nothing is wrong.
    """

    subject: str
    found: str
    advice: str = ""


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("doctor", help="check this installation; exit code 1 if something is wrong")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, further: list[str]) -> int:
    """Print every finding, with advice where something is wrong.

    Returns:
        1 if something is wrong, else 0.

    Raises:
        UserError: If there are any arguments.
    """
    if further:
        raise UserError(f"{further[0]!r}: doctor takes no arguments")
    findings = [_finding(subject, check) for subject, check in CHECKS.items()]
    wrong = [finding for finding in findings if finding.advice]
    for finding in findings:
        print(f"{'!' if finding.advice else ' '} {finding.subject:<12} {finding.found}")
        if finding.advice:
            print(f"  {'':<12} -> {finding.advice}")
    print(f"\n{len(wrong)} of {len(findings)} checks found something wrong." if wrong else "\nNothing is wrong.")
    return 1 if wrong else 0


def _finding(subject: str, check: Callable[[], Finding]) -> Finding:
    """Return a check's finding, or the error that stopped the check."""
    try:
        return check()
    except (Exception, SystemExit) as error:  # a broken installation raises anything at import
        return Finding(subject, one_line(error), advice(error, subject if subject in PACKAGES else package(error)))


def _python() -> Finding:
    return Finding("python", f"{platform.python_version()}  {sys.executable}")


def _yolo_attn() -> Finding:
    return Finding("yolo_attn", f"{yolo_attn.__version__}  {Path(yolo_attn.__file__).parent}")


def _package(name: str) -> Finding:
    module = importlib.import_module(name)
    version = getattr(module, "__version__", None) or metadata.version(name)
    return Finding(name, f"{version}  {Path(module.__file__ or '').parent}")


def _copies() -> Finding:
    """Check whether Python finds several copies of Ultralytics, of which the user may expect another one."""
    places = [os.path.realpath(os.path.join(entry or ".", "ultralytics")) for entry in sys.path]  # noqa: PTH118  as the next line
    copies = list(dict.fromkeys(place for place in places if os.path.isfile(f"{place}/__init__.py")))  # noqa: PTH113  entries are text, some of them empty
    if len(copies) < 2:
        return Finding("copies", "no second ultralytics on the import path")
    advice = "keep one: pip uninstall ultralytics, or remove the other one's folder from PYTHONPATH"
    found = f"{len(copies)} of ultralytics: {copies[0]} is used, not {', '.join(copies[1:])}"
    return Finding("copies", found, advice)


def _metrics() -> Finding:
    """Check that Ultralytics' metrics compute; up to 8.3.100 they need NumPy below 2.4."""
    from ultralytics.utils.metrics import compute_ap

    try:
        compute_ap([0.5], [0.5])
        return Finding("metrics", "Ultralytics' metrics compute with this NumPy")
    except AttributeError as error:
        return Finding("metrics", f"no validation runs: {one_line(error)}", "pip install 'numpy<2.4'")


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Finding("GPU", f"{', '.join(names)}; CUDA {torch.version.cuda}")
    if shutil.which("nvidia-smi"):
        build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        return Finding(
            "GPU",
            f"none that PyTorch can use, but nvidia-smi is there; PyTorch is {build}",
            "install a PyTorch whose CUDA your driver supports (https://pytorch.org/get-started), or update the driver",
        )
    return Finding("GPU", "none; trainings run on the CPU")


def _patches() -> Finding:
    """Check that this Ultralytics has every function that is wrapped."""
    importlib.import_module("ultralytics.engine.model")
    from yolo_attn.patches.table import missing

    absent = missing()
    if not absent:
        return Finding("patches", "this Ultralytics has all functions that are wrapped")
    lost = "; ".join(f"{patch.described}: without it no {patch.use}" for patch in absent)
    needed = "Ultralytics stays without attention layers" if any(patch.required for patch in absent) else "skipped"
    return Finding("patches", f"Ultralytics has no {lost} ({needed})", SUPPORTED)


def _layers() -> Finding:
    """Check that a packaged model with attention builds; that also runs the parser's self-test."""
    from ultralytics.nn import tasks

    from yolo_attn.model.registry import LAYERS

    try:
        tasks.DetectionModel("yolov8n-gam.yaml", verbose=False)
    except Exception as error:  # a changed Ultralytics may raise anything
        return Finding("layers", one_line(error), SUPPORTED)
    return Finding("layers", f"{len(LAYERS)} registered; the parser's self-test passed, yolov8n-gam.yaml builds")


def _kernels() -> Finding:
    """Report which kernels the layers use."""
    from yolo_attn.kernels.choice import described

    return Finding("kernels", described())


CHECKS: dict[str, Callable[[], Finding]] = {
    "python": _python,
    "yolo_attn": _yolo_attn,
    **{name: functools.partial(_package, name) for name in PACKAGES},
    "copies": _copies,
    "metrics": _metrics,
    "GPU": _gpu,
    "patches": _patches,
    "layers": _layers,
    "kernels": _kernels,
}
"""The checks by their names in the report."""
