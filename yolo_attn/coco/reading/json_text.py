"""The text of a COCO JSON, and what is read of it."""

import gzip
import io
import os
import re
import zlib
from pathlib import Path
from typing import Any

import msgspec

from yolo_attn.errors import UserError
from yolo_attn.reading import open_plain

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
GZIP_MAGIC = b"\x1f\x8b"
LARGEST_JSON = 8 * 2**30
"""Bytes of a JSON, packed or not; that of Objects365 has six thousand million."""

CHUNK = 2**24
"""Bytes that are looked at before more are read."""

LARGEST_RATIO = 100
"""How many times its size a packed JSON may unpack to; real ones stay below 20, more is taken for a bomb."""

NO_JSON = re.compile(rb"NaN|Infinity|\\u[dD][89a-fA-F]")
STRING_OR_NAN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|(-?(?:NaN|Infinity))', re.DOTALL)  # one pass, ended or not
WHOLE_OR_HALF = re.compile(
    rb"(\\[^u]|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)


class Image(msgspec.Struct, gc=False):
    """An image of the JSON; None where it says nothing."""

    id: Any = None
    file_name: Any = None
    width: Any = None
    height: Any = None


class Category(msgspec.Struct):
    """A category of the JSON."""

    id: Any = None
    name: Any = None
    keypoints: Any = None


class Content(msgspec.Struct):
    """What is read of a COCO JSON; all else is skipped, and annotations, of which there may be millions, stay JSON."""

    images: list[Image]
    categories: list[Category]
    annotations: list[msgspec.Raw] | None = None


def read_json(file: Path) -> bytes:
    """The bytes of a JSON; what is no text at all, such as the holes of a sparse file, is not taken into memory.

    Raises:
        UserError: If it is no plain file, is larger than `LARGEST_JSON`, or has a zero byte though it is not packed.
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
    """The content of a JSON, plain or packed by gzip, that starts with a byte order mark or not.

    What Python's own writer leaves and is no JSON is read too: NaN and Infinity as text, half of a character as U+FFFD.

    Args:
        file: What messages call it.
        data: Its bytes.

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
    """A string with whole characters alone, or one of what JSON has no number for."""
    if found[1]:
        return b'"%b"' % found[1]
    return WHOLE_OR_HALF.sub(lambda half: half[1] or b"\\ufffd", found[0]) if b"\\u" in found[0] else found[0]


def _unpacked(data: bytes) -> bytes:
    most = min(LARGEST_RATIO * len(data), LARGEST_JSON)
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        return _text(
            stream,
            most,
            f"it unpacks to more than {LARGEST_RATIO} times its size, or to more than {LARGEST_JSON:,} bytes",
        )


def _text(stream: Any, most: int, beyond: str = "it has grown") -> bytes:
    """All that a stream gives, of which nothing is a zero byte.

    Raises:
        ValueError: If something is, or with `beyond` if there are more than `most` bytes.
    """
    text = io.BytesIO()
    while chunk := stream.read(CHUNK):
        if b"\0" in chunk:
            raise ValueError(f"its byte {text.tell() + chunk.index(0) + 1:,} is zero")
        text.write(chunk)
        if text.tell() > most:
            raise ValueError(beyond)
    return text.getvalue()
