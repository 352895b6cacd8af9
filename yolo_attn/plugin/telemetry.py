"""Exports report nothing over the network."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

REPORTER = "openvino_telemetry"
"""The package that OpenVINO's converter reports by, and does without where it cannot be imported."""


def export(run: Callable[..., Any], model: Any, /, **kwargs: Any) -> Any:
    """Ultralytics' `Model.export`, without telemetry.

    Args:
        run: Ultralytics' own.
        model: The `YOLO` or `RTDETR`.
        kwargs: Ultralytics' settings.
    """
    with without_telemetry():
        return run(model, **kwargs)


@contextmanager
def without_telemetry() -> Iterator[None]:
    """While it lasts, OpenVINO's converter cannot import what it reports by; a program that did before keeps it."""
    missing = REPORTER not in sys.modules
    if missing:
        sys.modules[REPORTER] = None  # type: ignore[assignment]  # Python's own way to forbid an import
    try:
        yield
    finally:
        if missing:
            del sys.modules[REPORTER]
