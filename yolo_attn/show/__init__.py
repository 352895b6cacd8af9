"""A model as a table of its rows, what differs from another model, and its graph.

rows.py finds out what each row is, makes and costs; table.py writes it as text, drawing.py as SVG or Mermaid.
"""

from yolo_attn.show.drawing import mermaid, svg
from yolo_attn.show.rows import Row, Shown, shown
from yolo_attn.show.table import differences, table

__all__ = ["Row", "Shown", "differences", "mermaid", "shown", "svg", "table"]
