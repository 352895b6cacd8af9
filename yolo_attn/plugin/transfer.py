"""Pretrained weights follow their rows.

Ultralytics transfers tensors by key, and a key begins with the row's number: an inserted layer shifts all behind it,
and tensors whose shapes happen to agree land in the wrong row. Here the rows of the source take the numbers of the
target's before Ultralytics' own transfer runs, which still remaps classes and rebuilds a head of other width.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable, Container, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from ultralytics.utils import LOGGER

from yolo_attn.errors import UserError
from yolo_attn.plugin.gains import own_gain, rows_of, set_gains
from yolo_attn.plugin.registry import LAYERS, split_name
from yolo_attn.plugin.report import Transfer
from yolo_attn.plugin.sources import StateDict, source_of

ENOUGH = 0.9
"""Share of a checkpoint's tensors under which it belongs to another model."""

_transfers: WeakKeyDictionary[nn.Module, Transfer] = WeakKeyDictionary()
"""Of models that took weights in this process; of what is loaded from a checkpoint, everything has trained."""


def load(load_model: Callable[..., None], model: Any, weights: Any, verbose: bool = True) -> None:
    """Ultralytics' transfer into `model`, from a source whose rows have the numbers of the model's.

    Args:
        load_model: Ultralytics' own `load`.
        model: The model that takes weights.
        weights: A model, or a checkpoint's content.
        verbose: Whether to log what was transferred.

    Raises:
        UserError: If one of both has attention, and they differ in family, task or scale.
    """
    source = source_of(weights)
    names = row_names(source, model)
    if not all(names):
        load_model(model, weights, verbose)
        return
    places = match_rows(*names, *_fed(source, model))
    attended = any(split_name(name)[1] for part in names for name in part)
    if attended:
        check_same(source, model)
    if places is None:
        load_model(model, weights, verbose)
        return
    if isinstance(source, StateDict) and source.classes not in {0, _classes(model)}:
        _give_head(source, model)
    moved = any(old != new for old, new in places.items()) or len(places) < len(names[0])
    fresh = _new_attention_inside(model, names, places)
    load_model(model, _renumbered(source, places) if moved else source, verbose)
    model.load_state_dict(fresh, strict=False)
    _keep_gains(source, model, names, places)
    earlier = _transfers.get(source)
    report = _report(source, model, names, places, fresh)
    _transfers[model] = report = earlier.then(report) if earlier else report
    if verbose and attended and not (earlier and earlier.line() == report.line()):
        (LOGGER.info if report.share >= ENOUGH else LOGGER.warning)(report.line())


def transfer_of(model: nn.Module) -> Transfer | None:
    """What the model took from a checkpoint in this process; None where it took nothing, or rows were not matched."""
    return _transfers.get(model)


def check_same(source: Any, model: Any) -> None:
    """Make sure that a source is of the model's family, task and scale; the number of classes may differ.

    Raises:
        UserError: Naming both, and what differs.
    """
    names = row_names(source, model)
    both = f"{_name(source)} does not fit {_yaml_name(model)}"
    if not all(names):
        raise UserError(f"{both}: it was not built from rows of a model YAML")
    places = match_rows(*names, *_fed(source, model))
    if places is None:
        raise UserError(f"{both}: {_difference(*names)}")
    last = f"model.{places.get(len(names[0]) - 1)}."
    shell = _renumbered(source, places)
    wanted, given = model.state_dict(), shell.state_dict()
    if isinstance(source, StateDict) and _parts(wanted, last) != _parts(given, last):
        raise UserError(f"{both}: another task, its head has other tensors than {names[1][-1]}")
    theirs, ours = (
        {key: value.shape for key, value in tensors.items() if not key.startswith((last, *_attention(m)))}
        for m, tensors in ((shell, given), (model, wanted))
    )
    fitting = len(theirs.items() & ours.items())
    if fitting < ENOUGH * max(len(theirs), len(ours)):
        scales = [(getattr(m, "yaml", None) or {}).get("scale") for m in (source, model)]
        other = f"scale {scales[0]}, expected {scales[1]}" if all(scales) and scales[0] != scales[1] else "other widths"
        of = f"{len(theirs)} tensors before the head have a place among {len(ours)}"
        raise UserError(f"{both}: {other}; {fitting} of its {of}")


def _attention(model: nn.Module) -> tuple[str, ...]:
    """How the names of attention's tensors begin."""
    layers = tuple(LAYERS.values())
    return tuple(f"{name}." for name, module in model.named_modules() if isinstance(module, layers))


def _parts(tensors: dict[str, Tensor], head: str) -> set[str]:
    """The parts of a head that tell its task; others differ between versions of Ultralytics."""
    parts = {key.removeprefix(head).split(".")[0] for key in tensors if key.startswith(head)}
    return {part for part in parts if part != "dfl" and not part.startswith("one2one")}


def _difference(source: Sequence[str], target: Sequence[str]) -> str:
    """The first row, attention apart, in which two models differ."""
    bases = [[(i, _base(name)) for i, name in enumerate(names) if name not in LAYERS] for names in (source, target)]
    pairs = zip_longest(*bases, fillvalue=(None, "nothing"))
    (there, theirs), (here, ours) = next(pair for pair in pairs if pair[0][1] != pair[1][1])
    if (there, here) == (len(source) - 1, len(target) - 1):
        return f"another task, its head is {theirs}, expected {ours}"
    return f"another family, it has {theirs} in row {there} where the model has {ours} in row {here}"


def row_names(source: Any, model: Any) -> tuple[list[str], list[str]]:
    """Names of the rows of a source and of a model; none where it was not built from rows.

    A state dict does not tell: it is taken for one of the model itself, or of the model without its attention.
    """
    names = [row[2] for row in rows_of(model)]
    if not isinstance(source, StateDict):
        return [row[2] for row in rows_of(source)], names
    base = [name for name in names if name not in LAYERS]
    if len(source.model) not in {len(names), len(base)}:
        expected = " or ".join(dict.fromkeys(map(str, (len(base), len(names)))))
        raise UserError(
            f"{_name(source)} does not fit {_yaml_name(model)}: another family, it has {len(source.model)} rows, "
            f"expected {expected}"
        )
    own = len(source.model) == len(names) and (base != names or len(source.state_dict()) == len(model.state_dict()))
    return (names if own else [_base(name) for name in base]), names


def match_rows(
    source: Sequence[str],
    target: Sequence[str],
    fed_source: Mapping[int, int] | None = None,
    fed_target: Mapping[int, int] | None = None,
) -> dict[int, int] | None:
    """Which row of the target each row of the source is.

    Rows are walked in order with the attention layers set aside, a block and its attention variants being the same; an
    attention layer is the target's of the same name between the same two rows, if both take the same row's map.

    Args:
        source: Names of the source's rows.
        target: Names of the target's rows.
        fed_source: Which row the map of each attention row of the source comes from, counted without attention.
        fed_target: The same of the target.

    Returns:
        The target's index of each source row that is in the target, or None where the models differ in other rows too.
    """
    fed_source, fed_target = fed_source or {}, fed_target or {}
    ours, theirs = _split(source), _split(target)
    if [row for row, _ in ours] != [row for row, _ in theirs]:
        return None
    places = {}
    for (_, mine), (_, other) in zip(ours, theirs, strict=True):
        left = list(other)
        for index, name in mine:
            fed = fed_source.get(index) if name in LAYERS else None
            same = next((place for place in left if place[1] == name and fed_target.get(place[0]) == fed), None)
            if same:
                places[index] = same[0]
                left = [place for place in left if place[0] > same[0]]
    return places


def _fed(source: Any, model: Any) -> tuple[dict[int, int], dict[int, int]]:
    """Which row the map of each attention row comes from, of a source and of a model; counted without attention."""
    own = _feeding(rows_of(model))
    return (own if isinstance(source, StateDict) else _feeding(rows_of(source))), own


def _feeding(rows: list[list[Any]]) -> dict[int, int]:
    found: dict[int, int] = {}
    for index, row in enumerate(rows):
        at = index
        while at >= 0 and rows[at][2] in LAYERS:
            at = rows[at][0] if rows[at][0] >= 0 else at + rows[at][0]
        if row[2] in LAYERS:
            found[index] = sum(other[2] not in LAYERS for other in rows[: at + 1])
    return found


def _new_attention_inside(model: Any, names: tuple[list[str], list[str]], places: dict[int, int]) -> dict[str, Tensor]:
    """Tensors of attention inside blocks that have other attention, or none, in the source: no name may mislead."""
    found: dict[str, Tensor] = {}
    for old, new in places.items():
        kind = split_name(names[1][new])[1]
        if kind and split_name(names[0][old])[1] is not kind:
            inside = _attention(model.model[new])
            tensors = model.model[new].state_dict()
            found |= {f"model.{new}.{key}": value.clone() for key, value in tensors.items() if key.startswith(inside)}
    return found


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


def _renumbered(source: Any, places: dict[int, int]) -> Any:
    """The source with its rows under other numbers; rows without a place are left out."""
    shell = copy.copy(source)
    shell._modules = dict(source._modules)
    shell.model = nn.Sequential(
        OrderedDict((str(new), source.model[old]) for old, new in sorted(places.items(), key=lambda pair: pair[1]))
    )
    return shell


def _give_head(source: StateDict, model: Any) -> None:
    """Give a state dict of other classes its head as a module, out of which Ultralytics keeps what does not count them.

    That is its newest way with heads whose width follows from the number of classes.
    """
    head = type(model)({**copy.deepcopy(model.yaml), "nc": source.classes}, verbose=False).model[-1]
    head.load_state_dict(source.model[-1].state_dict(), strict=False)  # other versions have parts more or less
    source.model[-1] = head


def _moved(key: str, places: dict[int, int]) -> str | None:
    """A tensor's name under the target's numbers; None where its row has no place there."""
    first, row, *rest = key.split(".")
    if first != "model" or not row.isdecimal():
        return key
    return ".".join(["model", str(places[int(row)]), *rest]) if int(row) in places else None


def _keep_gains(source: Any, model: Any, names: tuple[list[str], list[str]], places: dict[int, int]) -> None:
    """Attention that came with its weights keeps the gain that it was trained with."""
    if isinstance(source, StateDict):
        return
    same = {new: old for old, new in places.items() if split_name(names[0][old])[1] is split_name(names[1][new])[1]}
    gains = {new: own_gain(source, old) for new, old in same.items() if own_gain(model, new) is None}
    set_gains(model, {new: gain for new, gain in gains.items() if gain is not None})


def _report(
    source: Any, model: Any, names: tuple[list[str], list[str]], places: dict[int, int], fresh: Container[str]
) -> Transfer:
    wanted: dict[str, Tensor] = model.state_dict()
    tensors: dict[str, str | None] = {}
    given = source.state_dict()
    for key, value in given.items():
        place = _moved(key, places)
        fits = place in wanted and place not in fresh and wanted[place].shape == value.shape
        tensors[key] = place if fits else None
    return Transfer(
        _name(source),
        _yaml_name(model),
        *names,
        places,
        tensors,
        {key: value.numel() for key, value in source.named_parameters()},
        (_classes(source), _classes(model)),
    )


def _classes(model: Any) -> int:
    return model.classes if isinstance(model, StateDict) else int(model.yaml.get("nc") or 0)


def _name(source: Any) -> str:
    """A source's file, and the YAML that it was built from, as far as they are known."""
    file = getattr(source, "pt_path", None)
    return f"{file} ({_yaml_name(source)})" if file and hasattr(source, "yaml") else str(file or _yaml_name(source))


def _yaml_name(model: Any) -> str:
    return Path((getattr(model, "yaml", None) or {}).get("yaml_file") or type(model).__name__).name
