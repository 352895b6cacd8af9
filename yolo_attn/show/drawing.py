"""A model's graph, as an SVG laid out by Graphviz, or as text for Mermaid."""

from yolo_attn.errors import UserError
from yolo_attn.extras import installing
from yolo_attn.show.rows import Row, Shown

FILLS = {"attention": "#ffd9b3", "head": "#cfe3ff", "idle": "#ffb3b3", "other": "#f3f3f3"}
"""Colours of rows; idle ones are those that no row reads."""


def svg(model: Shown) -> bytes:
    """The graph as an SVG file.

    Raises:
        UserError: If the package graphviz or the program dot is missing.
    """
    try:
        import graphviz
    except ImportError as error:
        raise UserError(f"--svg: needs the package graphviz; {installing('graph')}") from error
    graph = graphviz.Digraph(node_attr={"shape": "box", "style": "filled,rounded", "fontname": "sans-serif"})
    graph.node("image", f"image\\n3×{model.size}×{model.size}", fillcolor="white")
    for row in model.rows:
        label = "\\n".join(graphviz.escape(line) for line in _label(row))
        graph.node(str(row.number), label, fillcolor=FILLS[_kind(model, row)])
        for source in row.sources:
            graph.edge(str(source) if source >= 0 else "image", str(row.number))
    try:
        return graph.pipe("svg")
    except graphviz.ExecutableNotFound as error:
        raise UserError("--svg: needs Graphviz' program dot; apt install graphviz, or brew install graphviz") from error


def mermaid(model: Shown) -> bytes:
    """The graph as a text file that Mermaid draws, as in a Markdown page."""
    lines = ["flowchart TD", f'  image["image<br>3×{model.size}×{model.size}"]']
    for row in model.rows:
        lines.append(f'  r{row.number}["{"<br>".join(map(_escaped, _label(row)))}"]:::{_kind(model, row)}')
        lines += [f"  {f'r{source}' if source >= 0 else 'image'} --> r{row.number}" for source in row.sources]
    lines += [f"  classDef {kind} fill:{fill},color:#000" for kind, fill in FILLS.items()]
    return ("\n".join(lines) + "\n").encode()


def _label(row: Row) -> list[str]:
    made = "×".join(map(str, row.shape))
    stride = f", stride {row.strides[0]:g}" if len(row.strides) == 1 and made else ""
    arguments = row.arguments if row.arguments != "[]" else ""
    return [text for text in (f"{row.number} {row.name}", arguments, f"{made}{stride}") if text]


def _kind(model: Shown, row: Row) -> str:
    if row == model.rows[-1]:
        return "head"
    return "idle" if not row.readers else "attention" if row.attends else "other"


def _escaped(text: str) -> str:
    """A text for a quoted label of Mermaid's, which takes signs by their numbers."""
    return text.translate({ord(sign): f"#{ord(sign)};" for sign in '#&"<>'})
