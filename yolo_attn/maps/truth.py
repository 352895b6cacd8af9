"""Ground truth beside predictions: labels of COCO-format data, drawn as Ultralytics draws detections, and classes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from ultralytics.engine.results import Results
from ultralytics.utils import ops
from ultralytics.utils.plotting import colors

from yolo_attn.coco.dataset.data_report import examine
from yolo_attn.coco.dataset.labels import Labels
from yolo_attn.coco.dataset.locations import load_source
from yolo_attn.engine.classification import classes_of, folder_of
from yolo_attn.engine.validation.validator import plain_text
from yolo_attn.errors import UserError


def labels_of(data: str, split: str, task: str, names: Mapping[int, str]) -> Labels:
    """Return the labels of a split of COCO-format data, in the classes of a model.

    Raises:
        UserError: If the data cannot be used, or is not in COCO format.
    """
    source = load_source(data, [split], task)
    if source is None:
        raise UserError(f"--data {data}: expected COCO-format data, found labels in Ultralytics' own format")
    return examine(source[split].index, source[split].folders, list(names.values())).labels


def class_folders(data: str, split: str) -> Path:
    """Return the folder of a classifier's split, in which each class has a folder.

    Raises:
        UserError: If there is none.
    """
    found = folder_of(data, split)
    if found is None:
        raise UserError(
            f"--data {data}: no folder {split!r} in it; expected a folder for each split, in it one a class"
        )
    return found


def class_of(file: Path, sources: Sequence[Path], names: Mapping[int, str]) -> str | None:
    """Return the class of an image for a model that knows these classes; None if no folder is one.

    It is the nearest folder of a class's name, its own folder or another one below a source.
    """
    below = (file.relative_to(source).parts[:-1] for source in sources if file.is_relative_to(source))
    for folder in (file.absolute().parent.name, *(name for parts in below for name in reversed(parts))):
        for number in classes_of([folder], names).values():
            return names[number]
    return None


def draw_truth(pixels: NDArray[np.uint8], label: Mapping[str, Any], names: Mapping[int, str]) -> NDArray[np.uint8]:
    """Return pixels, (H, W, 3), BGR, with the boxes, outlines or keypoints of a label on them."""
    height, width = pixels.shape[:2]
    classes = torch.from_numpy(np.asarray(label["cls"])).float()
    if not len(classes):
        return pixels.copy()
    outlines = [np.asarray(outline) * (width, height) for outline in label["segments"]]
    sure = torch.ones(len(classes), 1)
    found: dict[str, torch.Tensor] = {}
    if outlines and all(len(outline) == 4 for outline in outlines) and label["oriented"]:
        corners = torch.from_numpy(np.stack(outlines)).float().reshape(-1, 8)
        found["obb"] = torch.cat([ops.xyxyxyxy2xywhr(corners), sure, classes], 1)
    else:
        boxes = ops.xywhn2xyxy(torch.from_numpy(np.asarray(label["bboxes"])).float(), width, height)
        found["boxes"] = torch.cat([boxes, sure, classes], 1)
    points = label.get("keypoints")
    if points is not None:
        found["keypoints"] = torch.from_numpy(points).float() * torch.tensor([width, height, 1.0])
    drawn = pixels.copy()
    if "boxes" in found:
        for outline, number in zip(outlines, classes[:, 0].int().tolist(), strict=False):
            cv2.polylines(drawn, [outline.round().astype(np.int32)], True, colors(number, True), 2, cv2.LINE_AA)
    with plain_text():
        return Results(drawn, path="", names=dict(names), **found).plot(conf=False)


def rows_of(labels: Labels) -> dict[Path, int]:
    """Return the row of each image's label."""
    return {Path(file): row for row, file in enumerate(labels.files)}
