"""Paths as users write them, and writing files so that a reader never sees half of one."""

import contextlib
import errno
import json
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from yolo_attn.errors import UserError

PREFIX, PART = ".yolo_attn-", ".part"
TEMPORARY = re.compile(rf"{re.escape(PREFIX)}[0-9a-f]{{16}}-\w{{8}}{re.escape(PART)}")
"""Names of what is still being written: ours alone, and all that is ever cleaned up without a list of names."""


FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What the system says when there is no room for a file."""


def expanded(path: str | Path) -> Path:
    """A path with the home folder for the `~`, or `~user`, that it begins with.

    Raises:
        UserError: If that user has none.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: there is no home folder of that user here; ./~ begins a plain name") from error


SPECIAL = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
"""What is no plain file. Opening it may wait for ever, and reading it may never end."""


def check_plain_file(file: str | Path, label: str = "") -> None:
    """Check that a path, or the link that it is, leads to a plain file; it is not opened.

    Args:
        file: The path.
        label: How the message begins, such as "--cfg yolov8n.yaml"; by default the path.

    Raises:
        UserError: If there is nothing, or a folder, a FIFO, a device or a socket.
    """
    label = label or str(file)
    try:
        kind = stat.S_IFMT(Path(file).stat().st_mode)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{label}: no such file") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{label}: not readable: {getattr(error, 'strerror', None) or error}") from error
    if kind != stat.S_IFREG:
        raise UserError(f"{label}: {SPECIAL.get(kind, 'no file')}, expected a plain file")


def write_bytes(file: Path, content: bytes) -> None:
    """Write `content` under a temporary name beside `file`, then rename it; an OSError names `file`.

    A link of that name is replaced; what it leads to stays as it is. A file of that name keeps its permissions.
    """
    with _named(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f"{_prefix()}{secrets.token_hex(4)}{PART}")
        try:
            with temporary.open("xb") as stream:
                if file.is_file() and not file.is_symlink():
                    temporary.chmod(stat.S_IMODE(file.stat().st_mode))
                stream.write(content)
            temporary.replace(file)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_text(file: Path, text: str) -> None:
    """Write `text` in UTF-8 as `write_bytes` does; half characters, as paths may have them, as their escapes."""
    write_bytes(file, text.encode(errors="backslashreplace"))


def write_json(file: Path, value: Any) -> None:
    """Write `value` as indented JSON as `write_text` does."""
    write_text(file, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def check_output_folder(folder: Path, option: str, force: bool) -> None:
    """Check that files may be written into a folder, there or not, which with `force` may hold files already.

    Raises:
        UserError: If it is a file, holds files already, or cannot be written.
    """
    if (folder.exists() or folder.is_symlink()) and not folder.is_dir():
        what = "a file" if folder.exists() else "a link that leads nowhere"
        raise UserError(f"{option} {folder}: it is {what}; choose another folder")
    check_writable(folder, option)
    if folder.exists() and any(folder.iterdir()) and not force:
        raise UserError(f"{option} {folder}: it holds files already; choose another folder, or --force to add to them")


def check_apart(folder: Path, option: str, places: Iterable[Path]) -> None:
    """Check that what is written into a folder does not come to lie among the user's data, folders and single files.

    Raises:
        UserError: If it is one of the folders or lies in one, or is the folder of one of the files.
    """
    target = folder.resolve()
    for place in places:
        inside = target == place.parent.resolve() if place.is_file() else target.is_relative_to(place.resolve())
        if inside:
            home = place.parent if place.is_file() else place
            raise UserError(f"{option} {folder}: it is among the data, in {home}; choose a folder elsewhere")


def handed_on(path: str | Path, home: Path) -> str:
    """Return how a page for others names a file: relative to a folder that it lies in, else by its name alone."""
    absolute, folder = Path(path).absolute(), home.absolute()
    return absolute.relative_to(folder).as_posix() if absolute.is_relative_to(folder) else absolute.name


def plain_stem(name: str) -> str:
    """The stem of a file's name, in letters that every file system takes, of at most 60 characters."""
    return re.sub(r"[^\w.-]+", "_", Path(name).stem, flags=re.ASCII)[:60]


@contextlib.contextmanager
def scratch_folder(place: Path) -> Iterator[Path]:
    """A new folder in `place`, under a temporary name; it is removed afterwards, with all in it."""
    scratch = Path(tempfile.mkdtemp(dir=place, prefix=_prefix(), suffix=PART))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def whole_files(folder: Path) -> Iterator[Path]:
    """A folder to write files in which, once all of them are written, move into `folder` by the order of their names.

    It is removed in any case; an OSError names the file that was being written.
    """
    with _named(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with scratch_folder(folder) as scratch:
            try:
                yield scratch
            except OSError as error:
                newest = max(scratch.iterdir(), key=lambda file: file.stat().st_mtime_ns, default=scratch)
                raise OSError(error.errno, error.strerror, str(folder / newest.name)) from error
            for file in sorted(scratch.iterdir()):
                file.replace(folder / file.name)


def remove_temporaries(*folders: Path) -> None:
    """Remove what a process that was killed has left half written in these folders, and not below."""
    for folder in folders:
        for left in folder.glob(f"{PREFIX}*{PART}"):
            if left.is_symlink() or not TEMPORARY.fullmatch(left.name):
                continue
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders, the innermost first, as far as nothing lies in them."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _prefix() -> str:
    return f"{PREFIX}{secrets.token_hex(8)}-"


@contextlib.contextmanager
def _named(file: Path) -> Iterator[None]:
    """Put a file's name into an OSError that comes without one, or with the temporary one."""
    try:
        yield
    except OSError as error:
        if error.filename is None or TEMPORARY.search(str(error.filename)):
            error.filename = str(file)
        raise


def os_error_line(error: OSError, place: Path | None = None) -> str:
    """What could not be read or written, the `place` if the error does not say, and why."""
    name = error.filename or place
    return ": ".join(str(part) for part in (name, error.strerror or error) if part)


def check_writable(folder: Path, option: str = "--project") -> None:
    """Check that `folder` can be created and written in, leaving nothing behind.

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
