"""The trainings, each in its own process: runner.py starts worker.py on devices.py, progress.py shows them.

costs.py measures the trained models; processes.py starts Python processes.
"""

from yolo_attn.lazy import public

__all__, __getattr__ = public(__name__, {"runner": "Job run_all", "devices": "chosen", "costs": "measure"})
