"""How the rows of a model read each other.

A row that is put in by hand shifts the numbers of those behind it. A model whose numbers stayed is built and trained
all the same: its head reads other maps, and attention whose map never reaches the head learns nothing. So such
attention is refused, and in a model that is trained already reported. Further warnings: another row that nothing reads,
a head that reads what no head of Ultralytics' models reads, and rows that read others than in the model of Ultralytics
that has the same rows.
"""

import contextlib
import functools
import re
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import ultralytics
import yaml
from torch import nn
from ultralytics.utils import LOGGER

from yolo_attn.model.registry import split_name
from yolo_attn.model.rows import RowError, is_earlier, is_row, place_of
from yolo_attn.model.run_rows import each_row

UNREAD = {"ImagePoolingAttn"}
"""Rows whose output no row reads: it goes to the texts of YOLO-World."""

NOT_FOR_HEADS = {"Concat", "nn.Upsample"}
"""Rows that no head reads in any of Ultralytics' models."""

ROW = re.compile(r"^ *- \[", re.MULTILINE)
"""The beginning of a row in Ultralytics' YAMLs."""

PROBE = 256
"""Size, pixels, of the image that shows strides, as Ultralytics' models find them by."""

_asked: ContextVar[str] = ContextVar("asked", default="refuse")
"""What is done with attention that does nothing: "refuse" it; "report" it; or, of a model that is "trained" already,
report that alone, without a look at Ultralytics' YAMLs."""

WAY_ON = "yolo-attn insert puts a row in and shifts the numbers of those behind it"


@dataclass(frozen=True)
class Node:
    """A row of a model.

    Attributes:
        name: As the YAML has it.
        kind: The block's or the layer's name, without attention inside.
        attends: Whether it is attention, or a block with attention inside.
        sources: The rows that it reads, -1 for the image.
    """

    name: str
    kind: str
    attends: bool
    sources: tuple[int, ...]

    @property
    def is_attention(self) -> bool:
        """Whether it is attention in a row of its own."""
        return self.attends and self.kind == self.name


@dataclass(frozen=True)
class Family:
    """The model of Ultralytics that has the rows of a given one, attention apart.

    Attributes:
        name: Of its YAML.
        sources: What each row of the given model reads in it, by the given one's numbers; without attention.
        wrong: The rows of the given model that read others.
    """

    name: str
    sources: dict[int, tuple[int, ...]]
    wrong: list[int]


@contextlib.contextmanager
def not_refused(trained: bool = False) -> Iterator[None]:
    """While it lasts, `check_graph` reports attention that does nothing, and of a trained model nothing else."""
    token = _asked.set("trained" if trained else "report")
    try:
        yield
    finally:
        _asked.reset(token)


def check_graph(model: dict[str, Any]) -> bool:
    """Check that attention reaches the head; report, once in a process, what else is wired unlike Ultralytics' models.

    Returns:
        Whether one of Ultralytics' models has the same rows, attention apart, or that was not asked.

    Raises:
        RowError: If the map of a row with attention does not reach the head.
    """
    nodes = nodes_of(model)
    if nodes is None:
        return False  # the parser refuses it
    asked = _asked.get()
    family = None if asked == "trained" else family_of(nodes)
    idle = _idle_attention(nodes, family)
    if idle:
        line = f"{place_of(model, idle[0])}: {idle[1]}; {WAY_ON}"
        if asked == "refuse":
            raise RowError(line)
        _warn_once(line)
    elif asked != "trained" and (odd := _oddities(nodes, family)):
        _warn_once(f"{model.get('yaml_file') or 'model'}: {'; '.join(odd)}; {WAY_ON}")
    return asked == "trained" or family is not None


def _idle_attention(nodes: list[Node], family: Family | None) -> tuple[int, str] | None:
    """The first row with attention that does nothing, and what the head reads instead."""
    index = next((index for index in _idle(nodes) if nodes[index].attends), None)
    if index is None:
        return None
    last, read = len(nodes) - 1, any(index in node.sources for node in nodes)
    found = f"{'only rows that do nothing read' if read else 'no row reads'} {nodes[index].name}, it does nothing"
    found += f"; {nodes[last].kind}, row {last}, reads {_listed(nodes, nodes[last].sources)}"
    if family and last in family.wrong:
        expected = [_attended(nodes, source) for source in family.sources[last]]
        found += f", and as in {family.name} it would read {_listed(nodes, expected)}"
    return index, found


def _oddities(nodes: list[Node], family: Family | None) -> list[str]:
    """What is wired unlike Ultralytics' models, where no attention is without effect."""
    head, last, found = nodes[-1], len(nodes) - 1, []
    if family and family.wrong:
        first, more = family.wrong[0], len(family.wrong) - 1
        found.append(
            f"row {first} ({nodes[first].name}) reads {_listed(nodes, nodes[first].sources)}, where {family.name} has "
            f"{_listed(nodes, family.sources[first])}" + (f", and {more} more rows differ" if more else "")
        )
    elif any(nodes[_behind(nodes, source)].kind in NOT_FOR_HEADS for source in head.sources if source >= 0):
        found.append(f"row {last} ({head.name}) reads {_listed(nodes, head.sources)}, no head of Ultralytics' does")
    read = {source for node in nodes for source in node.sources}
    unread = [index for index in range(last) if index not in read and nodes[index].kind not in UNREAD]
    return found + [f"no row reads row {index} ({nodes[index].name})" for index in unread]


def check_strides(model: dict[str, Any], layers: nn.Sequential, channels: int) -> None:
    """Report maps of a head whose strides do not ascend, as those of all of Ultralytics' heads do.

    Args:
        model: The model dictionary.
        layers: What was built of it, as new.
        channels: Of the image.
    """
    head: Any = layers[-1]
    sources = head.f if isinstance(head.f, list) else [head.f]
    x = torch.zeros(1, channels, PROBE, PROBE)
    try:
        with torch.no_grad():
            made = {row.i: output for row, output in each_row(layers[:-1].eval(), x)}
            strides = [PROBE / made[source].shape[2] for source in sources]
    except Exception:  # rows may take texts beside their maps, or run on a GPU alone
        return
    finally:
        layers.train()
    if sorted(set(strides)) != strides:
        found = ", ".join(f"{stride:g}" for stride in strides)
        _warn_once(
            f"{place_of(model, len(layers) - 1)}: {type(head).__name__} reads maps of strides {found}, expected "
            f"ascending ones; {WAY_ON}"
        )


def nodes_of(model: dict[str, Any]) -> list[Node] | None:
    """The rows of a model dictionary; None where one is not such that it reads earlier rows."""
    nodes = []
    for index, row in enumerate([*model["backbone"], *model["head"]]):
        given = row[0] if is_row(row) and isinstance(row[0], list) else row[:1] if is_row(row) else []
        if not given or any(type(source) is not int or not is_earlier(source, index) for source in given):
            return None
        block, layer = split_name(row[2])
        sources = tuple(source if source >= 0 else index + source for source in given)
        nodes.append(Node(row[2], block or row[2], layer is not None, sources))
    return nodes


def family_of(nodes: list[Node]) -> Family | None:
    """The model of Ultralytics that has these rows, of several the one that is wired most alike."""
    plain = [index for index, node in enumerate(nodes) if not node.is_attention]
    ours = {-1: -1, **dict(enumerate(plain))}
    found = []
    for name, rows in _families(len(plain)).get(tuple(nodes[index].kind for index in plain), {}).items():
        sources = {ours[i]: tuple(ours[source] for source in row) for i, row in enumerate(rows)}
        wrong = [i for i, row in sources.items() if tuple(_behind(nodes, s) for s in nodes[i].sources) != row]
        found.append(Family(name, sources, wrong))
    return min(found, key=lambda family: len(family.wrong), default=None)


@functools.cache
def _families(number: int) -> dict[tuple[str, ...], dict[str, list[tuple[int, ...]]]]:
    """What the rows of Ultralytics' models of so many rows read, by the rows' kinds and the YAML's name."""
    families: dict[tuple[str, ...], dict[str, list[tuple[int, ...]]]] = {}
    for file in sorted((Path(ultralytics.__file__).parent / "cfg/models").rglob("*.yaml")):
        text = file.read_text(encoding="utf-8")
        nodes = nodes_of(yaml.safe_load(text)) if len(ROW.findall(text)) == number else None
        if nodes:
            kinds = tuple(node.kind for node in nodes)
            families.setdefault(kinds, {})[file.name] = [node.sources for node in nodes]
    return families


def _idle(nodes: list[Node]) -> list[int]:
    """The rows whose map does not reach the head."""
    live = {len(nodes) - 1, *(index for index, node in enumerate(nodes) if node.kind in UNREAD)}
    for index in reversed(range(len(nodes))):
        live.update(nodes[index].sources if index in live else ())
    return [index for index in range(len(nodes)) if index not in live]


def _behind(nodes: list[Node], index: int) -> int:
    """The row whose map a row gives on: itself, or what attention attends to."""
    while index >= 0 and nodes[index].is_attention:
        index = nodes[index].sources[0]
    return index


def _attended(nodes: list[Node], index: int) -> int:
    """The last attention on a row's map, or the row itself."""
    for other in range(index + 1, len(nodes)):
        if nodes[other].is_attention and nodes[other].sources == (index,):
            index = other
    return index


def _listed(nodes: list[Node], sources: Sequence[int]) -> str:
    """Rows by number and name."""
    return ", ".join(f"{source} ({nodes[source].name})" if source >= 0 else "the image" for source in sources)


@functools.cache
def _warn_once(line: str) -> None:
    LOGGER.warning(line)
