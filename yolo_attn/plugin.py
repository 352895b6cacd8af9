"""Former paths of what checkpoints name, for those that were saved before 0.1; they go with 1.0."""

import sys

from yolo_attn.layers import attended

sys.modules[f"{__name__}.blocks"] = attended
