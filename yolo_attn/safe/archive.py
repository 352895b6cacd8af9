"""Files of `torch.save`: the zip file around a pickle and its tensors, read within the bytes that it really has."""

import io
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from yolo_attn.bounded_reading import open_plain
from yolo_attn.errors import UserError, one_line
from yolo_attn.safe.pickles import Storage, TensorRecord, records_of

LARGEST_PICKLE = 16 * 2**20
"""Bytes of a pickle, tensors apart; that of RT-DETR with its optimizer has less than one million."""

LARGEST_DIRECTORY = 16 * 2**20
"""Bytes of the zip file's directory; a thousand tensors take 100,000."""

CHUNK = 4 * 2**20
"""Bytes that are read at once."""


class SavedFile:
    """An open file of `torch.save`; to be used in a `with`.

    Attributes:
        content: What was saved: plain values, `Name`, `Record` and `TensorRecord`.

    Raises:
        UserError: In one line, if it is no such file, is broken, or asks for more than a checkpoint needs.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self._stream = _Bounded(open_plain(file).detach())  # type: ignore[attr-defined]  # it is buffered
        except OSError as error:
            raise UserError(f"{file}: not readable: {error.strerror or error}") from error
        try:
            self._open()
        except BaseException as error:
            self._stream.close()
            if isinstance(error, Exception) and not isinstance(error, UserError):  # a broken file leads to any
                raise UserError(f"{file}: refused, no checkpoint that can be read: {_reason(error)}") from error
            raise

    def _open(self) -> None:
        self._archive = zipfile.ZipFile(self._stream)
        infos = self._archive.infolist()
        _check_apart(infos, self._stream.size)
        pickles = [info for info in infos if info.filename.count("/") == 1 and info.filename.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise UnpicklingError("it has no pickle of torch.save")
        root = pickles[0].filename.rpartition("/")[0]
        self._entries = {i.filename.removeprefix(f"{root}/"): i for i in infos if i.filename.startswith(f"{root}/")}
        if "constants.pkl" in self._entries:
            raise UnpicklingError("it is a TorchScript archive")
        if pickles[0].file_size > LARGEST_PICKLE:
            raise UnpicklingError(f"its pickle has {pickles[0].file_size:,} bytes, expected at most {LARGEST_PICKLE:,}")
        order = self._entries.get("byteorder")
        if order and (order.file_size > 10 or self._read(order) != sys.byteorder.encode()):
            raise UnpicklingError(f"its tensors are not in this machine's byte order, {sys.byteorder}")
        sizes = {name.removeprefix("data/"): i.file_size for name, i in self._entries.items() if name[:5] == "data/"}
        self.content = records_of(self._read(pickles[0]), sizes)

    def tensors(self, wanted: Mapping[str, TensorRecord]) -> Iterator[tuple[str, Tensor]]:
        """Tensors under their names, those of one storage together, so that each storage is read once.

        Raises:
            UserError: If one is of a kind that is not read, its elements overlap, or its bytes are not those saved.
        """
        last, elements = "", torch.empty(0)
        for name, record in sorted(wanted.items(), key=lambda item: item[1].storage.key):
            storage = record.storage
            if storage.dtype is None or record.overlaps:
                raise UserError(f"{self.file}: refused, its tensor {name[:100]!r} is no plain one")
            if storage.key != last or elements.dtype != storage.dtype:
                elements = self._elements(storage)
                last = storage.key
            yield name, elements.as_strided(record.size, record.stride, record.offset)

    def _elements(self, storage: Storage) -> Tensor:
        assert storage.dtype
        if not storage.length:
            return torch.empty(0, dtype=storage.dtype)
        try:
            return torch.frombuffer(self._read(self._entries[f"data/{storage.key}"]), dtype=storage.dtype)
        except Exception as error:  # a broken file may raise anything
            raise UserError(f"{self.file}: its tensors cannot be read: {_reason(error)}") from error

    def _read(self, info: zipfile.ZipInfo) -> bytearray:
        """The bytes of an entry, checked against its checksum."""
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & 1:
            raise zipfile.BadZipFile("it is compressed or encrypted, which torch.save does not do")
        content = bytearray(info.file_size)
        with self._archive.open(info) as stream:
            for start in range(0, len(content), CHUNK):
                part = memoryview(content)[start : start + CHUNK]
                if stream.readinto(part) != len(part):  # type: ignore[attr-defined]  # a ZipExtFile has it
                    raise EOFError("it ends too early")
        return content

    def __enter__(self) -> "SavedFile":
        return self

    def __exit__(self, *exception: object) -> None:
        self._stream.close()


class _Bounded(io.BufferedReader):
    """A file of which not more than `LARGEST_DIRECTORY` is read at once, whatever size it says its directory has."""

    def __init__(self, raw: io.RawIOBase) -> None:
        super().__init__(raw)
        self.size = self.seek(0, io.SEEK_END)
        self.seek(0)

    def read(self, size: int | None = -1, /) -> bytes:
        asked = self.size - self.tell() if size is None or size < 0 else min(size, self.size)
        if asked > LARGEST_DIRECTORY:
            raise zipfile.BadZipFile(f"its directory has {asked:,} bytes, expected at most {LARGEST_DIRECTORY:,}")
        return super().read(size)


def _check_apart(infos: Iterable[zipfile.ZipInfo], size: int) -> None:
    """Raise if two entries of a file have the same name or share bytes, or one ends behind the file."""
    names, end = set(), 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.filename in names:
            raise zipfile.BadZipFile(f"it has two entries {info.filename[:100]!r}")
        names.add(info.filename)
        if info.header_offset < end:
            raise zipfile.BadZipFile("its entries overlap")
        header = zipfile.sizeFileHeader + len(info.filename)  # type: ignore[attr-defined]  # the module has it
        end = info.header_offset + header + info.compress_size
    if end > size:
        raise zipfile.BadZipFile("its entries are longer than the file")


def _reason(error: Exception) -> str:
    plain = isinstance(error, (UnpicklingError, zipfile.BadZipFile, EOFError)) and str(error)
    return " ".join(str(error).split())[:150] if plain else one_line(error)[:150]
