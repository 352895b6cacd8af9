"""The text of a COCO JSON, and what is read of it."""

import gzip
import io
import re
import zlib
from pathlib import Path
from typing import Any

import msgspec

from yolo_attn.errors import UserError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
GZIP_MAGIC = b"\x1f\x8b"
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
    largest = LARGEST_RATIO * len(data)
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        text = stream.read(largest + 1)
    if len(text) > largest:
        raise ValueError(f"it unpacks to more than {LARGEST_RATIO} times its size")
    return text
