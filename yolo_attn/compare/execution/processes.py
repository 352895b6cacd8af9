"""Start Python processes that import the same packages as this one."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from yolo_attn.errors import RunError, one_line

LONGEST = 6 * 3600.0
"""Seconds that a call in a process may take."""


def python(statement: str, modules: Sequence[str] = ()) -> list[str]:
    """Return the command of a process that runs a statement.

    `python -m` would search the current folder first, where a user's queue.py hides Python's own. The user's modules
    were imported with that folder first on the path; the process does that itself.
    """
    path = [*sys.path, str(Path(__file__).parents[2])]
    if modules and path[0] == str(Path.cwd()):
        del path[0]
    return [sys.executable, "-c", f"import sys; sys.path[:] = {path!r}; {statement}"]


def ask(
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    environment: Mapping[str, str],
    modules: Sequence[str] = (),
    listen: Callable[[str], object] = str,
) -> Any:
    """Call a function of a module in its own process, which frees the GPU at its end; raise a RunError if it fails.

    Arguments and result are JSON values; the process has further environment variables. `listen` is called with each
    line that it prints meanwhile.
    """
    name = function.__name__
    statement = f"from {__name__} import answer; from {function.__module__} import {name}; sys.exit(answer({name}))"
    line = ""
    text: Any = {"mode": "w+", "encoding": "utf-8", "errors": "replace"}
    with tempfile.TemporaryFile(**text) as given, tempfile.TemporaryFile(**text) as errors:
        given.write(json.dumps(arguments))
        given.seek(0)
        process = subprocess.Popen(
            python(statement, modules),
            env={**os.environ, **environment},
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            errors="replace",
        )
        late = threading.Timer(LONGEST, process.kill)
        late.start()
        try:
            with process:
                for line in process.stdout or ():
                    listen(line)
            if process.returncode and not late.is_alive():
                raise RunError(f"its process did not end within {LONGEST / 3600:.0f} hours")
        finally:
            late.cancel()
            process.kill()
        if process.returncode:
            errors.seek(0)
            printed = deque(filter(str.strip, errors), maxlen=1)
            raise RunError(printed[0].strip() if printed else f"its process ended with exit code {process.returncode}")
    return json.loads(line)


def answer(function: Callable[..., Any]) -> int:
    """Run in the process of `ask`: call the function, print its result as the last line, and return the exit code."""
    try:
        print("\n" + json.dumps(function(**json.loads(sys.stdin.read()))), flush=True)
    except Exception as error:
        print(one_line(error), file=sys.stderr, flush=True)
        return 1
    return 0
