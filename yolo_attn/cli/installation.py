"""Advice for a package that does not import, judged by the error."""

import re
import sysconfig
import traceback
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from yolo_attn.errors import one_line

DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "thop": "ultralytics-thop",
    "yaml": "pyyaml",
}
"""Names of packages on PyPI that differ from their import names."""

LIBRARIES = {
    "libGL.so": "apt install libgl1, or without root: pip uninstall -y opencv-python && "
    "pip install --force-reinstall opencv-python-headless",
    "libgthread-2": "apt install libglib2.0-0",
    "libSM.so": "apt install libsm6",
    "libXext.so": "apt install libxext6",
    "libgomp.so": "apt install libgomp1",
    "libstdc++.so": "apt install libstdc++6",
}
"""System libraries that PyTorch and OpenCV load, and what installs them on Debian and Ubuntu."""

SHARED_LIBRARY = re.compile(r"([\w+.-]+\.so[\w.]*): cannot open shared object file")

TOO_OLD = re.compile(r"version `(GLIBC\w*_[\d.]+)' not found")

INCOMPATIBLE = (
    "undefined symbol",
    "binary incompatibility",
    "compiled using NumPy",
    "compiled against",
    "multiarray failed to import",
    "multiarray_umath failed to import",
    "operator torchvision::",
    "_ARRAY_API",
)
"""Texts of errors from compiled code that does not match the packages beside it."""


def while_importing(error: BaseException) -> bool:
    """Return whether an error is an ImportError, or was raised while a module was imported."""
    return isinstance(error, ImportError) or _module(error) is not None


def described(error: BaseException) -> str:
    """Return what failed to import and what helps, in one line."""
    name = package(error)
    return f"{name} cannot be imported: {one_line(error)}; {advice(error, name)}"


def advice(error: BaseException, name: str) -> str:
    """Return what to do about an error that the import of a package raised."""
    text = str(error)
    if found := SHARED_LIBRARY.search(text):
        known = next((how for library, how in LIBRARIES.items() if found[1].startswith(library)), None)
        return f"the system lacks {found[1]}: {known}" if known else f"{found[1]} is missing; {_again(name)}"
    if found := TOO_OLD.search(text):
        return f"this system has no {found[1]}: install a release of {name} that supports it, or use a newer system"
    if any(words in text for words in INCOMPATIBLE):
        return f"it does not match the packages beside it; install them together: {_together(name)}"
    if isinstance(error, ImportError) and error.name:
        return _of_name(error, error.name)
    own = _own_file(error)
    if own:
        return f"the error is in {own}, not in an installed package; fix that file, or rename it if it hides a package"
    return _again(name)


def _of_name(error: ImportError, name: str) -> str:
    """Return what to do about a module, or a name in one, that was not found."""
    top = name.partition(".")[0]
    file = error.path or _origin(top)
    if file and not _is_installed(file):
        return f"{file} is not part of an installed package; rename it if it hides {top}, or fix its imports"
    if not isinstance(error, ModuleNotFoundError):
        return f"{top} is not the expected release: pip install --upgrade {DISTRIBUTIONS.get(top, top)}"
    if file is None:
        return f"pip install {DISTRIBUTIONS.get(top, top)}"
    return f"{top} has no {name}; {_again(top)}"


def _again(package: str) -> str:
    return f"reinstall it: pip install --force-reinstall {DISTRIBUTIONS.get(package, package)}"


def _together(package: str) -> str:
    others = ["torch", "torchvision"] if package in {"torch", "torchvision"} else [DISTRIBUTIONS.get(package, package)]
    return f"pip install --upgrade --force-reinstall {' '.join(others)} numpy"


def _origin(package: str) -> str | None:
    """Return the file of a package, if it is found."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):  # a module without a spec
        return None
    return spec.origin if spec else None


def _module(error: BaseException) -> str | None:
    """Return the innermost module that was being imported."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = [str(frame.f_globals.get("__name__")) for frame in frames if frame.f_code.co_name == "<module>"]
    return names[-1] if names else None


def package(error: BaseException) -> str:
    """Return the package that the error is about."""
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    return (missing or _module(error) or getattr(error, "name", None) or "a package").partition(".")[0]


def _own_file(error: BaseException) -> str | None:
    """Return the file and line of an error that was not raised in an installed package."""
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    if not frames or frames[-1][0].startswith("<") or _is_installed(frames[-1][0]):
        return None
    return f"{frames[-1][0]}, line {frames[-1][1]}"


def _is_installed(file: str) -> bool:
    """Return whether a file belongs to an installed package, to this one or to Python."""
    python = [sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    installed = {str(distribution.locate_file("")) for distribution in metadata.distributions()}
    places = {Path(place).resolve() for place in (*python, *installed, str(Path(__file__).parents[1]))}
    return any(Path(file).resolve().is_relative_to(place) for place in places)
