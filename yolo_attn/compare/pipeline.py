"""Run a whole comparison: plan, train, measure, report. The same call again does only what is left."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.console import Console
from ultralytics.utils import LOGGER

from yolo_attn.bounded_reading import LARGEST_YAML, chunks, read_plain
from yolo_attn.coco.demo import DEMO_TRAINING
from yolo_attn.coco.evaluate import write_truth
from yolo_attn.compare.execution.costs import ROUND, ROUNDS, measure
from yolo_attn.compare.execution.devices import chosen, machines, one_gpu, visible_kept
from yolo_attn.compare.execution.processes import ask
from yolo_attn.compare.execution.progress import Progress
from yolo_attn.compare.execution.runner import LOCK, Job, locked, run_all
from yolo_attn.compare.planning.compared_data import DataRead, digest_of, read_data
from yolo_attn.compare.planning.variants import Model, Wanted, plan
from yolo_attn.compare.report.writer import Report, write_report
from yolo_attn.compare.study_folder import (
    MANIFEST,
    Call,
    Data,
    Manifest,
    Study,
    Variant,
    Weights,
    read_study,
    run_folder,
)
from yolo_attn.engine.api import Training, check_training
from yolo_attn.engine.validation.validator import versions
from yolo_attn.errors import RunError, UserError
from yolo_attn.files import TEMPORARY, check_apart, check_writable, remove_temporaries, write_json, write_text
from yolo_attn.model.names import read_model

BUDGET = ("base", "weights", "epochs", "data", "stretch", "settings")
"""What all trainings of a comparison share; later calls cannot change it."""


@dataclass(frozen=True)
class Comparison:
    """The request for a comparison.

    Attributes:
        training: What all trainings share: the base, with its scale letter, as `cfg`, the comparison's folder as
            `project`, settings, checkpoint, and how data and checkpoint are read.
        wanted: The attention to insert into the base, each by itself.
        seeds: Each model is trained once with each seed.
        devices: Devices that share the trainings; empty for all GPUs, or the CPU if there is none.
        parallel: Trainings at once on each device.
        equal_gflops: Whether each variant that needs more operations than the base is also compared with a wider base
            that needs as many.
        modules: Modules that register the user's own layers.
        command: The command line, for the report.
    """

    training: Training
    wanted: Sequence[Wanted]
    seeds: Sequence[int]
    devices: Sequence[str]
    parallel: int
    equal_gflops: bool
    modules: Sequence[str]
    command: str


def compare(comparison: Comparison) -> Report:
    """Train what is not trained yet, and report.

    Returns:
        The report.

    Raises:
        UserError: If an argument cannot be used, or the folder holds other files or a comparison on another budget.
        RunError: If trainings failed; all others are finished and reported by then.
    """
    training = comparison.training
    folder = Path(training.project or "")
    check_writable(folder, "--output")
    _check_ours(folder)
    devices = chosen(comparison.devices)
    device_machines = machines(devices)
    read_model(training.cfg)  # here, since the check of a training would call it --cfg
    args, settings, read = _checked(training)
    check_apart(folder, "--output", read.folders)
    models = plan(training.cfg, comparison.wanted, args.imgsz if comparison.equal_gflops else None, read.classes)
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    seeds = tuple(comparison.seeds)
    manifest = Manifest(
        base=training.cfg,
        variants=tuple(model.variant for model in models),
        seeds=seeds,
        epochs=args.epochs,
        data=read.data,
        settings=settings,
        weights=_weights(training.weights),
        stretch=training.stretch,
        modules=tuple(comparison.modules),
        calls=(Call(comparison.command, now, seeds, device_machines, comparison.parallel, versions()),),
    )
    with locked(folder):
        manifest = _joined(folder, manifest, models)
        write_json(folder / MANIFEST, asdict(manifest))
        runs = [run_folder(folder, each.name, seed) for each in manifest.variants for seed in manifest.seeds]
        remove_temporaries(folder, folder / "models", *runs, *(run / "weights" for run in runs))
        for model in models:
            write_text(_model_file(folder, training.cfg, model.variant), model.text)
        if read.truth:
            write_truth(folder / "ground_truth.json", read.truth)
        jobs = [_job(training, manifest, variant, seed) for seed in manifest.seeds for variant in manifest.variants]
        with Progress(jobs, len(devices) * comparison.parallel) as progress:
            failed = run_all(jobs, devices, comparison.parallel, progress)
        _measure(read_study(folder), args.imgsz, devices[0], training.trust)
        report = write_report(read_study(folder))
    if failed:
        raise RunError(
            f"{len(failed)} of {len(jobs)} trainings failed, first {failed[0].variant.label}, seed {failed[0].seed}: "
            f"see {failed[0].log}; the same command tries them again; {report.page} has the others"
        )
    return report


def _check_ours(folder: Path) -> None:
    """Raise a UserError if the folder holds files, and they are not a comparison."""
    if (folder / MANIFEST).exists():
        read_study(folder)
        return
    files = folder.iterdir() if folder.exists() else ()
    if any(file.name != LOCK and not TEMPORARY.fullmatch(file.name) for file in files):  # which an early kill leaves
        raise UserError(f"--output {folder}: it holds files, but no {MANIFEST} of a comparison; choose another")


def _checked(training: Training) -> tuple[SimpleNamespace, dict[str, Any], DataRead]:
    """Check that a training could begin.

    Returns:
        All of its settings, those that the comparison sets itself, and the data as `read_data` describes it.
    """
    given = training.settings
    if "time" in given:
        raise UserError(f"time={given['time']}: the budget of a comparison is in epochs; give --epochs")
    with visible_kept():
        _, args, prepared = check_training(replace(training, settings={"patience": 0, **given, "device": "cpu"}))
    if args.patience and args.patience < args.epochs:
        raise UserError(
            f"patience={args.patience}: some trainings could stop before the others' {args.epochs} epochs; leave it out"
        )
    kept = {"imgsz", "batch", "patience", *given, *(() if "data" in given else DEMO_TRAINING)}
    settings = {key: getattr(args, key) for key in sorted(kept - {"data", "epochs", "device"})}
    settings = json.loads(json.dumps(settings))  # as the manifest is read again
    return args, settings, read_data(args, prepared.data)


def _weights(given: str | None) -> Weights | None:
    file = Path(given).absolute() if given is not None else None
    return Weights(str(file), digest_of(chunks(file))) if file else None


def _job(shared: Training, manifest: Manifest, variant: Variant, seed: int) -> Job:
    study = Path(shared.project or "")
    folder = run_folder(study, variant.name, seed)
    own = {"data": manifest.data.path, "epochs": manifest.epochs, "seed": seed, "name": folder.name, "exist_ok": True}
    training = replace(
        shared,
        cfg=str(_model_file(study, manifest.base, variant)),
        settings={**manifest.settings, **own},
        project=str(folder.parent),
        weights=manifest.weights.path if manifest.weights else None,
    )
    return Job(study, variant, seed, training, manifest.modules)


def _model_file(folder: Path, base: str, variant: Variant) -> Path:
    """Return a variant's model YAML; its name begins with the base's, from which Ultralytics reads the scale."""
    stem = Path(base).stem
    return folder / "models" / f"{stem}{'' if variant.name == 'base' else f'-{variant.name}'}.yaml"


def _joined(folder: Path, manifest: Manifest, models: Sequence[Model]) -> Manifest:
    """Return the manifest with the variants, seeds, modules and calls of the folder, whose budget must be the same."""
    file = folder / MANIFEST
    if not file.exists():
        return manifest
    before = read_study(folder).manifest
    for name in BUDGET:
        there, now = getattr(before, name), getattr(manifest, name)
        if there != now:
            raise UserError(f"{file}: {_differences(name, there, now)} now; choose another --output")
    for model in models:
        known = _model_file(folder, manifest.base, model.variant)
        if known.exists() and read_plain(known, LARGEST_YAML) != model.text.encode():
            raise UserError(f"{known}: {manifest.base} gives another model now; choose another --output")
    variants = {variant.name: variant for variant in (*before.variants, *manifest.variants)}
    return replace(
        manifest,
        variants=tuple(variants.values()),
        seeds=tuple(dict.fromkeys((*before.seeds, *manifest.seeds))),
        modules=tuple(dict.fromkeys((*before.modules, *manifest.modules))),
        calls=(*before.calls, *manifest.calls),
    )


def _differences(name: str, old: Any, new: Any) -> str:
    """Return a part of the budget, or each setting in it, as it was and is."""
    if not isinstance(new, Mapping):
        return f"{name} was {_called(old)} and is {_called(new)}"
    pairs = [(key, old.get(key, "unset"), new.get(key, "unset")) for key in sorted({*old, *new})]
    return ", ".join(f"{key} was {was} and is {now}" for key, was, now in pairs if was != now)


def _called(value: Any) -> str:
    return f"{value.path} ({(value.sha256 or 'unknown')[:12]})" if isinstance(value, (Data, Weights)) else str(value)


def _measure(study: Study, size: int, device: str, trust: bool) -> None:
    """Measure all models in one run, if any of them is not measured yet."""
    best: dict[str, str] = {}
    for run in study.runs:
        file = run.folder / "weights" / "best.pt"
        if file.exists() and run.done:
            best.setdefault(run.variant, str(file))
    if not best.keys() - study.costs.variants.keys():
        return
    waiting = f"timing {len(best)} models in turn, {ROUNDS} times one image"
    LOGGER.info(waiting)
    environment, name = one_gpu(device)
    modules = study.manifest.modules
    arguments = {"checkpoints": best, "size": size, "device": name, "modules": modules, "trust": trust}
    try:
        with Console().status(waiting) as status:

            def show(line: str) -> None:
                if line.startswith(ROUND):
                    status.update(f"{waiting}: {int(line.removeprefix(ROUND))} done")

            costs: Mapping[str, Any] = ask(measure, arguments, environment, modules, show)
    except RunError as error:
        LOGGER.warning(f"the models could not be timed: {error}")
        costs = asdict(replace(study.costs, error=str(error)))
    write_json(study.folder / "costs.json", costs)
