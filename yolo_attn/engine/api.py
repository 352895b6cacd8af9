"""Whole runs: train, resume, validate. Everything is checked before the first file is written."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

from ultralytics.utils import LOGGER, RANK

from yolo_attn.coco.dataset.locations import parts_of
from yolo_attn.coco.dataset.paths import as_text
from yolo_attn.coco.demo import DEMO_TRAINING, demo_dataset
from yolo_attn.coco.evaluate import COCO_RULES, RECALLS, Rules
from yolo_attn.engine.data import look_through
from yolo_attn.engine.preflight.checks import (
    check_cfg,
    check_frozen,
    check_importable,
    check_maps,
    check_model,
    check_settings,
    check_teacher,
    check_transfer,
    load_source,
    load_weights,
    one_line,
)
from yolo_attn.engine.preflight.data_checks import (
    check_class_folders,
    check_keypoints,
    check_strictly,
    describe_training,
    describe_validation,
    examine_training,
)
from yolo_attn.engine.run_folder import check_unfinished, find_last, training_data
from yolo_attn.engine.summary import print_demo, print_validation
from yolo_attn.engine.tasks import Task
from yolo_attn.engine.training.prepared import Prepared
from yolo_attn.engine.training.trainer import RunTrainer
from yolo_attn.engine.validation.validator import CocoValidator, RunValidator
from yolo_attn.errors import UserError
from yolo_attn.files import check_writable
from yolo_attn.model.sparsity import scales_of
from yolo_attn.weights.transfer import transfer_of

DRAWN = ("detect", "segment")
"""Tasks that the demo set has labels for."""

COCO_CONF = 0.001
"""Confidence from which Ultralytics validates."""


@dataclass(frozen=True)
class Training:
    """The options of a new training.

    Attributes:
        cfg: Model YAML or name.
        settings: Ultralytics' settings. Without `data` the demo set is used, at its own size and length.
        project: Folder for the run folder; None takes runs/ and the task's name.
        weights: Checkpoint to start from; None trains from scratch.
        nam_sparsity: p of NAM's sparsity penalty; None leaves it to the model YAML.
        task: Ultralytics' name of the task that the model is expected to have; None takes the model's own.
        stretch: Whether a classifier's images are resized to a square, and not cropped; else its model YAML says so.
        identity_init: Whether attention that is missing from the checkpoint starts with the gain that keeps its input's
            magnitude; None does so where there is a checkpoint.
        freeze_base: For how many epochs, from the first, only what got no weights is trained.
        strict: Whether COCO's or a classifier's data is refused if anything of it is skipped, clipped or suspicious.
        verbose: Whether to print where each row's weights come from.
        trust: Whether the checkpoint is read as Ultralytics does, which runs what it names.
    """

    cfg: str
    settings: dict[str, Any]
    project: str | None = None
    weights: str | None = None
    nam_sparsity: float | None = None
    task: str | None = None
    stretch: bool = False
    identity_init: bool | None = None
    freeze_base: int | None = None
    strict: bool = False
    verbose: bool = False
    trust: bool = False


def train(training: Training) -> RunTrainer:
    """Train a model.

    Returns:
        The trainer, with its metrics and paths.

    Raises:
        UserError: If anything given cannot be used.
    """
    trainer = _run(*check_training(training))
    if "data" not in training.settings:
        print_demo(trainer)
    return trainer


def check_training(training: Training) -> tuple[Task, SimpleNamespace, Prepared]:
    """Check that a training can begin; nothing is written but the demo set.

    Returns:
        The model's task, all of Ultralytics' settings, and what the trainer is given besides.

    Raises:
        UserError: If anything given cannot be used.
    """
    cfg, weights, settings = training.cfg, training.weights, training.settings
    kind = check_cfg(cfg, training.task)
    if training.identity_init and not weights:
        raise UserError("--identity-init: without --weights there is no trained network to keep whole")
    if training.freeze_base and not weights:
        raise UserError(f"--freeze-base {training.freeze_base}: without --weights there is no base to freeze")
    if training.stretch and kind.name != "classify":
        raise UserError(f"--stretch: --cfg {cfg} is of the task {kind.name}; only images of classifiers are cropped")
    folder = _project(training.project, kind)
    if "data" not in settings and kind.name not in DRAWN:
        raise UserError(f"--cfg {cfg}: the demo set has no labels for {kind.name}; give --data")
    if "data" not in settings:
        settings = {**DEMO_TRAINING, **settings, "data": str(demo_dataset())}
        LOGGER.info(f"no --data: training on the demo set, {settings['data']}")
    settings = {**settings, "model": cfg, "task": kind.name, "mode": "train", "project": str(folder)}
    args = check_settings({**settings, "pretrained": weights or False})
    check_writable(folder / (args.name or ""))
    data, classes = describe_training(args)
    model = check_model(cfg, kind, classes)
    check_importable(model)
    if kind.name == "classify":
        check_maps(model, args.imgsz)
    if kind.name == "classify" and training.strict:
        names = sorted(folder.name for folder in Path(args.data, "train").iterdir() if folder.is_dir())
        check_class_folders(args, dict(enumerate(names)), dict.fromkeys(["train", args.split or "val"]))
    if training.nam_sparsity and not scales_of(model):
        raise UserError(
            f"--nam-sparsity {training.nam_sparsity}: no row of {cfg} names NAM, so there is nothing to make sparse"
        )
    source = load_source(weights, kind.name, training.trust) if weights else None
    if source is not None:
        check_transfer(source, model)
        report = transfer_of(model)
        if training.verbose and report:
            LOGGER.info(report.table())
        if training.freeze_base:
            check_frozen(model, training.freeze_base, args)
    teacher = check_teacher(args, model, training.trust)
    prepared = Prepared(
        nam_sparsity=training.nam_sparsity,
        stretch=training.stretch,
        identity_init=bool(weights) and training.identity_init is not False,
        freeze_base=training.freeze_base or 0,
        weights=None if training.trust else weights,
        source=source,
        distill_model=None if training.trust or teacher is None else str(args.distill_model),
        teacher=teacher,
        data=data,
        examined=examine_training(args, data, training.strict) if data else {},
    )
    return kind, args, prepared


def resume(
    last: str | Literal[True], project: str | None, settings: dict[str, Any], task: str | None = None
) -> RunTrainer:
    """Go on with a cut-off training, in the run folder that its last.pt lies in.

    Args:
        last: Its last.pt or run folder; True takes the newest under `project`.
        project: Folder of the run folders; None looks in all of runs/.
        settings: The few settings that a resumed run may change, such as `device` and `batch`.
        task: The task that the run is expected to have.

    Raises:
        UserError: If there is no such run, it is finished, or the data has other classes.
    """
    last = find_last(last, project)
    model, checkpoint, kind = load_weights(last, "--resume", task, trust=True)
    check_unfinished(last, checkpoint)
    check_settings(settings)
    settings = {"data": training_data(last, checkpoint["train_args"]), **settings}
    check_writable(Path(last).resolve().parent)
    args = SimpleNamespace(**{**checkpoint["train_args"], **settings})
    check_teacher(args, model, trust=True)
    data, _ = describe_training(args)
    examined = examine_training(args, data) if data else {}
    if data and data["names"] != model.names and not args.single_cls:
        raise UserError(
            f"--resume {last}: it learns {list(model.names.values())[:5]}, and {settings['data']} has "
            f"{list(data['names'].values())[:5]}"
        )
    if data:
        check_keypoints(model, data)
    resumed = SimpleNamespace(**settings, model=last, resume=last)
    return _run(kind, resumed, Prepared(data=data, examined=examined))


def validate(
    weights: str,
    project: str | None,
    settings: dict[str, Any],
    task: str | None = None,
    trust: bool = False,
    strict: bool = False,
    rules: Rules = COCO_RULES,
) -> RunValidator:
    """Validate a checkpoint; leaves metrics.json and predictions.json in the run folder.

    Args:
        weights: The checkpoint.
        project: Folder for the run folder; None takes runs/ and the task's name.
        settings: Ultralytics' settings. `data`, `imgsz`, `classes` and `single_cls` default to those that the
            checkpoint was trained with.
        task: The task that the checkpoint is expected to have.
        trust: Whether the checkpoint is read as Ultralytics does, which runs what it names.
        strict: Whether COCO's or a classifier's data is refused if anything of it is skipped, clipped or suspicious.
        rules: What is not COCO's own in the evaluation.

    Raises:
        UserError: If anything given cannot be used.
    """
    if RANK > -1:
        raise UserError("a validation runs in one process: start it without torchrun")
    model, checkpoint, kind = load_weights(weights, task=task, trust=trust)
    trained = {**(checkpoint.get("train_args") or {})}
    trained["data"] = training_data(weights, trained)
    defaults = {key: trained[key] for key in ("data", "imgsz", "classes", "single_cls") if trained.get(key)}
    if "data" not in {**defaults, **settings}:
        raise UserError(f"--weights {weights}: it does not name its training data; give --data")
    if "data" not in settings and not all(part.exists() for part in parts_of(defaults["data"])):
        raise UserError(f"--weights {weights}: its training data, {defaults['data']}, is gone; give --data")
    settings = {"rect": True, **defaults, **settings, "model": weights, "task": kind.name, "mode": "val"}
    folder = _project(project, kind)
    args = check_settings({**settings, "project": str(folder)})
    check_writable(folder / (args.name or ""))
    data = describe_validation(args, model, model.names)
    scored = bool(data) and issubclass(kind.validator, CocoValidator)
    if rules != COCO_RULES:
        _check_rules(rules, kind, args, scored)
    examined = None
    if data and strict:
        examined = look_through(args, data, args.split, model.names, alone=True)
        check_strictly(examined.report)
    if kind.name == "classify" and strict:
        check_class_folders(args, model.names, [args.split or "val"])
    known: dict[str, Any] = {"described": data, "examined": examined} if data else {}
    if rules != COCO_RULES:
        known["rules"] = rules
    validator = kind.validator(args=vars(args), **known)
    if scored and (args.conf or 0) > COCO_CONF:
        LOGGER.warning(f"conf={args.conf} skips detections that COCO's AP counts; its numbers take {COCO_CONF}")
    validator(model=model)
    print_validation(validator)
    return validator


def _check_rules(rules: Rules, kind: Task, args: SimpleNamespace, scored: bool) -> None:
    """Check rules that are not COCO's own; the model gives as many detections as they count."""
    if not scored:
        raise UserError(f"{args.data}: --max-dets and --area-ranges are for COCO's numbers, which this run has none of")
    expected = 1 if kind.name == "pose" else len(RECALLS)
    if rules.max_dets and len(rules.max_dets) != expected:
        shown = ",".join(map(str, rules.max_dets))
        raise UserError(f"--max-dets {shown}: {kind.name} takes {'one number' if expected == 1 else 'three numbers'}")
    if rules.max_dets and rules.max_dets[-1] > args.max_det:
        LOGGER.info(f"max_det={rules.max_dets[-1]}, as --max-dets counts so many; it was {args.max_det}")
        args.max_det = rules.max_dets[-1]


def _project(project: str | None, task: Task) -> Path:
    """The folder for run folders, absolute, so that a run can go on from another folder."""
    folder = Path(project) if project else Path("runs", task.name).absolute()
    if as_text(folder) != str(folder):
        raise UserError(f"--project {folder}: Ultralytics cannot write a path that is not UTF-8; choose another folder")
    return folder


def _run(task: Task, args: SimpleNamespace, prepared: Prepared) -> RunTrainer:
    """Train; what Ultralytics refuses while it sets up is reported in one line."""
    trainer: Any = task.trainer(overrides=vars(args), prepared=prepared)
    try:
        trainer.train()
    except UserError:
        raise
    except (ValueError, TypeError, NotImplementedError, AssertionError, RuntimeError, ImportError) as error:
        if hasattr(trainer, "epoch") or trainer.resume or getattr(trainer, "ddp", False):
            raise
        raise UserError(f"Ultralytics cannot train so: {one_line(error)}") from error
    return trainer
