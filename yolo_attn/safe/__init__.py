"""Files from strangers, read without running, calling or importing anything that they name.

archive.py, pickles.py: what a file holds; checkpoints.py: what of it is a model; build.py: that model, built by us and
given its tensors; safetensors_file.py: the same out of such a file; missing_classes.py: what explains unknown classes.
"""

import ultralytics.nn.tasks  # noqa: F401  first, since its import registers, which needs every module here whole

from yolo_attn.safe.archive import SavedFile
from yolo_attn.safe.checkpoints import model_in
from yolo_attn.safe.safetensors_file import read_weights, write_weights

__all__ = ["SavedFile", "model_in", "read_weights", "write_weights"]
