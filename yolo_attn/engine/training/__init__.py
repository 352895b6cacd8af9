"""A training: trainer.py has a trainer of each task; run_files.py keeps its folder whole, distributed.py joins workers.

prepared.py: what a training is given; frozen.py: `--freeze-base`; gate_report.py: the line on gates at its end.
Nothing is imported here: distributed.py and prepared.py are needed without trainers.
"""
