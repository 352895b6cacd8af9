"""What each row of a model makes, found on the meta device, and whether an edited model still makes it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from ultralytics.nn import tasks

from yolo_attn.errors import UserError, one_line
from yolo_attn.model.parser import REFERENCE_SIZE
from yolo_attn.model.registry import is_attention
from yolo_attn.model.run_rows import each_row
from yolo_attn.model.untrusted import check_yaml, without_downloads

TEXTS = (80, 512)
"""Number and width of the text embeddings that YOLO-World's rows take beside their map."""


@dataclass(frozen=True)
class BuiltRow:
    """What a row became.

    Attributes:
        kind: Its class.
        maps: Shape of each map that it makes; none for the head.
        tensors: Shape of each of its parameters and buffers.
    """

    kind: str
    maps: tuple[tuple[int, ...], ...]
    tensors: dict[str, tuple[int, ...]]

    @property
    def stride(self) -> int | None:
        """Pixels of the image in a pixel of its map; None where it makes no one map of a whole stride."""
        if len(self.maps) != 1 or len(self.maps[0]) != 4:
            return None
        height, width = self.maps[0][2:]
        return REFERENCE_SIZE // height if height == width and REFERENCE_SIZE % height == 0 else None


def measure(described: dict[str, Any]) -> list[BuiltRow]:
    """Build a model on the meta device and run an image through its rows, the head apart.

    Nothing that the dictionary names is run but layers: its activation, which Ultralytics evaluates, is skipped, since
    maps do not depend on it, and so are pretrained weights of torchvision's, which are downloaded. The dictionary stays
    as it is.

    Raises:
        UserError: If a row names no layer, or if Ultralytics cannot build or run the model, with the reason.
    """
    name = described.get("yaml_file")
    described = {**described, "activation": None}
    check_yaml(str(name), described)
    try:
        return _measure(without_downloads(described))
    except UserError:
        raise
    except Exception as error:  # a wrong row may make Ultralytics' layers raise anything
        raise UserError(f"{name}: not a model that Ultralytics can build: {one_line(error)}") from error


def _measure(d: dict[str, Any]) -> list[BuiltRow]:
    if d.get("scales") and not d.get("scale"):
        d["scale"] = next(iter(d["scales"]))  # as Ultralytics does, with a warning
    ch = d.get("channels", 3)
    layers: Any
    with torch.device("meta"), torch.no_grad():
        layers, _ = tasks.parse_model(d, ch, verbose=False)
        text = torch.zeros(1, *TEXTS)

        def made(m: Any, x: Any) -> Any:
            _silence(m)
            if m is layers[-1]:
                return []
            output = m(x, text) if type(m).__name__ in {"C2fAttn", "ImagePoolingAttn"} else m(x)
            return x if type(m).__name__ == "ImagePoolingAttn" else output  # it makes texts, not a map

        x = torch.zeros(1, ch, REFERENCE_SIZE, REFERENCE_SIZE)
        return [_built(m, output) for m, output in each_row(layers.eval(), x, made)]


def _built(module: Any, output: Any) -> BuiltRow:
    maps = [output] if isinstance(output, torch.Tensor) else output
    tensors = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    return BuiltRow(type(module).__name__, tuple(tuple(y.shape) for y in maps), tensors)


def _silence(module: Any) -> None:
    """Leave out layers of the user's own, which may run on a GPU alone; their row has been checked."""
    for part in module.modules():
        if is_attention(part) and not type(part).__module__.startswith("yolo_attn."):
            part.forward = lambda x: x


def check_same(name: str, plain: Sequence[BuiltRow], attended: Sequence[BuiltRow], places: Sequence[int]) -> None:
    """Check that the rows of a model make the same with attention put in as without.

    `places` has the number in `attended` of each row of `plain`; `name` is what the message calls the model.

    Raises:
        UserError: At the first row of other class, channels, stride or tensors.
    """
    for index, (row, place) in enumerate(zip(plain, places, strict=True)):
        other = attended[place]
        if (row.kind, row.maps) != (other.kind, other.maps):
            raise UserError(
                f"{name}: row {index} would no longer make the same: {row.kind} made {row.maps}, row {place}, "
                f"{other.kind}, would make {other.maps}"
            )
        changed = [key for key, shape in row.tensors.items() if other.tensors.get(key) != shape]
        if changed:
            raise UserError(f"{name}: row {index}, {row.kind}, would get other tensors as row {place}: {changed[0]}")
