"""Runs a pickle so that it makes records: what it names is a name, and what it would call is written down.

The standard library's Python unpickler does the reading, with every opcode that looks up, calls or changes an object
replaced: a global becomes a `Name`, an object a `Record` of what it would be made of. Only tensors are more: their
place in a storage is checked, and their bytes are read when they are asked for.
"""

import codecs
import io
import math
import pickle
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pickle import UnpicklingError
from typing import Any, ClassVar

import torch

MOST_OPCODES = 3_000_000
"""Steps of a pickle; RT-DETR has 104,000."""

MOST_DIMENSIONS = 16

codecs.lookup("raw_unicode_escape")  # of an opcode for text: nothing is imported while a file is read

DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
"""Storages whose tensors are read; those of others stay records."""

SETS = {f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("set", "frozenset")}

LARGEST_SIZE = 2**60
"""Of a tensor, in elements."""

LARGEST_KEY = 2**16
"""Of a dictionary's integers; among large ones are some whose look-up goes through all the others."""

INHERITED = (
    *("PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "DUP", "NONE", "NEWTRUE", "NEWFALSE"),
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "LIST", "EMPTY_DICT", "EMPTY_SET"),
    *("GET", "BINGET", "LONG_BINGET", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"),
    *("GLOBAL", "STACK_GLOBAL", "BINPERSID"),
)
"""Opcodes that only make plain values, move the stack, or ask `find_class` and `persistent_load`."""

_Unpickler: Any = vars(pickle)["_Unpickler"]


@dataclass(frozen=True)
class Name:
    """A global that a pickle names; it is never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Record:
    """An object that a pickle describes, of what would be called, and with what; it is never made.

    `made_by` is the `Name` of a class or function, or anything that the pickle has in its place; `states` would be set
    on the object, one after the other.
    """

    made_by: Any = field(repr=False)
    args: Any = field(repr=False)
    states: list[Any] = field(default_factory=list, repr=False)


@dataclass(frozen=True, eq=False)
class Storage:
    """The entry of the file in which tensors lie; `dtype` is None for kinds that are not read."""

    key: str
    dtype: torch.dtype | None
    length: int


@dataclass(frozen=True, eq=False)
class TensorRecord:
    """A tensor's place in a storage, which it does not leave; `offset` and `stride` in elements."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def overlaps(self) -> bool:
        """Whether several of its elements may lie in one place."""
        below = 1
        for stride, size in sorted(zip(self.stride, self.size, strict=True)):
            if size > 1 and stride < below:
                return True
            below = max(below, stride * size)
        return False


@dataclass(eq=False)
class Key:
    """A dictionary's key, or a set's member, that is no plain value; its own hash would cost as much as it likes."""

    value: Any = field(repr=False)


def records_of(program: bytes | bytearray, sizes: Mapping[str, int]) -> Any:
    """What a pickle of `torch.save` describes, given the bytes of each storage in its file.

    Raises:
        Exception: Of many kinds, if it is broken, or asks for more than a checkpoint needs.
    """
    return _Reader(io.BytesIO(program), sizes).load()


class _Reader(_Unpickler):
    """Runs a pickle's opcodes without looking up, calling or changing anything."""

    dispatch: ClassVar[dict[int, Callable[..., None]]]

    def __init__(self, stream: io.BytesIO, sizes: Mapping[str, int]) -> None:
        super().__init__(stream, encoding="utf-8", errors="surrogateescape")
        self.sizes = sizes
        self.left = MOST_OPCODES

    def find_class(self, module: str, name: str) -> Name:
        return Name(module, name)

    def persistent_load(self, pid: Any) -> Storage:
        if not isinstance(pid, tuple) or len(pid) != 5:
            raise UnpicklingError("a persistent id that is no storage's")
        word, kind, key, _, length = pid
        if word != "storage" or not isinstance(kind, Name) or type(key) is not str or type(length) is not int:
            raise UnpicklingError("a persistent id that is no storage's")
        dtype = DTYPES.get(kind.name) if kind.module in {"torch", "torch.cuda", "torch.storage"} else None
        if key not in self.sizes or length < 0 or (dtype and length * dtype.itemsize != self.sizes[key]):
            raise UnpicklingError(f"storage {key[:50]!r} is not in the file, or not as long as the pickle says")
        return Storage(key, dtype, length)

    def reduce(self) -> None:
        args = self.stack.pop()
        if not isinstance(args, tuple):
            raise UnpicklingError("arguments that are no tuple")
        self.stack[-1] = self.result(self.stack[-1], args)

    def newobj(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = Record(self.stack[-1], args)

    def newobj_ex(self) -> None:
        options = self.stack.pop()
        args = self.stack.pop()
        self.stack[-1] = Record(self.stack[-1], (args, options))

    def inst(self) -> None:
        name = Name(*(self.readline()[:-1].decode() for _ in range(2)))
        args = tuple(self.pop_mark())
        self.append(Record(name, args))  # `append` is another one before `pop_mark`

    def obj(self) -> None:
        made_by, *args = self.pop_mark()
        self.append(Record(made_by, tuple(args)))

    def build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Record):
            target.states.append(state)
        elif not isinstance(target, dict):  # an OrderedDict's attributes mean nothing here
            raise UnpicklingError("attributes of what is no object")

    def one_more(self) -> None:
        value = self.stack.pop()
        _extend(self.stack[-1], [value])

    def more(self) -> None:
        values = self.pop_mark()
        _extend(self.stack[-1], values)

    def one_item(self) -> None:
        value = self.stack.pop()
        key = self.stack.pop()
        _update(self.stack[-1], [key, value])

    def items(self) -> None:
        values = self.pop_mark()
        _update(self.stack[-1], values)

    def members(self) -> None:
        values = self.pop_mark()
        target = self.stack[-1]
        if isinstance(target, set):
            _add(target, values)
        elif not isinstance(target, Record):
            raise UnpicklingError("members of what is no set")

    def dictionary(self) -> None:
        values = self.pop_mark()
        self.append({})
        _update(self.stack[-1], values)

    def frozen(self) -> None:
        values = self.pop_mark()
        self.append(frozenset(_add(set(), values)))

    def result(self, function: Any, args: tuple[Any, ...]) -> Any:
        """What stands for a call: a tensor, an ordered dictionary or a set where it would make one, else a record."""
        name = str(function) if isinstance(function, Name) else ""
        if name == "torch._utils._rebuild_tensor_v2":
            return _tensor(*args)
        if name == "torch._utils._rebuild_parameter" and args and isinstance(args[0], TensorRecord):
            return args[0]
        values = args[0] if args else []
        if name not in {"collections.OrderedDict", *SETS} or len(args) > 1 or type(values) not in {list, tuple, set}:
            return Record(function, args)
        self.count(len(values))  # what is copied here stands in the file once, and may be asked for often
        if name in SETS:
            return _add(set(), values)
        made: dict[Any, Any] = {}
        for pair in values:
            _update(made, list(pair[:2]) if isinstance(pair, list | tuple) else [])
        return made

    def count(self, steps: int = 1) -> None:
        self.left -= steps
        if self.left < 0:
            raise UnpicklingError(f"its pickle has more than {MOST_OPCODES:,} steps")

    def refuse(self) -> None:
        raise UnpicklingError("an opcode that no checkpoint needs")


def _counted(run: Callable[[Any], None]) -> Callable[[Any], None]:
    def counted(reader: _Reader) -> None:
        reader.count()
        run(reader)

    return counted


def _opcode(name: str) -> int:
    return int(getattr(pickle, name)[0])


OWN = {
    "REDUCE": _Reader.reduce,
    "NEWOBJ": _Reader.newobj,
    "NEWOBJ_EX": _Reader.newobj_ex,
    "INST": _Reader.inst,
    "OBJ": _Reader.obj,
    "BUILD": _Reader.build,
    "APPEND": _Reader.one_more,
    "APPENDS": _Reader.more,
    "SETITEM": _Reader.one_item,
    "SETITEMS": _Reader.items,
    "ADDITEMS": _Reader.members,
    "DICT": _Reader.dictionary,
    "FROZENSET": _Reader.frozen,
}
_Reader.dispatch = {
    **dict.fromkeys(range(256), _Reader.refuse),
    **{_opcode(name): _counted(_Unpickler.dispatch[_opcode(name)]) for name in INHERITED},
    **{_opcode(name): _counted(run) for name, run in OWN.items()},
}


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> TensorRecord:
    if not isinstance(storage, Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise UnpicklingError("a tensor whose place is none")
    if len(size) != len(stride) or len(size) > MOST_DIMENSIONS:
        raise UnpicklingError(f"a tensor of {len(size)} dimensions and {len(stride)} strides")
    if not all(type(number) is int and 0 <= number < LARGEST_SIZE for number in (offset, *size, *stride)):
        raise UnpicklingError("a tensor whose place is none")
    ends = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True)) + 1
    if (ends if math.prod(size) else offset) > storage.length:
        raise UnpicklingError("a tensor that leaves its storage")
    return TensorRecord(storage, offset, size, stride)


def _extend(target: Any, values: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(values)
    elif not isinstance(target, Record):
        raise UnpicklingError("items of what is no list")


def _update(target: Any, values: list[Any]) -> None:
    if isinstance(target, dict):
        before = len(target)
        target.update((_key(key), value) for key, value in zip(values[::2], values[1::2], strict=True))
        if len(target) != before + len(values) // 2:
            raise UnpicklingError("a dictionary that has a key twice")
    elif not isinstance(target, Record):
        raise UnpicklingError("items of what is no dictionary")


def _add(target: set[Any], values: Collection[Any]) -> set[Any]:
    before = len(target)
    target.update(map(_key, values))
    if len(target) != before + len(values):
        raise UnpicklingError("a set that has a member twice")
    return target


def _key(value: Any) -> Any:
    """A value that hashes in no time, and apart from others."""
    plain = type(value) in {str, bytes, bool, type(None), Name} or isinstance(value, Record | TensorRecord)
    return value if plain or (type(value) is int and abs(value) < LARGEST_KEY) else Key(value)
