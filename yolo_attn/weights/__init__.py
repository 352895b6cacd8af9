"""A checkpoint's tensors find their rows; initial gains; state dicts."""

import ultralytics.nn.tasks  # noqa: F401  first, since its import registers, which needs every module here whole
