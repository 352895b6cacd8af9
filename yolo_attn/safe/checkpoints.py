"""The model in a file of `torch.save`, built anew from what its records say of it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from sys import modules
from typing import Any

from torch import Size
from ultralytics.utils import DEFAULT_CFG_DICT

from yolo_attn.errors import UserError
from yolo_attn.safe.archive import SavedFile
from yolo_attn.safe.build import Described, MismatchError, build
from yolo_attn.safe.missing_classes import origin_of
from yolo_attn.safe.pickles import Name, Record, TensorRecord

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


CHANGING = {"training", "inplace", "type", "np", "p"}
"""Attributes of modules that say nothing of what a model computes; `p` is a dropout's, which trainers set."""

BRANCH = "_end2end"
"""Attribute of a head with two branches: whether the one without NMS predicts."""

IDENTITY = "Identity"
"""A module that some releases have where others have none."""


@dataclass(frozen=True)
class Module:
    """A module that a checkpoint has; its `path` is such as "model.0.conv", its class `kind` of `package`."""

    path: str
    kind: str
    package: str
    state: dict[str, Any]


def model_in(saved: SavedFile) -> Any:
    """Build the model that a checkpoint of Ultralytics' or ours holds, the averaged one where there is one.

    Raises:
        UserError: In one line, if there is none, or it is not what its model YAML builds.
    """
    content = saved.content
    held = (content.get("ema") or content.get("model")) if isinstance(content, dict) else content
    if not isinstance(held, Record):
        found = "no model" if held is None else f"a {type(held).__name__}"
        raise UserError(f"{saved.file}: it holds {found}, expected a model of Ultralytics'")
    try:
        top = module("the model", held)
        if "model" not in top.state["_modules"]:
            unknown = UserError(f"{saved.file}: it holds a {top.kind[:50]}, no model of a known task")
            raise _foreign(saved.file, [top], f"{saved.file}: not an Ultralytics checkpoint") or unknown
        parts = list(modules_below(top))
        tensors = tensors_of(parts)
        parts_by_path = {part.path: part for part in parts}
        described = Described(
            kind=top.kind,
            yaml=plain(top.state.get("yaml")),
            names=_names(top.state.get("names")),
            task=top.state.get("task"),
            settings=_settings(content.get("train_args") if isinstance(content, dict) else None),
        )
    except ValueError as error:
        raise UserError(f"{saved.file}: refused, {error}") from error

    def complete(model: Any) -> None:
        check_same(parts, model)
        branch = parts_by_path[f"model.{len(model.model) - 1}"].state.get(BRANCH)
        if isinstance(branch, bool):
            setattr(model.model[-1], BRANCH, branch)

    shapes = {name: Size(tensor.size) for name, tensor in tensors.items()}
    try:
        return build(saved.file, described, shapes, saved.tensors(tensors), complete)
    except UserError as error:
        foreign = _foreign(saved.file, (top, *parts), str(error))
        if foreign is None:
            raise
        raise foreign from error


def _foreign(file: Path, parts: Iterable[Module], text: str) -> UserError | None:
    """Where the first class that is not here comes from, or `text` and how to import it; None if all are here."""
    absent = next((p for p in parts if p.kind not in vars(modules.get(p.package, object))), None)
    if absent is None:
        return None
    origin = origin_of(f"{absent.package[:100]}.{absent.kind[:100]}")
    own = f"for layers of your own give --import {absent.package[:50]}, from its folder or with that on PYTHONPATH"
    return UserError(f"{file}: {origin}" if origin else f"{text}; {own}")


def _names(value: Any) -> Any:
    names = plain_or(None, value)
    if isinstance(names, list | tuple):
        names = dict(enumerate(names))
    return names if isinstance(names, dict) and all(type(index) is int for index in names) else None


def _settings(value: Any) -> dict[str, Any]:
    """The training's settings that are plain data, as far as Ultralytics knows them."""
    given = value if isinstance(value, dict) else {}
    kept = {key: plain_or(None, given[key], FEW) for key in DEFAULT_CFG_DICT if key in given}
    return {key: item for key, item in kept.items() if item is not None}


def check_same(parts: Iterable[Module], model: Any) -> None:
    """Check that a checkpoint's modules are those that its model YAML builds, with the same numbers in them.

    Raises:
        MismatchError: Naming the first that is another: changed by hand, or by a release that builds otherwise.
    """
    built = {name: part for name, part in model.named_modules(remove_duplicate=False) if name.startswith("model")}
    for part in parts:
        ours: Any = built.pop(part.path, None)
        kind = type(ours).__name__ if ours is not None else IDENTITY
        if kind != part.kind:
            raise MismatchError(f"{part.path} is a {part.kind[:50]}, and {kind} by its YAML")
        for name, value in vars(ours).items() if ours is not None else ():
            if name.startswith("_") or name in CHANGING:
                continue
            expected, found = plain_or(part, value, FEW), plain_or(None, part.state.get(name, value), FEW)
            if expected not in (part, found):
                raise MismatchError(f"{part.path}.{name} is {str(found)[:50]}, and {str(expected)[:50]} by its YAML")
    more = [name for name, part in built.items() if type(part).__name__ != IDENTITY]
    if more:
        raise MismatchError(f"{more[0]} is not in the file, and a {type(built[more[0]]).__name__} by its YAML")


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


def modules_below(top: Module) -> Iterator[Module]:
    """Return the part "model" of a module, and all modules in it.

    Raises:
        ValueError: If anything in it is no module, or they are more than a model has.
    """
    waiting = [("model", top.state["_modules"]["model"])]
    seen = 0
    while waiting:
        found = module(*waiting.pop())
        parts = found.state["_modules"]
        seen += 1
        if seen + len(waiting) + len(parts) > MOST_MODULES or found.path.count(".") > DEEPEST_MODULE:
            raise ValueError(f"it has more than {MOST_MODULES:,} modules, or they are deeper than {DEEPEST_MODULE}")
        yield found
        waiting += [(_part(found.path, part), below) for part, below in parts.items() if below is not None]


def tensors_of(parts: Iterable[Module]) -> dict[str, TensorRecord]:
    """The parameters and buffers of modules, those that state dicts have, by the names that they have there.

    Raises:
        ValueError: If one is no plain tensor, or they are more than a model has.
    """
    tensors: dict[str, TensorRecord] = {}
    for part in parts:
        left_out = part.state.get("_non_persistent_buffers_set")
        for group in ("_parameters", "_buffers"):
            values = part.state.get(group)
            if not isinstance(values, dict):
                raise ValueError(f"{part.path} is no module")
            for name, value in values.items():
                if value is None or (group == "_buffers" and isinstance(left_out, set) and name in left_out):
                    continue
                place = _part(part.path, name)
                if not isinstance(value, TensorRecord):
                    raise ValueError(f"{place} is no plain tensor")
                tensors[place] = value
        if len(tensors) > MOST_TENSORS:
            raise ValueError(f"it has more than {MOST_TENSORS:,} tensors")
    return tensors


def _part(path: str, name: Any) -> str:
    if type(name) is not str or not name or "." in name or len(name) > LONGEST_NAME:
        raise ValueError(f"a part of {path} has a name that is none")
    return f"{path}.{name}"


def plain(value: Any, most: int = MOST_PLAIN) -> Any:
    """Plain data of its own: numbers, text, lists, tuples and dictionaries of these; a path becomes text.

    Raises:
        ValueError: If it is anything else, of more than `most` values and characters, or deeper than is sensible.
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
