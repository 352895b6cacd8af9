"""Plan the models of a comparison: the base, each attention inserted into it, and wider bases of equal cost."""

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from yolo_attn.bounded_reading import load_yaml
from yolo_attn.compare.study_folder import Variant
from yolo_attn.engine.cost import cost_of
from yolo_attn.errors import UserError
from yolo_attn.model.blocks import WHERE
from yolo_attn.model.insertion import describe, insert, layer_named
from yolo_attn.model.names import read_model
from yolo_attn.model.registry import LAYERS
from yolo_attn.model.rows import literal, options_of
from yolo_attn.model.untrusted import check_yaml

SAME_COST = 0.01
"""Up to this share of extra GFLOPs, a variant needs no wider base beside it."""

STEPS = 128
"""Widths tried between two ints: the fewest with which 1024 channels grow by 8, as channels do."""

WIDEST = 8
"""The widest base, as a multiple of the base's width."""

FARTHEST = 0.25
"""Share by which a wider base may miss the requested GFLOPs."""


@dataclass(frozen=True)
class Wanted:
    """An attention to compare: a layer, its options, and a place of `yaml_edit.PLACES`."""

    layer: str
    at: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """A variant and its model YAML."""

    variant: Variant
    text: str


def plan(
    base: str, wanted: Iterable[Wanted], equal_gflops: int | None = None, classes: int | None = None
) -> list[Model]:
    """Return the models of a comparison, the base first.

    Args:
        base: Model YAML or name, with its scale letter.
        wanted: The attention to compare.
        equal_gflops: Image size, pixels, at which operations are counted to give each variant that needs more of them
            a wider base that needs as many; None for no wider bases.
        classes: Number of classes for counting operations; None for that of the base's YAML.

    Raises:
        UserError: If the base is not a model, a layer or place is unknown or refuses an option, two variants are the
            same, or no width of the base needs about as many operations as a variant.
    """
    text, scale = read_model(base)
    stem = Path(base).stem
    check_yaml(f"--base {base}", describe(text, stem, scale))
    models = [Model(Variant("base", stem), text)]
    for each in wanted:
        variant = _variant(each)
        edited = insert(text, Path(base).name, each.layer, each.at, variant.options, scale)
        for model in models[1:]:
            if model.variant.name == variant.name:
                raise UserError(f"--layers: {variant.label} is given twice")
            if load_yaml(model.text) == load_yaml(edited.text):
                raise UserError(f"--layers: {variant.label} is the same model as {model.variant.label}")
        models.append(Model(variant, edited.text))
    if equal_gflops:
        size, data = equal_gflops, {"nc": classes} if classes else {}
        models += _controls(models, lambda text: cost_of(describe(text, stem, scale) | data, size)[1], scale)
    return models


def _variant(wanted: Wanted) -> Variant:
    """Return a variant with the layer's own name, options in the signature's order, and none that are defaults.

    Its file name is such as gam-neck-ratio8, its label GAM (ratio=8) at neck.
    """
    layer = layer_named(wanted.layer) or wanted.layer
    options = {option: literal(value) for option, value in wanted.options.items()}
    defaults = {"where": WHERE[0], **options_of(LAYERS[layer])} if layer in LAYERS else {}
    known = {option: options.pop(option) for option in defaults if option in options}
    options = {o: v for o, v in known.items() if (type(v), v) != (type(defaults[o]), defaults[o])} | options
    parts = [layer, wanted.at, *(f"{name}{value}" for name, value in options.items())]
    slug = "-".join(re.sub(r"[^a-z0-9.]+", "_", part.lower()).strip("_") for part in parts)
    shown = ", ".join(f"{name}={value}" for name, value in options.items())
    label = f"{layer}{f' ({shown})' if shown else ''} at {wanted.at}"
    return Variant(slug, label, layer, wanted.at, options)


def _controls(models: list[Model], cost: Callable[[str], float], scale: str) -> list[Model]:
    base, *variants = models
    own, controls = cost(base.text), []
    for model in variants:
        of, gflops = model.variant, cost(model.text)
        if gflops <= own * (1 + SAME_COST):
            continue
        made = wider(base.text, base.variant.label, scale, gflops, cost)
        if made is None or abs(made[1] / gflops - 1) > FARTHEST:
            least = f"; the nearest that builds needs {made[1]:.2f}" if made else " that builds"
            raise UserError(
                f"--equal-gflops: {of.label} needs {gflops:.2f} GFLOPs and {base.variant.label} {own:.2f}, and there "
                f"is no wider {base.variant.label} of about as many{least}"
            )
        text, found = made
        label = f"{base.variant.label}, wider to {found:.2f} GFLOPs ({of.label}: {gflops:.2f})"
        controls.append(Model(Variant(f"wide-{of.name}", label, control_for=of.name), text))
    return controls


def wider(text: str, name: str, scale: str, gflops: float, cost: Callable[[str], float]) -> tuple[str, float] | None:
    """Widen a model, at its scale letter or "" for the first, until it needs `gflops`, more than it does.

    Else it needs the nearest number at which it builds. `cost` returns the operations of a model YAML, and raises if
    the model does not build.

    Returns:
        The wider YAML and its operations, more than the model's; None if it builds at no such width.
    """
    scales = load_yaml(text).get("scales")
    letter = (scale or next(iter(scales))) if scales else ""
    scaled = rf"^\s*{re.escape(letter)}:\s*\[[^,]+,\s*" if letter else r"^width_multiple:\s*"
    found = re.search(rf"({scaled})([\d.]+)", text, re.MULTILINE)
    if not found:
        raise UserError(f"--equal-gflops: {name} has no scales and no width_multiple, so it cannot be widened")
    (start, end), width, own = found.span(2), float(found[2]), cost(text)
    most = int((WIDEST - 1) * width * STEPS)

    @cache
    def made(step: int) -> tuple[str, float] | None:
        wide = f"{text[:start]}{round(width + step / STEPS, 7)}{text[end:]}"
        with contextlib.suppress(Exception):  # blocks raise anything at widths that they cannot have
            needed = cost(wide)
            return (wide, needed) if needed > own else None
        return None

    low, high = 0, 1
    while high <= most and ((model := made(high)) is None or model[1] < gflops):
        low, high = (high if model else low), 2 * high
    for _ in range(most):  # the interval shrinks each time
        middle, between = (low + high) // 2, range(low + 1, min(high, most + 1))
        tried = ((step, made(step)) for step in sorted(between, key=lambda step: abs(step - middle)))
        step, model = next(((step, model) for step, model in tried if model), (0, None))
        if model is None:
            break
        low, high = (step, high) if model[1] <= gflops else (low, step)
    near = filter(None, (made(step) for step in (low, high) if 0 < step <= most))
    return min(near, key=lambda each: abs(each[1] - gflops), default=None)
