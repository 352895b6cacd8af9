"""A JSON's image files and their displayed sizes: decoded only where a header does not settle the size."""

import contextlib
import functools
import os
import re
import stat
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from unicodedata import normalize
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from ultralytics.utils import NUM_THREADS
from ultralytics.utils.patches import imread

from yolo_attn.coco.reading import cache
from yolo_attn.coco.reading.index import CocoIndex, Strings
from yolo_attn.coco.reading.problems import Problems
from yolo_attn.compat import loads, open_image
from yolo_attn.environment import OUTSIDE_VARIABLE
from yolo_attn.errors import one_line

EXIF_ORIENTATION = 0x0112
UPRIGHT = {None, 1}
JPEG_END = b"\xff\xd9"
PNG_EXIF = b"eXIf"
STACKED = (".tif", ".tiff")
"""Suffixes of images that may be read as other than three channels of eight bits."""

PLUGGED = (".heic", ".heif")
"""Suffixes of images that are opened as Ultralytics opens them, which looks for Pillow's plug-in."""


MISSING = "image file missing, skipped"
TOO_LARGE = "image file of more bytes than its pixels can have, skipped"
UNREADABLE = "image that cannot be read, skipped"

LARGEST_FILE = 2**31
"""Bytes of an image; 26,000 × 26,000 pixels that are not compressed have fewer."""

ROOM, BYTES_A_PIXEL = 2**26, 16
"""Bytes that an image may have besides its pixels, and for each pixel; a stack may have any."""

UNKNOWN_SIDE = 2**15
"""Side in pixels of a square at OpenCV's bound, in place of a size that is not known yet."""

LARGE = 2**24
"""Pixels; larger images are decoded one at a time."""

_large = threading.Lock()

WORTHWHILE = 1000
"""Images of a JSON; the sizes of fewer are not kept in the cache."""


class NoImageError(Exception):
    """Why a file name has no usable image: the kind of problem, and what the decoder said."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(kind)
        self.detail = f": {detail}" if detail else ""


@dataclass(frozen=True)
class ImageFiles:
    """The image files of an index, (N, 2) width and height as displayed, and what is not as the JSON says.

    Where there is no usable file, the path is empty and the size 0.
    """

    paths: Strings
    sizes: NDArray[np.float64]
    problems: Problems


def find_images(index: CocoIndex, folders: Sequence[Path]) -> ImageFiles:
    """Find the image files that an index names.

    A file name is looked for as written, else with slashes for backslashes, percent-decoded, as the last part of a
    link, or in another Unicode form or case. One that leads out of its folder, by a symbolic link or otherwise, is
    skipped unless YOLO_ATTN_ALLOW_OUTSIDE is 1. Each of the index's JSONs has a folder of its own.
    """
    problems, paths = Problems(), [""] * len(index.image_ids)
    sizes = np.zeros((len(paths), 2))
    for n, folder in enumerate(folders):
        rows = np.flatnonzero(index.file_of == n)
        names = index.file_names if len(folders) == 1 else index.file_names[rows]
        for row, (path, size, reason, detail) in zip(rows.tolist(), _examine(names, folder), strict=True):
            paths[row], sizes[row] = path, size
            if reason:
                problems.add(reason, [index.image_text(row) + detail])
    first: dict[str, int] = {}
    again = [row for row, path in enumerate(paths) if path and first.setdefault(path, row) != row]
    problems.add("image file that an earlier image has too, used again", map(index.image_text, again))
    odd = ((index.sizes != sizes) & (index.sizes > 0) & (sizes > 0)).any(1)
    problems.add("image of another size than the JSON says", map(index.image_text, np.flatnonzero(odd).tolist()))
    return ImageFiles(Strings.of(paths), sizes, problems)


def _examine(names: Strings, folder: Path) -> Iterator[tuple[str, tuple[int, int], str, str]]:
    """Yield path, size, and what is wrong and why, of each image; sizes of unchanged files come from the cache."""
    key = cache.key_of(names.text.tobytes() + names.ends.tobytes() + os.fsencode(folder), "images")
    stored = cache.load(key) if len(names) >= WORTHWHILE else None
    known = stored[0]["known"] if stored else np.zeros((len(names), 5), dtype=np.int64)
    finder = finder_for(names, folder)

    def examine(row: int) -> tuple[str, tuple[int, ...], str, str]:
        try:
            path, found, reason = finder.find(names[row])
            written = (found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            width, height, *then = known[row].tolist()
            if not width or tuple(then) != written:
                width, height = displayed_size(path)
            return path, (width, height, *written), reason, ""
        except NoImageError as error:
            return "", (0,) * 5, str(error), error.detail

    with ThreadPool(NUM_THREADS) as pool:
        examined = pool.map(examine, range(len(names)), chunksize=64)
    now = np.array([facts for _, facts, *_ in examined], dtype=np.int64).reshape(-1, 5)
    if len(names) >= WORTHWHILE and not (known == now).all():
        cache.save_arrays(key, {"known": now}, {})
    return ((path, (facts[0], facts[1]), reason, detail) for path, facts, reason, detail in examined)


OF_ELSEWHERE = re.compile(r"^([A-Za-z]:|/)|\\|://|\?|(^|/)\.\.(/|$)")
"""What a file name of another machine, or of a tool's server, has."""

SAMPLE = 50
"""File names of a JSON by which a folder is judged."""


def finder_for(names: Sequence[str], folder: Path) -> "Finder":
    """Return a finder for the file names of a JSON, which tries their ends where none of a sample is there."""
    finder = Finder(folder)
    finder.by_ends = not any(finder.has(name) for name in names[:: max(len(names) // SAMPLE, 1)])
    return finder


class Finder:
    """Finds images under a folder, and only there.

    Attributes:
        by_ends: Whether a file name that is not there is looked for by its end; one of another machine always is.
    """

    by_ends = False

    def __init__(self, folder: Path) -> None:
        self.root = os.path.realpath(folder)
        self._lock = threading.Lock()
        self.confined = os.environ.get(OUTSIDE_VARIABLE) != "1"
        self._inside = functools.cache(self._leads_inside)
        self._names = functools.cache(self._list)

    def find(self, name: str) -> tuple[str, os.stat_result, str]:
        """Return an image's path, its status, and what is to be reported.

        Raises:
            NoImageError: If there is no such file, or it may not be read.
        """
        if not name:
            raise NoImageError("image without text or a number as file_name, its file is missing")
        for spelling in self._spellings(name):
            if found := self._lookup(spelling):
                return *found, "" if spelling == name else "image file found under another spelling of its file_name"
        if (
            (self.by_ends or OF_ELSEWHERE.search(name))
            and (end := self._ending_like(name))
            and (found := self._lookup(end))
        ):
            return *found, "image file found by the end of its file_name"
        raise NoImageError(MISSING)

    def has(self, name: str) -> bool:
        """Return whether an image is found."""
        try:
            self.find(name)
        except NoImageError:
            return False
        return True

    def _ending_like(self, name: str) -> str:
        """Return the file that shares most of a name's end, its own name and folders above; empty if none does.

        Where several share as much, the one whose letters have the same case counts.

        Raises:
            NoImageError: If several are left.
        """
        several: list[tuple[str, ...]] = []
        for parts in readings(name):
            folded = tuple(map(_folded, parts))
            with self._lock:
                alike = self._by_end.get(folded[-2:]) or self._by_end.get(folded[-1:], [])
            shared = [(_shared_end(folded, other), _shared_end(parts, exact)) for other, exact in alike]
            most = max(shared, default=(0, 0))
            best = [exact for (_, exact), number in zip(alike, shared, strict=True) if number == most]
            if len(best) == 1:
                return "/".join(best[0])
            several = several or best
        if several:
            files = ", ".join("/".join(file) for file in several[:2])
            raise NoImageError("image whose file_name ends like those of several files, skipped", files)
        return ""

    @functools.cached_property
    def _by_end(self) -> dict[tuple[str, ...], list[tuple[tuple[str, ...], tuple[str, ...]]]]:
        """All files under the root, folded and as written, by their name, and by folder and name.

        Folders that are links are not followed.
        """
        found: dict[tuple[str, ...], list[tuple[tuple[str, ...], tuple[str, ...]]]] = {}
        for folder, _, names in os.walk(self.root):
            above = Path(folder).relative_to(self.root).parts
            folded = tuple(map(_folded, above))
            for name in names:
                file = (*folded, _folded(name)), (*above, name)
                found.setdefault(file[0][-1:], []).append(file)
                if above:
                    found.setdefault(file[0][-2:], []).append(file)
        return found

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
            raise NoImageError("image file outside its image folder, skipped (--allow-outside accepts it)")
        if not stat.S_ISREG(found.st_mode):
            raise NoImageError("image that is not a file, skipped")
        if found.st_size > LARGEST_FILE:
            raise NoImageError(TOO_LARGE, f"{found.st_size:,} bytes")
        return path, found

    def _leads_inside(self, path: str) -> bool:
        try:
            return os.path.commonpath([self.root, os.path.realpath(path)]) == self.root
        except ValueError:  # another drive
            return False

    def _spellings(self, name: str) -> Iterator[str]:
        """Yield ways to write a file name, the likelier first."""
        yield name  # nearly always enough
        plain = dict.fromkeys([name, name.replace("\\", "/"), unquote(name)])
        with contextlib.suppress(ValueError):
            if "://" in name:
                plain[unquote(urlsplit(name).path).rpartition("/")[2]] = None
        yield from plain
        yield from filter(None, map(self._resembling, plain))

    def _resembling(self, name: str) -> str:
        """Return the existing path whose parts differ at most in Unicode form and case; empty if there is none."""
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
        """Return the names in a folder inside the root, however its path is spelt; see `_list`."""
        path = os.path.realpath(os.path.join(self.root, folder))  # noqa: PTH118  as `there`
        return self._names(path) if self._inside(path) else {}

    def _list(self, folder: str) -> dict[str, str]:
        """Return the names in a folder by their composed form, and by that in lower case."""
        try:
            names = sorted(file.name for file in Path(folder).iterdir())
        except (OSError, ValueError):
            return {}
        return {_folded(name): name for name in names} | {normalize("NFC", name): name for name in names}


def readings(name: str) -> list[tuple[str, ...]]:
    """Return the folders and the name that a file name of whichever machine or server may mean, the likelier first.

    That is the text as it stands, without a drive, then the path of a link or what it asks a server for; each with its
    percent signs, then decoded.
    """
    texts = [re.sub("^[A-Za-z]:", "", name)]
    with contextlib.suppress(ValueError):
        link = urlsplit(name)
        texts += [*([link.path] if link.scheme and link.netloc else []), *parse_qs(link.query).get("d", [])]
    spelt = dict.fromkeys(each for text in texts for each in (text, unquote(text)))
    found = [tuple(p for p in each.replace("\\", "/").split("/") if p not in {"", ".", ".."}) for each in spelt]
    return list(filter(None, found))


def _shared_end(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many parts two names have in common, from the last on."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return next((number for number, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _folded(name: str) -> str:
    """Return the same for names that differ only in case or Unicode form."""
    return normalize("NFC", normalize("NFC", name).casefold())


def displayed_size(file: str | Path) -> tuple[int, int]:
    """Return width and height of an image as training will see it, EXIF rotation applied, pixels.

    Raises:
        NoImageError: If it cannot be read.
    """
    try:
        size, settled = _described(str(file))
        if settled:
            return size
        with _large if size[0] * size[1] > LARGE else contextlib.nullcontext():
            pixels = imread(str(file)) if loads(str(file)) else None
    except NoImageError:
        raise
    except Exception as error:  # decoders may raise anything on a broken file
        raise NoImageError(UNREADABLE, one_line(error)) from error
    if pixels is None:
        raise NoImageError(UNREADABLE, "OpenCV cannot decode it")
    if pixels.dtype != np.uint8 or pixels.shape[2:] != (3,):
        found = f"{pixels.dtype} {' × '.join(map(str, pixels.shape))}"
        raise NoImageError("image that is not read as three channels of eight bits, skipped", found)
    return pixels.shape[1], pixels.shape[0]


def _described(file: str) -> tuple[tuple[int, int], bool]:
    """Return the size that an image's header says, and whether it will be decoded to that."""
    try:
        with (Image.open if file.lower().endswith(PLUGGED) else open_image)(file) as image:
            size = image.size
            most = LARGEST_FILE if file.lower().endswith(STACKED) else ROOM + BYTES_A_PIXEL * size[0] * size[1]
            if (found := Path(file).stat().st_size) > most:
                raise NoImageError(TOO_LARGE, f"{found:,} bytes")
            settled = _header_settles(image, file)
            image.verify()
        return size, settled
    except Image.DecompressionBombError:  # Pillow's bound is lower than that of OpenCV, which decodes
        return (UNKNOWN_SIDE, UNKNOWN_SIDE), False


def _header_settles(image: Image.Image, file: str) -> bool:
    """Return whether an image will be decoded, and to the size that its header says."""
    if file.lower().endswith(STACKED):
        return False
    if image.format == "PNG":  # EXIF behind the pixels is not known yet, and asking would decode them
        return PNG_EXIF not in Path(file).read_bytes()
    if image.getexif().get(EXIF_ORIENTATION) not in UPRIGHT:
        return False
    if image.format == "JPEG":
        with Path(file).open("rb") as stream:
            stream.seek(-len(JPEG_END), os.SEEK_END)
            return stream.read() == JPEG_END
    return image.format == "WEBP"
