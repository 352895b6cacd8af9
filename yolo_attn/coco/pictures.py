"""The size of a picture as it is displayed, decoded only where its header does not settle it."""

import os
from pathlib import Path

from PIL import Image
from ultralytics.utils.patches import imread

EXIF_ORIENTATION = 0x0112
UPRIGHT = {None, 1}
HEADER_SUFFICES = {"JPEG", "PNG", "BMP", "WEBP"}
JPEG_END = b"\xff\xd9"


def displayed_size(file: str | Path) -> tuple[int, int] | None:
    """Width and height of a picture as training will see it, EXIF rotation applied; None where it cannot be read."""
    try:
        with Image.open(file) as picture:
            size, settled = picture.size, picture.format in HEADER_SUFFICES
            upright = picture.getexif().get(EXIF_ORIENTATION) in UPRIGHT
            complete = picture.format != "JPEG" or _ends_with(file, JPEG_END)
            picture.verify()
        if settled and upright and complete:
            return size
        height, width = imread(str(file)).shape[:2]
    except Exception:  # the decoders raise whatever a broken file makes them
        return None
    return width, height


def _ends_with(file: str | Path, end: bytes) -> bool:
    with Path(file).open("rb") as stream:
        stream.seek(-len(end), os.SEEK_END)
        return stream.read() == end
