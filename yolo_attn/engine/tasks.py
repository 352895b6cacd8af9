"""The tasks: which heads, models, trainers, validators and predictors belong together."""

from dataclasses import dataclass
from typing import Any

from torch import nn
from ultralytics.engine.predictor import BasePredictor
from ultralytics.models import rtdetr, yolo
from ultralytics.nn import tasks

from yolo_attn.engine.training import trainer
from yolo_attn.engine.training.trainer import RunTrainer
from yolo_attn.engine.validation import validator
from yolo_attn.engine.validation.validator import RunValidator


@dataclass(frozen=True)
class Task:
    """One kind of model.

    Attributes:
        name: Ultralytics' name of the task.
        heads: Names of the rows that such a model ends with.
        model: Ultralytics' class of the whole model.
        trainer: Our trainer.
        validator: Our validator.
        predictor: Ultralytics' predictor.
    """

    name: str
    heads: tuple[str, ...]
    model: type[nn.Module]
    trainer: type[RunTrainer]
    validator: type[RunValidator]
    predictor: type[BasePredictor]


TASKS = (
    Task(
        "detect",
        ("Detect", "v10Detect"),
        tasks.DetectionModel,
        trainer.DetectionTrainer,
        validator.DetectionValidator,
        yolo.detect.DetectionPredictor,
    ),
    Task(
        "detect",
        ("RTDETRDecoder",),
        tasks.RTDETRDetectionModel,
        trainer.RTDETRTrainer,
        validator.RTDETRValidator,
        rtdetr.RTDETRPredictor,
    ),
    Task(
        "segment",
        ("Segment", "Segment26"),
        tasks.SegmentationModel,
        trainer.SegmentationTrainer,
        validator.SegmentationValidator,
        yolo.segment.SegmentationPredictor,
    ),
    Task(
        "pose",
        ("Pose", "Pose26"),
        tasks.PoseModel,
        trainer.PoseTrainer,
        validator.PoseValidator,
        yolo.pose.PosePredictor,
    ),
    Task(
        "obb",
        ("OBB", "OBB26"),
        tasks.OBBModel,
        trainer.OBBTrainer,
        validator.OBBValidator,
        yolo.obb.OBBPredictor,
    ),
    Task(
        "classify",
        ("Classify",),
        tasks.ClassificationModel,
        trainer.ClassificationTrainer,
        validator.ClassificationValidator,
        yolo.classify.ClassificationPredictor,
    ),
)


def task_of(head: str) -> Task | None:
    """The task of a model that ends with a row of this name; None where it is none of ours."""
    return next((task for task in TASKS if head in task.heads), None)


def ours(stock: Any) -> Any:
    """Our trainer or validator in place of one of Ultralytics'; the same class where there is none."""
    known = [kind for task in TASKS for kind in (task.trainer, task.validator)]
    return next((kind for kind in known if stock in kind.__bases__), stock)
