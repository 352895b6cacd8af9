"""Whole runs: train, resume, validate. Everything is checked before the first file is written."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

from ultralytics.utils import LOGGER

from yolo_attn.coco.demo import DEMO_TRAINING, demo_dataset
from yolo_attn.engine.checks import (
    check_boxes,
    check_classes,
    check_model,
    check_settings,
    check_transfer,
    load_weights,
)
from yolo_attn.engine.data import describe
from yolo_attn.engine.trainer import DetectionTrainer
from yolo_attn.engine.validator import DetectionValidator
from yolo_attn.errors import UserError
from yolo_attn.files import check_writable


def train(cfg: str, project: Path, weights: str | None, settings: dict[str, Any]) -> DetectionTrainer:
    """Train a detector.

    Args:
        cfg: Model YAML or name.
        project: Folder for the run folder.
        weights: Checkpoint to start from; None trains from scratch.
        settings: Ultralytics' settings. Without `data` the demo set is used, at its own size and length.

    Returns:
        The trainer, with its metrics and paths.

    Raises:
        UserError: If anything given cannot be used.
    """
    if not settings.get("data"):
        settings = {**DEMO_TRAINING, **settings, "data": str(demo_dataset())}
        LOGGER.info(f"no --data: training on the demo set, {settings['data']}")
    settings = {**settings, "model": cfg, "task": "detect", "mode": "train", "project": str(project.absolute())}
    args = check_settings({**settings, "data": str(Path(settings["data"]).absolute()), "pretrained": weights or False})
    check_writable(Path(args.project))
    data = describe(args, ["train", args.split or "val"])
    if data:
        check_boxes(data)
    model = check_model(cfg, data["nc"] if data else 80)
    if weights:
        check_transfer(weights, load_weights(weights)[0], model)
    trainer = DetectionTrainer(overrides=vars(args))
    trainer.train()
    return trainer


def resume(last: str | Literal[True], project: Path, settings: dict[str, Any]) -> DetectionTrainer:
    """Go on with a cut-off training.

    Args:
        last: Its last.pt; True takes the newest under `project`.
        project: Folder of the run folders.
        settings: The few settings that a resumed run may change, such as `device` and `batch`.

    Raises:
        UserError: If there is no such run, or it is finished.
    """
    if last is True:
        found = sorted(project.glob("*/weights/last.pt"), key=lambda file: file.stat().st_mtime)
        if not found:
            raise UserError(f"--resume: no last.pt under {project}/*/weights")
        last = str(found[-1])
    _, checkpoint = load_weights(str(last))
    if checkpoint.get("optimizer") is None:
        raise UserError(f"--resume {last}: that training is finished, there is nothing to go on with")
    check_settings(settings)
    settings = {"data": checkpoint["train_args"]["data"], **settings}
    args = SimpleNamespace(**{**checkpoint["train_args"], **settings})
    describe(args, ["train", args.split or "val"])
    check_writable(Path(last).resolve().parent)
    trainer = DetectionTrainer(overrides={**settings, "model": str(last), "resume": str(last)})
    trainer.train()
    return trainer


def validate(weights: str, project: Path, settings: dict[str, Any]) -> DetectionValidator:
    """Validate a checkpoint; leaves metrics.json and predictions.json in the run folder.

    Args:
        weights: The checkpoint.
        project: Folder for the run folder.
        settings: Ultralytics' settings. `data` and `imgsz` default to those that the checkpoint was trained with.

    Raises:
        UserError: If anything given cannot be used.
    """
    model, checkpoint = load_weights(weights)
    trained = checkpoint.get("train_args") or {}
    defaults = {key: trained[key] for key in ("data", "imgsz") if trained.get(key)}
    settings = {"rect": True, **defaults, **settings, "model": weights, "task": "detect", "mode": "val"}
    if not settings.get("data"):
        raise UserError(f"--weights {weights}: it does not say which data it learnt from; give --data")
    settings["data"] = str(Path(settings["data"]).absolute())
    args = check_settings({**settings, "project": str(project.absolute())})
    check_writable(Path(args.project))
    data = describe(args, [args.split])
    if data:
        check_classes(weights, model, data)
    validator = DetectionValidator(args=vars(args))
    validator()
    return validator
