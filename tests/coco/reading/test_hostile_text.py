"""The text of a JSON as it should not be: read all the same, or refused in one clear line."""

import gzip
import json
import os
import time
from pathlib import Path

import pytest
from hostile import BASE, read, scored

from yolo_attn.errors import UserError

TEXT = json.dumps(BASE).encode()

TEXTS = {
    "byte order mark": (b"\xef\xbb\xbf" + TEXT, None),
    "gzip": (gzip.compress(TEXT), None),
    "NaN in what is not read": (TEXT[:-1] + b', "x": [NaN, -Infinity, "NaN \\" NaN"]}', None),
    "deeply nested in what is not read": (TEXT[:-1] + b', "x": ' + b"[" * 500 + b"]" * 500 + b"}", None),
    "repeated keys": (b'{"images": [], ' + TEXT[1:], None),
    "trailing comma": (TEXT[:-1] + b",}", "not valid JSON"),
    "cut off": (TEXT[:-9], "not valid JSON"),
    "comment": (b"// x\n" + TEXT, "not valid JSON"),
    "UTF-16": (TEXT.decode().encode("utf-16"), "not valid JSON"),
    "byte that is not UTF-8": (TEXT.replace(b'"cat"', b'"c\xfft"'), "not valid JSON"),
    "gzip cut off": (gzip.compress(TEXT)[:-20], "not valid JSON"),
    "gzip of something else": (b"\x1f\x8b" + TEXT, "not valid JSON"),
    "gzip with a wrong block": (gzip.compress(TEXT)[:10] + b"\xff" * 50, "not valid JSON"),
    "very deeply nested": (TEXT[:-1] + b', "x": ' + b"[" * 10**6 + b"]" * 10**6 + b"}", "not valid JSON"),
    "text that never ends, and NaN": (b'{"x": NaN, "y": ' + b'"\\"\\' * 300_000, "not valid JSON"),
    "image that is null": (TEXT.replace(b'"images": [', b'"images": [null, '), r"found null|got `null` .*images\[0\]"),
    "nothing": (b"", "not valid JSON"),
    "the beginning": (b'{"images": [', "not valid JSON"),
    "nested without end": (b'{"info": ' + b"[" * 100_000, "not valid JSON"),
    "no text": (b"\xff\xfe\x00", "not valid JSON"),
    "a list": (b"[1, 2]", "not a COCO detection file: Expected `object`, got `array`"),
    "no key categories": (b'{"images": []}', "missing required field `categories`"),
    "image whose id is null": (
        b'{"images": [{"id": null, "file_name": "a"}], "categories": []}',
        "no usable image in it",
    ),
    "images as a dictionary": (b'{"images": {}, "categories": [], "annotations": []}', "Expected `array`"),
    "no images": (json.dumps({**BASE, "images": []}).encode(), "no usable image"),
    "no categories": (json.dumps({**BASE, "categories": []}).encode(), "no usable category"),
}
"""Bytes of a file, and the message; None where it is read all the same."""


@pytest.mark.parametrize("case", TEXTS)
@pytest.mark.parametrize("task", ["detect", "segment"])
@pytest.mark.integration
def test_text(written, tmp_path, case, task):
    text, message = TEXTS[case]
    folder, start = written(text), time.process_time()
    if message:
        with pytest.raises(UserError, match=message) as error:
            read(folder, task)
        assert str(error.value).startswith(f"{folder}/annotations/instances_val.json: ")
        assert len(str(error.value)) < 500
    else:
        index, _ = read(folder, task)
        metrics = scored(index, tmp_path)
        assert scored(read(written(BASE), "detect")[0], tmp_path) == metrics
    assert time.process_time() - start < 5


@pytest.mark.parametrize("wrong", [b"3" * 10_000, b"1e999"], ids=["digits", "huge"])
def test_only_the_annotation_that_cannot_be_read_is_skipped(written, wrong):
    index, _ = read(written(TEXT.replace(b"390", wrong, 1)), "detect")
    assert len(index.boxes) == len(BASE["annotations"]) - 1
    kind = "annotation that cannot be read, skipped"
    assert index.problems[kind] == 1
    assert index.problems.items(kind)[0].startswith("number 1: ")


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda file: file.symlink_to("/dev/zero")])
def test_annotations_that_are_not_a_file(written, make):
    """None of them is waited for."""
    folder = written(BASE)
    (folder / "annotations/instances_val.json").unlink()
    make(folder / "annotations/instances_val.json")
    with pytest.raises(UserError, match="no annotations for 'val'"):
        read(folder)
    (folder / "data.yaml").write_text("val: images/val\nannotations: {val: annotations/instances_val.json}\n")
    with pytest.raises(UserError, match=r"instances_val\.json: a (FIFO|folder|device), expected a plain file"):
        read(folder / "data.yaml")
    (folder / "data.yaml").unlink()
    make(folder / "data.yaml")
    with pytest.raises(UserError, match=r"data\.yaml: |no annotations for 'val'"):
        read(folder / "data.yaml")
