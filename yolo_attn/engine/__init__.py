"""Whole runs: api.py (`train`, `resume`, `validate`) checks by preflight/, then training/ or validation/ works.

export/ writes other formats. tasks.py: which classes belong together; data.py: data as Ultralytics wants it described;
run_folder.py: which folder; summary.py and cost.py: what is printed at the end. Nothing is imported here: that would
load every trainer.
"""
