"""Keep a command running when its standard streams are closed, full, or lack characters in their encoding.

Output that cannot be written is lost, and the command continues: its results are in files. The first error is kept, so
that the command can report missing output at its end; a reader that closed the pipe, as `| head -1` does, is no error.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


class Stream:
    """A text stream that replaces characters that its encoding lacks, and drops output once a write has failed.

    Attributes:
        error: The error of the first failed write.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """Write text; characters that the encoding lacks become `?`."""
        with self._guarded():
            try:
                self.stream.write(text)
            except UnicodeEncodeError:
                encoding = self.stream.encoding
                self.stream.write(text.encode(encoding, "replace").decode(encoding))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the stream."""
        with self._guarded():
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = self.error or error
            with contextlib.suppress(OSError):  # buffered text and other code's output are dropped too
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, self.stream.fileno())
                os.close(nothing)


def missing_output() -> OSError | None:
    """Flush the standard streams; return the error that lost output, unless its reader had closed the pipe."""
    streams = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, Stream)]
    for stream in streams:
        stream.flush()
    errors = [stream.error for stream in streams if stream.error]
    return next((error for error in errors if not isinstance(error, BrokenPipeError)), None)


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Provide all three standard streams within the context; writing to them never raises."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        _open(number, name)
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Stream(sys.stdout), Stream(sys.stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _open(number: int, name: str) -> None:
    """Open a missing standard stream on the null device: otherwise the next file would take its number."""
    try:
        os.fstat(number)
    except OSError:
        nothing = os.open(os.devnull, os.O_RDWR)
        if nothing != number:
            os.dup2(nothing, number)
            os.close(nothing)
        os.set_inheritable(number, True)
    if getattr(sys, name) is None:
        setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115  # for the whole process
