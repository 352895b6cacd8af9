"""What is checked before a run begins, so that a mistake costs one line.

checks.py: settings, models and checkpoints; data_checks.py: data.
"""

from yolo_attn.engine.preflight.checks import (
    check_cfg,
    check_frozen,
    check_importable,
    check_model,
    check_settings,
    check_task,
    check_transfer,
    load_source,
    load_weights,
    read_checkpoint,
)
from yolo_attn.engine.preflight.data_checks import (
    check_boxes,
    check_classes,
    check_keypoints,
    check_plain_data,
    check_strictly,
    choose_classes,
)

__all__ = [
    "check_boxes",
    "check_cfg",
    "check_classes",
    "check_frozen",
    "check_importable",
    "check_keypoints",
    "check_model",
    "check_plain_data",
    "check_settings",
    "check_strictly",
    "check_task",
    "check_transfer",
    "choose_classes",
    "load_source",
    "load_weights",
    "read_checkpoint",
]
