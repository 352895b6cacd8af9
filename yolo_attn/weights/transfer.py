"""Pretrained weights follow their rows.

Ultralytics transfers tensors by key, and a key begins with the row's number: an inserted layer shifts all behind it,
and tensors whose shapes happen to agree land in the wrong row. Here the rows of the source take the numbers of the
target's before Ultralytics' own transfer runs, which still remaps classes and rebuilds a head of other width.
"""

import copy
import logging
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from ultralytics.utils import LOGGER

from yolo_attn.environment import filtered
from yolo_attn.errors import UserError
from yolo_attn.model.registry import LAYERS
from yolo_attn.weights.checkpoint_files import StateDict, source_of
from yolo_attn.weights.gains import own_gains, set_gains
from yolo_attn.weights.matching import Match, base_of, match, name_of, yaml_name
from yolo_attn.weights.transfer_report import ENOUGH, Transfer

_transfers: WeakKeyDictionary[nn.Module, Transfer] = WeakKeyDictionary()
"""Of models that took weights in this process; of what is loaded from a checkpoint, everything has trained."""


def load(load_model: Callable[..., None], model: Any, weights: Any, verbose: bool = True) -> None:
    """Ultralytics' transfer into `model`, from another or a checkpoint's content, whose rows get the model's numbers.

    Raises:
        UserError: If one of both has attention, and they differ in family, task or scale.
    """
    source = source_of(weights)
    found = check_load(source, model)
    if found is None or found.places is None:
        load_model(model, weights, verbose)
        return
    places = found.places
    if isinstance(source, StateDict) and source.classes not in {0, _classes(model)}:
        _give_head(source, model)
    state = model.state_dict()
    fresh = {key: state[key].clone() for key in _keys(found.new_attention)}
    moved = any(old != new for old, new in places.items()) or len(places) < len(found.names[0])

    def keeps(record: logging.LogRecord) -> bool:  # where our report says more than Ultralytics' own count
        return not (found.attended and record.getMessage().startswith("Transferred "))

    with filtered(LOGGER, keeps):
        load_model(model, _renumbered(source, places) if moved else source, verbose)
    model.load_state_dict(fresh, strict=False)
    _keep_gains(source, model, found.kept)
    earlier = _transfers.get(source)
    report = Transfer(
        name_of(source),
        yaml_name(model),
        *found.names,
        places,
        list(found.new_attention),
        _taken(source, model, places, fresh),
        {row: _keys({row: names}) for row, names in found.left_out.items()},
        {key: value.numel() for key, value in source.named_parameters()},
        (_classes(source), _classes(model)),
    )
    _transfers[model] = report = earlier.then(report) if earlier else report
    if verbose and found.attended and not (earlier and earlier.line() == report.line()):
        (LOGGER.info if report.is_whole else LOGGER.warning)(report.line())


def transfer_of(model: nn.Module) -> Transfer | None:
    """What the model took from a checkpoint in this process; None where it took nothing, or rows were not matched."""
    return _transfers.get(model)


def check_load(source: Any, model: Any) -> Match | None:
    """The match of a source and a model that takes it; where neither has attention, Ultralytics judges that itself.

    Raises:
        UserError: As `check_same`.
    """
    found = match(source, model)
    if found and found.attended:
        check_same(source, model)
    return found


def check_same(source: Any, model: Any) -> None:
    """Check that a source is of the model's family, task and scale; the number of classes may differ.

    Raises:
        UserError: Naming both, and what differs.
    """
    found = match(source, model)
    both = f"{name_of(source)} does not fit {yaml_name(model)}"
    if found is None:
        raise UserError(f"{both}: it was not built from rows of a model YAML")
    if found.places is None:
        raise UserError(f"{both}: {_difference(*found.names)}")
    last = f"model.{len(found.names[1]) - 1}."
    wanted, given = model.state_dict(), _renumbered(source, found.places).state_dict()
    if isinstance(source, StateDict) and _parts(wanted, last) != _parts(given, last):
        raise UserError(f"{both}: another task, its head has other tensors than {found.names[1][-1]}")
    placed = {found.places[old]: tensors for old, tensors in found.attention[0].items() if old in found.places}
    theirs, ours = (
        {key: value.shape for key, value in tensors.items() if key not in others and not key.startswith(last)}
        for tensors, others in ((given, _keys(placed)), (wanted, _keys(found.attention[1])))
    )
    fitting = len(theirs.items() & ours.items())
    if fitting < ENOUGH * max(len(theirs), len(ours)):
        scales = [(getattr(m, "yaml", None) or {}).get("scale") for m in (source, model)]
        other = f"scale {scales[0]}, expected {scales[1]}" if all(scales) and scales[0] != scales[1] else "other widths"
        of = f"{len(theirs)} tensors before the head have a place among {len(ours)}"
        raise UserError(f"{both}: {other}; {fitting} of its {of}")


def _keys(tensors: Mapping[int, Iterable[str]]) -> set[str]:
    """Tensors' whole names, given those behind each row's number."""
    return {f"model.{row}.{name}" for row, names in tensors.items() for name in names}


def _parts(tensors: dict[str, Tensor], head: str) -> set[str]:
    """The parts of a head that tell its task; others differ between versions of Ultralytics."""
    parts = {key.removeprefix(head).split(".")[0] for key in tensors if key.startswith(head)}
    return {part for part in parts if part != "dfl" and not part.startswith("one2one")}


def _difference(source: Sequence[str], target: Sequence[str]) -> str:
    """The first row, attention apart, in which two models differ."""
    bases = [[(i, base_of(name)) for i, name in enumerate(names) if name not in LAYERS] for names in (source, target)]
    pairs = zip_longest(*bases, fillvalue=(None, "nothing"))
    (there, theirs), (here, ours) = next(pair for pair in pairs if pair[0][1] != pair[1][1])
    if (there, here) == (len(source) - 1, len(target) - 1):
        return f"another task, its head is {theirs}, expected {ours}"
    return f"another family, it has {theirs} in row {there} where the model has {ours} in row {here}"


def _renumbered(source: Any, places: dict[int, int]) -> Any:
    """The source with its rows under other numbers; rows without a place are dropped."""
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


def _keep_gains(source: Any, model: Any, kept: dict[int, int]) -> None:
    """Attention that came with its weights keeps the gain that it was trained with; `kept` is the match's."""
    trained, given = own_gains(source), own_gains(model)
    set_gains(model, {new: trained[old] for new, old in kept.items() if old in trained and new not in given})


def _taken(source: Any, model: Any, places: dict[int, int], fresh: Container[str]) -> dict[str, str | None]:
    """The model's key of each of the source's tensors; None for those that it did not take."""
    wanted = {key: value.shape for key, value in model.state_dict().items() if key not in fresh}
    given = {key: (_moved(key, places), value.shape) for key, value in source.state_dict().items()}
    return {key: place if wanted.get(place) == shape else None for key, (place, shape) in given.items()}


def _classes(model: Any) -> int:
    return model.classes if isinstance(model, StateDict) else int(model.yaml.get("nc") or 0)
