"""Train a model with a layer of one's own: my_layers.py registers it, own_layer.yaml names it.

    python examples/own_layer.py
    python examples/own_layer.py epochs=20 imgsz=640 data=path/to/coco device=0

Any setting of Ultralytics may follow as key=value.
"""

import sys
from pathlib import Path

import my_layers
from ultralytics import YOLO
from ultralytics.cfg import smart_value

from yolo_attn import demo_dataset

SMALL = {"epochs": 2, "imgsz": 64, "batch": 16, "device": "cpu", "project": str(Path("runs").absolute())}
"""Enough to see it run, within a minute on a CPU; too little to learn from."""


def main() -> None:
    """Train with the settings given as key=value, and show how far the layer has moved."""
    given = {key: smart_value(value) for key, _, value in (word.partition("=") for word in sys.argv[1:])}
    settings = {"data": given.get("data") or demo_dataset(), **SMALL, **given}
    model = YOLO(Path(__file__).with_name("own_layer.yaml"))
    model.train(**settings)
    for name, layer in model.model.named_modules():
        if isinstance(layer, my_layers.Scale):
            print(f"{name}: factors from {layer.weight.min():.4f} to {layer.weight.max():.4f}")


if __name__ == "__main__":
    main()
