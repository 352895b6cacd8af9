"""Values for a while: of environment variables, by which settings reach processes that are started, and of attributes.

All that the package changes in Ultralytics, PyTorch or Python for the length of a call goes through `replaced` and
`filtered`; `TEMPORARY` in patches/table.py lists it.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

CACHE_VARIABLE = "YOLO_ATTN_CACHE"
"""Names the folder of what is kept from one run to the next."""

OUTSIDE_VARIABLE = "YOLO_ATTN_ALLOW_OUTSIDE"
"""Set to 1, it lets file names lead out of their image folder."""

UNUSED_VARIABLE = "YOLO_ATTN_DROP_UNUSED"
"""Set to 1, categories that no annotation uses are no classes."""

CROWDS_VARIABLE = "YOLO_ATTN_CROWDS_AS_OBJECTS"
"""Set to 1, annotations with iscrowd are objects like others."""

_ABSENT = object()


@contextlib.contextmanager
def environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    """While it lasts, environment variables have other values, None apart; then their former ones, or none."""
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
    """Give an object's attributes other values for a while; those that it lacks are gone afterwards."""
    before = {name: getattr(owner, name, _ABSENT) for name in values}
    for name, value in values.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, value)


@contextlib.contextmanager
def filtered(logger: logging.Logger, keeps: Callable[[logging.LogRecord], bool]) -> Iterator[None]:
    """Let a logger show only the records that a function keeps, for a while."""
    logger.addFilter(keeps)
    try:
        yield
    finally:
        logger.removeFilter(keeps)
