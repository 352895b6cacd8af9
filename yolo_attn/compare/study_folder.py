"""Read a comparison's folder: the plan, and what each training left there."""

import contextlib
import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from yolo_attn.bounded_reading import LARGEST_RECORD, read_plain
from yolo_attn.errors import UserError, one_line

MANIFEST = "manifest.json"

OURS = ("AP", "accuracy_top1")
"""Scores of which metrics.json has one at its top level, unless it has Ultralytics' own alone."""

COUNT = "images"
"""Number of images that stands among the scores of classifiers and of their classes."""

T = TypeVar("T")


@dataclass(frozen=True)
class Variant:
    """One of the models that are compared.

    Attributes:
        name: Its name in the folder, of its YAML and its runs.
        label: Its name in reports.
        layer: The inserted attention layer; None for a model without.
        at: Where it is inserted.
        options: The layer's options.
        control_for: Name of the variant whose cost this wider base matches; None for others.
    """

    name: str
    label: str
    layer: str | None = None
    at: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    control_for: str | None = None


@dataclass(frozen=True)
class Data:
    """The data set.

    Attributes:
        path: The path or paths as given.
        sha256: A digest of annotations and images.
        images: Number of validation images; None where it was not counted.
        kind: What is evaluated: COCO's "bbox", "segm" or "keypoints", or "classify"; None for Ultralytics' own metrics.
    """

    path: str
    sha256: str | None = None
    images: int | None = None
    kind: str | None = None


@dataclass(frozen=True)
class Weights:
    """The checkpoint that all models start from: its path and the digest of its bytes."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Call:
    """One of the commands that worked on a comparison; each device has its machine in words."""

    command: str
    begun: str
    seeds: tuple[int, ...] = ()
    devices: dict[str, str] = field(default_factory=dict)
    parallel: int = 1
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """The content of manifest.json: the plan and the calls so far. The first variant is the base.

    `stretch` is whether images of classifiers are resized to a square; `modules` register the user's own layers.
    """

    base: str
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    epochs: int
    data: Data
    settings: dict[str, Any] = field(default_factory=dict)
    weights: Weights | None = None
    stretch: bool = False
    modules: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True)
class Cost:
    """A model's parameters, GFLOPs, and latency of one image in ms: median and quartiles."""

    parameters: int | None = None
    gflops: float | None = None
    latency_ms: float | None = None
    latency_quartiles_ms: tuple[float, float] | None = None


@dataclass(frozen=True)
class Costs:
    """The content of costs.json: each variant's cost by name, the machine, and why the last measurement failed."""

    machine: str = ""
    device: str = ""
    imgsz: int | None = None
    variants: dict[str, Cost] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class Record:
    """The content of run.json: a finished training, one of `parallel` at once. Memory is the peak in MiB."""

    variant: str
    seed: int
    epochs: int
    seconds: float
    memory_mb: float | None = None
    parallel: int | None = None
    device: str = ""
    machine: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    finished: str = ""


@dataclass(frozen=True, eq=False)
class Confusion:
    """How many images of each class (rows) were taken for each class (columns)."""

    classes: tuple[str, ...]
    counts: NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    """One training of the comparison, by its variant's name and its seed.

    Attributes:
        folder: Its folder, which may not exist.
        record: Its run.json; None if it is missing or failed.
        error: Why it has no results, in one line; None if it finished.
        scores: Its metrics by name, fractions of 1, in the order of metrics.json: COCO's, a classifier's, or else
            Ultralytics' own. A metric that is not defined, as of a size without objects, is absent.
        per_class: The same by class name; of classifiers also the number of images, as COUNT.
        evaluator: What computed them.
        confusion: Which classes a classifier took for which; None for other models.
    """

    variant: str
    seed: int
    folder: Path
    record: Record | None = None
    error: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    per_class: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    evaluator: str = ""
    confusion: Confusion | None = None

    @property
    def done(self) -> bool:
        """Whether it finished and its metrics are known."""
        return self.error is None


@dataclass(frozen=True)
class Study:
    """A comparison so far: the plan, and a run for each variant and seed."""

    folder: Path
    manifest: Manifest
    costs: Costs
    runs: tuple[Run, ...]

    @property
    def base(self) -> Variant:
        """The variant that all others are compared with."""
        return self.manifest.variants[0]

    @property
    def truth(self) -> Path:
        """The COCO JSON of the validation images; it does not exist for data that is not in COCO format."""
        return self.folder / "ground_truth.json"

    def done(self, variant: str) -> dict[int, Run]:
        """Return a variant's finished runs by seed."""
        return {run.seed: run for run in self.runs if run.variant == variant and run.done}


def read_study(folder: Path) -> Study:
    """Read a comparison's folder.

    Raises:
        UserError: If manifest.json is missing, or it or costs.json is broken. A broken run has an error instead.
    """
    if not (folder / MANIFEST).exists():
        raise UserError(f"{folder / MANIFEST}: not found; expected the folder of a comparison")
    manifest = read_json(folder / MANIFEST, Manifest)
    _check(folder / MANIFEST, manifest)
    costs = read_json(folder / "costs.json", Costs) if (folder / "costs.json").exists() else Costs()
    runs = [read_run(folder, variant.name, seed) for variant in manifest.variants for seed in manifest.seeds]
    return Study(folder, manifest, costs, tuple(runs))


def run_folder(folder: Path, variant: str, seed: int) -> Path:
    """Return the folder of one training."""
    return folder / "runs" / variant / f"seed-{seed}"


def read_json(file: Path, kind: type[T]) -> T:
    """Return the content of a JSON; raise a UserError if it cannot be read, or msgspec finds no such content."""
    try:
        return msgspec.json.decode(read_plain(file, LARGEST_RECORD), type=kind)
    except OSError as error:
        raise UserError(f"{file}: cannot read it: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: {error}") from error


def _check(file: Path, manifest: Manifest) -> None:
    names = [variant.name for variant in manifest.variants]
    if not names or not manifest.seeds:
        raise UserError(f"{file}: it has no {'seeds' if names else 'variants'}; expected at least one")
    for what, values in (("variant", names), ("seed", manifest.seeds)):
        repeated = next((value for n, value in enumerate(values) if value in values[:n]), None)
        if repeated is not None:
            raise UserError(f"{file}: {what} {repeated!r} is listed twice; expected each once")
    wrong = next((name for name in names if name in ("", ".", "..") or "/" in name or "\\" in name), None)
    if wrong is not None:
        raise UserError(f"{file}: variant {wrong!r}: expected a valid file name")


def read_run(study: Path, variant: str, seed: int) -> Run:
    """Read what a training left in its folder."""
    folder = run_folder(study, variant, seed)
    try:
        if not (folder / "run.json").exists():
            failed = folder / "failed.json"
            reason = str(json.loads(read_plain(failed, LARGEST_RECORD))["error"]) if failed.exists() else "not finished"
            return Run(variant, seed, folder, error=" ".join(reason.split()))
        record = read_json(folder / "run.json", Record)
        content = json.loads(read_plain(folder / "metrics.json", LARGEST_RECORD))
        source = content if any(name in content for name in OURS) else content.get("ultralytics", {})
        scores = {name: score for name, score in _numbers(source).items() if name != COUNT}
        per_class = {name: _numbers(of_class) for name, of_class in source.get("per_class", {}).items()}
        evaluator, confusion = str(source.get("evaluator", "")), _confusion(source.get("confusion"))
        return Run(variant, seed, folder, record, None, scores, per_class, evaluator, confusion)
    except UserError as error:
        return Run(variant, seed, folder, error=str(error))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Run(variant, seed, folder, error=f"its files cannot be read: {one_line(error)}")


def read_epochs(run: Path) -> dict[int, dict[str, float]]:
    """Return the whole rows of a training's results.csv by epoch; none if it cannot be read."""
    try:
        header, *lines = csv.reader(read_plain(run / "results.csv", LARGEST_RECORD).decode().splitlines())
    except (UserError, OSError, ValueError, csv.Error):
        return {}
    names, found = [name.strip() for name in header], {}
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, OverflowError):
            row = dict(zip(names, map(float, line), strict=True))
            found[int(row.pop("epoch"))] = row
    return found


def _confusion(content: Mapping[str, Any] | None) -> Confusion | None:
    if content is None:
        return None
    classes, counts = tuple(map(str, content["classes"])), np.array(content["counts"], dtype=np.float64)
    if counts.shape != (len(classes), len(classes)) or not (np.isfinite(counts) & (counts >= 0)).all():
        raise ValueError(f"confusion has {len(classes)} classes, and counts that are no such square of numbers")
    return Confusion(classes, counts)


def _numbers(content: Mapping[str, Any]) -> dict[str, float]:
    """Return the defined numbers of a mapping."""
    numbers = {name: v for name, v in content.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
    return {name: float(v) for name, v in numbers.items() if math.isfinite(v) and v >= 0}
