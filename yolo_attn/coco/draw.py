"""Pictures of images whose boxes were skipped, clipped or suspicious."""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from ultralytics.utils.patches import imread

from yolo_attn.bounded_reading import open_plain
from yolo_attn.coco.dataset.data_report import FILE_NAME, Examined
from yolo_attn.coco.reading.index import CocoIndex
from yolo_attn.errors import UserError
from yolo_attn.files import plain_stem, write_bytes, write_json

MOST_PICTURES = 200
MOST_LINES = 24
"""Lines of boxes in the text under a picture."""

SIDES = 640, 1280
"""Smallest and largest longer side of what is drawn, pixels."""

MARGIN = 0.5
"""How far a picture is extended at most to show boxes outside the image, as a fraction of its longer side."""

COLOURS = ((60, 150, 255), (255, 90, 255), (0, 240, 255))
"""Blue, green, red of each reason."""

SMALLEST = 80
"""Smallest shorter side, pixels, so that numbers have room."""

LINE, BACKGROUND = 20, 40
PLAIN: tuple[int, ...] = (230, 230, 230)
FONT, TEXT_SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.5

OURS = re.compile(r"\w+-\d{3}-[\w.-]+\.jpg")
"""Names of drawn pictures."""


def draw_suspects(examined: Mapping[str, Examined], folder: Path) -> int:
    """Draw suspect boxes, all of an image in one picture, write data_report.json beside them, and count the pictures.

    Raises:
        UserError: If the folder has files under the names of pictures, but no data_report.json.
    """
    if not (folder / FILE_NAME).is_file():
        for file in sorted(folder.glob("*.jpg")):
            if OURS.fullmatch(file.name):
                reason = f"{file.name} is not of an earlier check-data, which writes a {FILE_NAME}"
                raise UserError(f"--pictures {folder}: {reason}; choose another folder")
    write_json(folder / FILE_NAME, {split: found.report.as_json() for split, found in examined.items()})
    drawn = 0
    for split, found in examined.items():
        index = found.labels.source
        in_turn = itertools.zip_longest(*(rows.tolist() for rows in found.suspect.values()))
        rows = [row for row in itertools.chain(*in_turn) if row is not None]
        images = list(dict.fromkeys(index.image_of[rows].tolist()))[: MOST_PICTURES // len(examined)]
        for n, image in enumerate(images, 1):
            picture = _picture(split, found, image)
            if picture is not None:
                encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
                write_bytes(folder / f"{split}-{n:03d}-{plain_stem(index.file_names[image])}.jpg", encoded.tobytes())
                drawn += 1
    return drawn


def _picture(split: str, found: Examined, image: int) -> NDArray[np.uint8] | None:
    """Return an image with its boxes and a text below; None if it cannot be read any more."""
    index, labels = found.labels.source, found.labels
    file = labels.files[int(np.searchsorted(labels.images, image))]
    try:
        open_plain(file).close()
        pixels = imread(file)
    except (UserError, OSError):
        return None
    if pixels is None:
        return None
    size = np.array(pixels.shape[1::-1])
    own = np.flatnonzero(index.image_of == image)
    reasons = {row: n for n, rows in enumerate(found.suspect.values()) for row in rows[np.isin(rows, own)].tolist()}
    reach = MARGIN * size.max()
    corners = _corners(index, own).clip(-reach, size + reach)
    suspect = np.isin(own, list(reasons))
    low = np.minimum(corners[suspect].min((0, 1)), 0)
    extent = np.maximum(corners[suspect].max((0, 1)), size) - low
    scale = np.clip(extent.max(), *SIDES) / extent.max()

    def place(point: NDArray[np.float64]) -> tuple[int, int]:
        x, y = ((point - low) * scale).round().astype(int).tolist()
        return x, y

    canvas = np.full((*np.maximum(np.ceil(extent * scale).astype(int)[::-1] + 1, SMALLEST), 3), BACKGROUND, np.uint8)
    (left, top), (right, bottom) = place(np.zeros(2)), place(size)
    area = max(right - left, 1), max(bottom - top, 1)
    canvas[top : top + area[1], left : left + area[0]] = cv2.resize(pixels, area, interpolation=cv2.INTER_AREA)
    cv2.rectangle(canvas, (left, top), (right, bottom), PLAIN, 1)
    for box in corners[~suspect]:
        cv2.polylines(canvas, [np.array(list(map(place, box)))], True, PLAIN, 1)
    lines = [(f"{split}, {index.image_text(image)}, {size[0]} x {size[1]} pixels", PLAIN)]
    names, rows = list(found.suspect), own[suspect].tolist()
    listed = len(rows) if len(rows) <= MOST_LINES else MOST_LINES - 1
    numbers = []
    for number, (row, box) in enumerate(zip(rows, corners[suspect], strict=True), 1):
        colour = COLOURS[reasons[row] % len(COLOURS)]
        drawn = np.array(list(map(place, box)))
        a, b = drawn.min(0).tolist(), drawn.max(0).tolist()
        cv2.polylines(canvas, [drawn], True, colour, 3)
        if min(b[0] - a[0], b[1] - a[1]) < 8:  # hardly any area
            cv2.drawMarker(canvas, ((a[0] + b[0]) // 2, (a[1] + b[1]) // 2), colour, cv2.MARKER_CROSS, 24, 2)
        if number <= listed:
            numbers.append(((a[0], a[1]), colour))
            known = "annotation" if index.annotation_ids[row] < 0 else f"annotation {index.annotation_ids[row]}"
            values = ", ".join(f"{v:.6g}" for v in index.boxes[row])
            lines.append((f"{number}  {known} [{values}]: {names[reasons[row]]}", colour))
    _number(canvas, numbers)
    if listed < len(rows):
        lines.append((f"... and {len(rows) - listed} more", PLAIN))
    return _with_text(canvas, lines)


def _corners(index: CocoIndex, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the (N, 4, 2) corners of annotations' boxes."""
    if index.corners is not None:
        return index.corners[rows]
    with np.errstate(over="ignore"):
        ends = index.boxes[rows].reshape(-1, 2, 2).cumsum(1)
    return np.stack([ends[:, [0, 1, 1, 0], 0], ends[:, [0, 0, 1, 1], 1]], -1)


def _number(canvas: NDArray[np.uint8], corners: Sequence[tuple[tuple[int, int], tuple[int, ...]]]) -> None:
    """Draw numbers from 1 near corners, each inside the canvas and hiding no other."""
    labels: list[tuple[int, int, int, int]] = []
    for number, ((x, y), _) in enumerate(corners, 1):
        (width, height), _ = cv2.getTextSize(str(number), FONT, TEXT_SIZE, 1)
        width, height = width + 6, height + 8
        right, bottom = canvas.shape[1] - width, canvas.shape[0] - height
        near = min(max(x, 0), right), min(max(y, 0), bottom)
        free = [
            (a, b)
            for a in range(near[0] % width, right + 1, width)
            for b in range(near[1] % height, bottom + 1, height)
            if not any(a < c + w and c < a + width and b < d + h and d < b + height for c, d, w, h in labels)
        ]
        labels.append((*min(free, key=partial(math.dist, near), default=near), width, height))
    for number, ((_, colour), (x, y, width, height)) in enumerate(zip(corners, labels, strict=True), 1):
        cv2.rectangle(canvas, (x, y), (x + width - 1, y + height - 1), colour, -1)
        cv2.putText(canvas, str(number), (x + 3, y + height - 4), FONT, TEXT_SIZE, (0, 0, 0), 1, cv2.LINE_AA)


def _with_text(canvas: NDArray[np.uint8], lines: list[tuple[str, tuple[int, ...]]]) -> NDArray[np.uint8]:
    """Return a picture with lines of text below, in letters that OpenCV has."""
    plain = [(text.encode("ascii", "replace").decode(), colour) for text, colour in lines]
    needed = max(cv2.getTextSize(text, FONT, TEXT_SIZE, 1)[0][0] for text, _ in plain) + 16
    height, width = canvas.shape[:2]
    whole = np.full((height + LINE * len(plain) + 12, max(width, needed), 3), BACKGROUND, np.uint8)
    whole[:height, :width] = canvas
    for n, (text, colour) in enumerate(plain, 1):
        cv2.putText(whole, text, (8, height + LINE * n), FONT, TEXT_SIZE, colour, 1, cv2.LINE_AA)
    return whole
