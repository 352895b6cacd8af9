"""Small checkpoints of every layer and block variant, which later releases must load and run alike.

    python -m tools.golden_checkpoints ultralytics-8.4.190
    PYTHONPATH=folder/of/ultralytics-8.3.0 python -m tools.golden_checkpoints ultralytics-8.3.0

The one archive of all is tests/golden/checkpoints.tar.xz; each call adds a folder to it, and none that is there is made
again. Another Ultralytics is one that comes first on PYTHONPATH, and so is another commit of this package.
tests/test_golden_checkpoints.py reads them.
"""

import argparse
import json
import math
import tarfile
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn
from ultralytics import YOLO, __version__
from ultralytics.nn import tasks

import yolo_attn

ARCHIVE = Path(__file__).resolve().parents[1] / "tests/golden/checkpoints.tar.xz"

SEED, SIZE = 0, 12
"""Of the input image, from NumPy's `RandomState`, whose numbers never change; size in pixels."""

EVERY = 11
"""Of the map before the head, every eleventh value is kept."""

TRAINED = {"task": "classify", "imgsz": SIZE}
"""A checkpoint's settings of its training."""

LAYERS: dict[str, list[Any]] = {
    **{name: [-1, 1, name, []] for name in ("SimAM", "NAM", "GAM", "ECA", "CoordAtt", "TripletAttention")},
    **{name: [-1, 1, name, [{"ratio": 2}]] for name in ("CBAM", "SE", "BAM")},
    "EMA": [-1, 1, "EMA", [{"groups": 4}]],
    "NAM spatial": [-1, 1, "NAM", [{"spatial": True, "grid": 6, "weight_norm": "mean"}]],
    "GAM grouped": [-1, 2, "GAM", [{"ratio": 2, "groups": 2, "kernel_size": 3}]],
    "CBAM gain": [-1, 1, "CBAM", [{"ratio": 2, "gain": 1.5}]],
}
"""Rows of attention."""

NETWORKS: dict[str, list[Any]] = {
    "ConvBNReLU": [[-1, 1, "ConvBNReLU", [8]]],
    "Inception": [[-1, 1, "Inception", [4, [4, 6], [2, 4], 2]]],
    "FC": [],
    "Stage": [[-1, 1, "Stage", ["mobilenet_v2", "features.0", "features.2"]]],
    "Stage end": [[-1, 1, "Stage_ECA", ["mobilenet_v2", "features.0", "features.2"]]],
    "Stage pre_bn": [[-1, 1, "Stage_ECA", ["resnet18", "conv1", "layer1", {"where": "pre_bn"}]]],
}
"""Rows of networks that are no attention; `FC` is a head, and has no row before it."""

BLOCKS: dict[str, list[Any]] = {
    "C2f": [-1, 1, "C2f", [8, True]],
    "C3": [-1, 1, "C3", [8, True]],
    "C3k2": [-1, 1, "C3k2", [8, True]],
    "C2fCIB": [-1, 1, "C2fCIB", [8, True]],
    "A2C2f": [-1, 1, "A2C2f", [64, True, 1, False, 1]],
    "RepNCSPELAN4": [-1, 1, "RepNCSPELAN4", [8, 8, 4, 1]],
    "C3Ghost": [-1, 1, "C3Ghost", [8, True]],
    "RepC3": [-1, 1, "RepC3", [8]],
    "HGBlock": [-1, 2, "HGBlock", [4, 8, 3, True, True]],
    "ResNetLayer": [-1, 1, "ResNetLayer", [8, 2, 1, False, 1]],
    "Bottleneck": [-1, 1, "Bottleneck", [8]],
    "TorchVision": [-1, 1, "TorchVision", [24, "mobilenet_v2", None, True, 17]],
}
"""Blocks that take attention; each gets ECA at every place that means something there."""

PLACES = {
    "A2C2f": ("end",),
    "C3Ghost": ("end", "out"),
    "C3k2": ("end", "pre_bn"),
    "RepC3": ("end", "out"),
    "RepNCSPELAN4": ("end", "pre_bn"),
    "TorchVision": ("end", "pre_bn"),
}
"""Blocks without all three places: some mean nothing there, and large blocks have `out` as the small ones do."""


def variants() -> dict[str, list[Any]]:
    """Return rows of each layer, and of each block that this Ultralytics has with attention at each place."""
    rows: dict[str, list[Any]] = {**{name: [row] for name, row in LAYERS.items()}, **NETWORKS}
    for block, (source, repeats, _, arguments) in BLOCKS.items():
        if hasattr(tasks, block):
            places = PLACES.get(block, ("end", "pre_bn", "out"))
            made = [[source, repeats, f"{block}_ECA", [*arguments, {"where": where}]] for where in places]
            if block == "TorchVision":  # takes images, so there is one in a model
                rows |= {f"{block} {where}": [row] for where, row in zip(places, made, strict=True)}
            else:
                rows[block] = made
    return rows


def fill(model: nn.Module) -> None:
    """Give every parameter and buffer other values than a new model's, few and alike in all models: they pack well."""
    values = torch.tensor([-1, -0.5, 0.5, 1])
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            torch.manual_seed(zlib.crc32(name.split(".", 2)[2].encode()))  # without the row's number
            drawn = values[torch.randint(4, tensor.shape)]
            positive = tensor.ndim < 2 and name.endswith(("weight", "running_var"))
            tensor.copy_(1 + drawn / 4 if positive else 2 * drawn / math.sqrt(max(tensor[:1].numel(), 4)))


def golden_image() -> Tensor:
    """Return the input (1, 3, 12, 12), between 0 and 1."""
    return torch.from_numpy(np.random.RandomState(SEED).rand(1, 3, SIZE, SIZE).astype(np.float32))


def golden_numbers(model: Any) -> list[float]:
    """Return every eleventh value of the map that the head of a model takes."""
    x = golden_image()
    with torch.inference_mode():
        for row in model.float().eval().model[:-1]:
            x = row(x)
    return x.flatten()[::EVERY].tolist()


def make(folder: Path, wanted: Sequence[str]) -> None:
    """Write a checkpoint of each variant, or of the wanted ones, and made.json with their outputs."""
    folder.mkdir()
    made: dict[str, Any] = {"ultralytics": __version__, "yolo_attn": yolo_attn.__version__, "torch": torch.__version__}
    made["numbers"] = numbers = {}
    described = folder / "golden-cls.yaml"
    for name, rows in variants().items():
        if not wanted or name in wanted:
            stem = [] if name.startswith(("TorchVision", "Stage")) else [[-1, 1, "Conv", [8, 3, 2]]]
            kind = ["FC", [{"classes": "nc", "hidden": [4], "pool": 2}]] if name == "FC" else ["Classify", ["nc"]]
            head = [[-1, 1, "Conv", [8, 1]], [-1, 1, *kind]]
            described.write_text(
                yaml.safe_dump({"nc": 2, "scales": {"n": [1, 1, 64]}, "backbone": [*stem, *rows], "head": head})
            )
            model = YOLO(described, task="classify")
            fill(model.model)
            model.ckpt = {
                "epoch": -1,
                "best_fitness": None,
                "ema": None,
                "optimizer": None,
                "train_args": dict(TRAINED),
            }
            model.save(folder / f"{name}.pt")
            numbers[name] = [float(f"{value:.6g}") for value in golden_numbers(YOLO(folder / f"{name}.pt").model)]
    described.unlink()
    (folder / "made.json").write_text(json.dumps(made))


def main() -> None:
    """Add a folder of checkpoints to the archive."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="folder in the archive, after what makes its checkpoints")
    parser.add_argument("--only", nargs="+", default=[], metavar="VARIANT", help="variants to make; default all")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        if ARCHIVE.exists():
            with tarfile.open(ARCHIVE) as tar:
                tar.extractall(home, filter="data")
        make(Path(home) / args.name, args.only)
        with tarfile.open(ARCHIVE, "w:xz") as tar:
            for file in sorted(Path(home).glob("*/*")):
                tar.add(file, str(file.relative_to(home)), filter=_anonymous)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    main()
