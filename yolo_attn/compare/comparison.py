"""A whole comparison: planned, checked, trained, measured, reported. The same call again does what is left of it."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ultralytics.utils import LOGGER

from yolo_attn.coco.demo import DEMO_TRAINING
from yolo_attn.coco.evaluate import write_truth
from yolo_attn.compare.execution.costs import measure
from yolo_attn.compare.execution.devices import alone, chosen, machines, visible_kept
from yolo_attn.compare.execution.processes import ask
from yolo_attn.compare.execution.progress import Progress
from yolo_attn.compare.execution.runner import LOCK, Job, locked, run_all
from yolo_attn.compare.planning.validation_data import read_data
from yolo_attn.compare.planning.variants import Model, Wanted, plan
from yolo_attn.compare.report.files import write_report
from yolo_attn.compare.study import Call, Data, Manifest, Variant, Weights, read_study, run_folder
from yolo_attn.engine.api import Training, check_training
from yolo_attn.engine.validation.validator import versions
from yolo_attn.errors import RunError, UserError
from yolo_attn.files import TEMPORARY, check_apart, check_writable, remove_temporaries, write_json, write_text
from yolo_attn.model.names import read_model
from yolo_attn.reading import LARGEST_YAML, chunks, read_plain

MANIFEST = "manifest.json"

UNSET = "unset"

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
        devices: Devices, each of which trains some of the models; empty takes all GPUs, or the CPU where there is none.
        parallel: Trainings at once on each device.
        strict: Whether data is refused if anything of it is left out, clipped or doubted.
        trust: Whether the checkpoint is read as Ultralytics does, which runs what it names.
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
    trust: bool = False
    equal_gflops: bool = False
    modules: Sequence[str] = ()
    command: str = ""

    @property
    def folder(self) -> Path:
        """Where all of it lies."""
        return self.output or Path("runs", "compare", Path(self.base).stem).absolute()


@contextlib.contextmanager
def _way_on_told() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as stop:
        stop.args = ("the same command goes on with what is left",)
        raise


@_way_on_told()
def compare(comparison: Comparison) -> Path:
    """Train what is not trained yet, and report.

    Returns:
        The report, an HTML file.

    Raises:
        UserError: If anything given cannot be used, or the folder holds anything else than a comparison on this budget.
        RunError: If trainings failed; all others are done and reported by then.
    """
    folder = comparison.folder
    check_writable(folder, "--output")
    _check_ours(folder)
    devices = chosen(comparison.devices)
    places = machines(devices)
    read_model(comparison.base)  # told first, since a training would call it its --cfg
    args, settings = _checked(comparison)
    examined = read_data(args)
    check_apart(folder, "--output", examined.folders)
    classes = len(examined.index.category_names) if examined.index else None
    models = plan(comparison.base, comparison.wanted, args.imgsz if comparison.equal_gflops else None, classes)
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    manifest = Manifest(
        base=comparison.base,
        variants=tuple(model.variant for model in models),
        seeds=tuple(comparison.seeds),
        epochs=args.epochs,
        data=examined.data,
        settings=settings,
        weights=_weights(comparison.weights),
        modules=tuple(comparison.modules),
        calls=(Call(comparison.command, now, tuple(comparison.seeds), places, comparison.parallel, versions()),),
    )
    with locked(folder):
        manifest = _joined(folder, manifest, models)
        write_json(folder / MANIFEST, asdict(manifest))
        runs = [run_folder(folder, each.name, seed) for each in manifest.variants for seed in manifest.seeds]
        weights = [run / "weights" for run in runs]
        remove_temporaries(folder, folder / "models", *runs, *weights)
        for model in models:
            write_text(_model_file(folder, comparison.base, model.variant), model.text)
        if examined.index:
            write_truth(folder / "ground_truth.json", examined.index)
        jobs = [
            Job(folder, variant, seed, _training(comparison, manifest, variant, seed), manifest.modules)
            for seed in manifest.seeds
            for variant in manifest.variants
        ]
        with Progress(jobs, len(devices) * comparison.parallel) as progress:
            failed = run_all(jobs, devices, comparison.parallel, progress)
        _measure(jobs, args.imgsz, devices[0], manifest)
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


def _check_ours(folder: Path) -> None:
    """Make sure that nothing of anybody else's is written over.

    Raises:
        UserError: If the folder holds files that are no comparison.
    """
    if (folder / MANIFEST).exists():
        read_study(folder)
        return
    others = (
        [f for f in folder.iterdir() if f.name != LOCK and not TEMPORARY.fullmatch(f.name)] if folder.exists() else []
    )
    if others:  # a comparison that was killed at once leaves no more
        raise UserError(f"--output {folder}: it holds files already, and no {MANIFEST} of a comparison; choose another")


def _checked(comparison: Comparison) -> tuple[SimpleNamespace, dict[str, Any]]:
    """All settings of the trainings, and those that are the comparison's own, once a training could begin."""
    if "time" in comparison.settings:
        raise UserError(f"time={comparison.settings['time']}: the budget of a comparison is in epochs; give --epochs")
    given = {**UNEQUAL, **comparison.settings, "device": "cpu"}
    folder = str(comparison.folder)
    with visible_kept():
        told = Training(comparison.base, given, folder, comparison.weights, strict=comparison.strict)
        _, args, _ = check_training(replace(told, trust=comparison.trust))
    if args.patience and args.patience < args.epochs:
        raise UserError(
            f"patience={args.patience}: it would give some trainings fewer of the {args.epochs} epochs than others; "
            "leave it out"
        )
    kept = {"imgsz", "batch", *UNEQUAL, *comparison.settings, *(() if "data" in comparison.settings else DEMO_TRAINING)}
    settings = {key: getattr(args, key) for key in sorted(kept - {"data", "epochs", "device"})}
    return args, json.loads(json.dumps(settings))  # as they are read again


def _weights(given: str | None) -> Weights | None:
    if given is None:
        return None
    file, digest = Path(given).absolute(), hashlib.sha256()
    for part in chunks(file):
        digest.update(part)
    return Weights(str(file), digest.hexdigest())


def _training(comparison: Comparison, manifest: Manifest, variant: Variant, seed: int) -> Training:
    folder = comparison.folder
    own = {
        "data": manifest.data.path,
        "epochs": manifest.epochs,
        "seed": seed,
        "name": f"seed-{seed}",
        "exist_ok": True,
    }
    cfg = str(_model_file(folder, manifest.base, variant))
    return Training(
        cfg,
        {**manifest.settings, **own},
        project=str(folder / "runs" / variant.name),
        weights=manifest.weights.path if manifest.weights else None,
        strict=comparison.strict,
        trust=comparison.trust,
    )


def _model_file(folder: Path, base: str, variant: Variant) -> Path:
    """Where a variant's model YAML lies; Ultralytics reads the scale off the base's name, which it begins with."""
    stem = Path(base).stem
    return folder / "models" / f"{stem}{'' if variant.name == 'base' else f'-{variant.name}'}.yaml"


def _joined(folder: Path, manifest: Manifest, models: Sequence[Model]) -> Manifest:
    """The comparison with the variants, seeds, modules and calls that the folder has already.

    Raises:
        UserError: If what is there was made on another budget.
    """
    file = folder / MANIFEST
    if not file.exists():
        return manifest
    before = read_study(folder).manifest
    for name in BUDGET:
        there, now = getattr(before, name), getattr(manifest, name)
        if there != now:
            told = (
                _differences(there, now)
                if isinstance(now, dict)
                else f"{name} is {_told(there)} there and {_told(now)}"
            )
            raise UserError(f"{file}: {told} now; choose another --output")
    for model in models:
        known = _model_file(folder, manifest.base, model.variant)
        if known.exists() and read_plain(known, LARGEST_YAML) != model.text.encode():
            raise UserError(f"{known}: {manifest.base} gives another model by now; choose another --output")
    variants = {variant.name: variant for variant in (*before.variants, *manifest.variants)}
    return replace(
        manifest,
        variants=tuple(variants.values()),
        seeds=tuple(dict.fromkeys((*before.seeds, *manifest.seeds))),
        modules=tuple(dict.fromkeys((*before.modules, *manifest.modules))),
        calls=(*before.calls, *manifest.calls),
    )


def _told(value: Any) -> str:
    return f"{value.path} ({(value.sha256 or 'unknown')[:12]})" if isinstance(value, (Data, Weights)) else str(value)


def _differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Settings that are not the same, each as it is and was."""
    names = (name for name in sorted(there.keys() | now.keys()) if there.get(name, UNSET) != now.get(name, UNSET))
    return ", ".join(f"{name} is {there.get(name, UNSET)} there and {now.get(name, UNSET)}" for name in names)


def _measure(jobs: Sequence[Job], size: int, device: str, manifest: Manifest) -> None:
    """Measure all models anew if one has come in since they were, so that they are compared in one run."""
    folder = jobs[0].study
    best: dict[str, str] = {}
    for job in jobs:
        file = job.folder / "weights" / "best.pt"
        if file.exists() and job.finished:
            best.setdefault(job.variant.name, str(file))
    known = read_study(folder).costs
    if not best.keys() - known.variants.keys():
        return
    LOGGER.info(f"timing {len(best)} models, one picture at a time")
    environment, name = alone(device)
    told = {"checkpoints": best, "size": size, "device": name, "modules": manifest.modules}
    told["trust"] = jobs[0].training.trust
    try:
        costs: Mapping[str, Any] = ask(measure, told, environment, manifest.modules)
    except RunError as error:
        LOGGER.warning(f"the models could not be timed: {error}")
        costs = asdict(replace(known, error=str(error)))
    write_json(folder / "costs.json", costs)
