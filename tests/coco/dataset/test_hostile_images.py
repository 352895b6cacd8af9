"""Images as they should not be: loaded in the shape that their labels say, or skipped."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile import BASE, OTHER_SIZE, OUTSIDE, annotation, images, read, reported
from PIL import Image
from ultralytics.cfg import get_cfg

from yolo_attn.coco.dataset.dataset import CocoDataset


def noise(*shape, kind=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape, kind)


def image(suffix, kind=None, mode=None, size=(64, 48), **save):
    """Writes an image under a name."""

    def write(folder):
        pixels = Image.fromarray(noise(size[1], size[0], 3))
        if mode == "I;16":
            pixels = Image.fromarray(noise(size[1], size[0], kind=np.uint16))
        elif mode:
            pixels = pixels.convert(mode)
        pixels.save(folder / f"x.{suffix}", kind, **save)

    return f"x.{suffix}", write


def frames(suffix, **save):
    def write(folder):
        first, *others = (Image.fromarray(noise(48, 64, 3) ^ n) for n in range(4))
        first.save(folder / f"x.{suffix}", save_all=True, append_images=others, **save)

    return f"x.{suffix}", write


def raw(suffix, content):
    return f"x.{suffix}", lambda folder: (folder / f"x.{suffix}").write_bytes(content)


def cut(suffix, share):
    name, write = image(suffix)

    def write_part(folder):
        write(folder)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(share * len(content))])

    return name, write_part


def appended(suffix, more):
    name, write = image(suffix)
    return name, lambda folder: [write(folder), (folder / name).open("ab").write(more)]


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def special(make):
    return "x.jpg", lambda folder: make(folder / "x.jpg")


NOT_READ, NO_FILE = {"image that cannot be read": 1}, {"image that is not a file": 1}

IMAGES = {
    "JPEG": (image("jpg"), {}),
    "JPEG that is a PNG": (image("jpg", "PNG"), {}),
    "PNG that is a JPEG": (image("png", "JPEG"), {}),
    "TIFF that is a PNG with alpha": (image("tif", "PNG", "RGBA"), {}),
    "no suffix": (("x", lambda folder: Image.new("RGB", (64, 48)).save(folder / "x", "PNG")), {}),
    "progressive JPEG": (image("jpg", progressive=True), {}),
    "JPEG with something behind it": (appended("jpg", b"more"), {}),
    "grey JPEG": (image("jpg", mode="L"), {}),
    "CMYK JPEG": (image("jpg", mode="CMYK"), {}),
    "grey PNG": (image("png", mode="L"), {}),
    "black and white PNG": (image("png", mode="1"), {}),
    "16-bit PNG": (image("png", mode="I;16"), {}),
    "RGBA PNG": (image("png", mode="RGBA"), {}),
    "grey and alpha PNG": (image("png", mode="LA"), {}),
    "palette PNG": (image("png", mode="P"), {}),
    "16-bit TIFF": (image("tif", mode="I;16"), {}),
    "grey TIFF": (image("tiff", mode="L"), {}),
    "RGBA TIFF": (image("tiff", mode="RGBA"), None),
    "TIFF of several pages": (frames("tiff"), None),
    "GIF": (image("gif"), None),
    "animated GIF": (frames("gif", duration=50), None),
    "animated PNG": (frames("png"), {}),
    "animated WebP": (frames("webp"), None),
    "WebP": (image("webp"), {}),
    "BMP": (image("bmp"), {}),
    "ICO": (image("ico"), None),
    "EXIF-turned JPEG": (image("jpg", size=(48, 64), exif=turned(6)), {}),
    "EXIF-turned PNG": (image("png", size=(48, 64), exif=turned(6)), {}),
    "EXIF-turned TIFF": (image("tiff", size=(48, 64), exif=turned(6)), None),
    "EXIF-mirrored JPEG": (image("jpg", exif=turned(2)), {}),
    "EXIF orientation that is none": (image("jpg", exif=turned(77)), {}),
    "EXIF that is none": (image("jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"), None),
    "1 × 1": (image("png", size=(1, 1)), {**OTHER_SIZE, "box clipped to its image": 1}),
    "20,000 × 2": (image("png", size=(20_000, 2)), OTHER_SIZE),
    "2 × 20,000": (image("jpg", size=(2, 20_000)), OTHER_SIZE),
    "zero bytes": (raw("jpg", b""), NOT_READ),
    "one byte": (raw("png", b"\x89"), NOT_READ),
    "text": (raw("jpg", b"<html>404</html>"), NOT_READ),
    "SVG": (raw("svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>'), NOT_READ),
    "PDF": (raw("jpg", b"%PDF-1.4\n%%EOF"), NOT_READ),
    "half a JPEG": (cut("jpg", 0.5), NOT_READ),
    "nearly a JPEG": (cut("jpg", 0.99), NOT_READ),
    "half a PNG": (cut("png", 0.5), NOT_READ),
    "half a BMP": (cut("bmp", 0.5), NOT_READ),
    "half a WebP": (cut("webp", 0.5), NOT_READ),
    "half a GIF": (cut("gif", 0.5), NOT_READ),
    "PNG that says it is huge": (
        raw("png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\x08\x02\0\0\0" + bytes(4)),
        NOT_READ,
    ),
    "FIFO": (special(os.mkfifo), NO_FILE),
    "folder": (special(Path.mkdir), NO_FILE),
    "link to a device": (special(lambda file: file.symlink_to("/dev/zero")), OUTSIDE),
}
"""A name and what writes it, and what is reported; None where that depends on the libraries' versions."""


@pytest.mark.parametrize("case", IMAGES)
def test_image(written, case):
    """It is loaded as three channels of eight bits in the shape that its label says, or skipped."""
    (name, write), problems = IMAGES[case]
    folder = written(BASE)
    write(folder / "images/val")
    content = images("1.jpg", name)
    content["images"][1].update(width=64, height=48)
    content["annotations"] = [annotation(bbox=[0, 0, 2, 1])]
    index, examined = read(written(content))
    assert problems is None or reported(examined) == problems
    assert examined.report.usable == 2 - any("skipped" in kind for kind, _ in examined.report.problems)
    names = {"names": dict(enumerate(index.category_names))}
    data = CocoDataset(examined=examined, imgsz=32, hyp=get_cfg(), augment=False, data=names)
    for i, label in enumerate(data.labels):
        pixels, shape, resized = data.load_image(i)
        assert pixels.dtype == np.uint8
        assert shape == label["shape"]
        assert pixels.shape == (*resized, 3)
        assert max(resized) == 32
        assert data[i]["img"].dtype == torch.uint8
    assert not data._gone
