"""What a training is given beside Ultralytics' settings, and how the processes that it starts learn of it."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from yolo_attn.coco.dataset.data_report import Examined
from yolo_attn.engine.data import Description
from yolo_attn.weights.checkpoint_files import load_inert
from yolo_attn.weights.gains import own_gains
from yolo_attn.weights.transfer import transfer_of

WORKER_VARIABLE = "YOLO_ATTN_WORKER"
"""Tells a worker of Ultralytics' own multi-GPU launch what `message` says, as JSON."""


@dataclass(frozen=True)
class Prepared:
    """A training's own options, as api.py's `Training` has them, and what the checks before it have read.

    Attributes:
        weights: A checkpoint to start from that is read without running what it names; None leaves `pretrained` to
            Ultralytics.
        source: The model or state dict in it.
        distill_model: A checkpoint to distil from that is read so, too; None leaves it to Ultralytics.
        teacher: The model in it.
        gains: Gain of each row of a model that was loaded before the training, in a worker.
        transfer: What that model took from its checkpoint, in a worker.
        data: COCO-format data, described.
        examined: Its splits that were looked through.
    """

    nam_sparsity: float | None = None
    stretch: bool = False
    identity_init: bool = False
    freeze_base: int = 0
    weights: str | None = None
    source: Any = None
    distill_model: str | None = None
    teacher: Any = None
    gains: Mapping[int, float] = field(default_factory=dict)
    transfer: Mapping[str, Any] | None = None
    data: Description | None = None
    examined: Mapping[str, Examined] = field(default_factory=dict)

    def message(self, model: Any) -> str:
        """What a worker needs to know, given the trainer's model, which may not be built yet."""
        message = asdict(replace(self, source=None, teacher=None, data=None, examined={}))
        if isinstance(model, nn.Module):
            report = transfer_of(model)
            message |= {"gains": own_gains(model), "transfer": report.as_json() if report else None}
        return json.dumps(message)

    def load_source(self) -> Any:
        """What the training starts from: as it was read before, or read now in a worker; None if there is nothing."""
        return load_inert(Path(self.weights)) if self.source is None and self.weights else self.source

    def load_teacher(self) -> Any:
        """What the training distils from, in the same way."""
        return load_inert(Path(self.distill_model)) if self.teacher is None and self.distill_model else self.teacher


def of_launcher() -> Prepared:
    """In a worker of Ultralytics' own launch, what its launcher was given; elsewhere nothing."""
    message = json.loads(os.environ.get(WORKER_VARIABLE, "{}"))
    return Prepared(**{**message, "gains": {int(row): gain for row, gain in message.get("gains", {}).items()}})
