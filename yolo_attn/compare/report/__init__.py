"""The report. writer.py fills templates/ with numbers, written by formatting.py, and draws charts.py."""
