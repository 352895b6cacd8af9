"""What a picture file says about itself, without decoding it."""

from pathlib import Path

from PIL import Image

EXIF_ORIENTATION = 0x0112
SIDEWAYS = {5, 6, 7, 8}


def displayed_size(file: str | Path) -> tuple[int, int] | None:
    """Width and height of a picture as it is displayed, EXIF rotation applied; None where it cannot be read."""
    try:
        with Image.open(file) as picture:
            width, height = picture.size
            sideways = picture.getexif().get(EXIF_ORIENTATION) in SIDEWAYS
            picture.verify()
    except Exception:  # Pillow's decoders raise whatever a broken file makes them
        return None
    return (height, width) if sideways else (width, height)
