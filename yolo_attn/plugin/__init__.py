"""All that touches Ultralytics' inside: names, parser, model YAMLs, and the list of patches."""

import ultralytics.nn.tasks  # noqa: F401  first, since its import registers, which needs every module here whole
