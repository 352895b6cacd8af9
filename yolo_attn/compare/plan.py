"""What a comparison trains: the base, each attention put into it, and wider bases of the same cost."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from yolo_attn.compare.study import Variant
from yolo_attn.engine.cost import cost_of
from yolo_attn.errors import UserError
from yolo_attn.plugin.insertion import describe, insert, layer_named
from yolo_attn.plugin.yamls import read_model

SAME_COST = 0.01
"""Up to this share more GFLOPs than the base's, a variant needs no wider base beside it."""

WIDEST = 4
"""Up to how many times the base's width a wider base is looked for."""

STEPS = 10
"""Halvings of that range: finer than the steps of 8 in which channels grow."""


@dataclass(frozen=True)
class Wanted:
    """An attention that is to be compared: a layer, its options, and a place of `editing.PLACES`."""

    layer: str
    at: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """A variant and its model YAML."""

    variant: Variant
    text: str


def plan(base: str, wanted: Iterable[Wanted], equal_gflops: int | None = None) -> list[Model]:
    """The models of a comparison, the base first.

    Args:
        base: Model YAML or name, with its scale letter.
        wanted: The attention to compare.
        equal_gflops: Picture size, pixels, at which each variant that needs more operations gets a base beside it that
            is wider until it needs as many; None for no such bases.

    Raises:
        UserError: If the base is no model, a layer or place is unknown or refuses an option, or attention is wanted
            twice.
    """
    text, scale = read_model(base)
    stem = Path(base).stem
    models = [Model(Variant("base", stem), text)]
    for each in wanted:
        edited = insert(text, Path(base).name, each.layer, each.at, each.options, scale)
        name = layer_named(each.layer) or each.layer
        variant = Variant(_slug(name, each), _label(name, each), name, each.at, dict(each.options))
        if variant.name in {model.variant.name for model in models}:
            raise UserError(f"--layers: {variant.label} is there twice")
        models.append(Model(variant, edited.text))
    if equal_gflops:
        models += _controls(models, stem, scale, equal_gflops)
    return models


def _label(layer: str, wanted: Wanted) -> str:
    """What a variant is called: GAM (ratio=8) at neck."""
    options = ", ".join(f"{name}={value}" for name, value in wanted.options.items())
    return f"{layer}{f' ({options})' if options else ''} at {wanted.at}"


def _slug(layer: str, wanted: Wanted) -> str:
    """The same as the name of a file: gam-neck-ratio8."""
    parts = [layer, wanted.at, *(f"{name}{value}" for name, value in wanted.options.items())]
    return "-".join(re.sub(r"[^a-z0-9.]+", "_", part.lower()).strip("_") for part in parts)


def _controls(models: list[Model], stem: str, scale: str, size: int) -> list[Model]:
    costs = [cost_of(describe(model.text, stem, scale), size)[1] for model in models]
    controls = []
    for model, gflops in zip(models[1:], costs[1:], strict=True):
        if gflops <= costs[0] * (1 + SAME_COST):
            continue
        of = model.variant
        variant = Variant(f"wide-{of.name}", f"{stem}, wider, with the GFLOPs of {of.label}", control_for=of.name)
        controls.append(Model(variant, wider(models[0].text, stem, scale, size, gflops)))
    return controls


def wider(text: str, name: str, scale: str, size: int, gflops: float) -> str:
    """A model YAML with the width at which the model needs as many operations as asked for, or as nearly as can be.

    Args:
        text: The model YAML.
        name: What messages call it.
        scale: Its scale letter, "" for the first.
        size: Height and width of the pictures, pixels.
        gflops: Operations of one, more than it needs as it is.

    Raises:
        UserError: If it has no width to change.
    """
    letter = scale or next(iter(yaml.safe_load(text).get("scales") or {}), "")
    scaled = rf"^\s*{re.escape(letter)}:\s*\[[^,]+,\s*" if letter else r"^width_multiple:\s*"
    found = re.search(rf"({scaled})([\d.]+)", text, re.MULTILINE)
    if not found:
        raise UserError(f"--equal-gflops: {name} has no scales and no width_multiple, so nothing makes it wider")

    def at(factor: float) -> tuple[str, float]:
        made = f"{text[: found.start(2)]}{float(found[2]) * factor:.4f}{text[found.end(2) :]}"
        return made, cost_of(describe(made, name, scale), size)[1]

    low, high = 1.0, float(WIDEST)
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle)[1] <= gflops else (low, middle)
    return min((at(low), at(high)), key=lambda made: abs(made[1] - gflops))[0]
