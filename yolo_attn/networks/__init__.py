"""Rows of networks that Ultralytics has not, which are no attention: what they make has channels of its own number.

towernet.py: the blocks of TowerNet; stage.py: parts of torchvision's classifiers; classifier.py: a classifier's head.
"""

from yolo_attn.networks.classifier import FC
from yolo_attn.networks.stage import Stage
from yolo_attn.networks.towernet import ConvBNReLU, Inception

__all__ = ["FC", "ConvBNReLU", "Inception", "Stage"]
