"""Validation by COCO's numbers: validator.py, a validator of each task.

coordinates.py brings detections back into the image; metrics.py puts COCO's numbers among Ultralytics'.
"""

from yolo_attn.engine.validation.validator import (
    ClassificationValidator,
    DetectionValidator,
    OBBValidator,
    PoseValidator,
    RTDETRValidator,
    SegmentationValidator,
)

__all__ = [
    "ClassificationValidator",
    "DetectionValidator",
    "OBBValidator",
    "PoseValidator",
    "RTDETRValidator",
    "SegmentationValidator",
]
