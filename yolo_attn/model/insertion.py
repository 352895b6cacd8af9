"""Attention put into model YAMLs by name of layer and place, and checked against the model without it."""

import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from yolo_attn import yaml_edit
from yolo_attn.bounded_reading import load_yaml, yaml_reason
from yolo_attn.errors import UserError, quoted
from yolo_attn.model.blocks import UNITS
from yolo_attn.model.registry import LAYERS, hint, parsed_names
from yolo_attn.model.rows import options_of
from yolo_attn.model.shapes import BuiltRow, check_same, measure
from yolo_attn.yaml_edit import Edited

SHORT = {"triplet": "TripletAttention"}
"""What file names call a layer, where it is not the layer's own name in lower case."""


def layer_named(text: str) -> str | None:
    """The registered layer that a name means, in any case of letters; None if there is none."""
    lower = {name.lower(): name for name in LAYERS} | SHORT
    return text if text in LAYERS else lower.get(text.lower())


def describe(text: str, name: str, scale: str = "") -> dict[str, Any]:
    """A model dictionary as Ultralytics makes it of a YAML's text.

    Raises:
        UserError: If the text is no YAML, or no mapping.
    """
    try:
        content = load_yaml(text)
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"{name}: not YAML: {yaml_reason(error, text)}") from error
    if not isinstance(content, dict):
        raise UserError(f"{name}: not a model YAML: found {quoted(content)}, expected nc, backbone and head")
    return {**content, "scale": scale, "yaml_file": name}


def insert(
    text: str, name: str, layer: str, place: str, options: Mapping[str, Any] | None = None, scale: str = ""
) -> Edited:
    """Put attention into a model.

    Args:
        text: The model YAML.
        name: What messages call it.
        layer: Name of a registered layer.
        place: One of `yaml_edit.places.PLACES`.
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
            f"{layer}: no such layer; {hint(layer, list(LAYERS))} (a layer of your own needs --import MODULE)"
        )
    edited, plain = put(text, name, known, place, options, scale)
    attended = measure(describe(edited.text, f"{name} with {known} at {place}", scale))
    check_same(name, plain, attended, edited.places)
    return edited


def put(
    text: str, name: str, layer: str, place: str, options: Mapping[str, Any] | None = None, scale: str = ""
) -> tuple[Edited, list[BuiltRow]]:
    """Put attention into a model that is measured first; the result is not.

    Args are those of `insert`, but for `layer`, a registered layer's own name.

    Returns:
        The edit, and what each row made before.

    Raises:
        UserError: If it is no model that builds, or has no such place.
    """
    model = yaml_edit.ModelText(text, name)
    plain = measure(describe(text, name, scale))
    strides = {index: row.stride for index, row in enumerate(plain) if row.stride}
    return yaml_edit.insert(model, layer, place, options, blocks=UNITS, strides=strides), plain


def remove(text: str, name: str, scale: str = "") -> Edited:
    """Take out what the last insertion put into a model, given as to `insert`; without its header, all attention.

    Raises:
        UserError: If there is nothing to take out, or anything of the model would change beside the attention.
    """
    edited = yaml_edit.remove(text, name, LAYERS, UNITS)
    attended = measure(describe(text, name, scale))
    check_same(name, measure(describe(edited.text, f"{name} without it", scale)), attended, edited.places)
    return edited


def migrate(text: str, name: str, scale: str) -> tuple[str, list[str]]:
    """Translate a model YAML, given as to `insert`, that was written for ports of the layers.

    Returns:
        The new text; a line for each row that was changed, and for each that should be looked at.

    Raises:
        UserError: If there is nothing to translate, if rows cannot be, naming each, or if the result does not build.
    """
    known = parsed_names()
    model = yaml_edit.ModelText(text, name)
    plain = {
        **describe(text, name, scale),
        "backbone": yaml_edit.without_attention(model, LAYERS, UNITS, known),
        "head": [],
    }
    migrated = yaml_edit.migrate(model, LAYERS, UNITS, known, _channels_of(plain))
    if migrated.unknown:
        raise UserError(f"{name}: cannot be translated: {'; '.join(migrated.unknown)}")
    described = describe(migrated.text, f"{name} as translated" if migrated.changes else name, scale)
    measure(described)
    notes = [*(_meaning(described, index) for index in migrated.kept), *migrated.notes]
    if not migrated.changes:
        raise UserError("; ".join([f"{name}: no row of it is written for a port", *notes]))
    return migrated.text, [*migrated.changes, *notes]


def _channels_of(described: dict[str, Any]) -> Callable[[int], list[int]]:
    """The channels of each row's map: at the model's own scale, as the numbers are written, and at its other scales."""

    @functools.cache
    def built() -> list[list[BuiltRow]]:
        unscaled = {**described, "scales": None, "depth_multiple": 1.0, "width_multiple": 1.0}
        others = [unscaled, *({**described, "scale": scale} for scale in described.get("scales") or ())]
        found = [measure(described)]
        for other in others:
            with contextlib.suppress(UserError):  # a scale that does not build is none that was meant
                found.append(measure(other))
        return found

    return lambda index: [rows[index].maps[0][1] for rows in built() if rows[index].maps and rows[index].maps[0][1:]]


def _meaning(described: dict[str, Any], index: int) -> str:
    """What options by position mean here, which a port may mean otherwise."""
    _, _, layer, args = [*described["backbone"], *described["head"]][index]
    meant = ", ".join(f"{key}: {value}" for key, value in zip(options_of(LAYERS[layer]), args, strict=False))
    return f"row {index}: {layer}, {args} stays as it is, and means {meant} here"
