"""Names of a package that are imported when they are first used."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def public(package: str, homes: Mapping[str, str]) -> tuple[list[str], Callable[[str], Any]]:
    """Return a package's `__all__` and `__getattr__`, by which a name's first use imports the module that holds it.

    Args:
        package: The package's name.
        homes: Modules in it, each with the names that it holds, separated by blanks.
    """
    home_of = {name: f"{package}.{module}" for module, names in homes.items() for name in names.split()}

    def import_name(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(home_of[name]), name)

    return sorted(home_of), import_name
