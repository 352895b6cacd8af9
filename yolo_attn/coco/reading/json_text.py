"""The text of a COCO JSON, and the parts of it that are read."""

import gzip
import io
import os
import re
import zlib
from pathlib import Path
from typing import Any

import msgspec

from yolo_attn.bounded_reading import open_plain
from yolo_attn.errors import UserError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
GZIP_MAGIC = b"\x1f\x8b"
LARGEST_JSON = 8 * 2**30
"""Bytes of a JSON, packed or not; that of Objects365 has six billion."""

CHUNK = 2**24
"""Bytes that are checked before more are read."""

LARGEST_RATIO = 100
"""How many times its size a packed JSON may unpack to; real ones stay below 20, more is a bomb."""

NO_JSON = re.compile(rb"NaN|Infinity|\\u[dD][89a-fA-F]")
STRING_OR_NAN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|(-?(?:NaN|Infinity))', re.DOTALL)  # one pass, ended or not
WHOLE_OR_HALF = re.compile(
    rb"(\\[^u]|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)


class Image(msgspec.Struct, gc=False):
    """An image of the JSON; None where a key is missing."""

    id: Any = None
    file_name: Any = None
    coco_url: Any = None
    width: Any = None
    height: Any = None


class Category(msgspec.Struct):
    """A category of the JSON."""

    id: Any = None
    name: Any = None
    keypoints: Any = None


class Content(msgspec.Struct):
    """The parts of a COCO JSON that are read; annotations, of which there may be millions, stay JSON."""

    images: list[Image]
    categories: list[Category]
    annotations: list[msgspec.Raw] | None = None


def read_json(file: Path) -> bytes:
    """Return the bytes of a JSON; holes of a sparse file are not read into memory.

    Raises:
        UserError: If it is not a plain file, is larger than `LARGEST_JSON`, or has a zero byte without being packed.
        OSError: If it cannot be read.
    """
    with open_plain(file, LARGEST_JSON) as stream:
        packed = stream.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        stream.seek(0)
        try:
            return stream.read(os.fstat(stream.fileno()).st_size) if packed else _text(stream, LARGEST_JSON)
        except ValueError as error:
            raise UserError(f"{file}: not valid JSON: {error}") from error


def decode(file: Path, data: bytes) -> Content:
    """Return the content of a JSON, plain or packed by gzip, with or without a byte order mark.

    What Python writes though JSON has no such values is read too: NaN and Infinity as text, half a character as U+FFFD.

    Raises:
        UserError: If it is not JSON, or lacks what a COCO detection file must have.
    """
    try:
        text = (_unpacked(data) if data.startswith(GZIP_MAGIC) else data).removeprefix(BYTE_ORDER_MARK)
        try:
            return msgspec.json.decode(text, type=Content)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            if not NO_JSON.search(text):
                raise
            return msgspec.json.decode(STRING_OR_NAN.sub(_as_json, text), type=Content)
    except msgspec.ValidationError as error:
        raise UserError(f"{file}: not a COCO detection file: {error}") from error
    except (ValueError, RecursionError, OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file}: not valid JSON: {error}") from error


def _as_json(found: re.Match[bytes]) -> bytes:
    """Return a string with whole characters alone, or the text of what JSON has no number for."""
    if found[1]:
        return b'"%b"' % found[1]
    return WHOLE_OR_HALF.sub(lambda half: half[1] or b"\\ufffd", found[0]) if b"\\u" in found[0] else found[0]


def _unpacked(data: bytes) -> bytes:
    bounds = f"it unpacks to more than {LARGEST_RATIO} times its size, or to more than {LARGEST_JSON:,} bytes"
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        return _text(stream, min(LARGEST_RATIO * len(data), LARGEST_JSON), bounds)


def _text(stream: Any, most: int, beyond: str = "it has grown") -> bytes:
    """Return all bytes of a stream.

    Raises:
        ValueError: If one is zero, or with `beyond` if there are more than `most`.
    """
    text = io.BytesIO()
    while chunk := stream.read(CHUNK):
        if b"\0" in chunk:
            raise ValueError(f"its byte {text.tell() + chunk.index(0) + 1:,} is zero")
        text.write(chunk)
        if text.tell() > most:
            raise ValueError(beyond)
    return text.getvalue()
