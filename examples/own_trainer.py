"""Derive a trainer: this one takes the colours out of half of the batches. All else stays, COCO's numbers included.

    python examples/own_trainer.py
    python examples/own_trainer.py epochs=100 imgsz=640 data=path/to/coco device=0

Any setting of Ultralytics may follow as key=value.
For several GPUs, put the class into a module of its own: their processes import it.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from ultralytics import YOLO
from ultralytics.cfg import smart_value

from yolo_attn import DetectionTrainer, demo_dataset

SMALL = {"epochs": 2, "imgsz": 64, "batch": 16, "device": "cpu", "project": str(Path("runs").absolute())}
"""Enough to see it run, within a minute on a CPU; too little to learn from."""


class GreyTrainer(DetectionTrainer):
    """Trains on grey images every other time, by chance."""

    grey = 0

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the batch on the trainer's device; its "img" (B, 3, H, W) lies between 0 and 1."""
        batch = super().preprocess_batch(batch)
        if torch.rand(()) < 0.5:
            batch["img"] = batch["img"].mean(1, keepdim=True).expand_as(batch["img"])
            self.grey += 1
        return batch


def main() -> None:
    """Train with the settings given as key=value."""
    given = {key: smart_value(value) for key, _, value in (word.partition("=") for word in sys.argv[1:])}
    settings = {"data": given.get("data") or demo_dataset(), **SMALL, **given}
    model = YOLO("yolov8n-gam.yaml")
    metrics = model.train(**settings, trainer=GreyTrainer)
    print(f"{model.trainer.grey} grey batches; COCO AP {metrics.coco.metrics['AP']:.3f}")


if __name__ == "__main__":
    main()
