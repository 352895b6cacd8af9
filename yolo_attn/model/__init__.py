"""A YAML row becomes a layer: names, rows, the parser, blocks, insertion, limits."""

import ultralytics.nn.tasks  # noqa: F401  first, since its import registers, which needs every module here whole
