"""What releases cannot do by themselves, and what they need of other packages.

A step that is listed here must fail where it is listed: one that passes there is reported as a failure of this table.
"""

from typing import NamedTuple

from packaging.specifiers import SpecifierSet


class Limit(NamedTuple):
    """A step that cannot pass on some releases of Ultralytics, without this package either, and why."""

    step: str
    releases: str
    reason: str


LIMITS = (
    Limit("yolo12", "<8.3.78", "Ultralytics has no yolo12 before 8.3.78"),
    Limit("yolo26", "<8.4.0", "Ultralytics has no yolo26 before 8.4.0"),
)


class Beside(NamedTuple):
    """Packages that releases of Ultralytics need in front beside them, and what for; their own needs are among them."""

    requirements: tuple[str, ...]
    releases: str
    reason: str


BESIDE = (
    Beside(("numpy<2.4",), "<=8.3.100", "it calls np.trapz, which NumPy 2.4 removed; `doctor` says so"),
    Beside(("onnxscript", "onnx-ir"), "<=8.3.200", "ONNX export with a recent PyTorch needs it; `export` says so"),
)


def limit_of(step: str, release: str) -> Limit | None:
    """Why a step cannot pass on a release of Ultralytics; None where it should."""
    return next((limit for limit in LIMITS if limit.step == step and meets(release, limit.releases)), None)


def beside(release: str) -> list[str]:
    """Requirements that a release of Ultralytics has beside itself."""
    return [each for needed in BESIDE if meets(release, needed.releases) for each in needed.requirements]


def meets(release: str, wanted: str) -> bool:
    """Whether a release meets a specifier."""
    return SpecifierSet(wanted).contains(release, prereleases=True)
