"""Whole runs: api.py (`train`, `resume`, `validate`) checks by preflight/, then training/ or validation/ works.

export/ writes other formats. tasks.py: which classes belong together; data.py: data as Ultralytics wants it described;
run_folder.py: which folder; classification.py: images of classifiers; summary.py, cost.py: what is printed at the end.
"""

from yolo_attn.lazy import public

__all__, __getattr__ = public(
    __name__,
    {"api": "Training train resume validate", "cost": "cost_of", "data": "describe", "tasks": "TASKS Task task_of"},
)
