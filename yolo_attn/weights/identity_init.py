"""`yolo_attn.identity_init`: the gains of new attention, in plain Python."""

import contextlib
import itertools
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from ultralytics.data.augment import LetterBox
from ultralytics.data.loaders import LoadImagesAndVideos
from ultralytics.utils import LOGGER

from yolo_attn.errors import UserError
from yolo_attn.gates.meter import spread
from yolo_attn.weights.gains import calibrate, gains_line
from yolo_attn.weights.transfer import transfer_of

IMAGES = 64
"""How many images gains are measured on."""


def identity_init(model: Any, images: str | Path | Iterable[Tensor], imgsz: int = 640) -> dict[int, float]:
    """Make new attention keep the mean magnitude of its input, so that a pretrained network starts undamaged.

    Sets the option `gain` of each row whose attention got no weights from the checkpoint, in the model and in its YAML:
    a training that follows keeps it. Layers that came with their weights stay as they are, as do rows that give
    their own gain and layers without this option.

    Args:
        model: A `YOLO` or `RTDETR` after `load`, or its network.
        images: Training images: a folder, file or glob, as `predict` takes them, of which 64 are used; or batches
            (B, 3, H, W) between 0 and 1.
        imgsz: Size, pixels, that images from files get.

    Returns:
        The new gain of each row, by its index.

    Raises:
        UserError: If the model has loaded no checkpoint, or there are no images.
    """
    network = getattr(model, "model", model) if hasattr(model, "overrides") else model
    report = transfer_of(network)
    if report is None:
        raise UserError("identity_init: this model has loaded no checkpoint; call its load('yolov8n.pt') first")
    batches = iter(_batches(images, imgsz) if isinstance(images, str | Path) else images)
    first = next(batches, None)
    if first is None:
        raise UserError("identity_init: no images to measure on")
    rows = report.new_attention
    gains = calibrate(network, itertools.chain([first], batches), rows)
    LOGGER.info(gains_line(network, gains, rows))
    return gains


def _batches(source: str | Path, size: int) -> Iterator[Tensor]:
    """Images from all over the source, letterboxed, one a batch."""
    try:
        files = LoadImagesAndVideos(str(source)).files
    except FileNotFoundError as error:
        raise UserError(f"identity_init: {source}: no images there") from error
    for i in spread(len(files), IMAGES):
        for _, [image], _ in LoadImagesAndVideos(files[i]):
            boxed = LetterBox((size, size))(image=image)[..., ::-1].copy()
            yield torch.from_numpy(boxed).permute(2, 0, 1)[None] / 255
            break  # of a video, one frame


@contextlib.contextmanager
def random_state_kept() -> Iterator[None]:
    """Afterwards the random generators of Python, NumPy and PyTorch, on the CPU, go on as if nothing had been drawn."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
