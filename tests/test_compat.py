"""Differences between Ultralytics' releases, each met by a stand-in of the release that behaves so."""

import numpy as np
import pytest
import torch
from PIL import Image
from support import run_python
from ultralytics.utils import ops

from yolo_attn.compat import is_settable, native_masks


@pytest.mark.parametrize("number", [0, 1, 3])
def test_masks_of_no_box_are_none_where_ultralytics_fails(number, monkeypatch):
    def before_157(prototypes, coefficients, boxes, size):
        if not len(boxes):
            raise RuntimeError("cannot reshape tensor of 0 elements")
        return original(prototypes, coefficients, boxes, size)

    original = ops.process_mask_native
    monkeypatch.setattr(ops, "process_mask_native", before_157)
    boxes = torch.tensor([[4.0, 4.0, 40.0, 30.0]] * number).reshape(-1, 4)
    masks = native_masks(torch.rand(8, 12, 16), torch.rand(number, 8), boxes, (48, 64))
    assert masks.shape == (number, 48, 64)
    assert not masks[:, :4].any()
    assert masks.any() == bool(number)


class Derived:
    @property
    def end2end(self):
        return False


class Given(Derived):
    @Derived.end2end.setter
    def end2end(self, value):
        pass


@pytest.mark.parametrize(("kind", "settable"), [(Derived, False), (Given, True), (torch.nn.Identity, True)])
def test_property_without_a_setter_is_not_settable(kind, settable):
    assert is_settable(kind(), "end2end") == settable


ODD = """
import os
import cv2, yolo_attn
from pathlib import Path
from ultralytics.nn import tasks
for plain in sorted(Path().iterdir()):
    odd = plain.with_name(os.fsdecode(b"r\\xe9sum\\xff") + plain.suffix)
    plain.rename(odd)
    found = [cv2.imread(odd), cv2.imread(str(odd)), cv2.imread(odd, cv2.IMREAD_GRAYSCALE), cv2.imread(odd, flags=-1)]
    odd.rename(plain)
    expected = [cv2.imread(plain, flags) for flags in (cv2.IMREAD_COLOR, cv2.IMREAD_COLOR, cv2.IMREAD_GRAYSCALE, -1)]
    assert str(found) == str(expected), plain
    assert (found[0] is None) == plain.name.startswith("no"), plain
assert cv2.imread(odd) is None
print("all")
"""


@pytest.mark.integration
def test_images_are_read_whose_names_are_not_utf8(tmp_path):
    """In a process of its own, since OpenCV dies of such a name: what it finds under a plain name is expected."""
    pixels = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    for suffix in ("png", "jpg", "bmp", "webp", "tif"):
        turned = {} if suffix == "tif" else {"exif": exif}  # OpenCV reads no turned TIFF under any name
        Image.fromarray(pixels).save(tmp_path / f"image.{suffix}", **turned)
    (tmp_path / "nothing.png").touch()
    (tmp_path / "no_image.png").write_bytes(b"no image")
    result = run_python(ODD, tmp_path)
    assert result.stdout.split()[-1:] == ["all"], (result.returncode, result.stderr)
