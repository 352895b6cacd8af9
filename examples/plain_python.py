"""Train and validate on COCO JSON in plain Python; what is not said here is Ultralytics' own.

    python examples/plain_python.py
    python examples/plain_python.py epochs=100 imgsz=640 data=path/to/coco device=0

Any setting of Ultralytics may follow as key=value.
"""

import sys
from pathlib import Path

from ultralytics import YOLO
from ultralytics.cfg import smart_value

from yolo_attn import demo_dataset

SMALL = {"epochs": 2, "imgsz": 64, "batch": 16, "device": "cpu", "project": str(Path("runs").absolute())}
"""Enough to see it run, within a minute on a CPU; too little to learn from."""


def main() -> None:
    """Train with the settings given as key=value, validate best.pt, and print COCO's numbers."""
    given = {key: smart_value(value) for key, _, value in (word.partition("=") for word in sys.argv[1:])}
    settings = {"data": given.get("data") or demo_dataset(), **SMALL, **given}
    model = YOLO("yolov8n-gam.yaml")
    model.train(**settings)
    best = YOLO(model.trainer.best)
    metrics = best.val(**{key: settings[key] for key in ("imgsz", "device", "project")})  # on its training data's val
    print(f"COCO AP {metrics.coco.metrics['AP']:.3f}, AP50 {metrics.coco.metrics['AP50']:.3f}")
    print(metrics.coco.per_class)


if __name__ == "__main__":
    main()
