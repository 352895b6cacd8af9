"""How large a model that a YAML describes may be: a few bytes of it can ask for any number of rows, blocks or weights.

Far above what anybody trains, and low enough that what is refused costs neither minutes nor the machine's memory.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn
from torch.nn.modules import module as hooks
from torch.nn.parameter import is_lazy

from yolo_attn.errors import UserError, quoted
from yolo_attn.model.rows import RowError, literal
from yolo_attn.yaml_edit.text import LONGEST_NAME, MOST_ROWS

MOST_REPEATS = 1000
"""Of a row."""

LARGEST_NUMBER = 100_000
"""Channels, sizes, counts that a row may give."""

LONGEST_TEXT = 200
"""Characters of a text that a row may give; Ultralytics' parser evaluates each as a literal."""

MOST_MODULES = 10_000
MOST_PARAMETERS = 1_000_000_000

COUNTS = ("nc", "reg_max", "ch", "channels")
"""Keys of a model YAML, beside its rows, that say how much is built."""


def check_size(model: dict[str, Any]) -> None:
    """Raise if a model's rows are more, or give larger numbers, than any that can be trained.

    What is no row is left to others to refuse.

    Raises:
        RowError: At the first such number, or if the model lacks the scale that its name gives.
    """
    file, rows = model.get("yaml_file") or "model", [*model["backbone"], *model["head"]]
    if len(rows) > MOST_ROWS:
        raise RowError(f"{file}: {len(rows):,} rows, expected at most {MOST_ROWS:,}")
    for key in COUNTS:
        _check_value(f"{file}, {key}", model.get(key))
    depth = _depth(model)
    for index, row in enumerate(rows):
        place = f"{file}, row {index}"
        if isinstance(row, list | tuple) and len(row) > 2 and isinstance(row[2], str) and len(row[2]) > LONGEST_NAME:
            raise RowError(f"{place}: found {quoted(row[2])}, expected the name of a layer")
        if isinstance(row, list | tuple) and len(row) > 3:
            if isinstance(row[1], int | float) and not row[1] * max(depth, 1) <= MOST_REPEATS:
                raise RowError(f"{place}: {row[1]:,} repeats at depth {depth:g}, expected at most {MOST_REPEATS:,}")
            _check_value(place, row[3])


def _depth(model: dict[str, Any]) -> float:
    """By how much Ultralytics multiplies repeats; 1 where that is no number.

    Raises:
        RowError: If the model's scale is none of its scales.
    """
    scales, scale = model.get("scales"), model.get("scale")
    if isinstance(scales, dict) and scale and scale not in scales:
        raise RowError(
            f"{model.get('yaml_file') or 'model'}: its name gives the scale {scale!r}, and its scales are "
            f"{quoted(', '.join(map(str, scales)))}"
        )
    try:
        depth = scales[scale or next(iter(scales))][0] if scales else model.get("depth_multiple", 1.0)
    except (TypeError, LookupError, StopIteration):
        return 1.0
    return depth if isinstance(depth, int | float) else 1.0


def _check_value(place: str, value: Any) -> None:
    """Raise at the first number or text in a value that is too large."""
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple):
        for part in value:
            _check_value(place, part)
    elif isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise RowError(f"{place}: found a text of {len(value):,} characters, expected at most {LONGEST_TEXT}")
    else:
        number = literal(value)
        if isinstance(number, int | float) and not abs(number) <= LARGEST_NUMBER:
            raise RowError(f"{place}: found {str(number)[:20]}, expected numbers up to {LARGEST_NUMBER:,}")


class _Budget(threading.local):
    """What a thread's model may still have; `modules` is None while it builds none that is bounded."""

    file = ""
    modules: int | None = None
    parameters = 0


_budget = _Budget()


def watch_building() -> Callable[[], None]:
    """Have every module and parameter of a `bounded_building` counted, in whichever thread.

    PyTorch has one list of such hooks for all threads, and no thread may change it while another one builds: they stay
    for as long as models are built within bounds.

    Returns:
        What undoes it.
    """
    handles = [
        hooks.register_module_module_registration_hook(_count_module),
        hooks.register_module_parameter_registration_hook(_count_parameter),
    ]

    def undo() -> None:
        for handle in handles:
            handle.remove()

    return undo


@contextlib.contextmanager
def bounded_building(file: str) -> Iterator[None]:
    """While it lasts, a model that this thread builds has an end, as long as `watch_building` does.

    Raises:
        UserError: As soon as there are more than MOST_MODULES modules, or MOST_PARAMETERS values of parameters, which
            are asked for by then and not yet touched; those on the meta device take no memory.
    """
    before = vars(_budget).copy()
    _budget.file, _budget.modules, _budget.parameters = file, MOST_MODULES, MOST_PARAMETERS
    try:
        yield
    finally:
        vars(_budget).clear()
        vars(_budget).update(before)


def _count_module(*_: Any) -> None:
    if _budget.modules is None:
        return
    _budget.modules -= 1
    if _budget.modules < 0:
        raise UserError(f"{_budget.file}: a model of more than {MOST_MODULES:,} modules")


def _count_parameter(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
    if _budget.modules is None or parameter is None or is_lazy(parameter) or parameter.is_meta:
        return
    _budget.parameters -= parameter.numel()
    if _budget.parameters < 0:
        raise UserError(f"{_budget.file}: a model of more than {MOST_PARAMETERS:,} parameters")
