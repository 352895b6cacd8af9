"""Differences between Ultralytics' releases."""

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from ultralytics.utils import ops


def native_masks(prototypes: Tensor, coefficients: Tensor, boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Return Ultralytics' masks at full resolution; before 8.3.157 Ultralytics fails where there is no box.

    Args:
        prototypes: (P, h, w).
        coefficients: (N, P).
        boxes: Corners in pixels of the model's input, (N, 4).
        size: Height and width of the model's input, H and W, pixels.

    Returns:
        (N, H, W).
    """
    if not len(boxes):
        return torch.zeros((0, *size), dtype=torch.bool, device=boxes.device)
    return ops.process_mask_native(prototypes, coefficients, boxes, size)


def is_settable(owner: Any, name: str) -> bool:
    """Return whether an attribute can be set: from 8.4.0 to 8.4.7 a head derives `end2end` from its layers."""
    found = getattr(type(owner), name, None)
    return not isinstance(found, property) or found.fset is not None


def imread(read: Callable[..., Any], filename: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
    """Read an image by `read`, OpenCV's, which kills the process where the name's bytes are not UTF-8.

    Such a file is opened here, and OpenCV gets the open file's name. Ultralytics 8.3.116 and older read a detector's
    images by OpenCV's function, and some later releases a classifier's.

    Returns:
        The image; None where there is none, as OpenCV's.
    """
    try:
        os.fspath(filename).encode()
    except UnicodeEncodeError:
        with contextlib.suppress(OSError):
            if Path(filename).is_file():
                with Path(filename).open("rb") as file:
                    return read(f"/dev/fd/{file.fileno()}", *args, **kwargs)
        return None
    return read(filename, *args, **kwargs)
