"""Wrapping functions of another package: once however often it is asked for, and undone as a whole.

What is wrapped is known here alone, so reloading other modules forgets nothing. A wrapper of somebody else's around
ours stays; ours then passes calls on while it is undone, and is not put around it a second time.
"""

import functools
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from types import ModuleType
from typing import Any

LOCK = threading.RLock()
"""Held while functions are wrapped or restored. Import nothing under it: another thread's import may wait for it."""


@dataclass(eq=False)
class _Wrap:
    """One wrapped function.

    Attributes:
        owner: The module or class that has it.
        execution: The spec that its module was executed under, a new one after a reload; None of a class.
        replacement: Calls the wrapper with the original, or the original alone while it is undone.
        active: Whether it calls the wrapper.
        buried: Whether somebody else's wrapper stood around it when it was undone.
    """

    owner: Any
    name: str
    execution: Any
    original: Any
    replacement: Any
    active: bool = False
    buried: bool = False

    def place(self) -> None:
        """Put the replacement wherever the original stands, `from … import name` inside its package included."""
        self.active, self.buried = True, False
        self._swap(self.original, self.replacement)

    def restore(self) -> None:
        """Put the original wherever the replacement stands."""
        self.active, self.buried = False, vars(self.owner).get(self.name) is not self.replacement
        self._swap(self.replacement, self.original)

    def _swap(self, old: Any, new: Any) -> None:
        package = getattr(self.owner, "__module__", self.owner.__name__).partition(".")[0] + "."
        modules = [module for key, module in list(sys.modules.items()) if key.startswith(package)]
        for holder in [self.owner, *(module for module in modules if isinstance(module, ModuleType))]:
            if vars(holder).get(self.name) is old:
                setattr(holder, self.name, new)


_wraps: list[_Wrap] = []
_further = ExitStack()


def wrap(functions: Iterable[tuple[Any, str, Callable[..., Any]]]) -> None:
    """Put wrappers around functions; around those that are wrapped already, by whichever call, none a second time.

    Args:
        functions: Of each the module or class that defines it, its name there, and the wrapper, which takes the
            function as its first argument.
    """
    with LOCK:
        for owner, name, wrapper in functions:
            if not _is_known(owner, name):
                _wraps.append(_made(owner, name, wrapper))
        for each in _wraps:  # also those of an execution of their module that copies elsewhere may be from
            each.place()


def _is_known(owner: Any, name: str) -> bool:
    """Whether what stands there is wrapped, or was and is restored; another's wrapper around the original is not."""
    latest = next((w for w in reversed(_wraps) if (w.owner, w.name) == (owner, name)), None)
    if latest is None or latest.execution is not getattr(owner, "__spec__", None):
        return False
    return latest.active or latest.buried or vars(owner)[name] is latest.original


def _made(owner: Any, name: str, wrapper: Callable[..., Any]) -> _Wrap:
    original = vars(owner)[name]

    @functools.wraps(original)
    def replacement(*args: Any, **kwargs: Any) -> Any:
        return wrapper(original, *args, **kwargs) if made.active else original(*args, **kwargs)

    made = _Wrap(owner, name, getattr(owner, "__spec__", None), original, replacement)
    return made


def is_wrapped() -> bool:
    """Whether anything is wrapped now."""
    return any(each.active for each in _wraps)


def undo_with(callback: Callable[..., object], *args: Any) -> None:
    """Have something else undone, by a call, when the functions are restored."""
    _further.callback(callback, *args)


def restore() -> None:
    """Restore every function, and undo what `undo_with` was given."""
    with LOCK:
        for each in reversed(_wraps):
            if each.active:
                each.restore()
        _further.close()
