"""Validators of every task; those of tasks that COCO has report COCO's own numbers beside Ultralytics'."""

import contextlib
import platform
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
import ultralytics
from torch import Tensor
from ultralytics.engine.validator import BaseValidator
from ultralytics.models import rtdetr, yolo
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.utils import LOGGER, RANK, ops

from yolo_attn.coco.dataset.data_report import Examined
from yolo_attn.coco.dataset.dataset import CocoDataset
from yolo_attn.coco.dataset.layouts import in_its_set
from yolo_attn.coco.evaluate import COCO_RULES, CocoScores, Detections, Rules, coco_scores, score_text
from yolo_attn.compat import fill_stats, native_masks
from yolo_attn.engine.classification import ClassFolders, stretches
from yolo_attn.engine.data import Description, build_dataset, look_through, write_data_yaml
from yolo_attn.engine.run_folder import check_replaceable
from yolo_attn.engine.validation.accuracy import ClassAccuracy, Predicted
from yolo_attn.engine.validation.coordinates import Frame
from yolo_attn.engine.validation.metrics import ClassifyMetrics, coco_numbers, set_coco
from yolo_attn.files import handed_on, write_json
from yolo_attn.version import __version__

SETTINGS = (
    *("model", "data", "split", "fraction", "classes", "single_cls", "imgsz", "batch", "conf", "iou", "max_det"),
    *("device", "rect", "seed"),
)


@contextlib.contextmanager
def plain_text() -> Iterator[None]:
    """Within it, plots show the dollar signs of class names, where Matplotlib would look for formulas and fail."""
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": False} if "text.parse_math" in matplotlib.rcParams else {}):
        yield


def versions() -> dict[str, str]:
    """What numbers were made with."""
    return {
        "yolo_attn": __version__,
        "ultralytics": ultralytics.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


class RunValidator(BaseValidator):
    """Mixin for any validator of Ultralytics'. Validated on its own, it leaves metrics.json in its run folder."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        check_replaceable(self.save_dir, labels=bool(self.args.save_txt))

    def __call__(self, trainer: Any = None, model: Any = None, **kwargs: Any) -> Any:
        if trainer is None and not self.dataloader:  # else a training has said it
            LOGGER.info(f"run folder: {self.save_dir}")
        with plain_text():
            return super().__call__(trainer, model, **kwargs)

    def get_stats(self) -> dict[str, Any]:
        fill_stats(self.stats)
        stats = super().get_stats()
        if not self.training:
            write_json(self.save_dir / "metrics.json", self.report(stats))
        return stats

    def report(self, stats: dict[str, Any]) -> dict[str, Any]:
        """What metrics.json holds."""
        own = {key.removeprefix("metrics/"): float(value) for key, value in stats.items() if key.startswith("metrics/")}
        settings = {name: getattr(self.args, name) for name in SETTINGS}
        settings |= {
            name: handed_on(str(settings[name]), self.save_dir) for name in ("model", "data") if settings[name]
        }
        return {
            "ultralytics": {**own, "evaluator": f"Ultralytics {ultralytics.__version__}"},
            "settings": {**settings, "device": str(self.device)},
            "versions": versions(),
        }


class CocoDataValidator(RunValidator):
    """Mixin for a validator that reads COCO-format data. On other data it adds nothing.

    Attributes:
        stretch: Whether the model takes images stretched to a square.
        splits: Splits that data.yaml describes; None for the validated one alone.
        described: The data, where it was described before.
        examined: The validated split, where it was looked through before.
    """

    stretch = False
    splits: Sequence[str] | None = None

    def __init__(
        self, *args: Any, described: Description | None = None, examined: Examined | None = None, **kwargs: Any
    ) -> None:
        self.described, self.examined = described, examined
        super().__init__(*args, **kwargs)

    def __call__(self, trainer: Any = None, model: Any = None, **kwargs: Any) -> Any:
        self._model = model or self.args.model
        described = self.save_dir / "data.yaml"
        if trainer is None and self.dataloader and described.exists():
            self.args.data = str(described)  # the data that it has read, not the user's files as they are now
        elif trainer is None:
            splits = self.splits or [self.args.split or "val"]
            self.args.data = write_data_yaml(self.args, splits, self.save_dir, self.described)
        return super().__call__(trainer, model, **kwargs)

    def build_dataset(self, img_path: str, mode: str = "val", batch: int | None = None) -> Any:
        if not self.data.get("annotations"):
            return super().build_dataset(img_path, mode, batch)
        split, examined = self.args.split or "val", self.examined
        if examined is None:
            names = self.names or AutoBackend(self._model, device=self.device).names  # early 8.3 does not know them yet
            examined = look_through(self.args, self.described or self.data, split, names, alone=True)
        return build_dataset(
            self.args,
            self.data,
            split,
            examined,
            train=False,
            batch=batch or 1,
            rect=False,
            stride=self.stride,
            stretch=self.stretch,
            folder=self.save_dir,
        )

    @property
    def on_coco(self) -> bool:
        """Whether COCO-format data is validated."""
        return isinstance(self.dataloader.dataset, CocoDataset)

    def init_metrics(self, model: Any) -> None:
        super().init_metrics(model)
        if self.on_coco:
            index = self.dataloader.dataset.index
            ids = dict(zip(index.category_names, index.category_ids.tolist(), strict=True))
            if self.args.single_cls:
                self.args.classes = None  # their labels are chosen; the one class of a model has another number
                ids = dict.fromkeys(model.names.values(), int(index.category_ids[0]))
            self._category_id = {i: ids[name] for i, name in model.names.items() if name in ids}


class CocoValidator(CocoDataValidator):
    """Mixin for a validator of a task that COCO has.

    Detections are collected as the validator itself scores them and compared with the user's JSON. COCO AP becomes the
    fitness that decides best.pt. Validated on its own, it leaves predictions.json in its run folder too.

    Attributes:
        kind: What COCO's evaluation compares: "bbox", "segm" or "keypoints".
        coco: COCO's numbers of the last validation; None on other data.
        rules: What is not COCO's own in the evaluation.
    """

    kind = "bbox"
    coco: CocoScores | None = None
    detections: Detections

    def __init__(self, *args: Any, rules: Rules = COCO_RULES, **kwargs: Any) -> None:
        self.rules = rules
        super().__init__(*args, **kwargs)

    def init_metrics(self, model: Any) -> None:
        if self.on_coco:
            self.args.save_json = False  # Ultralytics' predictions.json would replace ours, with ids of its own
        super().init_metrics(model)
        self.coco, self.detections = None, Detections()
        set_coco(self.metrics, None)

    def update_metrics(self, preds: Any, batch: dict[str, Any]) -> None:
        if self.on_coco:
            for i, pred in enumerate(self.split_predictions(preds, batch)):
                self._collect(pred, batch, i)
        super().update_metrics(preds, batch)

    def split_predictions(self, preds: Any, batch: dict[str, Any]) -> list[dict[str, Tensor]]:
        """Each image's "bboxes" (corners), "conf", "cls" and what the task adds, in the model input's pixels."""
        if all(isinstance(pred, dict) for pred in preds):
            return preds
        return [  # Ultralytics before 8.3.157: (N, 6 + …) corners, confidence, class, further numbers of the task
            {"bboxes": p[:, :4], "conf": p[:, 4], "cls": p[:, 5], "extra": p[:, 6:]} for p in preds
        ]

    def shapes(self, pred: dict[str, Tensor], frame: Frame) -> dict[str, list[Any]] | None:
        """What the task's detections have beside boxes, as `Detections.add` takes it."""
        return None

    def _collect(self, pred: dict[str, Tensor], batch: dict[str, Any], i: int) -> None:
        """Keep image i's detections, in its own pixels."""
        frame = Frame.of(batch, i)
        known = torch.tensor([c in self._category_id for c in pred["cls"].tolist()], dtype=torch.bool)
        pred = {name: values[known.to(values.device)] for name, values in pred.items()}
        boxes = ops.xyxy2ltwh(frame.restore(pred["bboxes"].reshape(-1, 2, 2)).reshape(-1, 4)).cpu().double()
        ids = [self._category_id[c] for c in pred["cls"].tolist()]
        shapes = self.shapes(pred, frame)
        for image_id in self.dataloader.dataset.image_ids[batch["im_file"][i]]:
            self.detections.add(image_id, boxes, pred["conf"].cpu().double(), ids, shapes)

    def gather_stats(self) -> None:
        super().gather_stats()
        gathered, self.detections = _gathered(self.detections), Detections()
        for part in gathered:
            self.detections.extend(part)

    def get_stats(self) -> dict[str, Any]:
        if self.on_coco:
            index, rules = self.dataloader.dataset.index, self.rules
            self.coco = coco_scores(index, self.detections, self.kind, rules)
            if self.kind != "bbox":
                of_boxes = replace(rules, max_dets=()) if self.kind == "keypoints" else rules
                self.coco = replace(self.coco, boxes=coco_scores(index, self.detections, rules=of_boxes))
        stats = super().get_stats()
        if self.coco is None:
            return stats
        if not self.training:
            self.detections.save(self.save_dir / "predictions.json", self.dataloader.dataset.index)
        set_coco(self.metrics, self.coco)
        return {**stats, **coco_numbers(self.coco), "fitness": self.coco.metrics["AP"]}

    def print_results(self) -> None:
        super().print_results()
        if self.coco:
            shown = {self.kind: self.coco, **({"bbox": self.coco.boxes} if self.coco.boxes else {})}
            overall = {
                f"{self.coco.label} {kind} (hotcoco)": {name: scores.metrics[name] for name in ("AP", "AP50", "AP75")}
                for kind, scores in shown.items()
            }
            per_class = self.coco.per_class if self.args.verbose and not self.training else {}
            defined = {name: scores for name, scores in per_class.items() if scores["AP"] >= 0}
            for name, scores in {**overall, **defined}.items():
                LOGGER.info(f"{name[:32]:>32}  " + ", ".join(f"{key} {score_text(v)}" for key, v in scores.items()))

    def report(self, stats: dict[str, Any]) -> dict[str, Any]:
        if self.coco is None:
            return super().report(stats)
        boxes = {"boxes": self.coco.boxes.metrics} if self.coco.boxes else {}
        return {
            **self.coco.metrics,
            **boxes,
            "per_class": self.coco.per_class,
            "evaluator": self.coco.evaluator,
            **({"not_coco": self.coco.own_rules} if self.coco.own_rules else {}),
            "annotations": " and ".join(map(in_its_set, self.dataloader.dataset.index.files)),
            **super().report(stats),
        }


class DetectionValidator(CocoValidator, yolo.detect.DetectionValidator):
    """Ultralytics' detection validator with COCO's numbers."""


class RTDETRValidator(CocoValidator, rtdetr.val.RTDETRValidator):
    """Ultralytics' RT-DETR validator with COCO's numbers."""

    stretch = True


class SegmentationValidator(CocoValidator, yolo.segment.SegmentationValidator):
    """Ultralytics' segmentation validator with COCO's numbers of masks."""

    kind = "segm"

    def init_metrics(self, model: Any) -> None:
        super().init_metrics(model)
        if self.on_coco:
            self.process = ops.process_mask_native  # whole resolution, as for Ultralytics' own COCO results

    def split_predictions(self, preds: Any, batch: dict[str, Any]) -> list[dict[str, Tensor]]:
        if not isinstance(preds, tuple):
            return super().split_predictions(preds, batch)
        found, prototypes = preds  # Ultralytics before 8.3.157 makes the masks later
        size = batch["img"].shape[2:]
        return [
            {**pred, "masks": native_masks(prototype, pred["extra"], pred["bboxes"], size)}
            for pred, prototype in zip(super().split_predictions(found, batch), prototypes, strict=True)
        ]

    def shapes(self, pred: dict[str, Tensor], frame: Frame) -> dict[str, list[Any]]:
        return {"segmentation": list(frame.restore_masks(pred["masks"]))}


class PoseValidator(CocoValidator, yolo.pose.PoseValidator):
    """Ultralytics' pose validator with COCO's numbers of keypoints."""

    kind = "keypoints"

    def shapes(self, pred: dict[str, Tensor], frame: Frame) -> dict[str, list[Any]]:
        points = pred["keypoints"] if "keypoints" in pred else pred["extra"].reshape(-1, *self.kpt_shape)
        points = torch.cat([frame.restore(points[..., :2]), points[..., 2:]], -1).cpu().double().numpy().round(3)
        return {"keypoints": points.reshape(len(points), 3 * self.kpt_shape[0]).tolist()}


class OBBValidator(CocoDataValidator, yolo.obb.OBBValidator):
    """Ultralytics' validator of oriented boxes, with its own mAP: COCO has none for them."""

    def init_metrics(self, model: Any) -> None:
        super().init_metrics(model)
        if self.on_coco:
            self.is_dota = False  # which its path may say: DOTA's own files need DOTA's names of images
            self.class_map = [self._category_id.get(i) for i in model.names]

    def pred_to_json(self, predn: Any, pbatch: Any) -> None:
        """Keep detections for predictions.json in Ultralytics' form, under the JSON's ids."""
        known = len(self.jdict)
        super().pred_to_json(predn, pbatch)
        if self.on_coco:
            data = self.dataloader.dataset
            file = pbatch["im_file"] if isinstance(pbatch, dict) else pbatch  # before 8.3.157 the file alone
            image_id = data.image_ids[file][0]
            origin = next((origin for origin in data.index.origins if image_id in origin.images), None)
            for found in self.jdict[known:]:
                found["image_id"] = origin.images[image_id] if origin else image_id
                if origin:
                    found["category_id"] = origin.categories.get(found["category_id"])

    def report(self, stats: dict[str, Any]) -> dict[str, Any]:
        known = super().report(stats)
        known["ultralytics"]["evaluator"] += ", mAP of oriented boxes by ProbIoU, not COCO's"
        return (
            {"annotations": " and ".join(map(in_its_set, self.dataloader.dataset.index.files)), **known}
            if self.on_coco
            else known
        )


class ClassificationValidator(RunValidator, yolo.classify.ClassificationValidator):
    """Ultralytics' classification validator, whose fitness is top-1 alone.

    Validated on its own, it leaves predictions.json in its run folder too.

    Attributes:
        accuracy: Over the images of the last validation that was not of a training's epoch.
    """

    accuracy: ClassAccuracy

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.metrics = ClassifyMetrics()

    def __call__(self, trainer: Any = None, model: Any = None, **kwargs: Any) -> Any:
        self._model = model or self.args.model
        return super().__call__(trainer, model, **kwargs)

    def build_dataset(self, img_path: str) -> Any:
        names = self.names or AutoBackend(self._model, device=self.device).names  # early 8.3 does not know them yet
        stretch = stretches(self._model)
        return ClassFolders(img_path, self.args, names, train=False, stretch=stretch, split=self.args.split or "val")

    def init_metrics(self, model: Any) -> None:
        super().init_metrics(model)
        self._predicted: dict[str, Predicted] = {}

    def update_metrics(self, preds: Tensor, batch: dict[str, Any]) -> None:
        super().update_metrics(preds, batch)
        if not self.training:
            folders = self.dataloader.dataset
            best = preds.float().cpu().topk(min(len(self.names), 5))
            for file, number, classes, confidences in zip(
                batch["im_file"], batch["cls"].tolist(), best.indices.tolist(), best.values.tolist(), strict=True
            ):
                self._predicted[folders.path_of(file)] = Predicted(number, classes, confidences)

    def gather_stats(self) -> None:
        super().gather_stats()
        self._predicted = {file: found for part in _gathered(self._predicted) for file, found in part.items()}

    def get_stats(self) -> dict[str, Any]:
        if not self.training:
            self.accuracy = ClassAccuracy(self.names, self._predicted)
            write_json(self.save_dir / "predictions.json", self.accuracy.predictions())
        return super().get_stats()

    def print_results(self) -> None:
        super().print_results()
        if self.args.verbose and not self.training:
            for name, found in self.accuracy.per_class.items():
                LOGGER.info(f"{name[:22]:>22}{score_text(found['accuracy_top1']):>11}")

    def report(self, stats: dict[str, Any]) -> dict[str, Any]:
        return {**self.accuracy.report(), **super().report(stats)}


def _gathered(of_process: Any) -> list[Any]:
    """Return what all processes have, in the first; nothing in others. Where there is one, what it has."""
    if RANK == -1:
        return [of_process]
    found: list[Any] = [None] * dist.get_world_size()
    dist.gather_object(of_process, found if RANK == 0 else None, dst=0)
    return found if RANK == 0 else []
