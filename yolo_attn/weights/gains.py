"""The gain of attention rows: set so that a layer put into a trained network keeps the magnitude of its input.

A row has one gain for all layers in it. It is the row's option `gain`, so it lives in the model's YAML and with that in
checkpoints, resumed trainings and exports.
"""

import copy
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from yolo_attn.model.blocks import WHERE
from yolo_attn.model.registry import split_name
from yolo_attn.model.rows import GAIN, options_of
from yolo_attn.model.run_rows import run_rows
from yolo_attn.yaml_edit.text import SECTIONS

DIGITS = 4
"""Significant digits of a gain; more would only fill the YAML."""


def calibrate(model: Any, batches: Iterable[Tensor], rows: Iterable[int] | None = None) -> dict[int, float]:
    """Set the gain of attention rows so that their layers keep the mean magnitude of their inputs.

    The network runs as in evaluation and without gradients; nothing but the gains changes. While it runs, each layer's
    output is brought to its input's magnitude, so that a later layer is measured on what it will see.

    Args:
        model: A model built from a YAML, its weights in place.
        batches: Images (B, 3, H, W) between 0 and 1; a few dozen in all are enough.
        rows: Indices of the rows to set, as Ultralytics' table counts them; None takes every row with attention. Rows
            that give their own gain are left alone, and so are layers without this option.

    Returns:
        The new gain of each row.
    """
    layers, given = _layers(model), own_gains(model)
    wanted = [i for i in (layers if rows is None else rows) if layers.get(i) and i not in given]
    gains = _measure(model, {i: layers[i] for i in wanted}, batches) if wanted else {}
    set_gains(model, gains)
    return gains


def set_gains(model: Any, gains: dict[int, float]) -> None:
    """Give rows of a model a gain, in their layers and in the model's YAML."""
    layers = _layers(model)
    model.yaml = copy.deepcopy(model.yaml)
    for part in SECTIONS:
        model.yaml[part] = [list(row) for row in model.yaml[part]]  # one that YAML aliases repeat stands there twice
    rows = rows_of(model)
    for index, gain in gains.items():
        for layer in layers[index]:
            layer.gain = gain
        own, options = _arguments(rows[index])
        rows[index][3] = [*own, {**options, GAIN: gain}]


def own_gains(model: Any) -> dict[int, float]:
    """The gain of each row of a model that gives one."""
    options = {index: _arguments(row)[1] for index, row in enumerate(rows_of(model)) if attention_of(row)}
    return {index: given[GAIN] for index, given in options.items() if GAIN in given}


def gains_line(model: Any, gains: dict[int, float], rows: Iterable[int]) -> str:
    """What was done, in a line: the gain of each of these rows, or why it has none of `gains`."""
    layers, names = _layers(model), [row[2] for row in rows_of(model)]
    lines = []
    for index in rows:
        if index in gains:
            lines.append(f"{index} {names[index]} {gains[index]:g}")
        elif not layers.get(index):
            lines.append(f"{index} {names[index]} without, it has no option {GAIN}")
        else:
            lines.append(f"{index} {names[index]} left as it is")
    return f"identity-init, {GAIN} of rows: {', '.join(lines)}"


def rows_of(model: Any) -> list[list[Any]]:
    """The rows that a model was built from, in order; none where it was not built from rows."""
    described = getattr(model, "yaml", None)
    if not isinstance(described, dict) or not set(SECTIONS) <= set(described):
        return []
    return [row for part in SECTIONS for row in described[part]]


def attention_of(row: list[Any]) -> tuple[type[nn.Module], str | None] | None:
    """The attention layer in a row, and its place in the row's block, None where it is a row of its own."""
    block, kind = split_name(row[2])
    if kind is None:
        return None
    return kind, _arguments(row)[1].get("where", WHERE[0]) if block else None


def _arguments(row: list[Any]) -> tuple[list[Any], dict[str, Any]]:
    """An attention row's arguments: those of its block, and the options of its attention by name."""
    block, kind = split_name(row[2])
    *first, last = row[3] or [None]
    if isinstance(last, dict):
        return first, last
    if block or kind is None:
        return row[3], {}
    return [], dict(zip(options_of(kind), row[3], strict=False))


def _layers(model: Any) -> dict[int, list[Any]]:
    """The layers with a gain in each attention row of a model."""
    found = {}
    for index, row in enumerate(rows_of(model)):
        kind = split_name(row[2])[1]
        if kind is not None:
            has_gain = GAIN in options_of(kind)
            found[index] = [
                m
                for m in model.model[index].modules()
                if has_gain and isinstance(m, kind) and isinstance(getattr(m, GAIN, None), int | float)
            ]
    return found


def _measure(model: Any, layers: dict[int, list[Any]], batches: Iterable[Tensor]) -> dict[int, float]:
    """Sum of mean |input| over sum of mean |output|, of each row's layers over all batches."""
    sums = {index: [0.0, 0.0] for index in layers}
    hooks = []
    for index, members in layers.items():

        def compensate(_: Any, inputs: Any, output: Tensor, index: int = index) -> Tensor:
            before, after = (float(x.abs().mean(dtype=torch.float32)) for x in (inputs[0], output))
            sums[index][0] += before
            sums[index][1] += after
            return output * (before / after) if after else output

        hooks += [member.register_forward_hook(compensate) for member in members]

    try:
        run_rows(model, batches, max(layers))
    finally:
        for hook in hooks:
            hook.remove()
    ratios = {index: before / after if after else math.nan for index, (before, after) in sums.items()}
    return {index: float(f"{r:.{DIGITS}g}") for index, r in ratios.items() if 0 < r < math.inf}
