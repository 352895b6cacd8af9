"""Values for a while: environment variables, by which settings reach processes that are started, and attributes."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

CACHE_VARIABLE = "YOLO_ATTN_CACHE"
"""Names the folder of what is kept from one run to the next."""

OUTSIDE_VARIABLE = "YOLO_ATTN_ALLOW_OUTSIDE"
"""Set to 1, it lets file names lead out of their image folder."""


@contextlib.contextmanager
def environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    """While it lasts, environment variables have other values; then they have their former ones, or none, again.

    Args:
        variables: Values by name; one of None is left as it is.
    """
    given = {name: value for name, value in variables.items() if value is not None}
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def replaced(owner: Any, **values: Any) -> Iterator[None]:
    """Give an object's attributes other values for a while."""
    before = {name: getattr(owner, name) for name in values}
    for name, value in values.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)
