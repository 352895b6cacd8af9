"""Model YAMLs edited as text: attention inserted and removed, everything else kept byte for byte.

text.py: a YAML's lines and rows; places.py: where attention goes; edit.py inserts and removes; ports.py translates the
rows of other ports. It needs neither PyTorch nor Ultralytics.
"""

from yolo_attn.yaml_edit.edit import Edited, insert, remove, with_header
from yolo_attn.yaml_edit.places import PLACES
from yolo_attn.yaml_edit.ports import migrate, port_of, without_attention
from yolo_attn.yaml_edit.text import ModelText, numbered

__all__ = [
    "PLACES",
    "Edited",
    "ModelText",
    "insert",
    "migrate",
    "numbered",
    "port_of",
    "remove",
    "with_header",
    "without_attention",
]
