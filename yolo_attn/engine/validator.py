"""Validators that report COCO's own numbers beside Ultralytics'."""

import platform
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
import ultralytics
from ultralytics.engine.validator import BaseValidator
from ultralytics.models import yolo
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.utils import LOGGER, RANK, ops

import yolo_attn
from yolo_attn.coco.dataset import CocoDataset
from yolo_attn.coco.evaluate import EVALUATOR, CocoScores, Detections, evaluate, score_text
from yolo_attn.engine.data import build_dataset, write_data_yaml
from yolo_attn.files import write_json

COCO_KEYS = {"metrics/COCO_AP": "AP", "metrics/COCO_AP50": "AP50"}
SETTINGS = ("model", "data", "split", "imgsz", "batch", "conf", "iou", "max_det", "device", "rect", "seed")


class CocoValidator(BaseValidator):
    """Mixin for a validator of Ultralytics'. On other data than COCO-format data it changes nothing.

    Detections are collected as the validator itself scores them and held against the user's JSON. COCO AP becomes the
    fitness that decides best.pt. Validated on its own, it leaves metrics.json and predictions.json in its run folder.

    Attributes:
        coco: COCO's numbers of the last validation; None on other data.
        splits: Splits that data.yaml describes; None for the validated one alone.
    """

    coco: CocoScores | None = None
    splits: Sequence[str] | None = None
    detections: Detections

    def __call__(self, trainer: Any = None, model: Any = None, **kwargs: Any) -> Any:
        self._model = model or self.args.model
        if trainer is None:
            splits = self.splits or [self.args.split or "val"]
            self.args.data = write_data_yaml(self.args, splits, self.save_dir)
        return super().__call__(trainer, model, **kwargs)

    def build_dataset(self, img_path: str, mode: str = "val", batch: int | None = None) -> Any:
        if not self.data.get("annotations"):
            return super().build_dataset(img_path, mode, batch)
        split = self.args.split or "val"
        names = self.names or AutoBackend(self._model, device=self.device).names  # early 8.3 does not know them yet
        return build_dataset(
            self.args, self.data, split, names, train=False, batch=batch or 1, rect=False, stride=self.stride
        )

    def init_metrics(self, model: Any) -> None:
        super().init_metrics(model)
        self.coco, self.detections = None, Detections()
        if isinstance(self.dataloader.dataset, CocoDataset):
            self.args.save_json = False  # Ultralytics' predictions.json would replace ours, with ids of its own
            index = self.dataloader.dataset.index
            ids = dict(zip(index.category_names, index.category_ids.tolist(), strict=True))
            self._category_id = {i: ids[name] for i, name in model.names.items() if name in ids}

    def update_metrics(self, preds: list[Any], batch: dict[str, Any]) -> None:
        if isinstance(self.dataloader.dataset, CocoDataset):
            for i, pred in enumerate(preds):
                self._collect(pred, batch, i)
        super().update_metrics(preds, batch)

    def _collect(self, pred: Any, batch: dict[str, Any], i: int) -> None:
        """Keep picture i's detections, in its own pixels."""
        if isinstance(pred, dict):
            boxes, scores, classes = pred["bboxes"], pred["conf"], pred["cls"]
        else:  # Ultralytics before 8.3.157: (N, 6) corners, confidence, class
            boxes, scores, classes = pred[:, :4], pred[:, 4], pred[:, 5]
        boxes = ops.scale_boxes(batch["img"].shape[2:], boxes.clone(), batch["ori_shape"][i], batch["ratio_pad"][i])
        known = [c in self._category_id for c in classes.tolist()]
        boxes, scores = ops.xyxy2ltwh(boxes[known]).cpu().double(), scores[known].cpu().double()
        ids = [self._category_id[c] for c in classes[known].tolist()]
        for image_id in self.dataloader.dataset.image_ids[batch["im_file"][i]]:
            self.detections.add(image_id, boxes, scores, ids)

    def gather_stats(self) -> None:
        super().gather_stats()
        if RANK == 0:
            gathered: list[Any] = [None] * dist.get_world_size()
            dist.gather_object(self.detections, gathered, dst=0)
            self.detections = Detections()
            for part in gathered:
                self.detections.extend(part)
        elif RANK > 0:
            dist.gather_object(self.detections, None, dst=0)

    def get_stats(self) -> dict[str, Any]:
        stats = super().get_stats()
        if isinstance(self.dataloader.dataset, CocoDataset):
            self.coco = evaluate(self.dataloader.dataset.index, self.detections)
        if not self.training:
            write_json(self.save_dir / "metrics.json", self._report(stats))
        if self.coco is None:
            return stats
        if not self.training:
            self.detections.save(self.save_dir / "predictions.json")
        coco = {key: self.coco.metrics[name] for key, name in COCO_KEYS.items()}
        return {**stats, **coco, "fitness": self.coco.metrics["AP"]}

    def print_results(self) -> None:
        super().print_results()
        if self.coco:
            overall = {name: self.coco.metrics[name] for name in ("AP", "AP50", "AP75")}
            per_class = {} if self.training else self.coco.per_class
            defined = {name: scores for name, scores in per_class.items() if scores["AP"] >= 0}
            for name, scores in {"COCO (hotcoco)": overall, **defined}.items():
                LOGGER.info(f"{name[:22]:>22}  " + ", ".join(f"{key} {score_text(v)}" for key, v in scores.items()))

    def _report(self, stats: dict[str, Any]) -> dict[str, Any]:
        """What metrics.json holds; COCO's part only for COCO-format data."""
        of_coco: dict[str, Any] = {}
        if self.coco:
            truth = str(self.dataloader.dataset.index.file)
            of_coco = {
                **self.coco.metrics,
                "per_class": self.coco.per_class,
                "evaluator": EVALUATOR,
                "annotations": truth,
            }
        own = {key.removeprefix("metrics/"): float(value) for key, value in stats.items() if key.startswith("metrics/")}
        return {
            **of_coco,
            "ultralytics": {**own, "evaluator": f"Ultralytics {ultralytics.__version__}"},
            "settings": {name: getattr(self.args, name) for name in SETTINGS},
            "versions": {
                "yolo_attn": yolo_attn.__version__,
                "ultralytics": ultralytics.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        }


class DetectionValidator(CocoValidator, yolo.detect.DetectionValidator):
    """Ultralytics' detection validator with COCO's numbers."""
