"""What a checkpoint's records say of its model: YAML, class names, settings, and the tensors of its modules."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from yolo_attn.safe.records import Name, Record, TensorRecord

DEEPEST = 20
"""Lists and dictionaries inside each other, of plain data."""

MOST_PLAIN = 4 * 2**20
"""Values of plain data and characters of its text; what is repeated counts each time. A hundred thousand class names
take two million."""

FEW = 10_000
"""The same, of one setting or one attribute of a module."""

MOST_MODULES = 10_000
"""Modules of a model; YOLOv8x has 365, YOLOv9e 1,224."""

MOST_TENSORS = 20_000
"""Of a model; YOLOv9e has 1,811."""

LONGEST_NAME = 200
"""Characters of a part's name."""

DEEPEST_MODULE = 50

PATHS = {
    f"{package}.{name}": kind
    for package in ("pathlib", "pathlib._local")
    for name, kind in (("PosixPath", PurePosixPath), ("WindowsPath", PureWindowsPath))
}

RENAMED = {"YOLOv10DetectionModel": "DetectionModel", "Silence": "Identity"}
"""Classes that releases of Ultralytics had under names that are gone."""


@dataclass(frozen=True)
class Module:
    """A module that a checkpoint has.

    Attributes:
        path: Its place in the model, such as "model.0.conv".
        kind: Its class's name.
        package: The name of the module that has the class.
        state: Its attributes by name.
    """

    path: str
    kind: str
    package: str
    state: dict[str, Any]


def module(path: str, value: Any) -> Module:
    """The module that a record describes.

    Raises:
        ValueError: If it describes none.
    """
    state = value.states[0] if isinstance(value, Record) and len(value.states) == 1 else None
    made_by = value.made_by if isinstance(value, Record) else None
    if not isinstance(made_by, Name) or not isinstance(state, dict) or not isinstance(state.get("_modules"), dict):
        raise ValueError(f"{path} is no module")
    kind = made_by.name.rpartition(".")[2]
    return Module(path, RENAMED.get(kind, kind), made_by.module, state)


def modules_below(top: Module, name: str) -> Iterator[Module]:
    """A part of a module, and all modules in it.

    Raises:
        ValueError: If the part is not there, anything in it is no module, or they are more than a model has.
    """
    waiting = [(name, top.state["_modules"].get(name))]
    seen = 0
    while waiting:
        path, value = waiting.pop()
        found = module(path, value)
        parts = found.state["_modules"]
        seen += 1
        if seen + len(waiting) + len(parts) > MOST_MODULES or path.count(".") > DEEPEST_MODULE:
            raise ValueError(f"it has more than {MOST_MODULES:,} modules, or they are deeper than {DEEPEST_MODULE}")
        yield found
        for part, below in parts.items():
            if below is not None:
                waiting.append((f"{path}.{_part(path, part)}", below))


def tensors_of(parts: Iterable[Module]) -> dict[str, TensorRecord]:
    """The parameters and buffers of modules, those that state dicts have, by the names that they have there.

    Raises:
        ValueError: If one is no plain tensor, or they are more than a model has.
    """
    tensors: dict[str, TensorRecord] = {}
    for name, tensor in (found for part in parts for found in _own_tensors(part)):
        tensors[name] = tensor
        if len(tensors) > MOST_TENSORS:
            raise ValueError(f"it has more than {MOST_TENSORS:,} tensors")
    return tensors


def _own_tensors(part: Module) -> Iterator[tuple[str, TensorRecord]]:
    state = part.state
    left_out = state.get("_non_persistent_buffers_set")
    for group in ("_parameters", "_buffers"):
        values = state.get(group)
        if not isinstance(values, dict):
            raise ValueError(f"{part.path} is no module")
        for name, value in values.items():
            if value is None or (group == "_buffers" and isinstance(left_out, set) and name in left_out):
                continue
            place = f"{part.path}.{_part(part.path, name)}"
            if not isinstance(value, TensorRecord):
                raise ValueError(f"{place} is no plain tensor")
            yield place, value


def _part(path: str, name: Any) -> str:
    if type(name) is not str or not name or "." in name or len(name) > LONGEST_NAME:
        raise ValueError(f"a part of {path} has a name that is none")
    return name


def plain(value: Any, most: int = MOST_PLAIN) -> Any:
    """Plain data of its own: numbers, text, lists, tuples and dictionaries of these; a path becomes text.

    Args:
        value: What a file has.
        most: How many values and characters it may have.

    Raises:
        ValueError: If it is anything else, or larger or deeper than is sensible.
    """
    left = most

    def copied(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1 + (len(value) if type(value) is str else 0)
        if left < 0 or depth > DEEPEST:
            raise ValueError(f"more than {most:,} values and characters, or lists deeper than {DEEPEST}")
        if isinstance(value, dict):
            return {copied(key, DEEPEST): copied(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [copied(item, depth + 1) for item in value]
        if isinstance(value, tuple):
            return tuple(copied(item, depth + 1) for item in value)
        if isinstance(value, Record) and str(value.made_by) in PATHS and isinstance(value.args, tuple):
            return str(PATHS[str(value.made_by)](*(str(copied(part, depth + 1)) for part in value.args)))
        if value is None or type(value) in {str, bool, float} or (type(value) is int and abs(value) < 2**63):
            return value
        raise ValueError(f"a {type(value).__name__}, expected plain data")

    return copied(value, 0)


def plain_or(default: Any, value: Any, most: int = MOST_PLAIN) -> Any:
    """`plain` data, or else the default."""
    try:
        return plain(value, most)
    except ValueError:
        return default
