"""What some commands need beside the package's dependencies, and the line that installs it."""

from importlib.util import find_spec

EXTRAS = {"export": ("onnx", "onnxruntime", "openvino"), "track": ("lap",), "graph": ("graphviz",)}
"""The modules of each extra of pyproject.toml."""


def not_installed(*modules: str) -> list[str]:
    """Return which of these modules are not installed."""
    return [module for module in modules if find_spec(module) is None]


def extra_of(module: str | None) -> str | None:
    """Return the extra that has a module; None if none has."""
    return next((extra for extra, modules in EXTRAS.items() if module in modules), None)


def installing(extra: str) -> str:
    """Return the command that installs an extra."""
    return f'pip install "yolo_attn[{extra}]"'
