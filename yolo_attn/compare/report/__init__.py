"""The report. writer.py fills templates/ with numbers, written by formatting.py, and draws charts.py."""

from yolo_attn.compare.report.writer import write_report

__all__ = ["write_report"]
