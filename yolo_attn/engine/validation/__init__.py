"""validator.py has the validators.

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
