"""The exceptions that the command line turns into a line of text and an exit code."""

import itertools
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

LONGEST = 300
"""Characters of an exception's text that a line may have."""

LONGEST_LINE = 4000
"""Most characters of a line, what it quotes from files included."""

OF_OSERROR = ("errno", "strerror", "filename", "filename2")


class UserError(Exception):
    """A mistake of the user's, reported in one line: what was found, where, and what would be right."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        line = " ".join(line.strip() for line in message.splitlines() if line.strip())
        if len(line) > LONGEST_LINE:
            line = f"{line[: LONGEST_LINE // 2]} … {line[-LONGEST_LINE // 2 :]}"
        super().__init__(line)

    __str__ = Exception.__str__  # also of one that is a KeyError, which would show its text in quotes


class ExportError(UserError):
    """An export that failed by no fault of the user's, reported in one line."""

    exit_code = 1


class RunError(UserError):
    """A training that something outside of it has stopped, such as a full disk, reported in one line.

    Attributes:
        reason: What has stopped it, without the way on from there.
    """

    exit_code = 1

    def __init__(self, reason: str, way_on: str = "") -> None:
        super().__init__(f"{reason}; {way_on}" if way_on else reason)
        self.reason = reason


class Terminated(KeyboardInterrupt):
    """SIGTERM, as a scheduler or `docker stop` sends it: an end in good order, like Ctrl-C."""


def one_line(error: BaseException, text: str | None = None) -> str:
    """An exception's type and the beginning of its text, or of `text` in its place."""
    line = " ".join((str(error) if text is None else text).split())
    return f"{type(error).__name__}: {line if len(line) <= LONGEST else line[:LONGEST] + '…'}"


def quoted(value: Any, most: int = 80) -> str:
    """A value that a file holds as Python writes it, of at most `most` characters."""
    text = repr(value[: 2 * most] if isinstance(value, str) else value)
    return text if len(text) <= most else f"{text[:most]}…"


def listed(names: Iterable[str], most: int = 3) -> str:
    """Names with commas between them, the first `most` of them and a sign that there are more."""
    first = list(itertools.islice(names, most + 1))
    return ", ".join([*first[:most], *["…"] * (len(first) > most)])


def similar(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Known names that a misspelt one may stand for, best first; upper and lower case are alike."""
    folded = {each.casefold(): each for each in known}
    return [folded[each] for each in get_close_matches(name.casefold(), folded, n=most)]


def did_you_mean(near: Sequence[str]) -> str:
    """The end of a line on a wrong name: a question with what may be meant, or nothing where nothing is near."""
    return f"; did you mean {' or '.join(near)}?" if near else ""


def like(error: Exception, ours: UserError) -> UserError:
    """An error in our words that is of another's kind too, so that whoever handles the one handles the other.

    Args:
        error: What Ultralytics or PyTorch raised; its attributes are kept.
        ours: The error in our words.

    Returns:
        An error whose class derives from those of both; `ours` itself where no class can.
    """
    return _made(type(ours), type(error), str(ours), {**_attributes(error), **vars(ours)})


def _attributes(error: Exception) -> dict[str, Any]:
    """What an error says beside its text; an OSError keeps the most of it outside of its dictionary."""
    return {**vars(error), **{name: getattr(error, name) for name in OF_OSERROR if hasattr(error, name)}}


def _kind(ours: type[UserError], theirs: type[Exception]) -> type[UserError]:
    if issubclass(ours, theirs):
        return ours
    body = {
        "__module__": ours.__module__,
        "__doc__": ours.__doc__,
        "__reduce__": lambda made: (_made, (ours, theirs, str(made), _attributes(made))),
    }
    try:
        return type(ours.__name__, (ours, theirs), body)
    except TypeError:  # their objects are laid out in another way
        return ours


def _made(ours: type[UserError], theirs: type[Exception], text: str, attributes: dict[str, Any]) -> UserError:
    kind = _kind(ours, theirs)
    made = kind.__new__(kind)
    Exception.__init__(made, text)
    for name, value in attributes.items():
        setattr(made, name, value)
    return made
