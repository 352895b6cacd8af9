"""Model YAMLs, and settings that came inside a file: what using them may do.

Ultralytics 8.3 evaluates an image size that is text as Python. The parser evaluates `activation`, and calls anything
that its module has under a row's name (a function that unpickles or installs, a model class that fetches its YAML), and
`TorchVision` downloads weights.
"""

import ast
import inspect
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.nn import tasks
from ultralytics.utils import DEFAULT_CFG_DICT

from yolo_attn.errors import UserError, quoted
from yolo_attn.model.limits import LONGEST_TEXT, check_size
from yolo_attn.model.registry import LAYERS
from yolo_attn.yaml_edit.row_names import RowName

DEEPEST = 20
"""Lists and dictionaries of a model YAML inside each other."""

MOST_VALUES = 200_000
"""Of a model YAML; class names are among them."""

LARGEST_SIZE = 2**14
"""Of an image, pixels, in a file's settings."""

OPTIONS = {"nc", "kpt_shape", "reg_max", "end2end", "scale", "depth", "width", "max_channels"}
"""Values of a model YAML that its rows may name."""


def check_yaml(place: str | Path, described: Any) -> None:
    """Raise unless what is said to be a model dictionary names layers only, and plain PyTorch as its activation.

    Raises:
        UserError: At the first thing that is something else; `place` begins the message.
    """
    try:
        names = [row[2] for row in (*described["backbone"], *described["head"])]
    except (TypeError, KeyError, IndexError) as error:
        raise UserError(f"{place}: no model YAML, it has no rows to build") from error
    for index, name in enumerate(names):
        if not _is_layer(name):
            raise UserError(f"{place}: row {index} names {quoted(name)}, which is no layer; Ultralytics would call it")
    activation = described.get("activation")
    if activation and not _is_activation(activation):
        raise UserError(
            f"{place}: activation {quoted(activation)} is none of torch.nn, such as nn.SiLU(); Ultralytics would run it"
        )


def check_foreign_yaml(place: str | Path, described: Any) -> None:
    """Raise unless a model dictionary out of a file passes `check_yaml` and asks for no more than a model needs.

    Raises:
        UserError: At the first thing that is something else.
    """
    check_yaml(place, described)
    rows = [*described["backbone"], *described["head"]]
    if not all(isinstance(row, list | tuple) and len(row) > 3 for row in rows):
        raise UserError(f"{place}: no model YAML, a row of it has no options")
    for number, value in enumerate(_values(described)):
        if number > MOST_VALUES or value is _TOO_DEEP:
            raise UserError(
                f"{place}: refused, the model YAML in it has more than {MOST_VALUES:,} values, or more than {DEEPEST} "
                "lists inside each other"
            )
    try:
        check_size(described)
    except UserError as error:
        raise UserError(f"{place}: refused, {error}") from error
    for index, (_, _, name, given, *_) in enumerate(rows):
        foreign = next((text for text in _values(given) if isinstance(text, str) and not _is_option(text)), None)
        if foreign is not None or (RowName.of(name).block == "TorchVision" and not _is_classifier(given)):
            raise UserError(
                f"{place}: refused, row {index} of the model YAML in it, {quoted(name)}, has the option "
                f"{quoted(given if foreign is None else foreign)}, which is none for a layer"
            )


def plain_settings(given: Any) -> dict[str, Any]:
    """Ultralytics' default settings, and a file's where they are of a plain type; an image size only as numbers."""
    plain = {key: value for key, value in dict(given or {}).items() if _is_plain(value)}
    sizes = plain.get("imgsz", 0)
    sizes = sizes if isinstance(sizes, list | tuple) else [sizes]
    if not all(type(size) is int and 0 <= size <= LARGEST_SIZE for size in sizes):
        del plain["imgsz"]
    return {**DEFAULT_CFG_DICT, **plain}


def without_downloads(described: dict[str, Any]) -> dict[str, Any]:
    """A copy of a checked model dictionary that asks for no pretrained weights: its own are to follow.

    Raises:
        ValueError: If a row of torchvision's does not name its network.
    """
    described = deepcopy(described)
    for row in [*described["backbone"], *described["head"]]:
        if RowName.of(row[2]).block == "TorchVision":
            attention = row[3][-1:] if isinstance(row[3][-1], dict) else []
            channels, model, *further = row[3][:-1] if attention else row[3]
            row[3] = [channels, model, None, *further[1:], *attention]
    return described


_TOO_DEEP = object()


def _values(given: Any, depth: int = 0) -> Iterator[Any]:
    """All values in lists and dictionaries; `_TOO_DEEP` in place of what is deeper than is sensible."""
    if not isinstance(given, list | tuple | dict):
        yield given
    elif depth > DEEPEST:
        yield _TOO_DEEP
    else:
        yield None  # so that empty lists count
        for value in given.values() if isinstance(given, dict) else given:
            yield from _values(value, depth + 1)


def _is_option(text: str) -> bool:
    """Whether a text is one for a layer: neither a device nor a variable that the parser has for its own use."""
    code = inspect.unwrap(tasks.parse_model).__code__
    own = {*code.co_varnames, *code.co_cellvars}
    try:
        torch.device(text)
    except RuntimeError:
        return len(text) <= LONGEST_TEXT and (text in OPTIONS or text not in own)
    return False


def _is_classifier(given: Any) -> bool:
    """Whether the options of a TorchVision row name a model that downloads no weights if it is asked for none."""
    import torchvision

    return isinstance(given, list) and len(given) > 1 and given[1] in torchvision.models.list_models(torchvision.models)


def _is_layer(name: Any) -> bool:
    """Whether a row's name is a layer; names that nobody knows are left to the parser, which says what is near."""
    if not isinstance(name, str):
        return False
    if name.startswith("nn."):
        return _is_module(getattr(nn, name[3:], None))
    if name.startswith("torchvision.ops."):
        import torchvision

        return _is_module(getattr(torchvision.ops, name.rpartition(".")[2], None))
    return name in LAYERS or name not in vars(tasks) or _is_module(vars(tasks)[name])


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float)


def _is_module(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, nn.Module) and not issubclass(found, tasks.BaseModel)


def _is_activation(text: Any) -> bool:
    if not isinstance(text, str) or len(text) > LONGEST_TEXT:
        return False
    try:
        call: Any = ast.parse(text.strip(), mode="eval").body
        package, _, name = ast.unparse(call.func).rpartition(".")
        for value in [*call.args, *(keyword.value for keyword in call.keywords)]:
            ast.literal_eval(value)
    except (AttributeError, SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return package in {"nn", "torch.nn"} and _is_module(getattr(nn, name, None))
