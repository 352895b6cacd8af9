"""Pictures as they should not be: loaded in the shape that their labels say, or left out."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile import BASE, OTHER_SIZE, OUTSIDE, annotation, pictures, read, reported
from PIL import Image
from ultralytics.cfg import get_cfg

from yolo_attn.coco.dataset.dataset import CocoDataset


def noise(*shape, kind=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape, kind)


def picture(suffix, kind=None, mode=None, size=(64, 48), **save):
    """Writes a picture under a name."""

    def write(folder):
        image = Image.fromarray(noise(size[1], size[0], 3))
        if mode == "I;16":
            image = Image.fromarray(noise(size[1], size[0], kind=np.uint16))
        elif mode:
            image = image.convert(mode)
        image.save(folder / f"x.{suffix}", kind, **save)

    return f"x.{suffix}", write


def frames(suffix, **save):
    def write(folder):
        first, *others = (Image.fromarray(noise(48, 64, 3) ^ n) for n in range(4))
        first.save(folder / f"x.{suffix}", save_all=True, append_images=others, **save)

    return f"x.{suffix}", write


def raw(suffix, content):
    return f"x.{suffix}", lambda folder: (folder / f"x.{suffix}").write_bytes(content)


def cut(suffix, share):
    name, write = picture(suffix)

    def write_part(folder):
        write(folder)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(share * len(content))])

    return name, write_part


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def special(make):
    return "x.jpg", lambda folder: make(folder / "x.jpg")


NOT_READ, NO_FILE = {"image that cannot be read": 1}, {"image that is not a file": 1}

PICTURES = {
    "JPEG": (picture("jpg"), {}),
    "JPEG that is a PNG": (picture("jpg", "PNG"), {}),
    "PNG that is a JPEG": (picture("png", "JPEG"), {}),
    "TIFF that is a PNG with alpha": (picture("tif", "PNG", "RGBA"), {}),
    "no suffix": (("x", lambda folder: Image.new("RGB", (64, 48)).save(folder / "x", "PNG")), {}),
    "progressive JPEG": (picture("jpg", progressive=True), {}),
    "JPEG with something behind it": (
        ("x.jpg", lambda folder: [picture("jpg")[1](folder), (folder / "x.jpg").open("ab").write(b"more")]),
        {},
    ),
    "grey JPEG": (picture("jpg", mode="L"), {}),
    "CMYK JPEG": (picture("jpg", mode="CMYK"), {}),
    "grey PNG": (picture("png", mode="L"), {}),
    "black and white PNG": (picture("png", mode="1"), {}),
    "16-bit PNG": (picture("png", mode="I;16"), {}),
    "RGBA PNG": (picture("png", mode="RGBA"), {}),
    "grey and alpha PNG": (picture("png", mode="LA"), {}),
    "palette PNG": (picture("png", mode="P"), {}),
    "16-bit TIFF": (picture("tif", mode="I;16"), {}),
    "grey TIFF": (picture("tiff", mode="L"), {}),
    "RGBA TIFF": (picture("tiff", mode="RGBA"), None),
    "TIFF of several pages": (frames("tiff"), None),
    "GIF": (picture("gif"), None),
    "animated GIF": (frames("gif", duration=50), None),
    "animated PNG": (frames("png"), {}),
    "animated WebP": (frames("webp"), None),
    "WebP": (picture("webp"), {}),
    "BMP": (picture("bmp"), {}),
    "ICO": (picture("ico"), None),
    "EXIF-turned JPEG": (picture("jpg", size=(48, 64), exif=turned(6)), {}),
    "EXIF-mirrored JPEG": (picture("jpg", exif=turned(2)), {}),
    "EXIF orientation that is none": (picture("jpg", exif=turned(77)), {}),
    "EXIF that is none": (picture("jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"), None),
    "1 × 1": (picture("png", size=(1, 1)), {**OTHER_SIZE, "box clipped to its image": 1}),
    "20,000 × 2": (picture("png", size=(20_000, 2)), OTHER_SIZE),
    "2 × 20,000": (picture("jpg", size=(2, 20_000)), OTHER_SIZE),
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
"""A name and what writes it, and what is told; None where that depends on the libraries' versions."""


@pytest.mark.parametrize("case", PICTURES)
def test_picture(written, case):
    """It is loaded as three channels of eight bits in the shape that its label says, or left out."""
    (name, write), told = PICTURES[case]
    folder = written(BASE)
    write(folder / "images/val")
    content = pictures("1.jpg", name)
    content["images"][1].update(width=64, height=48)
    content["annotations"] = [annotation(bbox=[0, 0, 2, 1])]
    index, examined = read(written(content))
    assert told is None or reported(examined) == told
    assert examined.report.usable == 2 - any("skipped" in kind for kind, _ in examined.report.problems)
    data = CocoDataset(
        examined=examined,
        imgsz=32,
        hyp=get_cfg(),
        augment=False,
        data={"names": dict(enumerate(index.category_names))},
    )
    for i, label in enumerate(data.labels):
        pixels, shape, resized = data.load_image(i)
        assert pixels.dtype == np.uint8
        assert shape == label["shape"]
        assert pixels.shape == (*resized, 3)
        assert max(resized) == 32
        assert data[i]["img"].dtype == torch.uint8
    assert not data._gone
