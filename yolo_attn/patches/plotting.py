"""Mosaics of images that can be read."""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn.functional import interpolate

TILE = 320
"""Pixels that the longer side of an image in a mosaic has at least."""

PLOTTED = 16
"""Images of a batch that a mosaic has at most."""

FRACTIONS = 1.1
"""Coordinates of which none is larger are fractions of the image, as Ultralytics tells them from pixels."""


COORDINATES = (("bboxes", 4), ("keypoints", 2))
"""What has coordinates, and how many of its numbers are."""


def plot_images(plot: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Like Ultralytics', whose writing covers small images: these are enlarged, and coordinates in pixels with them.

    Early releases, which pass no dictionary, keep their sizes.
    """
    given = {**dict(zip(("labels", "images"), args, strict=False)), **kwargs}
    labels = given.pop("labels", None)
    if not isinstance(labels, dict):
        return plot(*args, **kwargs)
    images = labels.get("img", given.pop("images", None))
    times = math.ceil(TILE / max(images.shape[2:])) if isinstance(images, Tensor) and images.numel() else 1
    if times > 1:
        scaled = {name: _scaled(labels[name], number, times) for name, number in COORDINATES if name in labels}
        images = interpolate(images[:PLOTTED].float(), scale_factor=times, mode="bilinear")
        labels = {**labels, "img": images, **scaled}
    return plot(labels, images, *args[2:], **given)


def _scaled(values: Any, coordinates: int, times: int) -> Any:
    """Return values with the first numbers of each multiplied where they are pixels."""
    if not len(values) or values[..., :coordinates].max() <= FRACTIONS:
        return values
    values = values.clone() if isinstance(values, Tensor) else values.copy()
    values[..., :coordinates] *= times
    return values
