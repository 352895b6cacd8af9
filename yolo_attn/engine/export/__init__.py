"""Exports, verified before they are put into place: exporter.py (`export`) writes, verify.py runs and compares."""

from yolo_attn.engine.export.exporter import export

__all__ = ["export"]
