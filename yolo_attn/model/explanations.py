"""What is wrong with rows of Ultralytics' own layers, which are its parser's to judge: its errors in our words."""

from typing import Any

from torch import nn

from yolo_attn.model.blocks import UNITS
from yolo_attn.model.registry import LAYERS, hint
from yolo_attn.model.rows import RowError, is_earlier, is_row, place_of
from yolo_attn.yaml_edit.row_names import RowName


def explained(error: Exception, model: dict[str, Any], index: int | None, known: set[str]) -> RowError | None:
    """What is wrong with a row of Ultralytics' own layers, in words; None where that is not known.

    Args:
        error: What its parser raised.
        model: The model dictionary.
        index: The row that the parser was at, where that is known.
        known: Names that the parser resolves.
    """
    body = [*model["backbone"], *model["head"]]
    wrong = wrong_source(model)
    if isinstance(error, IndexError) and wrong:
        return wrong
    if index is None or index >= len(body):
        return None
    place, row = place_of(model, index), body[index]
    if not is_row(row):
        return RowError(f"{place}: found {row}, expected [from, repeats, layer, arguments]")
    name = row[2]
    if isinstance(row[-1], list) and "anchors" in row[-1]:
        return RowError(f"{place}: {name} takes no anchors in Ultralytics; yolo-attn migrate takes them out of the row")
    if not isinstance(error, (KeyError, AttributeError)) or name in known or _is_torchs(name):
        return None
    block, layer = RowName.of(name)
    if layer in LAYERS and block in known:
        return RowError(f"{place}: {block} has no attention variant; blocks that have are {', '.join(UNITS)}")
    variants = [str(RowName(block, layer)) for block in UNITS for layer in LAYERS]
    return RowError(
        f"{place}: unknown layer {name!r}; {hint(name, [*LAYERS, *variants, *known])} (for a layer of your own "
        "import its module, --import MODULE)"
    )


def wrong_source(model: dict[str, Any]) -> RowError | None:
    """What is wrong with the first row that takes what no earlier row gives; None where there is no such row."""
    for index, row in enumerate([*model["backbone"], *model["head"]]):
        sources = row[0] if is_row(row) else []
        for source in sources if isinstance(sources, list) else [sources]:
            if type(source) is int and not is_earlier(source, index):
                return RowError(f"{place_of(model, index)}: from = {sources}: {source} is not an earlier row")
    return None


def _is_torchs(name: str) -> bool:
    return name.startswith("nn.") and hasattr(nn, name[3:])
