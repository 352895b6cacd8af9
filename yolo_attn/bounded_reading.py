"""Reading files that may be anything: plain ones alone, within a number of bytes, and YAML of a number of values."""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import yaml
from yaml.resolver import Resolver

from yolo_attn.errors import LONGEST, UserError, one_line, quoted
from yolo_attn.files import check_plain_file

LARGEST_RECORD = 2**28
"""Bytes of a JSON or CSV that a run or a comparison keeps."""

CHUNK = 2**20

LARGEST_YAML = 4 * 2**20
"""Bytes of a YAML file; a hundred thousand class names take two million."""

DEEPEST = 100
"""Lists and mappings of a YAML inside each other."""

MOST_VALUES = 250_000
"""Values of a YAML, those that an alias stands for counted at each alias."""

LONGEST_NUMBER = 100
"""Characters of a YAML's number or date: one such as 1:30:15 takes the square of its length, and long ones cannot be
printed."""

NUMBERS = {f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "timestamp")}

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def open_plain(file: str | Path, most: int | None = None) -> BinaryIO:
    """Open a plain file for reading; what takes its place meanwhile is not waited for either.

    Args:
        file: The path.
        most: Bytes that it may have; None takes any number.

    Raises:
        UserError: If it is none (see `check_plain_file`), or has more bytes.
        OSError: If it cannot be opened.
    """
    check_plain_file(file)
    handle = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"{file}: it has changed, expected a plain file")
        if most is not None and found.st_size > most:
            raise UserError(f"{file}: it has {found.st_size:,} bytes, expected at most {most:,}")
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_plain(file: str | Path, most: int) -> bytes:
    """All bytes of a plain file, `most` at most.

    Raises:
        UserError: As `open_plain`.
        OSError: If it cannot be read.
    """
    content = b""
    with open_plain(file, most) as stream:
        while len(content) <= most and (chunk := stream.read(max(os.fstat(stream.fileno()).st_size, LARGEST_YAML))):
            content += chunk
    if len(content) > most:  # some files, such as those of /proc, do not say how long they are
        raise UserError(f"{file}: it has more than {most:,} bytes")
    return content


def chunks(file: str | Path) -> Iterator[bytes]:
    """All bytes of a plain file, a part at a time.

    Raises:
        UserError: As `open_plain`.
        OSError: If it cannot be read.
    """
    with open_plain(file) as stream:
        while part := stream.read(CHUNK):
            yield part


def read_yaml(file: str | Path) -> Any:
    """The content of a YAML file; bytes that are no UTF-8 are replaced.

    Raises:
        UserError: If it cannot be read, or as `load_yaml`.
    """
    text = ""
    try:
        text = _text_of(file)
        return load_yaml(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{file}: not a readable YAML file: {yaml_reason(error, text)}") from error


def yaml_reason(error: Exception, text: str) -> str:
    """Why a text is no YAML: the line, what stands there, and what is wrong with it, as far as the error tells."""
    problem, context = getattr(error, "problem_mark", None), getattr(error, "context_mark", None)
    if problem is None:
        return one_line(error)
    lines = text.splitlines() or [""]
    line = lines[min(problem.line, len(lines) - 1)]
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return f"line {problem.line + 1}, {quoted(line)}: it begins with a tab, YAML takes spaces alone"
    inside = str(getattr(error, "context", None) or "")
    if context is not None and "flow" in inside:  # the bracket that is not closed, not the line that shows it
        problem = context
        line = lines[min(problem.line, len(lines) - 1)]
    what = " ".join(filter(None, (inside, str(getattr(error, "problem", None) or ""))))
    return f"line {problem.line + 1}, {quoted(line.strip())}: {what[:LONGEST]}"


def _text_of(file: str | Path) -> str:
    return read_plain(file, LARGEST_YAML).decode("utf-8", errors="replace")


def load_yaml(text: str) -> Any:
    """The content of a YAML as plain values, if it is small enough for them to be built, copied and printed.

    Raises:
        yaml.YAMLError: If it is not YAML, is longer than `LARGEST_YAML`, or has more values, deeper lists or a longer
            number than is sensible.
        ValueError: If a value is none that Python has, such as a 13th month.
    """
    if len(text) > LARGEST_YAML:
        raise yaml.YAMLError(f"it has {len(text):,} characters, expected at most {LARGEST_YAML:,}")
    _check_events(text)
    try:
        return yaml.load(text, _Loader)
    except (ArithmeticError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise yaml.YAMLError(one_line(error)) from error


def repeated_key(file: str | Path) -> str | None:
    """The first key that a mapping of a YAML file has twice, of which `read_yaml` takes the last; None if none has.

    Args:
        file: One that `read_yaml` takes.
    """
    waiting: list[Any] = [yaml.compose(_text_of(file), _Loader)]
    met: set[int] = set()
    while waiting:
        node = waiting.pop()
        if not isinstance(node, yaml.CollectionNode) or id(node) in met:
            continue
        met.add(id(node))
        if isinstance(node, yaml.MappingNode):
            keys = Counter((key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            for (_, key), count in keys.items():
                if count > 1:
                    return str(key)
        waiting += [value for _, value in node.value] if isinstance(node, yaml.MappingNode) else node.value
    return None


def _check_events(text: str) -> None:
    """Raise if what a YAML describes is too large, which aliases can make of a few lines, without building it."""
    weights: dict[str, int] = {}
    sums, anchors = [0], [""]
    for event in yaml.parse(text, _Loader):
        weight = 1
        if isinstance(event, yaml.CollectionStartEvent):
            sums.append(0)
            anchors.append(event.anchor or "")
            if len(sums) > DEEPEST:
                raise yaml.YAMLError(f"it has more than {DEEPEST} lists or mappings inside each other")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            weight += sums.pop()
            weights[anchors.pop()] = weight
        elif isinstance(event, yaml.ScalarEvent):
            if len(event.value) > LONGEST_NUMBER and _tag(event) in NUMBERS:
                raise yaml.YAMLError(f"a number has {len(event.value):,} characters; put text in quotes")
            weights[event.anchor or ""] = weight
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in anchors:
                raise yaml.YAMLError(f"*{event.anchor} stands inside what it stands for")
            weight = weights.get(event.anchor or "", 1)
        else:
            continue
        sums[-1] += weight
        if sums[-1] > MOST_VALUES:
            raise yaml.YAMLError(f"it has more than {MOST_VALUES:,} values, aliases counted as what they stand for")


def _tag(event: yaml.ScalarEvent) -> str | None:
    """What PyYAML will take a value for."""
    if event.tag or not event.implicit[0]:
        return event.tag
    return Resolver().resolve(yaml.ScalarNode, event.value, (True, False))
