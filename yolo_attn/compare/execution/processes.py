"""Start Python processes that import the same packages as this one."""

import json
import os
import subprocess
import sys
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
) -> Any:
    """Call a function of a module in its own process, which frees the GPU at its end; raise a RunError if it fails.

    Arguments and result are JSON values; the process has further environment variables.
    """
    name = function.__name__
    statement = f"from {__name__} import answer; from {function.__module__} import {name}; sys.exit(answer({name}))"
    try:
        ended = subprocess.run(
            python(statement, modules),
            env={**os.environ, **environment},
            input=json.dumps(arguments),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=LONGEST,
        )
    except subprocess.TimeoutExpired as error:
        raise RunError(f"its process did not end within {LONGEST / 3600:.0f} hours") from error
    if ended.returncode:
        printed = ended.stderr.strip().splitlines() or [f"its process ended with exit code {ended.returncode}"]
        raise RunError(printed[-1])
    return json.loads(ended.stdout.splitlines()[-1])


def answer(function: Callable[..., Any]) -> int:
    """Run in the process of `ask`: call the function, print its result as the last line, and return the exit code."""
    try:
        print("\n" + json.dumps(function(**json.loads(sys.stdin.read()))), flush=True)
    except Exception as error:
        print(one_line(error), file=sys.stderr, flush=True)
        return 1
    return 0
