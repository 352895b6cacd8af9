"""The attention layers in plain PyTorch, one a file; none knows of Ultralytics."""

from yolo_attn.layers.gam import GAM
from yolo_attn.layers.nam import NAM
from yolo_attn.layers.simam import SimAM

__all__ = ["GAM", "NAM", "SimAM"]
