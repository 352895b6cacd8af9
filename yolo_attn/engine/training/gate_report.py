"""What a training reports of its model's gates at the end."""

from pathlib import Path
from typing import Any

import cv2
from ultralytics.utils.patches import imread

from yolo_attn.bounded_reading import open_plain
from yolo_attn.gates.meter import GateMeter, spread
from yolo_attn.gates.statistics import gates_line
from yolo_attn.gates.watch import attention_layers

IMAGES = 32
"""How many images, from all over the validated split, gates are measured on: they pass the network one by one."""

EPOCHS, BATCHES = 3, 100
"""Up to so many epochs, or with fewer batches, a training has not left Ultralytics' usual warm-up."""


def trained_gates(trainer: Any) -> str | None:
    """A line on the gates of a training's best weights, on images that are validated; None without attention."""
    if not attention_layers(trainer.model):
        return None
    file = trainer.best if trainer.best.exists() else trainer.last
    settings = {"task": trainer.args.task, "imgsz": trainer.args.imgsz, "device": trainer.device}
    meter = GateMeter(str(file), trainer.predictor_class, settings)
    data = trainer.validator.dataloader.dataset
    files = sorted(map(Path, data.im_files if hasattr(data, "im_files") else (sample[0] for sample in data.samples)))
    chosen = spread(len(files), IMAGES)
    for i in chosen:
        open_plain(files[i]).close()
        meter.measure(imread(str(files[i]), getattr(data, "cv2_flag", cv2.IMREAD_COLOR)))
    epochs = trainer.epoch + 1
    batches = epochs * len(trainer.train_loader)
    early = f"; too early to judge by, after {batches:,} batches" if epochs <= EPOCHS or batches < BATCHES else ""
    found = f"attention, {len(chosen)} images of {trainer.args.split or 'val'}: {gates_line(meter.found)}"
    return f"{found}{early}; yolo-attn attention-maps draws them"
