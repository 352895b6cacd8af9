"""An Ultralytics data set that reads its boxes from a COCO JSON and writes nothing."""

import logging
import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import get_worker_info
from ultralytics.data import YOLODataset
from ultralytics.models.rtdetr.val import RTDETRDataset
from ultralytics.utils import LOCAL_RANK, LOGGER

from yolo_attn.bounded_reading import open_plain
from yolo_attn.coco.dataset.data_report import Examined
from yolo_attn.coco.dataset.image_files import LARGEST_FILE
from yolo_attn.coco.dataset.labels import Labels
from yolo_attn.environment import filtered
from yolo_attn.errors import RunError, one_line

GREY = 114
"""Ultralytics' padding of images."""

LOST = 100
"""Different images in a row that cannot be read before a training stops; all images of a smaller set."""

NOWHERE = Path("/dev/null/none.npy")
"""In place of the .npy files that Ultralytics would read, or delete, beside the images: it never exists."""


class CocoDataset(YOLODataset):
    """Images, boxes, and masks, keypoints or corners of one split of a COCO-format set, for training or validation.

    Crowds carry no label; boxes are clipped to the image as it is displayed (EXIF rotation applied); images that
    cannot be read and boxes without area are skipped, counted and reported. An image's label is made from arrays
    when it is asked for, so that data loader processes share the memory of all. `stretch` says whether images are
    stretched to a square.
    """

    labels: Labels
    stretch = False

    def __init__(self, *, examined: Examined, **kwargs: Any) -> None:
        self._made, self.report = examined.labels, examined.report
        self.index = self._made.source
        self._gone: set[int] = set()
        self._in_a_row: set[int] = set()
        with filtered(LOGGER, _without_advice):
            super().__init__(img_path=self.index.file, **kwargs)
        self.im_files = self.labels.files
        if LOCAL_RANK in {-1, 0}:
            for line in self.report.lines():
                (LOGGER.warning if " × " in line else LOGGER.info)(f"{self.prefix}{line}")

    @property
    def npy_files(self) -> list[Path]:
        """Return `NOWHERE` for each image."""
        return self._npy_files

    @npy_files.setter
    def npy_files(self, files: Sequence[Path]) -> None:
        self._npy_files = [NOWHERE] * len(files)

    @cached_property
    def image_ids(self) -> dict[str, list[int]]:
        """Return the index's image ids by path: more than one where the JSON names a file again."""
        ids: dict[str, list[int]] = {}
        for file, row in zip(self.labels.files, self.labels.images.tolist(), strict=True):
            ids.setdefault(file, []).append(int(self.index.image_ids[row]))
        return ids

    def get_img_files(self, img_path: str) -> Any:
        """Return the paths of the images that can be read."""
        return self._made.files

    def get_labels(self) -> Any:
        """Return one label dictionary an image, made when it is asked for."""
        return self._made

    def set_rectangle(self) -> None:
        """Sort images by shape, as Ultralytics does; labels stay in their arrays."""
        made = self.labels
        shapes = made.sizes[:, ::-1].astype(int).tolist()
        rows: Any = [{"shape": tuple(shape), "row": row} for row, shape in enumerate(shapes)]
        self.labels = rows
        super().set_rectangle()
        self.labels = made.take([label["row"] for label in self.labels])

    def get_image_and_label(self, index: int) -> dict[str, Any]:
        """Return an image and its label; one that has changed since the data set was made is grey and empty."""
        label = super().get_image_and_label(index)
        if index in self._gone:
            label["instances"], label["cls"] = label["instances"][:0], label["cls"][:0]
        return label

    def load_image(self, i: int, *args: Any, **kwargs: Any) -> Any:
        """Return an image as Ultralytics reads it, or a grey one in its place, which is reported once.

        A file of another size than when the data set was made is another image, to which the boxes need not belong;
        it is skipped like one that cannot be read. One that is restored counts again.

        Raises:
            RunError: If so many in a row cannot be read that the data itself must be gone.
        """
        if self.ims[i] is not None:
            return super().load_image(i, *args, **kwargs)
        width, height = self.labels.sizes[i].astype(int).tolist()
        try:
            open_plain(self.im_files[i], LARGEST_FILE).close()
            loaded = super().load_image(i, *args, **kwargs)
            if loaded[1] != (height, width):
                self.ims[i] = None
                raise ValueError(f"{loaded[1][1]}x{loaded[1][0]} pixels, {width}x{height} before")
        except Exception as error:  # a decoder may raise anything on a file that has changed
            self._skip(i, error)
            inputs = [
                self.imgsz if self.stretch else math.ceil(s * self.imgsz / max(height, width)) for s in (height, width)
            ]
            return np.full((*inputs, 3), GREY, dtype=np.uint8), (height, width), tuple(inputs)
        self._gone.discard(i)
        self._in_a_row.clear()
        return loaded

    def _all(self) -> int:
        """How many different images in a row cannot be read if the data itself is gone.

        A process that validates sees its share of the images, and one that trains in the end all of them.
        """
        worker = get_worker_info()
        share = math.ceil(len(self) / worker.num_workers) if worker and not self.augment else len(self)
        return min(LOST, len(self), max(share, 10))

    def _skip(self, i: int, error: Exception) -> None:
        self._in_a_row.add(i)
        if len(self._in_a_row) >= self._all():
            unread = f"images in a row that cannot be read: {len(self._in_a_row)}"
            raise RunError(f"{self.im_files[i]}: the data is gone; {unread}") from error
        if i not in self._gone:
            LOGGER.warning(f"{self.prefix}{self.im_files[i]}: has changed, skipped: {one_line(error)}")
        self._gone.add(i)
        if self.augment and not self.buffer:  # a mosaic draws from what has been read
            self.buffer.append(i)


def _without_advice(record: logging.LogRecord) -> bool:
    """Take the advice to use `cache=disk`, which writes beside the images, out of the warning of `cache=ram`."""
    record.msg = str(record.msg).partition(" Consider cache='disk'")[0]
    return True


class StretchedCocoDataset(CocoDataset, RTDETRDataset):
    """The same for RT-DETR, which stretches images to a square."""

    stretch = True
