"""What releases cannot do by themselves, and what they need of other packages.

A step that is listed here must fail where it is listed: one that passes there is reported as a failure of this table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet


@dataclass(frozen=True)
class Limit:
    """Why a step cannot pass in some environments, without this package either.

    Attributes:
        step: Name of the step.
        where: Versions of packages, all of which must hold.
        reason: What plain Ultralytics or PyTorch does there.
    """

    step: str
    where: Mapping[str, str]
    reason: str

    def holds(self, versions: Mapping[str, str]) -> bool:
        """Whether it holds for an environment's versions."""
        return all(name in versions and meets(versions[name], wanted) for name, wanted in self.where.items())


LIMITS = (
    Limit("yolo12", {"ultralytics": "<8.3.78"}, "Ultralytics has no yolo12 before 8.3.78"),
    Limit("yolo26", {"ultralytics": "<8.4.0"}, "Ultralytics has no yolo26 before 8.4.0"),
)


@dataclass(frozen=True)
class Beside:
    """Packages that releases of Ultralytics need in front beside them.

    Attributes:
        requirements: The packages, all of them, since their own requirements are not installed.
        releases: Versions of Ultralytics.
        reason: What they are needed for, and which command says so.
    """

    requirements: Sequence[str]
    releases: str
    reason: str


BESIDE = (
    Beside(("numpy<2.4",), "<=8.3.100", "it calls np.trapz, which NumPy 2.4 removed; `doctor` says so"),
    Beside(("onnxscript", "onnx-ir"), "<=8.3.200", "ONNX export with a recent PyTorch needs it; `export` says so"),
)


def limit_of(step: str, versions: Mapping[str, str]) -> Limit | None:
    """Why a step cannot pass in an environment; None where it should."""
    return next((limit for limit in LIMITS if limit.step == step and limit.holds(versions)), None)


def beside(release: str) -> list[str]:
    """Requirements that a release of Ultralytics has beside itself."""
    return [each for needed in BESIDE if meets(release, needed.releases) for each in needed.requirements]


def meets(version: str, wanted: str) -> bool:
    """Whether a version meets a specifier; builds such as 2.1.0+cpu count as their release."""
    return SpecifierSet(wanted).contains(version.partition("+")[0], prereleases=True)
