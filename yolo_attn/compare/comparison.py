"""A whole comparison: planned, checked, trained, measured, reported. The same call again does what is left of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ultralytics.utils import LOGGER

from yolo_attn.coco.demo import DEMO_TRAINING
from yolo_attn.coco.evaluate import write_truth
from yolo_attn.compare.costs import measure
from yolo_attn.compare.data import read_data
from yolo_attn.compare.plan import Model, Wanted, plan
from yolo_attn.compare.progress import Progress
from yolo_attn.compare.report import write_report
from yolo_attn.compare.runner import Job, locked, run_all
from yolo_attn.compare.study import Data, Manifest, Variant, read_study
from yolo_attn.engine.run import Training, check_training
from yolo_attn.errors import RunError, UserError
from yolo_attn.files import check_writable, write_json, write_text

BUDGET = ("base", "weights", "epochs", "data", "settings")
"""What all trainings of a comparison share, and no later call may change."""

UNEQUAL = {"patience": 0}
"""Settings of Ultralytics' by which some trainings would get fewer epochs than others, and what keeps them equal."""


@dataclass(frozen=True)
class Comparison:
    """What a comparison is told.

    Attributes:
        base: Model YAML or name without attention, with its scale letter.
        wanted: The attention that is put into it, each by itself.
        seeds: Each model is trained once with each.
        settings: Ultralytics' settings that all trainings share. Without `data` the demo set is used, at its own size
            and length.
        output: The comparison's folder; None takes runs/compare/ and the base's name.
        weights: Checkpoint that all models start from; None trains from scratch.
        devices: Devices, each of which trains some of the models; empty takes Ultralytics' choice.
        parallel: Trainings at once on each device.
        strict: Whether data is refused if anything of it is left out, clipped or doubted.
        equal_gflops: Whether a variant that needs more operations than the base gets a wider base of as many beside it.
        modules: Modules that register layers of the user's own.
        command: What was typed, for the report.
    """

    base: str
    wanted: Sequence[Wanted]
    seeds: Sequence[int]
    settings: dict[str, Any]
    output: Path | None = None
    weights: str | None = None
    devices: Sequence[str] = ()
    parallel: int = 1
    strict: bool = False
    equal_gflops: bool = False
    modules: Sequence[str] = ()
    command: str = ""

    @property
    def folder(self) -> Path:
        """Where all of it lies."""
        return self.output or Path("runs", "compare", Path(self.base).stem).absolute()


def compare(comparison: Comparison) -> Path:
    """Train what is not trained yet, and report.

    Returns:
        The report, an HTML file.

    Raises:
        UserError: If anything given cannot be used, or the folder holds a comparison on another budget.
        RunError: If trainings failed; all others are done and reported by then.
    """
    folder = comparison.folder
    check_writable(folder, "--output")
    args, settings = _checked(comparison)
    models = plan(comparison.base, comparison.wanted, args.imgsz if comparison.equal_gflops else None)
    data, index = read_data(args)
    manifest = Manifest(
        base=comparison.base,
        variants=tuple(model.variant for model in models),
        seeds=tuple(comparison.seeds),
        epochs=args.epochs,
        data=data,
        settings=settings,
        weights=comparison.weights,
        command=comparison.command,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    with locked(folder):
        manifest = _joined(folder, manifest, models)
        for model in models:
            write_text(_model_file(folder, comparison.base, model.variant), model.text)
        if index and not index.origins:
            write_truth(folder / "ground_truth.json", index)
        write_json(folder / "manifest.json", asdict(manifest))
        jobs = [
            Job(folder, variant, seed, _training(comparison, manifest, variant, seed), tuple(comparison.modules))
            for seed in manifest.seeds
            for variant in manifest.variants
        ]
        with Progress(jobs, max(len(comparison.devices), 1) * comparison.parallel) as progress:
            failed = _run(jobs, comparison, progress)
        _measure(folder, jobs, args.imgsz, comparison)
        report = write_report(read_study(folder))
    if failed:
        raise RunError(
            f"{len(failed)} of {len(jobs)} trainings failed, the first is {failed[0].variant.label}, seed "
            f"{failed[0].seed}: see {failed[0].log}; the same command tries them again; {report} has the others"
        )
    return report


def report_only(folder: Path) -> Path:
    """Report what a comparison's folder holds by now; returns the report.

    Raises:
        UserError: If it holds no comparison.
    """
    return write_report(read_study(folder))


def _checked(comparison: Comparison) -> tuple[SimpleNamespace, dict[str, Any]]:
    """All settings of the trainings, and those that are the comparison's own, once a training could begin."""
    if "time" in comparison.settings:
        raise UserError(f"time={comparison.settings['time']}: the budget of a comparison is in epochs; give --epochs")
    device = {"device": comparison.devices[0]} if comparison.devices else {}
    given = {**UNEQUAL, **comparison.settings, **device}
    told = Training(comparison.base, given, str(comparison.folder), comparison.weights, strict=comparison.strict)
    _, args, _ = check_training(told)
    kept = {"imgsz", "batch", *UNEQUAL, *comparison.settings, *(() if "data" in comparison.settings else DEMO_TRAINING)}
    return args, {key: getattr(args, key) for key in sorted(kept - {"data", "epochs"})}


def _training(comparison: Comparison, manifest: Manifest, variant: Variant, seed: int) -> Training:
    folder = comparison.folder
    own = {"data": manifest.data.path, "epochs": manifest.epochs, "seed": seed, "name": f"seed-{seed}"}
    cfg = str(_model_file(folder, manifest.base, variant))
    return Training(
        cfg,
        {**manifest.settings, **own},
        str(folder / "runs" / variant.name),
        manifest.weights,
        strict=comparison.strict,
    )


def _model_file(folder: Path, base: str, variant: Variant) -> Path:
    """Where a variant's model YAML lies; Ultralytics reads the scale off the base's name, which it begins with."""
    stem = Path(base).stem
    return folder / "models" / f"{stem}{'' if variant.name == 'base' else f'-{variant.name}'}.yaml"


def _joined(folder: Path, manifest: Manifest, models: Sequence[Model]) -> Manifest:
    """The comparison with the variants and seeds that the folder has already.

    Raises:
        UserError: If what is there was made on another budget.
    """
    file = folder / "manifest.json"
    if not file.exists():
        return manifest
    before = read_study(folder).manifest
    for name in BUDGET:
        there, now = getattr(before, name), getattr(manifest, name)
        if there != now:
            raise UserError(f"{file}: {name} is {_told(there)} there and {_told(now)} now; choose another --output")
    for model in models:
        known = _model_file(folder, manifest.base, model.variant)
        if known.exists() and known.read_text(encoding="utf-8") != model.text:
            raise UserError(f"{known}: {manifest.base} gives another model by now; choose another --output")
    variants = {variant.name: variant for variant in (*before.variants, *manifest.variants)}
    seeds = tuple(dict.fromkeys((*before.seeds, *manifest.seeds)))
    return replace(manifest, variants=tuple(variants.values()), seeds=seeds, created=before.created)


def _told(value: Any) -> str:
    if isinstance(value, Data):
        return f"{value.path} ({(value.sha256 or 'unknown')[:12]})"
    return ", ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def _run(jobs: Sequence[Job], comparison: Comparison, progress: Progress) -> list[Job]:
    try:
        return run_all(jobs, comparison.devices, comparison.parallel, progress)
    except KeyboardInterrupt as stop:
        stop.args = ("the same command goes on with the trainings that are left",)
        raise


def _measure(folder: Path, jobs: Sequence[Job], size: int, comparison: Comparison) -> None:
    """Measure all models anew if one has come in since they were, so that they are compared in one run."""
    best: dict[str, Path] = {}
    for job in jobs:
        if job.finished:
            best.setdefault(job.variant.name, job.folder / "weights" / "best.pt")
    if best.keys() - read_study(folder).costs.variants.keys():
        LOGGER.info(f"timing {len(best)} models, one picture at a time")
        costs = measure(best, size, (*comparison.devices, "")[0])
        write_json(folder / "costs.json", asdict(costs))
