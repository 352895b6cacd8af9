"""Everything that is changed in Ultralytics, one table, and what it calls."""

import ultralytics.nn.tasks  # noqa: F401  first, since its import registers, which needs every module here whole
