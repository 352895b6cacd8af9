"""Rows of networks that Ultralytics has not, which are no attention: what they make has channels of its own number.

towernet.py: the blocks of TowerNet; classifier.py: a classifier's head.
"""

from yolo_attn.networks.classifier import FC
from yolo_attn.networks.towernet import ConvBNReLU, Inception

__all__ = ["FC", "ConvBNReLU", "Inception"]
