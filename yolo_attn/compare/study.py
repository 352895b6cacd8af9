"""A comparison's folder: what was to be trained, and what each training has left there."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from yolo_attn.errors import UserError, one_line
from yolo_attn.reading import LARGEST_RECORD, read_plain

T = TypeVar("T")


@dataclass(frozen=True)
class Variant:
    """A model that is compared.

    Attributes:
        name: Its name in the folder: that of its YAML and of its runs' folder.
        label: What people call it.
        layer: The attention layer that was inserted; None for a model without.
        at: Where it was inserted.
        options: The layer's options.
        control_for: Name of the variant whose cost this wider or deeper base matches; None for others.
    """

    name: str
    label: str
    layer: str | None = None
    at: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    control_for: str | None = None


@dataclass(frozen=True)
class Data:
    """The data set: where it is, the digest of its annotations, images of its val split, what COCO compares."""

    path: str
    sha256: str | None = None
    images: int | None = None
    kind: str | None = None


@dataclass(frozen=True)
class Weights:
    """The checkpoint that all models start from: where it was, and the digest of its bytes."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Call:
    """One of the commands that worked on a comparison.

    Attributes:
        command: What was typed.
        begun: When.
        seeds: Those that it asked for.
        devices: The devices that it trained on, each with its machine in words.
        parallel: Trainings at once on each.
        versions: What it trained with.
    """

    command: str
    begun: str
    seeds: tuple[int, ...] = ()
    devices: dict[str, str] = field(default_factory=dict)
    parallel: int = 1
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """What manifest.json holds: the comparison as it was planned, and the calls so far. The first variant is the base.

    `modules` register layers of the user's own.
    """

    base: str
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    epochs: int
    data: Data
    settings: dict[str, Any] = field(default_factory=dict)
    weights: Weights | None = None
    modules: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True)
class Cost:
    """A model's parameters, GFLOPs, and milliseconds for an image: median and quartiles."""

    parameters: int | None = None
    gflops: float | None = None
    latency_ms: float | None = None
    latency_quartiles_ms: tuple[float, float] | None = None


@dataclass(frozen=True)
class Costs:
    """What costs.json holds: each variant's cost by its name, where it was measured, and why some could not be."""

    machine: str = ""
    device: str = ""
    imgsz: int | None = None
    variants: dict[str, Cost] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class Record:
    """What run.json holds: how a finished training went, `parallel` at once. Memory is the peak, in MiB."""

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


@dataclass(frozen=True)
class Run:
    """One training of the comparison.

    Attributes:
        variant: Name of its variant.
        seed: Its seed.
        folder: Its folder, there or not.
        record: How it went; None for one that is missing or failed.
        error: Why there is nothing of it to report, in one line; None for a finished one.
        scores: Its numbers by name, fractions of 1, in the order of metrics.json: COCO's, or Ultralytics' own where the
            data is not COCO's. A number that COCO does not define, as of a size without ground truth, is absent.
        per_class: The same of each class, by its name.
        evaluator: What computed them.
    """

    variant: str
    seed: int
    folder: Path
    record: Record | None = None
    error: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    per_class: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    evaluator: str = ""

    @property
    def done(self) -> bool:
        """Whether it has finished and its numbers are known."""
        return self.error is None


@dataclass(frozen=True)
class Study:
    """A comparison as far as it has come: the plan, and a run for each of its variants and seeds."""

    folder: Path
    manifest: Manifest
    costs: Costs
    runs: tuple[Run, ...]

    @property
    def base(self) -> Variant:
        """What the other variants are held against."""
        return self.manifest.variants[0]

    @property
    def truth(self) -> Path:
        """The COCO JSON that predictions are held against; absent where the data is not COCO's."""
        return self.folder / "ground_truth.json"

    def done(self, variant: str) -> dict[int, Run]:
        """A variant's finished runs by their seeds."""
        return {run.seed: run for run in self.runs if run.variant == variant and run.done}


def read_study(folder: Path) -> Study:
    """Read a comparison's folder.

    Args:
        folder: The folder.

    Raises:
        UserError: If it holds no manifest.json, or what is wrong in that or in costs.json. A broken run is none: it
            carries what is wrong as its error.
    """
    manifest = _read(folder / "manifest.json", Manifest)
    _check(folder / "manifest.json", manifest)
    costs = _read(folder / "costs.json", Costs) if (folder / "costs.json").exists() else Costs()
    runs = [read_run(folder, variant.name, seed) for variant in manifest.variants for seed in manifest.seeds]
    return Study(folder, manifest, costs, tuple(runs))


def run_folder(folder: Path, variant: str, seed: int) -> Path:
    """Where in a comparison's folder a training is."""
    return folder / "runs" / variant / f"seed-{seed}"


def _read(file: Path, kind: type[T]) -> T:
    if not file.exists():
        raise UserError(f"{file}: not found; expected the folder of a comparison")
    try:
        return msgspec.json.decode(read_plain(file, LARGEST_RECORD), type=kind)
    except OSError as error:
        raise UserError(f"{file}: cannot read it: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: {error}") from error


def _check(file: Path, manifest: Manifest) -> None:
    names = [variant.name for variant in manifest.variants]
    if not names or not manifest.seeds:
        raise UserError(f"{file}: no {'seeds' if names else 'variants'} in it; expected at least one")
    for what, values in (("variant", names), ("seed", manifest.seeds)):
        repeated = next((value for n, value in enumerate(values) if value in values[:n]), None)
        if repeated is not None:
            raise UserError(f"{file}: {what} {repeated!r} is there twice; expected each once")
    wrong = next((name for name in names if name in ("", ".", "..") or "/" in name or "\\" in name), None)
    if wrong is not None:
        raise UserError(f"{file}: variant {wrong!r}: expected a name that a file can have")


def read_run(study: Path, variant: str, seed: int) -> Run:
    """Read what a training has left in a comparison's folder."""
    folder = run_folder(study, variant, seed)
    try:
        if not (folder / "run.json").exists():
            failed = folder / "failed.json"
            reason = str(json.loads(read_plain(failed, LARGEST_RECORD))["error"]) if failed.exists() else "not finished"
            return Run(variant, seed, folder, error=" ".join(reason.split()))
        record = _read(folder / "run.json", Record)
        content = json.loads(read_plain(folder / "metrics.json", LARGEST_RECORD))
        own = content.get("ultralytics", {})
        source = content if "AP" in content else own
        per_class = {name: _numbers(scores) for name, scores in source.get("per_class", {}).items()}
        return Run(variant, seed, folder, record, None, _numbers(source), per_class, str(source.get("evaluator", "")))
    except UserError as error:
        return Run(variant, seed, folder, error=str(error))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Run(variant, seed, folder, error=f"its files cannot be read: {one_line(error)}")


def _numbers(content: Mapping[str, Any]) -> dict[str, float]:
    """The defined numbers among a mapping's values."""
    numbers = {name: v for name, v in content.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
    return {name: float(v) for name, v in numbers.items() if math.isfinite(v) and v >= 0}
