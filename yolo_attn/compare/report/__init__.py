"""The report. writer.py fills templates/ with numbers, written by formatting.py, and draws charts.py."""

from yolo_attn.compare.report.writer import Report, write_report

__all__ = ["Report", "write_report"]
