"""The images that attention maps are drawn of: found and read."""

import glob
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ultralytics.data.utils import IMG_FORMATS
from ultralytics.utils import LOGGER
from ultralytics.utils.patches import imread

from yolo_attn.bounded_reading import open_plain
from yolo_attn.errors import UserError, one_line


def find_images(sources: Sequence[Path], option: str = "--source") -> list[Path]:
    """Return the image files among and below files, folders and patterns, sorted, in the order of the sources."""
    found: dict[Path, None] = {}
    for source in sources:
        places = [source]
        if not source.exists():
            places = sorted(map(Path, glob.glob(str(source), recursive=True)))  # noqa: PTH207  Path's takes none from /
        if not places:
            raise UserError(f"{option} {source}: no such file or folder")
        files = chain.from_iterable([place] if place.is_file() else sorted(place.rglob("*")) for place in places)
        images = [file for file in files if file.suffix[1:].lower() in IMG_FORMATS and file.is_file()]
        if not images:
            kinds = ", ".join(f".{kind}" for kind in sorted(IMG_FORMATS))
            raise UserError(f"{option} {source}: no image there; expected files ending with {kinds}")
        found |= dict.fromkeys(images)
    return list(found)


def read_image(file: Path) -> NDArray[np.uint8] | None:
    """Return an image as Ultralytics reads it, (H, W, 3), BGR; warn and return None if it cannot be read."""
    reason = "not readable as an image"
    try:
        open_plain(file).close()
        pixels: Any = imread(str(file))
    except Exception as error:  # a decoder may raise anything
        pixels, reason = None, one_line(error)
    if pixels is not None and (pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8):
        pixels, reason = None, f"{pixels.dtype} of shape {pixels.shape}, expected three channels of eight bits"
    if pixels is None:
        LOGGER.warning(f"{file}: {reason}, skipped")
    return pixels
