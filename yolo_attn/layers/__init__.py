"""The attention layers in plain PyTorch, one a file; none knows of Ultralytics.

common.py: what they derive from; norms.py, resize.py: what some share; attended.py: attention in a block's branch.
"""

from yolo_attn.layers.bam import BAM
from yolo_attn.layers.cbam import CBAM
from yolo_attn.layers.coordatt import CoordAtt
from yolo_attn.layers.eca import ECA
from yolo_attn.layers.ema import EMA
from yolo_attn.layers.gam import GAM
from yolo_attn.layers.nam import NAM
from yolo_attn.layers.se import SE
from yolo_attn.layers.simam import SimAM
from yolo_attn.layers.triplet import TripletAttention

__all__ = ["BAM", "CBAM", "ECA", "EMA", "GAM", "NAM", "SE", "CoordAtt", "SimAM", "TripletAttention"]
