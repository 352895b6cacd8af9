"""A YAML row becomes a layer: names.py finds the YAML, limits.py and untrusted.py bound it, rows.py reads its rows.

registry.py knows their names, graph.py checks who reads whom, parser.py has Ultralytics build them, blocks.py puts
attention inside blocks; insertion.py edits YAMLs and compares what shapes.py measures; sparsity.py is NAM's penalty.
"""

import ultralytics.nn.tasks  # noqa: F401  first, since its import registers, which needs every module here whole

from yolo_attn.model.blocks import UNITS, WHERE
from yolo_attn.model.insertion import describe, insert, layer_named, migrate, put, remove
from yolo_attn.model.names import MODEL_YAMLS, check_scale, read_model, yaml_model_load
from yolo_attn.model.parser import parse_model
from yolo_attn.model.registry import LAYERS, import_modules, register_layer
from yolo_attn.model.rows import RowError, options_of, read_rows
from yolo_attn.model.shapes import measure

__all__ = [
    "LAYERS",
    "MODEL_YAMLS",
    "UNITS",
    "WHERE",
    "RowError",
    "check_scale",
    "describe",
    "import_modules",
    "insert",
    "layer_named",
    "measure",
    "migrate",
    "options_of",
    "parse_model",
    "put",
    "read_model",
    "read_rows",
    "register_layer",
    "remove",
    "yaml_model_load",
]
