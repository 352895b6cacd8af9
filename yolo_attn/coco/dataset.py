"""An Ultralytics data set that reads its boxes from a COCO JSON and writes nothing."""

from collections import Counter
from collections.abc import Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ultralytics.data import YOLODataset
from ultralytics.models.rtdetr.val import RTDETRDataset
from ultralytics.utils import LOCAL_RANK, LOGGER, NUM_THREADS

from yolo_attn.coco.index import CocoIndex
from yolo_attn.coco.pictures import displayed_size
from yolo_attn.coco.shapes import outline

TOLERANCE = 1e-3  # pixels that a box may leave its picture by before that is worth a word


class CocoDataset(YOLODataset):
    """Pictures, boxes, and masks or keypoints of one split of a COCO-format data set, for training or validation.

    Crowds carry no label; boxes are clipped to the picture as it is displayed (EXIF rotation applied); pictures that
    cannot be read and boxes without area are left out, counted and reported.

    Args:
        index: The JSON's content.
        names: Class names in the model's order. Categories are matched to them by name.
        img_path: Folder that the JSON's file names start from.
        kwargs: Further arguments of Ultralytics' `YOLODataset`.

    Attributes:
        image_ids: The JSON's image ids of each picture, by its path: more than one where the JSON names it again.
    """

    def __init__(self, *, index: CocoIndex, names: Sequence[str], img_path: Path, **kwargs: Any) -> None:
        self.index = index
        self.class_of = np.array([names.index(n) if n in names else -1 for n in index.category_names])
        self.problems = Counter(index.problems)
        super().__init__(img_path=str(img_path), **kwargs)

    def get_img_files(self, img_path: str) -> list[str]:
        """Paths of the pictures that can be read; keeps their sizes and image ids."""
        paths = [str(Path(img_path, name)) for name in self.index.file_names]
        counted = isinstance(self.fraction, int) and self.fraction > 1
        wanted = self.fraction if counted else max(1, round(len(paths) * self.fraction))
        with ThreadPool(NUM_THREADS) as pool:
            sizes = pool.map(displayed_size, paths[:wanted])
        self._rows = [row for row, size in enumerate(sizes) if size is not None]
        self._sizes = np.array([size for size in sizes if size is not None], dtype=np.float64)
        unreadable = [path for path, size in zip(paths, sizes, strict=False) if size is None]
        if unreadable:
            self.problems[f"picture missing or unreadable, such as {unreadable[0]}"] += len(unreadable)
        stated = self.index.sizes[self._rows]
        self.problems["picture of another size than the JSON says"] += int(
            ((stated != self._sizes) & (stated > 0)).any(1).sum()
        )
        files = [paths[row] for row in self._rows]
        self.image_ids: dict[str, list[int]] = {}
        for file, image_id in zip(files, self.index.image_ids[self._rows].tolist(), strict=True):
            self.image_ids.setdefault(file, []).append(image_id)
        return files

    def get_labels(self) -> list[dict[str, Any]]:
        """One label dictionary a picture, in Ultralytics' form: normalised centre, width, height."""
        index, slot = self.index, np.full(len(self.index.image_ids), -1)
        slot[self._rows] = np.arange(len(self._rows))
        picture, classes = slot[index.image_of], self.class_of[index.category_of]
        kept = (picture >= 0) & (classes >= 0) & ~index.crowd
        self.problems["box of a category that the model does not know"] += int(((picture >= 0) & (classes < 0)).sum())

        picture, classes = picture[kept], classes[kept]
        size = np.tile(self._sizes[picture], 2)
        corners = index.boxes[kept].copy()
        corners[:, 2:] += corners[:, :2]
        inside = corners.clip(0, size)
        extent = inside[:, 2:] - inside[:, :2]
        full = (extent > 0).all(1)
        self.problems["box without area inside its picture, left out"] += int((~full).sum())
        self.problems["box clipped to its picture"] += int((np.abs(inside - corners).max(1) > TOLERANCE)[full].sum())

        centres = (inside[:, :2] + inside[:, 2:]) / 2
        boxes = (np.concatenate([centres, extent], 1) / size).astype(np.float32)[full]
        picture, classes = picture[full], classes[full].astype(np.float32)
        rows = np.flatnonzero(kept)[full]
        segments = self._segments(rows, picture)
        keypoints = self._keypoints(rows, picture)
        order = np.argsort(picture, kind="stable")
        parts = np.split(order, np.searchsorted(picture[order], np.arange(1, len(self._rows))))
        self._report(len(boxes), int(index.crowd.sum()))
        return [
            {
                "im_file": file,
                "shape": (int(height), int(width)),
                "cls": classes[part, None],
                "bboxes": boxes[part],
                "segments": [segments[i] for i in part] if segments else [],
                "keypoints": None if keypoints is None else keypoints[part],
                "normalized": True,
                "bbox_format": "xywh",
            }
            for file, (width, height), part in zip(self.im_files, self._sizes, parts, strict=True)
        ]

    def _segments(self, rows: NDArray[np.int64], picture: NDArray[np.int64]) -> list[NDArray[np.float32]]:
        """The outline of each of the JSON's rows, (N, 2) as shares of its picture; none without masks."""
        if self.index.masks is None:
            return []
        segments = []
        for row, size in zip(rows.tolist(), self._sizes[picture], strict=True):
            points = outline(self.index.masks[row]).clip(0, size)
            if len(points) < 3:
                x, y, w, h = self.index.boxes[row]
                points = np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h)]).clip(0, size)
            segments.append((points / size).astype(np.float32))
        return segments

    def _keypoints(self, rows: NDArray[np.int64], picture: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """(len(rows), K, 3) keypoints, x and y as shares of the picture."""
        if self.index.keypoints is None:
            return None
        points = self.index.keypoints[rows].copy()
        points[..., :2] /= self._sizes[picture][:, None]
        return points.astype(np.float32)

    def _report(self, boxes: int, crowds: int) -> None:
        if LOCAL_RANK not in {-1, 0}:
            return
        text = f"{self.prefix}{self.index.file}: {len(self._rows)} images, {boxes} boxes"
        LOGGER.info(text + (f", {crowds} crowds that carry no label" if crowds else ""))
        for problem, count in (+self.problems).items():
            LOGGER.warning(f"{self.prefix}{self.index.file.name}: {count} × {problem}")


class StretchedCocoDataset(CocoDataset, RTDETRDataset):
    """The same for RT-DETR, which stretches pictures to a square."""
