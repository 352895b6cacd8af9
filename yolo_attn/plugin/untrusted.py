"""Model YAMLs, and settings that came inside a file: what using them may do.

Ultralytics 8.3 evaluates a picture size that is text as Python. The parser evaluates `activation`, and calls whatever
its module has under a row's name (a function that unpickles or installs, a model class that fetches its YAML), and
`TorchVision` downloads weights.
"""

import ast
from copy import deepcopy
from pathlib import Path
from typing import Any

from torch import nn
from ultralytics.nn import tasks
from ultralytics.utils import DEFAULT_CFG_DICT

from yolo_attn.errors import UserError, quoted
from yolo_attn.plugin.limits import LONGEST_TEXT
from yolo_attn.plugin.registry import LAYERS


def check_yaml(place: str | Path, described: Any) -> None:
    """Raise unless a model dictionary names layers only, and plain PyTorch as its activation.

    Args:
        place: Where it came from, to begin messages with.
        described: The dictionary, or whatever was in its place.

    Raises:
        UserError: At the first thing that is something else.
    """
    check_layers(place, described)
    activation = described.get("activation")
    if activation and not _is_activation(activation):
        raise UserError(
            f"{place}: activation {quoted(activation)} is none of torch.nn, such as nn.SiLU(); Ultralytics would run it"
        )


def check_layers(place: str | Path, described: Any) -> None:
    """Raise unless the rows of a model dictionary name layers only.

    Args:
        place: Where it came from, to begin messages with.
        described: The dictionary, or whatever was in its place.

    Raises:
        UserError: At the first row that names something else.
    """
    try:
        names = [row[2] for row in (*described["backbone"], *described["head"])]
    except (TypeError, KeyError, IndexError) as error:
        raise UserError(f"{place}: no model YAML, it has no rows to build") from error
    for index, name in enumerate(names):
        if not _is_layer(name):
            raise UserError(f"{place}: row {index} names {quoted(name)}, which is no layer; Ultralytics would call it")


def plain_settings(given: Any) -> dict[str, Any]:
    """Ultralytics' default settings, and a file's where they are of a plain type; a picture size only as numbers."""
    plain = {key: value for key, value in dict(given or {}).items() if _is_plain(value)}
    sizes = plain.get("imgsz", 0)
    if not all(type(size) is int for size in (sizes if isinstance(sizes, list | tuple) else [sizes])):
        del plain["imgsz"]
    return {**DEFAULT_CFG_DICT, **plain}


def without_downloads(described: dict[str, Any]) -> dict[str, Any]:
    """A copy of a checked model dictionary that asks for no pretrained weights: its own are to follow.

    Raises:
        ValueError: If a row of torchvision's does not name its network.
    """
    described = deepcopy(described)
    for row in [*described["backbone"], *described["head"]]:
        if row[2].partition("_")[0] == "TorchVision":
            attention = row[3][-1:] if isinstance(row[3][-1], dict) else []
            channels, model, *further = row[3][:-1] if attention else row[3]
            row[3] = [channels, model, None, *further[1:], *attention]
    return described


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
