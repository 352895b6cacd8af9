"""Differences between Ultralytics' releases, each met by a stand-in of the release that behaves so."""

import pytest
import torch
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
