"""Attention put into model YAMLs by name of layer and place, and held against the model without it."""

import math
from collections.abc import Mapping
from typing import Any

import yaml
from ultralytics.nn import tasks
from ultralytics.utils.ops import make_divisible

from yolo_attn import editing
from yolo_attn.editing import Edited, Migrated
from yolo_attn.errors import UserError
from yolo_attn.plugin.blocks import UNITS
from yolo_attn.plugin.measure import BuiltRow, check_same, measure
from yolo_attn.plugin.registry import LAYERS, hint
from yolo_attn.plugin.rows import options_of

SHORT = {"triplet": "TripletAttention"}
"""What file names call a layer, where it is not the layer's own name in lower case."""


def layer_named(text: str) -> str | None:
    """The registered layer that a name means, whatever its case; None if there is none."""
    lower = {name.lower(): name for name in LAYERS} | SHORT
    return text if text in LAYERS else lower.get(text.lower())


def describe(text: str, name: str, scale: str = "") -> dict[str, Any]:
    """A model dictionary as Ultralytics makes it of a YAML's text, which is a model's."""
    return {**yaml.safe_load(text), "scale": scale, "yaml_file": name}


def insert(
    text: str, name: str, layer: str, place: str, options: Mapping[str, Any] | None = None, scale: str = ""
) -> Edited:
    """Put attention into a model.

    Args:
        text: The model YAML.
        name: What messages call it.
        layer: Name of a registered layer.
        place: One of `editing.places.PLACES`.
        options: The layer's, and `where` inside blocks.
        scale: Scale letter that the model is built at.

    Returns:
        The edit, which leaves every row as it was; nothing is written.

    Raises:
        UserError: If the layer is unknown, refuses an option, or has no such place in the model, or if anything of the
            model would change beside the attention.
    """
    known = layer_named(layer)
    if known is None:
        raise UserError(
            f"--layer {layer}: no such layer; {hint(layer, list(LAYERS))} (a layer of your own needs --import MODULE)"
        )
    edited, plain = put(text, name, known, place, options, scale)
    attended = measure(describe(edited.text, f"{name} with {known} at {place}", scale))
    check_same(name, plain, attended, edited.places)
    return edited


def put(
    text: str, name: str, layer: str, place: str, options: Mapping[str, Any] | None = None, scale: str = ""
) -> tuple[Edited, list[BuiltRow]]:
    """Put attention into a model that is measured first; the result is not.

    Args:
        text: The model YAML.
        name: What messages call it.
        layer: A registered layer's own name.
        place: One of `editing.places.PLACES`.
        options: The layer's, and `where` inside blocks.
        scale: Scale letter that the model is built at.

    Returns:
        The edit, and what each row made before.

    Raises:
        UserError: If it is no model that builds, or has no such place.
    """
    editing.check_place(place)
    model = editing.ModelText(text, name)
    plain = measure(describe(text, name, scale))
    strides = {index: row.stride for index, row in enumerate(plain) if row.stride}
    return editing.insert(model, layer, place, options, blocks=UNITS, strides=strides), plain


def remove(text: str, name: str, scale: str = "") -> Edited:
    """Take out what the last insertion put into a model; without its header, all attention.

    Args:
        text: The model YAML.
        name: What messages call it.
        scale: Scale letter that the model is built at.

    Raises:
        UserError: If there is nothing to take out, or anything of the model would change beside the attention.
    """
    edited = editing.remove(text, name, LAYERS, UNITS)
    attended = measure(describe(text, name, scale))
    check_same(name, measure(describe(edited.text, f"{name} without it", scale)), attended, edited.places)
    return edited


def migrate(text: str, name: str, scale: str = "") -> tuple[str, list[str]]:
    """Translate a model YAML that was written for ports of the layers.

    Args:
        text: The model YAML.
        name: What messages call it.
        scale: Scale letter that the model is built at.

    Returns:
        The new text; a line for each row that was changed, and for each that should be looked at.

    Raises:
        UserError: If there is nothing to translate, if rows cannot be, naming each, or if the result does not build.
    """
    known = {key for key, value in vars(tasks).items() if isinstance(value, type)}
    migrated = editing.migrate(editing.ModelText(text, name), LAYERS, UNITS, known)
    if migrated.unknown:
        raise UserError(f"{name}: cannot be translated: {'; '.join(migrated.unknown)}")
    described = describe(migrated.text, f"{name} as translated" if migrated.changes else name, scale)
    notes = _notes(migrated, described, measure(described))
    if not migrated.changes:
        raise UserError("; ".join([f"{name}: no row of it is written for a port", *notes]))
    return migrated.text, [*migrated.changes, *notes]


def _notes(migrated: Migrated, described: dict[str, Any], built: list[BuiltRow]) -> list[str]:
    """What should be looked at: options that a port may mean otherwise, and channels by hand that the map has not."""
    rows, notes = [*described["backbone"], *described["head"]], []
    for index in migrated.kept:
        _, _, layer, args = rows[index]
        meant = ", ".join(f"{key}: {value}" for key, value in zip(options_of(LAYERS[layer]), args, strict=False))
        notes.append(f"row {index}: {layer}, {args} stays as it is, and means {meant} here")
    scales = described.get("scales") or {"": (1, described.get("width_multiple", 1), math.inf)}
    _, width, most = scales[described["scale"] or next(iter(scales))]
    for index, given in migrated.channels.items():
        scaled, found = make_divisible(min(given, most) * width, 8), built[index].maps[0][1]
        if found not in (given, scaled):
            notes.append(f"row {index}: {given} channels were given, {scaled} at this scale, and its map has {found}")
    return notes
