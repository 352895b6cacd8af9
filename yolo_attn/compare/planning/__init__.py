"""What a comparison trains. variants.py: its models; compared_data.py: the data that they are compared on."""

from yolo_attn.compare.planning.compared_data import read_data
from yolo_attn.compare.planning.variants import plan

__all__ = ["plan", "read_data"]
