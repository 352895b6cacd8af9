"""What makes layers fast, by the layers' file names; the formulas in layers/ remain what they compute.

None of it knows of Ultralytics or of the layers. `switch` says which forms may run, `choice` which one does.
"""

from yolo_attn.lazy import public

__all__, __getattr__ = public(__name__, {"switch": "kernels_mode set_kernels", "choice": "runs_fast"})
