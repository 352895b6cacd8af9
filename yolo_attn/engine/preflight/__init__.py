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
    one_line,
    read_checkpoint,
)
from yolo_attn.engine.preflight.data_checks import (
    check_class_folders,
    check_keypoints,
    check_strictly,
    describe_training,
    describe_validation,
    examine_training,
)

__all__ = [
    "check_cfg",
    "check_class_folders",
    "check_frozen",
    "check_importable",
    "check_keypoints",
    "check_model",
    "check_settings",
    "check_strictly",
    "check_task",
    "check_transfer",
    "describe_training",
    "describe_validation",
    "examine_training",
    "load_source",
    "load_weights",
    "one_line",
    "read_checkpoint",
]
