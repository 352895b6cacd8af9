"""Trainers that learn from COCO JSON and choose their best weights by COCO AP.

They live in an importable module so that the workers of a multi-GPU run find them, and the layers with them.
"""

from copy import copy
from typing import Any

from ultralytics.engine.trainer import BaseTrainer
from ultralytics.models import yolo
from ultralytics.utils import RANK

from yolo_attn.engine.data import build_dataset, write_data_yaml
from yolo_attn.engine.summary import print_summary
from yolo_attn.engine.validator import COCO_KEYS, CocoValidator, DetectionValidator


class CocoTrainer(BaseTrainer):
    """Mixin for a trainer of Ultralytics'. On other data than COCO-format data only the closing table is added.

    Attributes:
        validator_class: The validator with COCO's numbers for the trainer's task.
    """

    validator_class: type[CocoValidator]

    def get_dataset(self) -> Any:
        named = self.args.data
        self.args.data = write_data_yaml(self.args, ["train", self.args.split or "val"], self.save_dir)
        try:
            return super().get_dataset()
        finally:
            self.args.data = named

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        if not self.data.get("annotations"):
            return super().build_dataset(img_path, mode, batch)
        train = mode == "train"
        split = "train" if train else self.args.split or "val"
        model: Any = getattr(self.model, "module", self.model)
        stride = max(int(model.stride.max()), 32)
        names = self.data["names"]
        return build_dataset(
            self.args, self.data, split, names, train=train, batch=batch or 1, rect=not train, stride=stride
        )

    def get_validator(self) -> CocoValidator:
        stock = super().get_validator()  # also names the losses
        return self.validator_class(stock.dataloader, stock.save_dir, args=copy(self.args), _callbacks=self.callbacks)

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        """Write a row of results.csv: always the same columns, COCO's after Ultralytics' metrics and losses."""
        coco = {key: metrics.pop(key, 0.0) for key in COCO_KEYS} if self.data.get("annotations") else {}
        rates = {key: metrics.pop(key) for key in [k for k in metrics if k.startswith("lr/")]}
        metrics = {**metrics, **coco, **rates}
        if self.csv.exists():
            header = self.csv.read_text(encoding="utf-8").splitlines()[0].split(",")
            columns = [column.strip() for column in header if column.strip() not in {"epoch", "time"}]
            metrics = {column: metrics.get(column, 0.0) for column in columns}
        super().save_metrics(metrics)

    def final_eval(self) -> None:
        super().final_eval()
        if RANK in {-1, 0}:
            print_summary(self)


class DetectionTrainer(CocoTrainer, yolo.detect.DetectionTrainer):
    """Ultralytics' detection trainer on COCO JSON."""

    validator_class = DetectionValidator
