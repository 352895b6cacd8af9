"""Read a model YAML's rows, and where each part of a row is in the text, by the marks of PyYAML's nodes."""

import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import yaml
from yaml.nodes import CollectionNode, MappingNode, Node, SequenceNode

from yolo_attn.bounded_reading import load_yaml, yaml_reason
from yolo_attn.errors import UserError, quoted

SECTIONS = ("backbone", "head")

MOST_ROWS = 1000
"""Of a model; Ultralytics' longest has 54."""

LONGEST_NAME = 200
"""Characters of a layer's name."""

BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")

INDEX_COMMENT = re.compile(r"[ \t,\]}]*#[ \t]*(?:[A-Z]\d \()?(\d+)(?![\w.])")
"""A comment that begins with its row's number: `# 12`, `# 12, P3`, `# 0-P1/2`, `# X3 (21), ...`."""

Splice = tuple[int, int, str]
"""Start and end in the text, and what replaces that part."""


@dataclass(frozen=True)
class Row:
    """A row of a model YAML; `index` counts the backbone first, `source` is its `from`, `given` the numbers in that."""

    index: int
    section: str
    node: SequenceNode
    source: Any
    given: tuple[int, ...]
    repeats: Any
    name: str
    args: list[Any]

    @property
    def sources(self) -> tuple[int, ...]:
        """The rows that it takes as input, -1 for the image."""
        return tuple(number if number >= 0 else self.index + number for number in self.given)


class ModelText:
    """A model YAML's text and its rows, backbone first; `name` is what messages call it.

    Raises:
        UserError: If it is not a model YAML, or its rows cannot be edited one by one.
    """

    def __init__(self, text: str, name: str) -> None:
        self.text, self.name = text, name
        try:
            content = load_yaml(text)
            root: Any = yaml.compose(text, yaml.SafeLoader)
        except (yaml.YAMLError, ValueError) as error:  # a date out of range is a ValueError
            raise UserError(f"{name}: not YAML: {yaml_reason(error, text)}") from error
        nodes = {key.value: value for key, value in root.value} if isinstance(root, MappingNode) else {}
        if not all(isinstance(nodes.get(section), SequenceNode) and nodes[section].value for section in SECTIONS):
            raise UserError(f"{name}: not a model YAML: expected a list of rows under {' and '.join(SECTIONS)}")
        self._shared = _shared(root)
        self._sections: dict[str, SequenceNode] = {section: nodes[section] for section in SECTIONS}
        rows: list[tuple[str, Node, Any]] = []
        for section, node in self._sections.items():
            self._refuse_shared(node, f"{name}, {section}")
            rows += [(section, *pair) for pair in zip(node.value, content[section], strict=True)]
        if len(rows) > MOST_ROWS:
            raise UserError(f"{name}: {len(rows):,} rows, expected at most {MOST_ROWS:,}")
        self.rows = [self._row(index, *row) for index, row in enumerate(rows)]

    def _row(self, index: int, section: str, node: Node, row: Any) -> Row:
        place = self.place(index)
        is_row = isinstance(row, list) and len(row) == 4 and isinstance(row[2], str)
        if not isinstance(node, SequenceNode) or not is_row:
            raise UserError(f"{place}: found {row}, expected [from, repeats, layer, arguments]")
        if len(row[2]) > LONGEST_NAME:
            raise UserError(f"{place}: found {quoted(row[2])}, expected the name of a layer")
        for part in (node, node.value[0], node.value[2]):
            self._refuse_shared(part, place)
        given = tuple(row[0]) if isinstance(row[0], list) else (row[0],)
        if not given or any(type(number) is not int for number in given):
            raise UserError(f"{place}: from must be an int or a list of ints, got {row[0]}")
        args = row[3] if isinstance(row[3], list) else [row[3]]
        found = Row(index, section, node, row[0], given, row[1], row[2], args)
        if any(not -(index == 0) <= source < index for source in found.sources):
            raise UserError(f"{place}: from = {row[0]} is not an earlier row")
        return found

    def _refuse_shared(self, node: Node, place: str) -> None:
        if id(node) in self._shared:
            raise UserError(f"{place}: it is repeated through an alias (*name); write it out in each place")

    def place(self, index: int) -> str:
        """Return how messages name a row."""
        return f"{self.name}, row {index}"

    def sources_changed(self, row: Row, numbers: Sequence[int]) -> Iterator[Splice]:
        """Yield changes of a row's `from`, for each number that is new."""
        source = row.node.value[0]
        nodes = source.value if isinstance(source, SequenceNode) else [source]
        for node, old, new in zip(nodes, row.given, numbers, strict=True):
            start, end = _span(node)
            raw = self.text[start:end]
            if old != new and (raw != str(old) or id(node) in self._shared):
                raise UserError(f"{self.place(row.index)}: a number of its from is written as {raw}; write {old}")
            if old != new:
                yield start, end, str(new)

    def renamed(self, row: Row, name: str) -> Splice:
        """Return the change of a row's layer name; its quotes stay."""
        start, end = _span(row.node.value[2])
        raw = self.text[start:end]
        if raw.count(row.name) != 1:
            raise UserError(f"{self.place(row.index)}: its layer is written as {raw}; write {row.name}")
        return start, end, raw.replace(row.name, name)

    def rewritten(self, row: Row, name: str, arguments: str | None) -> Iterator[Splice]:
        """Yield changes of a row's layer name, and of its arguments unless None."""
        if name != row.name:
            yield self.renamed(row, name)
        if arguments is not None:
            self._refuse_shared(row.node.value[3], self.place(row.index))
            yield (*_span(row.node.value[3]), arguments)

    def comment_numbers(self, rows: Container[int]) -> dict[int, tuple[int, int]]:
        """Return where the number is that begins a row's comment, of each row that ends its line alone among `rows`."""
        ending: dict[int, list[Row]] = {}
        for row in self.rows:
            ending.setdefault(self._line_end(_span(row.node)[1]), []).append(row)
        spans: dict[int, tuple[int, int]] = {}
        for together in ending.values():
            own = [row.index for row in together if row.index in rows]
            found = INDEX_COMMENT.match(self.text, max(_span(row.node)[1] for row in together))
            if len(own) == 1 and found:
                spans[own[0]] = found.span(1)
        return spans

    def rows_added(self, section: str, before: int, rows: Sequence[tuple[str, str]]) -> Splice:
        """Return the change that adds rows after the section's last row before row `before`, else before its first.

        Each has a text and a comment, which is dropped where rows share a line.
        """
        position = sum(row.section == section and row.index < before for row in self.rows)
        return self._added(self._sections[section], position, rows, f"{self.name}, {section}")

    def argument_added(self, row: Row, text: str) -> Splice:
        """Return the change that adds an argument after a row's own."""
        arguments = row.node.value[3]
        self._refuse_shared(arguments, self.place(row.index))
        if not isinstance(arguments, SequenceNode):
            raise UserError(f"{self.place(row.index)}: found {row.args[0]!r}, expected a list of arguments")
        return self._added(arguments, len(arguments.value), [(text, "")], self.place(row.index))

    def last_argument_removed(self, row: Row) -> Splice:
        """Return the inverse of `argument_added`."""
        arguments = row.node.value[3]
        return next(self._removed(arguments, {len(arguments.value) - 1}))

    def rows_removed(self, indices: Container[int]) -> Iterator[Splice]:
        """Yield the inverse of `rows_added`."""
        for section, node in self._sections.items():
            own = [row.index for row in self.rows if row.section == section]
            yield from self._removed(node, {position for position, index in enumerate(own) if index in indices})

    def _added(self, node: SequenceNode, position: int, items: Sequence[tuple[str, str]], place: str) -> Splice:
        neighbour = node.value[max(position - 1, 0)]
        start, end = _span(neighbour)
        if node.flow_style:
            if position:
                return end, end, "".join(f", {text}" for text, _ in items)
            return start, start, "".join(f"{text}, " for text, _ in items)
        line, newline = _line_start(neighbour), newline_of(self.text)
        dash = re.fullmatch(r"(\s*-)\s+", self.text[line:start])
        if not dash:
            raise UserError(f"{place}: no row can be added beside {self.text[line:end]!r}; begin its line with '- '")
        lines = [f"{dash[1]} {text}{comment}" for text, comment in items]
        if position:
            end = self._line_end(end)
            return end, end, "".join(newline + line for line in lines)
        return line, line, "".join(line + newline for line in lines)

    def _removed(self, node: SequenceNode, positions: Container[int]) -> Iterator[Splice]:
        """Yield the inverse of `_added`: an item goes with what separates it from the one before, else behind it."""
        spans = [_span(item) for item in node.value]
        is_first = True
        for position, (item, (start, end)) in enumerate(zip(node.value, spans, strict=True)):
            if position not in positions:
                is_first = False
            elif node.flow_style:
                yield (start, spans[position + 1][0], "") if is_first else (spans[position - 1][1], end, "")
            else:
                line, end = _line_start(item), self._line_end(end)
                following = BREAK.match(self.text, end)
                if is_first and following:
                    yield line, following.end(), ""
                else:
                    yield line - 1 - self.text.startswith("\r\n", line - 2), end, ""

    def _line_end(self, position: int) -> int:
        found = BREAK.search(self.text, position)
        return found.start() if found else len(self.text)


def spliced(text: str, splices: Iterable[Splice]) -> str:
    """Return the text with these changes; those at one position keep their order."""
    parts, position = [], 0
    for start, end, new in sorted(splices, key=lambda splice: splice[:2]):
        parts += [text[position:start], new]
        position = end
    return "".join([*parts, text[position:]])


def newline_of(text: str) -> str:
    """Return a text's first line break."""
    found = BREAK.search(text)
    return found[0] if found else "\n"


def numbered(rows: Sequence[int]) -> str:
    """Return rows as messages name them: "row 4", "rows 4, 6"."""
    return f"row{'s' * (len(rows) > 1)} {', '.join(map(str, rows))}"


def flow(value: Any) -> str:
    """Return a value as one line of YAML."""
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=2**31).strip()


def _span(node: Node) -> tuple[int, int]:
    """Return a node's start and end; PyYAML ends a block collection only at the next token, after comments."""
    last = node
    while isinstance(last, CollectionNode) and not last.flow_style and last.value:
        last = last.value[-1][1] if isinstance(last, MappingNode) else last.value[-1]
    return node.start_mark.index, last.end_mark.index


def _line_start(node: Node) -> int:
    return int(node.start_mark.index - node.start_mark.column)


def _shared(root: Node) -> set[int]:
    """Return the ids of nodes that an alias repeats, and of all nodes in them."""
    met: Counter[int] = Counter()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        met[id(node)] += 1
        if isinstance(node, CollectionNode):
            waiting += chain.from_iterable(node.value) if isinstance(node, MappingNode) else node.value
    return {number for number, count in met.items() if count > 1}
