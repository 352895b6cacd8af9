"""A checkpoint's tensors find their rows: checkpoint_files.py reads files, transfer.py loads what is in them.

matching.py pairs the rows, transfer_report.py says what came; gains.py sets the gains of new
attention, which identity_init.py (`identity_init`) does in plain Python.
"""

import ultralytics.nn.tasks  # noqa: F401  first, since its import registers, which needs every module here whole

from yolo_attn.weights.checkpoint_files import StateDict, load_checkpoint, load_inert, load_safe
from yolo_attn.weights.gains import calibrate, set_gains
from yolo_attn.weights.transfer import check_load, check_same, load, transfer_of
from yolo_attn.weights.transfer_report import Transfer

__all__ = [
    "StateDict",
    "Transfer",
    "calibrate",
    "check_load",
    "check_same",
    "load",
    "load_checkpoint",
    "load_inert",
    "load_safe",
    "set_gains",
    "transfer_of",
]
