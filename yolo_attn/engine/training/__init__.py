"""trainer.py has the trainers; run_files.py keeps their folders whole, distributed.py joins their processes.

prepared.py: what a training is given; frozen.py: `--freeze-base`; gate_report.py: the line on gates at its end.
Nothing is imported here: distributed.py and prepared.py are needed without trainers.
"""
