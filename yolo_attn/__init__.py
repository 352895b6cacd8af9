"""Attention layers as first-class Ultralytics layer types."""

__version__ = "0.1.0"
