"""Trainers of every task: all but classifiers learn from COCO JSON, and by COCO AP where COCO scores the task.

They live in an importable module so that the workers of a multi-GPU run find them, and the layers with them.
"""

import contextlib
import itertools
import math
from collections import defaultdict
from copy import copy
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from ultralytics.engine.predictor import BasePredictor
from ultralytics.models import rtdetr, yolo
from ultralytics.utils import LOGGER, RANK

from yolo_attn.compat import unwrapped
from yolo_attn.engine.classification import KEY as STRETCH_KEY
from yolo_attn.engine.classification import ClassFolders, stretches
from yolo_attn.engine.data import build_dataset, look_through, write_data_yaml
from yolo_attn.engine.summary import print_training
from yolo_attn.engine.training import distributed
from yolo_attn.engine.training.frozen import KEY, FrozenBase
from yolo_attn.engine.training.gate_report import trained_gates
from yolo_attn.engine.training.prepared import Prepared, of_launcher
from yolo_attn.engine.training.run_files import RunFiles
from yolo_attn.engine.validation.metrics import columns_before
from yolo_attn.engine.validation.validator import (
    ClassificationValidator,
    CocoDataValidator,
    CocoValidator,
    DetectionValidator,
    OBBValidator,
    PoseValidator,
    RTDETRValidator,
    RunValidator,
    SegmentationValidator,
)
from yolo_attn.environment import replaced
from yolo_attn.errors import one_line
from yolo_attn.files import write_json
from yolo_attn.model.sparsity import KEY as SPARSITY_KEY
from yolo_attn.model.sparsity import LOSS_NAME
from yolo_attn.weights.gains import calibrate, gains_line, set_gains
from yolo_attn.weights.identity_init import IMAGES, random_state_kept
from yolo_attn.weights.transfer import transfer_of


class RunTrainer(RunFiles):
    """Mixin for any trainer of Ultralytics': whole files, clean resuming, NAM's penalty, a closing table."""

    validator_class: type[RunValidator]
    predictor_class: type[BasePredictor]
    prepared: Prepared
    loss_names: tuple[str, ...]
    device: torch.device
    model: Any
    callbacks: dict[str, list[Any]]

    def __init__(self, *args: Any, prepared: Prepared | None = None, **kwargs: Any) -> None:
        self.prepared = prepared or of_launcher()
        super().__init__(*args, **kwargs)
        own = {event: list(calls) for event, calls in self.callbacks.items()}  # early 8.3 shares those of the model
        self.callbacks = defaultdict(list, own)
        if RunTrainer._tell not in self.callbacks["on_train_end"]:  # a worker begins with those of its launcher
            self.add_callback("on_train_end", RunTrainer._tell)

    def _do_train(self, *world_size: int) -> None:
        """Train, as one of as many processes as there are; Ultralytics counts them by its device string."""
        if RANK == -1:
            super()._do_train(*world_size)
            return
        self.world_size = dist.get_world_size()
        if self.device.type == "cuda":
            self.device = torch.device("cuda", torch.cuda.current_device())
        with distributed.own_device(self.device):
            super()._do_train(*(self.world_size for _ in world_size))
        self.model = getattr(self.model, "module", self.model)  # its wrapper would hold on to the other processes

    def _setup_ddp(self, *world_size: int) -> None:
        """Nothing is left to do: the processes have joined, each on its own device."""

    def setup_model(self) -> Any:
        """Build the model, with the weights that the checks have read, or leave both to Ultralytics."""
        source = None if self.resume or isinstance(self.model, nn.Module) else self.prepared.load_source()
        if source is not None:
            self.model = self.get_model(cfg=self.model, weights=source, verbose=RANK in {-1, 0})
        return super().setup_model()

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> Any:
        model = super().get_model(cfg, weights, verbose)
        if self.prepared.nam_sparsity is not None and not self.resume:
            model.yaml[SPARSITY_KEY] = self.prepared.nam_sparsity
        if transfer_of(model) and not self.resume:  # early 8.3 has workers build and load the model anew
            set_gains(model, dict(self.prepared.gains))
        return model

    def _setup_train(self, *world_size: int) -> None:
        with self._teacher():
            super()._setup_train(*world_size)
        report = transfer_of(unwrapped(self.model))
        transfer = report.as_json() if report else self.prepared.transfer
        if transfer and RANK in {-1, 0} and not self.resume:
            write_json(self.save_dir / "transfer.json", transfer)
        if self.prepared.identity_init and not self.resume:
            self._identity_init()
        self._freeze_base()

    def _teacher(self) -> contextlib.AbstractContextManager[None]:
        """Have Ultralytics take the `distill_model` that the checks have read."""
        teacher = None if self.resume else self.prepared.load_teacher()
        if teacher is None:
            return contextlib.nullcontext()
        from ultralytics.nn import distill_model

        return replaced(distill_model, load_checkpoint=lambda *_: (teacher, None))

    def _freeze_base(self) -> None:
        """Freeze what came from the checkpoint, as the run's options say, or the checkpoint that it goes on from."""
        model, ema = unwrapped(self.model), unwrapped(self.ema.ema) if self.ema else None
        held = [each.yaml.pop(KEY, None) for each in (model, ema) if each]
        report = transfer_of(model)
        if self.resume and held[0]:
            FrozenBase(self, model, ema, **held[0])
        elif self.prepared.freeze_base and report and not self.resume:
            new = [name for name in model.state_dict() if name not in report.taken]
            FrozenBase(self, model, ema, self.prepared.freeze_base, new)

    def _identity_init(self) -> None:
        """Make attention that the checkpoint was without keep the magnitude of its input; all processes alike."""
        model = unwrapped(self.model)
        report = transfer_of(model)
        rows = report.new_attention if report else []
        if not rows:
            return
        loader: Any = self.train_loader
        with random_state_kept():  # with the loader's restart, the training sees what it would have seen without
            batches = itertools.islice(loader, math.ceil(IMAGES / loader.batch_size))
            gains = [calibrate(model, (self.preprocess_batch(batch)["img"] for batch in batches), rows)]
        self._restart_loader()
        if RANK > -1:
            dist.broadcast_object_list(gains, 0)
        for each in [model, *([unwrapped(self.ema.ema)] if self.ema else [])]:
            set_gains(each, gains[0])
        if RANK in {-1, 0}:
            LOGGER.info(gains_line(model, gains[0], rows))

    def get_validator(self) -> RunValidator:
        stock = super().get_validator()
        model = unwrapped(self.model)
        if self.loss_names and model.yaml.get(SPARSITY_KEY):  # early 8.3 names the losses before it has seen them
            self.loss_names = (*self.loss_names, LOSS_NAME)
        return self.validator_class(stock.dataloader, stock.save_dir, args=copy(self.args), _callbacks=self.callbacks)

    def resume_training(self, ckpt: dict[str, Any] | None) -> None:
        """Go on behind the last saved epoch, with images in another order than in the first ones."""
        super().resume_training(ckpt)
        if self.start_epoch:
            self._restart_loader(self.start_epoch)

    def _restart_loader(self, more: int = 0) -> None:
        """Take the training's images from the beginning, in the order of the loader's seed plus `more`."""
        loader: Any = self.train_loader
        loader.generator.manual_seed(loader.generator.initial_seed() + more)
        loader.reset()

    def _tell(self) -> None:
        """Print what was reached and what the gates do, or why that is not known: the training has ended well."""
        print_training(self)
        try:
            line = trained_gates(self)
        except Exception as error:  # as without memory for a second model
            LOGGER.warning(f"attention: its gates were not measured, {one_line(error)}")
        else:
            if line:
                LOGGER.info(line)


class CocoDataTrainer(RunTrainer):
    """Mixin for a trainer that reads COCO-format data. On other data it adds nothing."""

    validator_class: type[CocoDataValidator]

    def get_dataset(self) -> Any:
        named = self.args.data
        self.args.data = write_data_yaml(self.args, self.splits, self.save_dir, self.prepared.data)
        try:
            return super().get_dataset()
        finally:
            if not (self.prepared.data and self.prepared.data.by_option):  # else data.yaml stands for the data
                self.args.data = named

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        if not self.data.get("annotations"):
            return super().build_dataset(img_path, mode, batch)
        train = mode == "train"
        split = "train" if train else self.args.split or "val"
        return build_dataset(
            self.args,
            self.data,
            split,
            self.prepared.examined.get(split)
            or look_through(self.args, self.prepared.data or self.data, split, self.data["names"]),
            train=train,
            batch=batch or 1,
            rect=not train,
            stride=max(int(unwrapped(self.model).stride.max()), 32),
            stretch=self.validator_class.stretch,
            folder=self.save_dir,
        )

    def get_validator(self) -> RunValidator:
        validator: Any = super().get_validator()
        validator.splits = self.splits
        return validator

    @property
    def splits(self) -> list[str]:
        """The splits that a training uses."""
        return ["train", self.args.split or "val"]


class CocoTrainer(CocoDataTrainer):
    """Mixin for a trainer of a task that COCO has, and so COCO's numbers."""

    validator_class: type[CocoValidator]

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        """Write a row of results.csv with COCO's columns after Ultralytics' own metrics and losses."""
        if not self.data.get("annotations"):
            super().save_metrics(metrics)
            return
        columns = columns_before(self.validator_class.kind, self.test_loader.dataset.index.category_names)
        keys = set(columns.values())
        others = {key: value for key, value in metrics.items() if key not in keys}
        coco = {column: metrics.get(key, 0.0) for column, key in columns.items()}
        super().save_metrics({**others, **coco})


class DetectionTrainer(CocoTrainer, yolo.detect.DetectionTrainer):
    """Ultralytics' detection trainer on COCO JSON."""

    validator_class = DetectionValidator
    predictor_class = yolo.detect.DetectionPredictor


class RTDETRTrainer(CocoTrainer, rtdetr.train.RTDETRTrainer):
    """Ultralytics' RT-DETR trainer on COCO JSON."""

    validator_class = RTDETRValidator
    predictor_class = rtdetr.RTDETRPredictor


class SegmentationTrainer(CocoTrainer, yolo.segment.SegmentationTrainer):
    """Ultralytics' segmentation trainer on the polygons and run lengths of COCO JSON."""

    validator_class = SegmentationValidator
    predictor_class = yolo.segment.SegmentationPredictor


class PoseTrainer(CocoTrainer, yolo.pose.PoseTrainer):
    """Ultralytics' pose trainer on the keypoints of COCO JSON."""

    validator_class = PoseValidator
    predictor_class = yolo.pose.PosePredictor


class OBBTrainer(CocoDataTrainer, yolo.obb.OBBTrainer):
    """Ultralytics' trainer of oriented boxes on the corners, angles and outlines of COCO JSON."""

    validator_class = OBBValidator
    predictor_class = yolo.obb.OBBPredictor


class ClassificationTrainer(RunTrainer, yolo.classify.ClassificationTrainer):
    """Ultralytics' classification trainer, on its own data format; `degrees` rotates, and top-1 chooses best.pt."""

    validator_class = ClassificationValidator
    predictor_class = yolo.classify.ClassificationPredictor

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> Any:
        model = super().get_model(cfg, weights, verbose)
        if self.prepared.stretch and not self.resume:
            model.yaml[STRETCH_KEY] = True
        return model

    def build_dataset(self, img_path: str, mode: str = "train", batch: Any = None) -> Any:
        stretch = stretches(unwrapped(self.model))
        return ClassFolders(img_path, self.args, self.data["names"], train=mode == "train", stretch=stretch, split=mode)
