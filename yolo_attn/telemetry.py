"""Runtimes of exported models report nothing over the network.

onnxruntime writes a device identifier into the home folder as it is imported, and a thread of its own looks up a host;
`onnxruntime.disable_telemetry_events()` comes too late for that. OpenVINO reports its import and each conversion
through a package that it does without where that cannot be imported.
"""

import os
import sys
from collections.abc import Callable

ONNXRUNTIME = "ORT_DISABLE_TELEMETRY"
"""The environment variable that onnxruntime reads at its import."""

OPENVINO = "openvino_telemetry"
"""The package that OpenVINO reports through."""


def silence() -> Callable[[], None]:
    """Switch off the telemetry of every runtime that is imported from now on.

    What the user has set in the environment stays, and so does a reporter that the program has imported already.

    Returns:
        What undoes it.
    """
    before = os.environ.get(ONNXRUNTIME)
    os.environ.setdefault(ONNXRUNTIME, "1")
    blocked = sys.modules.setdefault(OPENVINO, None) is None  # type: ignore[arg-type]  # Python's way to forbid an import

    def undo() -> None:
        if before is None:
            os.environ.pop(ONNXRUNTIME, None)
        if blocked and sys.modules.get(OPENVINO, ...) is None:
            del sys.modules[OPENVINO]

    return undo
