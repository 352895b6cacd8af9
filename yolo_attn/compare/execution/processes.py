"""Python processes that a comparison starts: they import what it imports itself."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from yolo_attn.errors import RunError, one_line

LONGEST = 6 * 3600.0
"""Seconds that a question to a process may take."""


def python(statement: str, modules: Sequence[str] = ()) -> list[str]:
    """The command of a process that runs a statement.

    `python -m` would search the current folder first, where a user's queue.py hides Python's own.

    Args:
        statement: What it runs.
        modules: Modules that were imported with the current folder put first, as the process may do for itself.
    """
    path = [*sys.path, str(Path(__file__).parents[2])]
    if modules and path[0] == str(Path.cwd()):
        del path[0]
    return [sys.executable, "-c", f"import sys; sys.path[:] = {path!r}; {statement}"]


def ask(
    function: Callable[..., Any], told: Mapping[str, Any], environment: Mapping[str, str], modules: Sequence[str] = ()
) -> Any:
    """Call a function in a process of its own, which ends with it: what it took of a GPU is free again.

    Args:
        function: One that a module has.
        told: Its arguments; as JSON can hold them, like what it returns.
        environment: Variables that the process gets besides ours.
        modules: See `python`.

    Raises:
        RunError: If it fails, with its reason, or takes longer than LONGEST.
    """
    name = function.__name__
    statement = f"from {__name__} import answer; from {function.__module__} import {name}; sys.exit(answer({name}))"
    try:
        ended = subprocess.run(
            python(statement, modules),
            env={**os.environ, **environment},
            input=json.dumps(told),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=LONGEST,
        )
    except subprocess.TimeoutExpired as error:
        raise RunError(f"its process had not ended after {LONGEST / 3600:.0f} hours") from error
    if ended.returncode:
        printed = ended.stderr.strip().splitlines() or [f"its process ended with exit code {ended.returncode}"]
        raise RunError(printed[-1])
    return json.loads(ended.stdout.splitlines()[-1])


def answer(function: Callable[..., Any]) -> int:
    """What `ask` has started: call the function, and print what it returns as the last line; returns the exit code."""
    try:
        print("\n" + json.dumps(function(**json.loads(sys.stdin.read()))), flush=True)
    except Exception as error:
        print(one_line(error), file=sys.stderr, flush=True)
        return 1
    return 0
