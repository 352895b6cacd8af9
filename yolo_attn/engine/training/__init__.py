"""A training: trainer.py has a trainer of each task; run_files.py keeps its folder whole, distributed.py joins workers.

prepared.py: what a training is given; frozen.py: `--freeze-base`; gate_report.py: the line on gates at its end.
"""

from yolo_attn.lazy import public

__all__, __getattr__ = public(
    __name__,
    {"trainer": "ClassificationTrainer DetectionTrainer OBBTrainer PoseTrainer RTDETRTrainer SegmentationTrainer"},
)
