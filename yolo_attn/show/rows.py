"""What each row of a model is, makes, costs, and who reads it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import nn
from ultralytics.nn import tasks

from yolo_attn.engine.cost import row_costs
from yolo_attn.engine.preflight.checks import building, read_checkpoint
from yolo_attn.engine.tasks import task_of
from yolo_attn.errors import UserError, one_line
from yolo_attn.model.graph import nodes_of, not_refused
from yolo_attn.model.names import SUFFIXES
from yolo_attn.model.rows import literal
from yolo_attn.model.untrusted import check_yaml, without_downloads
from yolo_attn.weights.checkpoint_files import StateDict

OTHER_MODELS = {
    "WorldDetect": "WorldModel",
    "YOLOEDetect": "YOLOEModel",
    "YOLOESegment": "YOLOESegModel",
    "YOLOESegment26": "YOLOESegModel",
}
"""Ultralytics' classes of models that it alone trains, by their head; those of further heads are DetectionModels."""


@dataclass(frozen=True)
class Row:
    """One row of a model.

    Attributes:
        number: Its place in backbone and head.
        given: Its `from`, as written.
        sources: The rows that it reads, by number; -1 for the image.
        repeats: As written, before the depth multiple.
        name: As written.
        kind: The name without attention inside.
        arguments: As written, as YAML.
        attends: Whether it is attention, or a block with attention inside.
        shape: Of its output, without the batch.
        strides: Pixels of the image in a pixel of its map; a head's, in those of the maps that it reads.
        parameters: Their number.
        gflops: Operations for one image, 10⁹.
        readers: The rows that read it.
    """

    number: int
    given: Any
    sources: tuple[int, ...]
    repeats: int
    name: str
    kind: str
    arguments: str
    attends: bool
    shape: tuple[int, ...]
    strides: tuple[float, ...]
    parameters: int
    gflops: float
    readers: tuple[int, ...]


@dataclass(frozen=True)
class Shown:
    """A model's rows.

    Attributes:
        name: As it was given.
        size: Of the image, pixels.
        rows: In order.
    """

    name: str
    size: int
    rows: list[Row]

    @property
    def parameters(self) -> int:
        """Of all rows."""
        return sum(row.parameters for row in self.rows)

    @property
    def gflops(self) -> float:
        """Of all rows."""
        return sum(row.gflops for row in self.rows)


def shown(names: Sequence[str], size: int | None = None, trust: bool = False) -> list[Shown]:
    """Models by name, a checkpoint's classes being those of a YAML beside it, too.

    Args:
        names: Model YAMLs, names without a file such as yolov8n-gam.yaml, or checkpoints.
        size: Of the image, pixels; None for the first model's own: a checkpoint's, or 640, for a classifier 224.
        trust: Whether checkpoints are read as Ultralytics reads them, which runs what they name.

    Raises:
        UserError: If one of them is missing, or is no model that Ultralytics can build and run.
    """
    read = [None if Path(name).suffix in SUFFIXES else _checkpoint(name, trust) for name in names]
    classes = next((model.yaml["nc"] for model in read if model), None)
    models = [model or _of_yaml(name, classes) for name, model in zip(names, read, strict=True)]
    size = size or _size(models[0])
    return [Shown(name, size, _rows(name, model, size)) for name, model in zip(names, models, strict=True)]


def _checkpoint(name: str, trust: bool) -> Any:
    model, _ = read_checkpoint(name, "", trust)
    if isinstance(model, StateDict) or not getattr(model, "yaml", None):
        raise UserError(f"{name}: it was not built from rows, or does not know them")
    return model


def _of_yaml(name: str, classes: int | None) -> nn.Module:
    with building(name, option=""), not_refused():
        described = without_downloads(tasks.yaml_model_load(name))
        check_yaml(name, described)
        if not described["head"] or "nc" not in described:
            raise UserError(
                f"{name}: not a whole model YAML: {'nc' if described['head'] else 'a row of head'} is missing"
            )
        head = described["head"][-1][2]
        task = task_of(head)
        kind: Any = task.model if task else getattr(tasks, OTHER_MODELS.get(head, "DetectionModel"))
        return kind({**described, "nc": classes or described["nc"]}, verbose=False)


def _size(model: Any) -> int:
    known = getattr(model, "args", None)
    size = known.get("imgsz") if isinstance(known, dict) else None
    return size if isinstance(size, int) else 224 if isinstance(model, tasks.ClassificationModel) else 640


def _rows(name: str, model: Any, size: int) -> list[Row]:
    nodes, stride = nodes_of(model.yaml), int(max(model.stride))
    assert nodes  # it was built
    if size % stride:
        raise UserError(f"--imgsz {size}: {name} needs a multiple of {stride}")
    try:
        costs = row_costs(model, size)
    except Exception as error:  # a layer of the user's own may raise anything
        raise UserError(f"{name}: it does not run on an image of {size} pixels: {one_line(error)}") from error
    strides = [size / cost.shape[1] if len(cost.shape) == 3 else None for cost in costs]
    found = []
    for number, (row, node, cost) in enumerate(
        zip([*model.yaml["backbone"], *model.yaml["head"]], nodes, costs, strict=True)
    ):
        own = strides[number]
        maps = [own] if own else [strides[source] for source in node.sources if source >= 0]
        found.append(
            Row(
                number,
                row[0],
                node.sources,
                row[1],
                node.name,
                node.kind,
                yaml.safe_dump([literal(value) for value in row[3]], default_flow_style=True, width=math.inf).strip(),
                node.attends,
                cost.shape,
                tuple(stride for stride in maps if stride),
                cost.parameters,
                cost.gflops,
                tuple(other for other, reader in enumerate(nodes) if number in reader.sources),
            )
        )
    return found
