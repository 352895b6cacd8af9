"""Read a model YAML's rows, and where each part of a row is in the text, by the marks of PyYAML's nodes."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.nodes import CollectionNode, MappingNode, Node, SequenceNode

from yolo_attn.errors import UserError, one_line, quoted
from yolo_attn.reading import load_yaml

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
    """A row of a model YAML.

    Attributes:
        index: Its number, backbone first.
        section: "backbone" or "head".
        node: The YAML node of the row.
        source: Its `from`, as written.
        given: The numbers of `from`.
        repeats: Its number of repeats.
        name: The layer's name.
        args: The layer's arguments.
    """

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
    """A model YAML's text and its rows.

    Attributes:
        text: The text.
        name: What messages call it.
        rows: Its rows, backbone first.
        newline: Its line break.

    Raises:
        UserError: If it is not a model YAML, or its rows cannot be edited one by one.
    """

    def __init__(self, text: str, name: str) -> None:
        self.text, self.name = text, name
        try:
            content = load_yaml(text)
            _check_rows(content, name)
            root = yaml.compose(text, yaml.SafeLoader)
        except (yaml.YAMLError, ValueError) as error:  # a date out of range is a ValueError
            raise UserError(f"{name}: not YAML: {one_line(error)}") from error
        sections = {key.value: value for key, value in root.value} if isinstance(root, MappingNode) else {}
        for section in SECTIONS:
            node = sections.get(section)
            if not isinstance(node, SequenceNode) or not node.value:
                raise UserError(f"{name}: not a model YAML: expected a list of rows under {' and '.join(SECTIONS)}")
        assert root is not None
        self._shared = _shared(root)
        self._sections = {section: sections[section] for section in SECTIONS}
        listed = [(section, *pair) for section in SECTIONS for pair in self._listed(section, content)]
        self.rows = [self._row(index, *item) for index, item in enumerate(listed)]
        found = BREAK.search(text)
        self.newline = found[0] if found else "\n"

    def _listed(self, section: str, content: dict[str, Any]) -> Iterator[tuple[Node, Any]]:
        self._refuse_shared(self._sections[section], f"{self.name}, {section}")
        return zip(self._sections[section].value, content[section], strict=True)

    def _row(self, index: int, section: str, node: Node, row: Any) -> Row:
        place = self.place(index)
        is_row = isinstance(row, list) and len(row) == 4 and isinstance(row[2], str)
        if not isinstance(node, SequenceNode) or not is_row:
            raise UserError(f"{place}: found {row}, expected [from, repeats, layer, arguments]")
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

    def first_of(self, section: str) -> int:
        """Return the number of a section's first row."""
        return next(row.index for row in self.rows if row.section == section)

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

    def comment_numbers(self, rows: Iterable[Row]) -> dict[int, tuple[int, int]]:
        """Return the span of the number that begins each row's comment; of rows that end on one line, the first's.

        Args:
            rows: The rows; all others are ignored.
        """
        spans: dict[int, tuple[int, int]] = {}
        lines: set[int] = set()
        rows = sorted(rows, key=lambda row: _span(row.node)[0])
        others = sorted(_span(row.node) for row in self.rows if row not in rows)
        for row in rows:
            end = _span(row.node)[1]
            line = self._line_end(end)
            for start, last in others:
                if end <= start <= line and not self.text[end:start].strip(", "):
                    end = last
            found = INDEX_COMMENT.match(self.text, end)
            if line not in lines and found:
                spans[row.index] = found.span(1)
            lines.add(line)
        return spans

    def rows_added(self, section: str, before: int, rows: Sequence[tuple[str, str]]) -> Splice:
        """Return the change that adds rows after the section's last row before row `before`, else before its first.

        Args:
            section: Their section.
            before: A row's number.
            rows: Text and comment of each; comments are dropped where rows share a line.
        """
        behind = max((row.index for row in self.rows if row.section == section and row.index < before), default=None)
        position = 0 if behind is None else behind - self.first_of(section) + 1
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
        return next(self._removed(arguments, [len(arguments.value) - 1]))

    def rows_removed(self, indices: Sequence[int]) -> Iterator[Splice]:
        """Yield the inverse of `rows_added`."""
        for section, node in self._sections.items():
            first = self.first_of(section)
            yield from self._removed(node, [i - first for i in indices if self.rows[i].section == section])

    def _added(self, node: SequenceNode, position: int, items: Sequence[tuple[str, str]], place: str) -> Splice:
        neighbour = node.value[max(position - 1, 0)]
        start, end = _span(neighbour)
        if node.flow_style:
            if position:
                return end, end, "".join(f", {text}" for text, _ in items)
            return start, start, "".join(f"{text}, " for text, _ in items)
        line = self._line_start(start)
        dash = re.fullmatch(r"(\s*-)\s+", self.text[line:start])
        if not dash:
            raise UserError(f"{place}: no row can be added beside {self.text[line:end]!r}; begin its line with '- '")
        lines = [f"{dash[1]} {text}{comment}" for text, comment in items]
        if position:
            end = self._line_end(end)
            return end, end, "".join(self.newline + line for line in lines)
        return line, line, "".join(line + self.newline for line in lines)

    def _removed(self, node: SequenceNode, positions: Sequence[int]) -> Iterator[Splice]:
        """Yield changes that remove what `_added` adds; neighbours on neighbouring lines are one change."""
        spans = [_span(item) for item in node.value]
        runs: list[list[int]] = []
        for position in positions:
            if runs and runs[-1][-1] == position - 1 and self._adjoin(node, spans[position - 1], spans[position]):
                runs[-1].append(position)
            else:
                runs.append([position])
        for run in runs:
            start, end = spans[run[0]][0], spans[run[-1]][1]
            if node.flow_style:
                if run[0]:
                    yield spans[run[0] - 1][1], end, ""
                else:
                    yield start, spans[run[-1] + 1][0], ""
                continue
            start, end = self._line_start(start), self._line_end(end)
            if run[0]:
                yield self._break_before(start), end, ""
            else:
                following = BREAK.match(self.text, end)
                yield start, following.end() if following else end, ""

    def _adjoin(self, node: SequenceNode, one: tuple[int, int], other: tuple[int, int]) -> bool:
        between = BREAK.match(self.text, self._line_end(one[1]))
        return bool(node.flow_style or (between and between.end() == self._line_start(other[0])))

    def _line_start(self, position: int) -> int:
        return max(self.text.rfind(mark, 0, position) for mark in "\n\r\x85\u2028\u2029") + 1

    def _line_end(self, position: int) -> int:
        found = BREAK.search(self.text, position)
        return found.start() if found else len(self.text)

    def _break_before(self, start: int) -> int:
        return start - (2 if self.text[:start].endswith("\r\n") else 1)


def spliced(text: str, splices: Iterable[Splice]) -> str:
    """Return the text with these changes; those at one position keep their order."""
    parts, position = [], 0
    for start, end, new in sorted(splices, key=lambda splice: splice[:2]):
        parts += [text[position:start], new]
        position = end
    return "".join([*parts, text[position:]])


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


def _check_rows(content: Any, name: str) -> None:
    """Raise if there are more rows, or longer layer names, than any model has."""
    parts = [content.get(section) for section in SECTIONS] if isinstance(content, dict) else []
    rows = [row for part in parts if isinstance(part, list) for row in part]
    if len(rows) > MOST_ROWS:
        raise UserError(f"{name}: {len(rows):,} rows, expected at most {MOST_ROWS:,}")
    for index, row in enumerate(rows):
        if isinstance(row, list) and len(row) > 2 and isinstance(row[2], str) and len(row[2]) > LONGEST_NAME:
            raise UserError(f"{name}, row {index}: found {quoted(row[2])}, expected the name of a layer")


def _shared(root: Node) -> set[int]:
    """Return the ids of nodes that an alias repeats, and of all nodes in them."""
    met: set[int] = set()
    shared: set[int] = set()
    waiting = [(root, False)]
    while waiting:
        node, inside = waiting.pop()
        inside = inside or id(node) in met
        if inside and id(node) in shared:
            continue
        met.add(id(node))
        if inside:
            shared.add(id(node))
        if isinstance(node, MappingNode):
            waiting += [(part, inside) for pair in node.value for part in pair]
        elif isinstance(node, SequenceNode):
            waiting += [(part, inside) for part in node.value]
    return shared
