"""Gates of a model's attention layers: watch.py takes them while it runs, statistics.py sums them up.

meter.py measures them on images as Ultralytics' predict takes them, without margins.
"""

from yolo_attn.gates.meter import Area, GateMeter
from yolo_attn.gates.statistics import GateStatistics, gates_line
from yolo_attn.gates.watch import attention_layers, measure_gates, watching

__all__ = [
    "Area",
    "GateMeter",
    "GateStatistics",
    "attention_layers",
    "gates_line",
    "measure_gates",
    "watching",
]
