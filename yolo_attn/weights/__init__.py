"""A checkpoint's tensors find their rows: checkpoint_files.py reads files, transfer.py loads what is in them.

matching.py pairs the rows, transfer_report.py says what came; gains.py sets the gains of new
attention, which identity_init.py (`identity_init`) does in plain Python.
"""

import ultralytics.nn.tasks  # noqa: F401  first, since its import registers, which needs every module here whole
