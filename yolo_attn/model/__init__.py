"""A YAML row becomes a layer: names.py finds the YAML, limits.py and untrusted.py bound it, rows.py reads its rows.

registry.py knows their names, parser.py has Ultralytics build them, blocks.py puts attention inside blocks;
insertion.py edits YAMLs and compares what shapes.py measures; sparsity.py is NAM's penalty.
"""

import ultralytics.nn.tasks  # noqa: F401  first, since its import registers, which needs every module here whole
