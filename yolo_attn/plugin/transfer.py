"""Pretrained weights follow their rows.

Ultralytics transfers tensors by key, and a key begins with the row's number: an inserted layer shifts all behind it,
and tensors whose shapes happen to agree land in the wrong row. Here the rows of the source take the numbers of the
target's before Ultralytics' own transfer runs, which still remaps classes and rebuilds a head of other width.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from yolo_attn.plugin.gains import own_gain, rows_of, set_gains
from yolo_attn.plugin.registry import LAYERS, split_name

_untrained: WeakKeyDictionary[nn.Module, set[int]] = WeakKeyDictionary()
"""Rows of models, loaded in this process, whose attention got no weights; a checkpoint's layers have all trained."""


def load(load_model: Callable[..., None], model: Any, weights: Any, verbose: bool = True) -> None:
    """Ultralytics' transfer into `model`, from a source whose rows have the numbers of the model's.

    Args:
        load_model: Ultralytics' own `load`.
        model: The model that takes weights.
        weights: A model, or a checkpoint's content.
        verbose: Whether Ultralytics logs what it transferred.
    """
    load_model(model, renumbered(weights, model), verbose)
    source = _model_of(weights)
    places = _places(source, model)
    if places is not None:
        _follow(source, model, places)


def untrained_rows(model: nn.Module) -> list[int] | None:
    """Indices of the rows whose attention is new: the checkpoint that the model has loaded had none there.

    None where the model has loaded no checkpoint in this process whose rows could be matched.
    """
    rows = _untrained.get(model)
    return None if rows is None else sorted(rows)


def _follow(source: Any, model: Any, places: dict[int, int]) -> None:
    """Attention that came with its weights keeps the gain that it was trained with; remember which is new."""
    names = [[row[2] for row in rows_of(m)] for m in (source, model)]
    followed = {new: old for old, new in places.items() if split_name(names[0][old])[1] is split_name(names[1][new])[1]}
    gains = {new: own_gain(source, old) for new, old in followed.items() if own_gain(model, new) is None}
    set_gains(model, {new: gain for new, gain in gains.items() if gain is not None})
    attended = {i for i, name in enumerate(names[1]) if split_name(name)[1]}
    still = {places[old] for old in _untrained.get(source, ()) if old in places}
    _untrained[model] = (attended - set(followed)) | still


def renumbered(weights: Any, model: Any) -> Any:
    """The source model under the target's row numbers; `weights` itself where the rows cannot be matched.

    Args:
        weights: A model, or a checkpoint's content.
        model: The target.
    """
    source = _model_of(weights)
    places = _places(source, model)
    if places is None or all(old == new for old, new in places.items()):
        return weights
    shell = copy.copy(source)
    shell._modules = dict(source._modules)
    shell.model = nn.Sequential(
        OrderedDict((str(new), source.model[old]) for old, new in sorted(places.items(), key=lambda pair: pair[1]))
    )
    return shell


def _model_of(weights: Any) -> Any:
    return (weights.get("ema") or weights.get("model")) if isinstance(weights, dict) else weights


def _places(source: Any, model: Any) -> dict[int, int] | None:
    """Which row of a model each row of another is; None where the models cannot be matched."""
    names = [[row[2] for row in rows_of(m)] for m in (source, model)]
    return match_rows(*names) if all(names) else None


def match_rows(source: Sequence[str], target: Sequence[str]) -> dict[int, int] | None:
    """Which row of the target each row of the source is.

    Rows are walked in order with the attention layers set aside, a block and its attention variants being the same; an
    attention layer is the target's of the same name between the same two rows.

    Args:
        source: Names of the source's rows.
        target: Names of the target's rows.

    Returns:
        The target's index of each source row that is in the target, or None where the models differ in other rows too.
    """
    ours, theirs = _split(source), _split(target)
    if [row for row, _ in ours] != [row for row, _ in theirs]:
        return None
    places = {}
    for (_, mine), (_, other) in zip(ours, theirs, strict=True):
        left = list(other)
        for index, name in mine:
            same = next((place for place in left if place[1] == name), None)
            if same:
                places[index] = same[0]
                left = [place for place in left if place[0] > same[0]]
    return places


def _split(names: Sequence[str]) -> list[tuple[str, list[tuple[int, str]]]]:
    """Each row that is no attention layer, under its block's own name, with the attention in front of it and itself."""
    parts, group = [], []
    for index, name in enumerate(names):
        group.append((index, name if name in LAYERS else _base(name)))
        if name not in LAYERS:
            parts.append((_base(name), group))
            group = []
    return parts


def _base(name: str) -> str:
    return split_name(name)[0] or name
