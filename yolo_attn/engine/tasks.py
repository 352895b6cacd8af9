"""The tasks: which heads, models, trainers, validators and predictors belong together."""

from dataclasses import dataclass
from typing import Any

from torch import nn
from ultralytics.engine.predictor import BasePredictor
from ultralytics.nn import tasks

from yolo_attn.engine.training.trainer import (
    ClassificationTrainer,
    DetectionTrainer,
    OBBTrainer,
    PoseTrainer,
    RTDETRTrainer,
    RunTrainer,
    SegmentationTrainer,
)
from yolo_attn.engine.validation.validator import RunValidator


@dataclass(frozen=True)
class Task:
    """One kind of model, which ends with a row of one of the names in `heads`."""

    name: str
    heads: tuple[str, ...]
    model: type[nn.Module]
    trainer: type[RunTrainer]

    @property
    def validator(self) -> type[RunValidator]:
        """Our validator."""
        return self.trainer.validator_class

    @property
    def predictor(self) -> type[BasePredictor]:
        """Ultralytics' predictor."""
        return self.trainer.predictor_class


TASKS = (
    Task("detect", ("Detect", "v10Detect"), tasks.DetectionModel, DetectionTrainer),
    Task("detect", ("RTDETRDecoder",), tasks.RTDETRDetectionModel, RTDETRTrainer),
    Task("segment", ("Segment", "Segment26"), tasks.SegmentationModel, SegmentationTrainer),
    Task("pose", ("Pose", "Pose26"), tasks.PoseModel, PoseTrainer),
    Task("obb", ("OBB", "OBB26"), tasks.OBBModel, OBBTrainer),
    Task("classify", ("Classify", "FC"), tasks.ClassificationModel, ClassificationTrainer),
)


def task_of(head: str) -> Task | None:
    """The task of a model that ends with a row of this name; None where it is none of ours."""
    return next((task for task in TASKS if head in task.heads), None)


def ours(stock: Any) -> Any:
    """Our trainer or validator in place of one of Ultralytics'; the same class where there is none."""
    known = [kind for task in TASKS for kind in (task.trainer, task.validator)]
    return next((kind for kind in known if stock in kind.__bases__), stock)
