"""Paths of data as text: in settings, YAMLs and JSONs, which hold no bytes that are not UTF-8."""

import re
from pathlib import Path

from yolo_attn.files import expanded

ESCAPED = re.compile(r"\\u(dc[89a-f][0-9a-f])")
"""A byte of a path that is not UTF-8, as `as_text` writes it."""


def as_text(path: str | Path) -> str:
    r"""Return a path as settings and files hold it: a byte that is not UTF-8 as an escape, such as \udcff."""
    return str(path).encode(errors="backslashreplace").decode()


def as_path(text: str | Path) -> Path:
    """Invert `as_text`; a path that exists as written stays."""
    path = expanded(text)
    if "\\udc" not in str(path) or is_there(path):
        return path
    return Path(ESCAPED.sub(lambda escape: chr(int(escape[1], 16)), str(path)))


def is_there(path: Path) -> bool:
    """Return whether a path exists; one that no file system takes does not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
