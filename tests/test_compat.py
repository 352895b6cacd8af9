"""Differences between Ultralytics' releases, each met by a stand-in of the release that behaves so."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
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


@pytest.mark.integration
def test_images_are_read_whose_names_are_not_utf8(tmp_path):
    """OpenCV dies of such a name, so this is a process of its own; what is no image gives none, as with any name."""
    image = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "image.png"), image)
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xe9sum\xff.png"))
    (tmp_path / "image.png").rename(odd)
    (tmp_path / "empty.png").touch()
    code = f"""
import os
from pathlib import Path
import cv2, numpy as np, ultralytics, yolo_attn
from ultralytics.nn import tasks
odd = Path(os.fsdecode({os.fsencode(odd)!r}))
for name in (odd, str(odd)):
    assert cv2.imread(name).tolist() == {image.tolist()}
    assert cv2.imread(name, cv2.IMREAD_GRAYSCALE).shape == (5, 7)
    assert cv2.imread(name, flags=cv2.IMREAD_GRAYSCALE).shape == (5, 7)
for data in (b"", b"no image"):
    odd.write_bytes(data)
    assert cv2.imread(odd) is None
odd.unlink()
assert cv2.imread(odd) is None and cv2.imread("absent.png") is None and cv2.imread("empty.png") is None
print("all")
"""
    result = run_python(code, tmp_path)
    assert result.stdout.split()[-1:] == ["all"], (result.returncode, result.stderr)
