"""The report: `writer.write_report` fills templates/ with numbers (formatting.py) and charts.py."""
