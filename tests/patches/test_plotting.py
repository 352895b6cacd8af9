"""Mosaics of small images: enlarged, with boxes and keypoints where they belong."""

import inspect

import numpy as np
import pytest
import torch
from ultralytics.utils import plotting

import yolo_attn.patches.plotting
from yolo_attn.patches.plotting import TILE

TAKES_DICTIONARIES = "labels" in inspect.signature(plotting.plot_images).parameters

BOX = [20.0, 12, 16, 8]  # centre, width and height, pixels


def mosaic(size, boxes, **more):
    """What is drawn on black images, the threads of Ultralytics' plots aside."""
    count = len(boxes)
    labels = {
        "img": torch.zeros(count, 3, *size),
        "batch_idx": torch.arange(count).float(),
        "cls": torch.zeros(count, 1),
        "bboxes": torch.tensor(boxes),
        **more,
    }
    return plotting.plot_images(labels, names={0: ""}, save=False, threaded=False), labels


def drawn_box(image):
    """Outer edges of what is drawn inside the white border of the first image."""
    coloured = (image.max(-1).astype(int) - image.min(-1)) > 60
    rows, columns = np.flatnonzero(coloured.any(1)), np.flatnonzero(coloured.any(0))
    return columns[0], rows[0], columns[-1], rows[-1]


@pytest.mark.skipif(not TAKES_DICTIONARIES, reason="this Ultralytics passes no dictionary")
@pytest.mark.parametrize("fractions", [False, True])
@pytest.mark.parametrize("size", [(32, 48), (64, 64)])
def test_boxes_stay_on_what_they_show(size, fractions):
    height, width = size
    times = -(-TILE // max(size))
    x, y, w, h = BOX
    box = [x / width, y / height, w / width, h / height] if fractions else BOX
    image, labels = mosaic(size, [box], conf=torch.ones(1))
    assert image.shape == (height * times, width * times, 3)
    expected = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2]) * times
    assert drawn_box(image)[2:] == pytest.approx(expected[2:], abs=4)
    assert drawn_box(image)[0] == pytest.approx(expected[0], abs=4)
    assert labels["bboxes"].tolist() == [pytest.approx(box)]  # the batch's own stay


@pytest.mark.skipif(not TAKES_DICTIONARIES, reason="this Ultralytics passes no dictionary")
def test_large_images_stay_as_ultralytics_draws_them(monkeypatch):
    given = []
    monkeypatch.setattr(yolo_attn.patches.plotting, "interpolate", given.append)
    image, _ = mosaic((320, 256), [BOX])
    assert image.shape == (320, 256, 3)
    assert not given


def test_keypoints_are_scaled_and_their_visibility_is_not():
    seen = {}

    def plot(labels, images):
        seen.update(labels)

    points = torch.tensor([[[10.0, 20, 1], [30, 5, 0.5]]])
    labels = {"img": torch.zeros(1, 3, 160, 160), "keypoints": points, "bboxes": np.array([[0.5, 0.5, 0.1, 0.1]])}
    yolo_attn.patches.plotting.plot_images(plot, labels)
    assert seen["keypoints"].tolist() == [[[20, 40, 1], [60, 10, 0.5]]]
    assert seen["bboxes"].tolist() == [[0.5, 0.5, 0.1, 0.1]]
    assert seen["img"].shape == (1, 3, 320, 320)
    assert points[0, 0, 0] == 10


def test_calls_of_early_releases_pass_as_they_are():
    given = []

    def plot(*args, **kwargs):
        given.append((args, kwargs))

    images = torch.zeros(1, 3, 32, 32)
    yolo_attn.patches.plotting.plot_images(plot, images, [0], cls=[1])
    yolo_attn.patches.plotting.plot_images(plot, images=images, batch_idx=[0])
    assert given == [((images, [0]), {"cls": [1]}), ((), {"images": images, "batch_idx": [0]})]
