"""Finding a JSON's pictures, and their size as it is displayed: decoded only where a header does not settle it."""

import contextlib
import functools
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from unicodedata import normalize
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from ultralytics.utils import NUM_THREADS, patches
from ultralytics.utils.patches import imread

from yolo_attn.coco import OUTSIDE_VARIABLE, cache
from yolo_attn.coco.index import CocoIndex
from yolo_attn.coco.problems import Problems
from yolo_attn.coco.strings import Strings
from yolo_attn.errors import one_line

EXIF_ORIENTATION = 0x0112
UPRIGHT = {None, 1}
JPEG_END = b"\xff\xd9"
PNG_EXIF = b"eXIf"
STACKED = (".tif", ".tiff")
"""Pictures of these names may be read as more, or other, than three channels of eight bits."""

PLUGGED = (".heic", ".heif")
"""Pictures of these names are opened as Ultralytics does, which looks for Pillow's plug-in."""

_open = getattr(patches, "_image_open", Image.open)

MISSING = "picture missing, left out"
TOO_LARGE = "picture of more bytes than its pixels can have, left out"

LARGEST_FILE = 2**31
"""Bytes of a picture; 26,000 × 26,000 pixels that are not compressed have fewer."""

ROOM, BYTES_A_PIXEL = 2**26, 16
"""Bytes that a picture may have for what it holds besides its pixels, and for each of these; a stack may have any."""

LARGEST_SIDE = 2**15
"""Pixels of a square of OpenCV's bound, which stand for a size that is not known yet."""

LARGE = 2**24
"""Pixels; of larger pictures one at a time is decoded."""

_large = threading.Lock()

WORTHWHILE = 1000
"""Pictures of a JSON; the sizes of fewer are not kept in the cache."""


class NoPictureError(Exception):
    """Why there is no usable picture under a file name: the kind of problem, and what the decoder said."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(kind)
        self.detail = f": {detail}" if detail else ""


@dataclass(frozen=True)
class Pictures:
    """The pictures of an index, as they are.

    Attributes:
        paths: Of each image of the index; empty where there is no usable picture.
        sizes: (N, 2) width and height as displayed, pixels; 0 where there is no usable picture.
        problems: What was not found, not readable, or not as the JSON says.
    """

    paths: Strings
    sizes: NDArray[np.float64]
    problems: Problems


def find_pictures(index: CocoIndex, folders: Sequence[Path]) -> Pictures:
    """Find the pictures that an index names.

    A file name is taken as it stands, else with slashes for backslashes, percent-decoded, as the last part of a link,
    or in another Unicode form or other case. One that leads out of its folder, by a symbolic link or otherwise, is not
    taken unless YOLO_ATTN_ALLOW_OUTSIDE is 1.

    Args:
        index: The index.
        folders: Where the file names of each of its files start from.
    """
    problems, paths = Problems(), [""] * len(index.image_ids)
    sizes = np.zeros((len(paths), 2))
    for n, folder in enumerate(folders):
        rows = np.flatnonzero(index.file_of == n)
        names = index.file_names if len(folders) == 1 else index.file_names.take(rows)
        for row, (path, size, reason, detail) in zip(rows.tolist(), _examined(names, folder), strict=True):
            paths[row], sizes[row] = path, size
            if reason:
                problems.add(reason, [index.image_text(row) + detail])
    first: dict[str, int] = {}
    again = [row for row, path in enumerate(paths) if path and first.setdefault(path, row) != row]
    problems.add("picture that an earlier image has too, used again", map(index.image_text, again))
    odd = ((index.sizes != sizes) & (index.sizes > 0) & (sizes > 0)).any(1)
    problems.add("picture of another size than the JSON says", map(index.image_text, np.flatnonzero(odd).tolist()))
    return Pictures(Strings.of(paths), sizes, problems)


def _examined(names: Strings, folder: Path) -> Iterator[tuple[str, tuple[int, int], str, str]]:
    """Path, size, and what is wrong and why, of each picture; sizes of unchanged files come from the cache."""
    key = cache.key_of(names.text.tobytes() + names.ends.tobytes() + os.fsencode(folder), "pictures")
    stored = cache.load(key) if len(names) >= WORTHWHILE else None
    known = stored[0]["known"] if stored else np.zeros((len(names), 5), dtype=np.int64)
    finder = Finder(folder)

    def examine(row: int) -> tuple[str, tuple[int, ...], str, str]:
        try:
            path, found, reason = finder.find(names[row])
            written = (found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            width, height, *then = known[row].tolist()
            if not width or tuple(then) != written:
                width, height = displayed_size(path)
            return path, (width, height, *written), reason, ""
        except NoPictureError as error:
            return "", (0,) * 5, str(error), error.detail

    with ThreadPool(NUM_THREADS) as pool:
        examined = pool.map(examine, range(len(names)), chunksize=64)
    now = np.array([facts for _, facts, *_ in examined], dtype=np.int64).reshape(-1, 5)
    if len(names) >= WORTHWHILE and not (known == now).all():
        cache.save_arrays(key, {"known": now}, {})
    return ((path, (facts[0], facts[1]), reason, detail) for path, facts, reason, detail in examined)


class Finder:
    """Finds pictures under a folder, and only there.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.root = os.path.realpath(folder)
        self.confined = os.environ.get(OUTSIDE_VARIABLE) != "1"
        self._inside = functools.cache(self._leads_inside)
        self._names = functools.cache(self._list)

    def find(self, name: str) -> tuple[str, os.stat_result, str]:
        """A picture's path, what the system says of the file, and what is worth a word.

        Raises:
            NoPictureError: If there is no such file, or it is none that may be read.
        """
        if not name:
            raise NoPictureError("image without text or a number as file_name, its picture is missing")
        found = self._lookup(name)
        if found:
            return *found, ""
        for spelling in self._spellings(name):
            found = self._lookup(spelling)
            if found:
                return *found, "picture found under another spelling of its file_name"
        raise NoPictureError(MISSING)

    def _lookup(self, name: str) -> tuple[str, os.stat_result] | None:
        path = os.path.join(self.root, name)  # noqa: PTH118  a Path costs ten times the time, 118,287 times
        try:
            found = os.lstat(path)
            within = self._inside(os.path.split(path)[0])
            if stat.S_ISLNK(found.st_mode):
                within = self._inside(os.path.realpath(path))
                found = Path(path).stat()
        except (OSError, ValueError):
            return None
        if self.confined and not within:
            raise NoPictureError("picture outside its image folder, left out (--allow-outside takes it)")
        if not stat.S_ISREG(found.st_mode):
            raise NoPictureError("picture that is no file, left out")
        if found.st_size > LARGEST_FILE:
            raise NoPictureError(TOO_LARGE, f"{found.st_size:,} bytes")
        return path, found

    def _leads_inside(self, path: str) -> bool:
        try:
            return os.path.commonpath([self.root, os.path.realpath(path)]) == self.root
        except ValueError:  # another drive
            return False

    def _spellings(self, name: str) -> Iterator[str]:
        """Other ways to write a file name, the likelier first."""
        plain = dict.fromkeys([name.replace("\\", "/"), unquote(name)])
        if "://" in name:
            try:
                plain[unquote(urlsplit(name).path).rpartition("/")[2]] = None
            except ValueError:
                return
        yield from plain
        yield from filter(None, map(self._resembling, (name, *plain)))

    def _resembling(self, name: str) -> str:
        """The path there is whose parts differ at most in Unicode form and case; empty where there is none."""
        path = ""
        for part in name.split("/"):
            there = os.path.join(path, part) or "/"  # noqa: PTH118  Path drops empty parts, and so the root
            if not os.path.lexists(os.path.join(self.root, there)):  # noqa: PTH118  as `there`
                listing = self._listing(path)
                other = listing.get(normalize("NFC", part)) or listing.get(_folded(part))
                if not other:
                    return ""
                there = os.path.join(path, other)  # noqa: PTH118  as above
            path = there
        return path

    def _listing(self, folder: str) -> dict[str, str]:
        """Names in a folder inside the root, however its path is spelt; see `_list`."""
        path = os.path.realpath(os.path.join(self.root, folder))  # noqa: PTH118  as `there`
        return self._names(path) if self._inside(path) else {}

    def _list(self, folder: str) -> dict[str, str]:
        """Names in a folder, by their composed form, and by that in lower case."""
        try:
            names = sorted(file.name for file in Path(folder).iterdir())
        except (OSError, ValueError):
            return {}
        return {_folded(name): name for name in names} | {normalize("NFC", name): name for name in names}


def _folded(name: str) -> str:
    """The same for names that differ only in case or Unicode form."""
    return normalize("NFC", normalize("NFC", name).casefold())


def displayed_size(file: str | Path) -> tuple[int, int]:
    """Width and height of a picture as training will see it, EXIF rotation applied.

    Raises:
        NoPictureError: If it cannot be read.
    """
    try:
        size, settled = _described(str(file))
        if settled:
            return size
        with _large if size[0] * size[1] > LARGE else contextlib.nullcontext():
            pixels = imread(str(file))
    except NoPictureError:
        raise
    except Exception as error:  # the decoders raise whatever a broken file makes them
        raise NoPictureError("picture that cannot be read, left out", one_line(error)) from error
    if pixels is None:
        raise NoPictureError("picture that cannot be read, left out", "OpenCV cannot decode it")
    if pixels.dtype != np.uint8 or pixels.shape[2:] != (3,):
        found = f"{pixels.dtype} {' × '.join(map(str, pixels.shape))}"
        raise NoPictureError("picture that is not read as three channels of eight bits, left out", found)
    return pixels.shape[1], pixels.shape[0]


def _described(file: str) -> tuple[tuple[int, int], bool]:
    """The size that a picture's header says, and whether it will be decoded to that."""
    try:
        with (Image.open if file.lower().endswith(PLUGGED) else _open)(file) as picture:
            size = picture.size
            most = LARGEST_FILE if file.lower().endswith(STACKED) else ROOM + BYTES_A_PIXEL * size[0] * size[1]
            if (found := Path(file).stat().st_size) > most:
                raise NoPictureError(TOO_LARGE, f"{found:,} bytes")
            settled = _header_settles(picture, file)
            picture.verify()
        return size, settled
    except Image.DecompressionBombError:  # Pillow's bound is lower than that of OpenCV, which decodes
        return (LARGEST_SIDE, LARGEST_SIDE), False


def _header_settles(picture: Image.Image, file: str) -> bool:
    """Whether a picture will be decoded, and to the size that its header says."""
    if file.lower().endswith(STACKED):
        return False
    if picture.format == "PNG":  # what may stand behind the pixels is not known yet, and asking would decode them
        return PNG_EXIF not in Path(file).read_bytes()
    upright = picture.getexif().get(EXIF_ORIENTATION) in UPRIGHT
    return upright and (picture.format == "WEBP" or (picture.format == "JPEG" and _ends_with(file, JPEG_END)))


def _ends_with(file: str | Path, end: bytes) -> bool:
    with Path(file).open("rb") as stream:
        stream.seek(-len(end), os.SEEK_END)
        return stream.read() == end
