"""The demo set: seeded images of circles, triangles and stars with COCO JSON, drawn on first use."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.random import Generator

from yolo_attn.coco.reading.cache import folder as cache_folder
from yolo_attn.errors import UserError
from yolo_attn.files import expanded, scratch_folder

DEMO_VERSION = "demo-v1"
"""Name of the set's folder; it changes with any change of the drawing."""

DEMO_CATEGORIES = {7: "circle", 3: "triangle", 42: "star"}
"""Category id to name, in the order of the JSON; ids are neither sorted nor consecutive, as in COCO itself."""

DEMO_TRAINING: dict[str, int | float | str] = {
    "epochs": 28,
    "imgsz": 128,
    "batch": 8,
    "nbs": 8,
    "optimizer": "AdamW",
    "lr0": 0.004,
    "warmup_epochs": 1,
    "cls": 1.0,
    "mosaic": 0.0,
    "scale": 0.2,
    "flipud": 0.5,
    "hsv_s": 0.3,
    "hsv_v": 0.2,
}
"""Ultralytics' settings for a training on the demo set; `nbs` equal to `batch` takes an optimiser step every batch.

Measured with yolov8n-gam from scratch, two runs side by side on 2 CPU cores: COCO AP50 0.68 and 0.70 (seeds 0 and 1; at
most 0.02 after the first epoch), 2 min 41 s each with validation and plots.
"""


def _star(points: int, inner: float) -> np.ndarray:
    angles = np.arange(2 * points) * np.pi / points
    radii = np.where(np.arange(2 * points) % 2, inner, 1.0)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)


def _crescent() -> np.ndarray:
    angles = np.linspace(0.25 * np.pi, 1.75 * np.pi, 24)
    outer = np.stack([np.cos(angles), np.sin(angles)], 1)
    return np.concatenate([outer, (outer * (0.75, 0.8) + (0.2, 0))[::-1]])


_OUTLINES = {7: _star(32, 1.0), 3: 1.2 * _star(3, 0.5), 42: 1.2 * _star(5, 0.42)}
_HUES = {7: (-40, 70), 3: (80, 190), 42: (200, 310)}
_PLUS = np.array([[3, 1, 1, -1, -1, -3, -3, -1, -1, 1, 1, 3], [1, 1, 3, 3, 1, 1, -1, -1, -3, -3, -1, -1]]).T / 3.2
_BAR = np.array([(-1.6, -0.22), (1.6, -0.22), (1.6, 0.22), (-1.6, 0.22)])
_DISTRACTORS = (_star(4, 0.7072), _PLUS, _crescent(), _BAR)


class _Item(NamedTuple):
    """A labelled object: its category, its area if nothing hid it, and its visible pixels."""

    category: int
    crowd: bool
    full: float
    mask: np.ndarray


def _place(rng: Generator, outline: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    squeezed = outline * (radius, radius * rng.uniform(0.8, 1.0))
    return squeezed @ np.array([(cos, sin), (-sin, cos)]) + centre


def _alpha(shape: tuple[int, int], outlines: list[np.ndarray]) -> np.ndarray:
    alpha = np.zeros(shape, np.uint8)
    for outline in outlines:
        cv2.fillPoly(alpha, [np.round(outline * 16).astype(np.int32)], 255, lineType=cv2.LINE_AA, shift=4)  # 1/16 pixel
    return alpha


def _noise(rng: Generator, shape: tuple[int, int], cell: int) -> np.ndarray:
    grid = rng.standard_normal((shape[0] // cell + 2, shape[1] // cell + 2)).astype(np.float32)
    return cv2.resize(grid, shape[::-1], interpolation=cv2.INTER_CUBIC)


def _colour(
    rng: Generator, saturation: tuple[float, float], value: tuple[float, float], hue: tuple[float, float] = (0, 360)
) -> np.ndarray:
    hsv = np.array([[[rng.uniform(*hue) % 360, rng.uniform(*saturation), rng.uniform(*value)]]], np.float32)
    return 255 * cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0]


def _texture(rng: Generator, shape: tuple[int, int], colour: np.ndarray, contrast: float) -> np.ndarray:
    """Return a float BGR patch around `colour`: a slope, stripes, dots or blotches, at most `contrast` away from it."""
    height, width = shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(0.08, 0.4) * max(min(shape), 40)
    along = (np.cos(angle) * x + np.sin(angle) * y) * (2 * np.pi / period)
    across = (np.cos(angle) * y - np.sin(angle) * x) * (2 * np.pi / period)
    kind = rng.choice(["slope", "stripes", "dots", "blotches"])
    if kind == "slope":
        field = along / max(np.abs(along).max(), 1.0)
    elif kind == "stripes":
        field = np.tanh(3 * np.sin(along))
    elif kind == "dots":
        field = np.tanh(4 * (np.sin(along) * np.sin(across) - 0.3))
    else:
        field = np.tanh(np.sum([_noise(rng, shape, cell) for cell in (8, 20, 48)], 0) / 2)
    direction = rng.uniform(-0.5, 0.5, 3) + rng.choice((-0.7, 0.7))
    return (colour + contrast * field[..., None] * direction).astype(np.float32)


def _paint(rng: Generator, image: np.ndarray, alpha: np.ndarray, category: int) -> None:
    """Paint a textured object with a soft shadow where `alpha` (0..255) is set, in a colour unlike the background.

    Most shapes have a hue of their category's range, the others and all distractors any.
    """
    hue = _HUES[category] if category in _HUES and rng.random() < 0.75 else (0, 360)
    x, y, width, height = cv2.boundingRect(alpha)
    area = np.s_[max(y - 6, 0) : y + height + 6, max(x - 6, 0) : x + width + 6]
    patch, cover = image[area], alpha[area].astype(np.float32)[..., None] / 255
    below = (patch * cover).sum((0, 1)) / cover.sum()
    for _ in range(1000):
        colour = _colour(rng, (0.3, 0.95), (0.25, 1.0), hue)
        if np.linalg.norm(colour - below) >= 110:
            break
    fill = _texture(rng, cover.shape[:2], colour, rng.uniform(5, 30))
    offset = np.array([(1, 0, 2), (0, 1, 2)], np.float32)
    shadow = cv2.warpAffine(cv2.GaussianBlur(cover, (0, 0), 2.0), offset, cover.shape[1::-1])
    patch *= 1 - rng.uniform(0.1, 0.45) * shadow[..., None]
    patch += cover * (fill - patch)


def _crowd(rng: Generator, size: np.ndarray) -> tuple[int, list[np.ndarray]]:
    category = int(rng.choice(list(_OUTLINES)))
    centre, spread = rng.uniform(0.2, 0.8, 2) * size, rng.uniform(10, 16)
    spots = centre + spread * np.clip(rng.standard_normal((int(rng.integers(10, 19)), 2)), -1.8, 1.8)
    return category, [_place(rng, _OUTLINES[category], spot, rng.uniform(4, 7)) for spot in spots]


def _draw_image(rng: Generator) -> tuple[np.ndarray, list[_Item]]:
    """Draw an image; return its BGR pixels and labelled objects, back to front."""
    shape = int(rng.choice((160, 176, 192, 208))), int(rng.choice((208, 224, 240, 256)))
    shape = shape[::-1] if rng.random() < 0.2 else shape
    size = np.array(shape[::-1])
    image = _texture(rng, shape, _colour(rng, (0.0, 0.45), (0.25, 0.9)), rng.uniform(5, 30))
    for cell in (3, 12, 40):
        image += _noise(rng, shape, cell)[..., None] * rng.uniform(1, 8, 3).astype(np.float32)
    items: list[_Item] = []

    if rng.random() < 0.12:
        category, outlines = _crowd(rng, size)
        for outline in outlines:
            if (alpha := _alpha(shape, [outline])).any():
                _paint(rng, image, alpha, category)
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (15, 15))
        region = cv2.morphologyEx(_alpha(shape, outlines), cv2.MORPH_CLOSE, kernel) >= 128
        items.append(_Item(category, True, float(region.sum()), region))

    labelled = 0 if rng.random() < 0.06 and not items else int(rng.integers(1, 7))
    radii = np.sort(12 * np.exp(rng.uniform(0, np.log(80 / 12), labelled)))[::-1]
    order = [(int(rng.choice(list(_OUTLINES))), radius) for radius in radii]
    for _ in range(int(rng.integers(0, 3))):
        order.insert(int(rng.integers(0, len(order) + 1)), (0, rng.uniform(10, 28)))
    for category, radius in order:
        shapes = _OUTLINES[category] if category else _DISTRACTORS[rng.integers(len(_DISTRACTORS))]
        for _ in range(8):
            outline = _place(rng, shapes, rng.uniform(0.04, 0.96, 2) * size, radius)
            full = cv2.contourArea(outline.astype(np.float32))
            alpha = _alpha(shape, [outline])
            mask = alpha >= 128
            if mask.sum() < 0.7 * full or any((i.mask & ~mask).sum() < 0.5 * i.full for i in items):
                continue
            _paint(rng, image, alpha, category)
            for item in items:
                item.mask[mask] = False
            if category:
                items.append(_Item(category, False, full, mask))
            break

    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.8))
    image += rng.uniform(1, 6) * rng.standard_normal(image.shape).astype(np.float32)
    return np.clip(image, 0, 255).round().astype(np.uint8), items


def _draw_split(root: Path, split: str, number: int, first_id: int) -> None:
    (root / "images" / split).mkdir(parents=True)
    (root / "annotations").mkdir(exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id in range(first_id, first_id + number):
        pixels, items = _draw_image(np.random.default_rng([20240607, image_id]))
        name = f"{image_id:06d}.jpg"
        encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
        (root / "images" / split / name).write_bytes(encoded.tobytes())
        images.append({"id": image_id, "file_name": name, "width": pixels.shape[1], "height": pixels.shape[0]})
        for item in items:
            flat = np.concatenate([[False], item.mask.ravel(order="F")])  # down the columns, unset pixels first
            edges = [0, *np.flatnonzero(flat[1:] != flat[:-1]).tolist(), item.mask.size]
            known = {"id": len(annotations) + 1, "image_id": image_id, "category_id": item.category}
            known |= {"iscrowd": int(item.crowd), "area": int(item.mask.sum())}
            box = list(map(int, cv2.boundingRect(item.mask.astype(np.uint8))))
            outline = {"size": list(item.mask.shape), "counts": np.diff(edges).tolist()}
            annotations.append({**known, "bbox": box, "segmentation": outline})
    categories = [{"id": i, "name": name, "supercategory": "shape"} for i, name in DEMO_CATEGORIES.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    file = root / "annotations" / f"instances_{split}.json"
    file.write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")


def demo_dataset(folder: Path | None = None, *, train: int = 320, val: int = 80) -> Path:
    """Return the demo set's folder; draw the set first if it does not exist (a few seconds).

    It holds `images/train`, `images/val` and `annotations/instances_{train,val}.json` (COCO detection: boxes as
    x, y, width, height in pixels, areas in visible pixels, masks of the visible pixels as uncompressed run lengths).
    The same numbers of images give the same pixels and JSON. The set is drawn under a temporary name and renamed, so
    that a killed process leaves no partial set and processes that start together all get a whole one.

    Args:
        folder: Folder for the set's folder `demo-v1`; created if missing. Default: `$YOLO_ATTN_CACHE`, else
            `$XDG_CACHE_HOME/yolo_attn`, else `~/.cache/yolo_attn`.
        train: Number of training images. Other numbers than the defaults get a folder of their own.
        val: Number of validation images.

    Raises:
        UserError: If the set cannot be written into the folder.
    """
    cache = (cache_folder() if folder is None else expanded(folder)).absolute()
    root = cache / (DEMO_VERSION if (train, val) == (320, 80) else f"{DEMO_VERSION}-{train}-{val}")
    if root.is_dir():
        return root
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with scratch_folder(cache) as aside:
            drawn = aside / root.name
            _draw_split(drawn, "train", train, first_id=1)
            _draw_split(drawn, "val", val, first_id=100_001)
            drawn.rename(root)
    except OSError as error:
        if root.is_dir():
            return root
        reason = f"{error.strerror or error}; set YOLO_ATTN_CACHE to a writable folder"
        raise UserError(f"cannot draw the demo set in {cache}: {reason}") from error
    return root
