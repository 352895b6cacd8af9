"""Everything that is changed in Ultralytics: table.py lists it, wrapping.py wraps and undoes.

The wrappers: plain_python.py (`YOLO(...).train`, `.val`), workers.py (new processes), offline.py (YOLO_OFFLINE).
"""

import ultralytics.nn.tasks  # noqa: F401  first, since its import registers, which needs every module here whole

from yolo_attn.patches.table import missing, register, unregister

__all__ = ["missing", "register", "unregister"]
