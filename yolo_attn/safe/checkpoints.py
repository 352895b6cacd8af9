"""The model in a file of `torch.save`, built anew from what its records say."""

from collections.abc import Iterable
from pathlib import Path
from sys import modules
from typing import Any

from torch import Size
from ultralytics.utils import DEFAULT_CFG_DICT

from yolo_attn.errors import UserError
from yolo_attn.safe.archive import SavedFile
from yolo_attn.safe.build import Described, MismatchError, build
from yolo_attn.safe.foreign import origin_of
from yolo_attn.safe.models import FEW, Module, module, modules_below, plain, plain_or, tensors_of
from yolo_attn.safe.records import Record

CHANGING = {"training", "inplace", "type", "np", "p"}
"""Attributes of modules that say nothing of what a model computes; `p` is a dropout's, which trainers set."""

BRANCH = "_end2end"
"""Attribute of a head with two branches: whether the one without NMS predicts."""

IDENTITY = "Identity"
"""A module that some releases have where others have none."""


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
        parts = list(modules_below(top, "model"))
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
