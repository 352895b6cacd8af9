"""What was read of large data sets, kept in the user's cache folder as arrays in files that hold no code."""

import contextlib
import hashlib
import json
import os
import re
import stat
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from yolo_attn.bounded_reading import chunks
from yolo_attn.coco.reading.problems import warn_once
from yolo_attn.environment import CACHE_VARIABLE
from yolo_attn.files import TEMPORARY, expanded, write_bytes

VERSION = "10"
"""Changes with any change of what is kept, texts of problems included."""

WORTHWHILE = 2**20
"""Bytes of a JSON; reading a smaller one takes less time than looking it up here."""

KEPT_SECONDS = 90 * 24 * 3600
"""Age, since its last use, at which a file is removed."""

OURS = re.compile(rf"(index-\w+|images)-[0-9a-f]{{40}}\.safetensors|{TEMPORARY.pattern}")
"""Names of kept and half-written files; all others in the folder are the user's."""


def folder() -> Path:
    """Return the folder of all that this package keeps: YOLO_ATTN_CACHE, else one in the user's cache folder."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return expanded(given)
    return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "yolo_attn"


def key_of(content: Path | bytes, kind: str) -> str:
    """Return the name under which something of a kind is kept that is made of a file's content."""
    digest = hashlib.blake2b(f"{VERSION} {kind} ".encode(), digest_size=20)
    for part in [content] if isinstance(content, bytes) else chunks(content):
        digest.update(part)
    return f"{kind}-{digest.hexdigest()}"


def load(key: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
    """Return the arrays and further values kept under a key; None unless they are exactly as they were kept."""
    file = _file(key)
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="numpy") as stored:
            arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  not a dictionary
            checksum, _, further = (stored.metadata() or {})["further"].partition(" ")
        if checksum != _checksum(key, arrays, further):
            return None
        with contextlib.suppress(OSError):
            os.utime(file)
    except Exception:  # on a damaged header the library may raise anything
        return None
    return arrays, json.loads(further)


def save_arrays(key: str, arrays: dict[str, NDArray[Any]], further: dict[str, Any]) -> None:
    """Keep arrays and further JSON values under a key; warn once if the cache cannot be written."""
    file = _file(key)
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    text = json.dumps(further)
    try:
        write_bytes(file, save(contiguous, {"further": f"{_checksum(key, contiguous, text)} {text}"}))
        _remove_old(file.parent)
    except OSError as error:
        warn_once(f"{file.parent}: cannot keep anything there: {error.strerror}; --cache-dir names another folder")


def _checksum(key: str, arrays: dict[str, NDArray[Any]], further: str) -> str:
    """Return the CRC-32 of all that is kept and of its key."""
    crc = zlib.crc32(f"{key} {further}".encode())
    for name, array in sorted(arrays.items()):
        crc = zlib.crc32(array.data, zlib.crc32(f" {name} {array.dtype.str} {array.shape} ".encode(), crc))
    return f"{crc:08x}"


def _remove_old(place: Path) -> None:
    """Remove our files that nobody has read for long; another process may be faster."""
    for other in place.iterdir():
        with contextlib.suppress(OSError):
            status = other.lstat()
            if (
                OURS.fullmatch(other.name)
                and stat.S_ISREG(status.st_mode)
                and status.st_mtime < time.time() - KEPT_SECONDS
            ):
                other.unlink()


def _file(key: str) -> Path:
    return folder() / "data" / f"{key}.safetensors"
