"""The pictures to look at."""

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

from yolo_attn.errors import UserError, one_line
from yolo_attn.reading import open_plain


def find_pictures(sources: Sequence[Path]) -> list[Path]:
    """The picture files among and below these files, folders and patterns, by name, in the order of the sources.

    Raises:
        UserError: If a source is not there, is a file of another kind, or has no picture below it.
    """
    found: dict[Path, None] = {}
    for source in sources:
        places = [source]
        if not source.exists():
            places = sorted(map(Path, glob.glob(str(source), recursive=True)))  # noqa: PTH207  Path's takes none from /
        if not places:
            raise UserError(f"--source {source}: no such file or folder")
        files = chain.from_iterable([place] if place.is_file() else sorted(place.rglob("*")) for place in places)
        pictures = [file for file in files if file.suffix[1:].lower() in IMG_FORMATS and file.is_file()]
        if not pictures:
            kinds = ", ".join(f".{kind}" for kind in sorted(IMG_FORMATS))
            raise UserError(f"--source {source}: no picture there; expected files ending with {kinds}")
        found |= dict.fromkeys(pictures)
    return list(found)


def read_picture(file: Path) -> NDArray[np.uint8] | None:
    """A picture as Ultralytics reads it, (H, W, 3), blue first; None, and a warning, where that cannot be done."""
    reason = "not readable as a picture"
    try:
        open_plain(file).close()
        pixels: Any = imread(str(file))
    except Exception as error:  # whatever a decoder raises
        pixels, reason = None, one_line(error)
    if pixels is not None and (pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8):
        pixels, reason = None, f"{pixels.dtype} of shape {pixels.shape}, expected three channels of eight bits"
    if pixels is None:
        LOGGER.warning(f"{file}: {reason}, left out")
    return pixels
