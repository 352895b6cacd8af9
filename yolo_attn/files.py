"""Writing files so that a reader never sees half of one."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from yolo_attn.errors import UserError


def write_bytes(file: Path, content: bytes) -> None:
    """Write `content` under a temporary name beside `file`, then rename it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        temporary.chmod(0o644)  # mkstemp's own mode hides results from a user's colleagues
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(file: Path, text: str) -> None:
    """Write `text` in UTF-8 as `write_bytes` does."""
    write_bytes(file, text.encode())


def write_json(file: Path, value: Any) -> None:
    """Write `value` as indented JSON; of half characters, as paths may have them, the escape is written."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_bytes(file, text.encode(errors="backslashreplace"))


def check_output_folder(folder: Path, option: str, force: bool) -> None:
    """Make sure that files may be written into `folder`.

    Args:
        folder: The folder, there or not.
        option: The option that chooses it.
        force: Whether it may hold files already.

    Raises:
        UserError: If it is a file, holds files already, or cannot be written.
    """
    check_writable(folder, option)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{option} {folder}: it is a file; choose another folder")
    if folder.exists() and any(folder.iterdir()) and not force:
        raise UserError(f"{option} {folder}: it holds files already; choose another folder, or --force to add to them")


def check_writable(folder: Path, option: str = "--project") -> None:
    """Make sure that `folder` can be created and written in, leaving nothing behind.

    Args:
        folder: The folder.
        option: The option that chooses it.

    Raises:
        UserError: Naming the nearest existing folder and the reason.
    """
    existing = folder
    try:
        existing = next(f for f in (folder, *folder.parents) if f.exists())
        with tempfile.TemporaryFile(dir=existing):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot write in {existing}: {reason}; choose another {option} folder") from error
