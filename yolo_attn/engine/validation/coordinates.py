"""From the pixels of a model's input back to those of the image."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import hotcoco
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Frame:
    """Where an image of a height and width, pixels, lies in the model's input.

    Attributes:
        gain: Input pixels an image pixel, in x and y.
        pad: Input pixels left of and above the image.
    """

    height: int
    width: int
    gain: tuple[float, float]
    pad: tuple[float, float]

    @classmethod
    def of(cls, batch: dict[str, Any], i: int) -> "Frame":
        """The frame of image i of a validation batch of Ultralytics'."""
        ratio_pad = batch["ratio_pad"][i]
        padded = isinstance(ratio_pad[0], (tuple, list))  # early 8.3 says only gains of a stretched image
        (gain_y, gain_x), pad = ratio_pad if padded else (ratio_pad, (0, 0))
        height, width = batch["ori_shape"][i]
        return cls(height, width, (gain_x, gain_y), tuple(pad))

    def restore(self, points: Tensor) -> Tensor:
        """Points (…, 2) of the input in the image's pixels, at least float32, clipped to it."""
        points = points.to(torch.promote_types(points.dtype, torch.float32))
        points = (points - points.new_tensor(self.pad)) / points.new_tensor(self.gain)
        return points.clamp(points.new_zeros(2), points.new_tensor((self.width, self.height)))

    def restore_masks(self, masks: Tensor) -> Iterator[dict[str, Any]]:
        """Masks (N, input height, input width) as COCO's compressed run lengths in the image's pixels, one by one."""
        left, top = (round(side - 0.1) for side in self.pad)
        right, bottom = left + round(self.width * self.gain[0]), top + round(self.height * self.gain[1])
        for mask in masks[:, top:bottom, left:right]:
            whole = F.interpolate(mask[None, None].float(), (self.height, self.width), mode="bilinear")[0, 0] > 0.5
            coded = hotcoco.mask.encode(whole.byte().cpu().numpy())
            yield {**coded, "counts": coded["counts"].decode()}
