"""`yolo-attn doctor`: what is installed, from where, and whether the layers work in it."""

import argparse
import importlib
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yolo_attn
from yolo_attn.errors import UserError, one_line

PACKAGES = {
    "torch": "pip install torch",
    "torchvision": "install the torchvision that belongs to your torch: https://pytorch.org/get-started",
    "ultralytics": "pip install ultralytics",
    "hotcoco": "pip install hotcoco; it computes COCO's numbers",
    "cloudpickle": "pip install cloudpickle; multi-GPU trainings need it",
}
"""What must be importable, and what helps where it is not."""


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        subject: What was looked at.
        found: What it is.
        advice: What to do about it; empty where nothing is wrong.
    """

    subject: str
    found: str
    advice: str = ""


def add(commands: Any) -> None:
    """Describe the command."""
    parser = commands.add_parser("doctor", help="check this installation; exit code 1 if something is wrong")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, further: list[str]) -> int:
    """Print every finding, with advice where something is wrong.

    Returns:
        1 if something is wrong, else 0.

    Raises:
        UserError: If it is given anything.
    """
    if further:
        raise UserError(f"{further[0]!r}: doctor takes nothing")
    findings = [
        Finding("python", f"{platform.python_version()}  {sys.executable}"),
        Finding("yolo_attn", f"{yolo_attn.__version__}  {Path(yolo_attn.__file__).parent}"),
        *(_package(name, advice) for name, advice in PACKAGES.items()),
        _copies("ultralytics"),
        _gpu(),
        _layers(),
        _kernels(),
    ]
    wrong = [finding for finding in findings if finding.advice]
    for finding in findings:
        print(f"{'!' if finding.advice else ' '} {finding.subject:<12} {finding.found}")
        if finding.advice:
            print(f"  {'':<12} -> {finding.advice}")
    print(f"\n{len(wrong)} of {len(findings)} checks found something wrong." if wrong else "\nNothing is wrong.")
    return 1 if wrong else 0


def _package(name: str, advice: str) -> Finding:
    try:
        module = importlib.import_module(name)
        version = getattr(module, "__version__", None) or metadata.version(name)
        return Finding(name, f"{version}  {Path(module.__file__ or '').parent}")
    except Exception as error:  # a broken installation raises anything at import
        return Finding(name, one_line(error), advice)


def _copies(name: str) -> Finding:
    """Whether Python finds a package more than once: then another version than the user thinks may run."""
    places = [Path(entry or ".", name).resolve() for entry in sys.path]
    copies = list(dict.fromkeys(place for place in places if (place / "__init__.py").is_file()))
    if len(copies) < 2:
        return Finding("copies", f"no second {name} on the import path")
    others = ", ".join(str(copy) for copy in copies[1:])
    advice = f"keep one: pip uninstall {name}, or take the folder of the other out of PYTHONPATH"
    return Finding("copies", f"{len(copies)} of {name}: {copies[0]} is used, not {others}", advice)


def _gpu() -> Finding:
    try:
        import torch
    except Exception as error:
        return Finding("GPU", f"not known: {one_line(error)}", PACKAGES["torch"])
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


def _kernels() -> Finding:
    """In which form the layers compute."""
    try:
        from yolo_attn.kernels.choice import described

        return Finding("kernels", described())
    except Exception as error:
        return Finding("kernels", f"not known: {one_line(error)}", PACKAGES["torch"])


def _layers() -> Finding:
    """Whether a packaged model with attention builds through Ultralytics, which runs the parser's self-test too."""
    try:
        from ultralytics.nn import tasks

        from yolo_attn.plugin.registry import LAYERS

        tasks.DetectionModel("yolov8n-gam.yaml", verbose=False)
        return Finding("layers", f"{len(LAYERS)} registered; the parser's self-test passed, yolov8n-gam.yaml builds")
    except Exception as error:  # whatever a changed Ultralytics raises
        return Finding(
            "layers", one_line(error), "supported is Ultralytics 8.3.0 to 8.4: pip install 'ultralytics>=8.3,<8.5'"
        )
