"""The page that shows the pictures: one HTML file beside them, without scripts, that works offline and prints."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import quote

from yolo_attn.plugin.gate_statistics import DEAD

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 1320px; margin: 2em auto;
       padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2.5em; border-top: 1px solid #ccc; padding-top: 1em; }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2em 0.9em; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; display: block; }
figure { margin: 0.6em 0; } figcaption { font-size: 0.9em; color: #555; }
.beside { display: flex; gap: 1em; flex-wrap: wrap; } .beside figure { flex: 1 1 380px; max-width: 640px; }
@media print { body { margin: 0; max-width: none; } figure, table { break-inside: avoid; } h2 { break-after: avoid; } }
"""

READING = f"""
<p>A gate is what multiplies a layer's input: output = gain · gate · input. Products of several gates count as one.</p>
<ul>
<li>The first map of a layer is the mean over its channels, over the picture as the model sees it. Then come the
channels with the largest means, which share one scale; the mean of each channel; and the histogram of all values.</li>
<li>Bright is a large gate. Each scale is the map's own, and at least ±{100 * DEAD:g} % wide, so that noise looks flat.
White: the layer's input is 0 there, so there is no gate.</li>
<li>Deviation: standard deviation of all values over |mean|. Under {100 * DEAD:g} % the gate is called dead: a constant
would do as well. The variation is across channels (the same for all pictures), across pictures (a channel's mean
changes with the picture), or across positions (the places of a map differ).</li>
<li>A map shows where a layer amplifies, which is no proof of what the model decides by.</li>
</ul>
"""


@dataclass(frozen=True)
class Section:
    """What the page shows of one picture.

    Attributes:
        title: The picture's name.
        detections: Files beside each other, each with its caption.
        gates: Files of the layers.
    """

    title: str
    detections: Sequence[tuple[str, str]]
    gates: Sequence[str]


def write_page(
    title: str, facts: Sequence[str], table: Sequence[Sequence[str]], plot: str, parts: list[Section]
) -> str:
    """The page as HTML.

    Args:
        title: Its heading.
        facts: Lines on what was looked at.
        table: Statistics of the gates, its first row the heading.
        plot: File of the plot of the statistics.
        parts: The pictures.
    """
    head, *rows = (
        "".join(f"<{cell}>{escape(text)}</{cell}>" for text in row)
        for cell, row in zip(["th"] + ["td"] * len(table), table, strict=False)
    )
    body = [
        f"<h1>{escape(title)}</h1>",
        *(f"<div>{escape(fact)}</div>" for fact in facts),
        READING,
        f"<table><thead><tr>{head}</tr></thead>",
        *(f"<tr>{row}</tr>" for row in rows),
        "</table>",
        _figure(plot, "Statistics of the gates over all pictures; the numbers are in gates.json."),
    ]
    for part in parts:
        body.append(f"<h2>{escape(part.title)}</h2>")
        body.append(f'<div class="beside">{"".join(_figure(*each) for each in part.detections)}</div>')
        body += [_figure(file) for file in part.gates]
    content = "\n".join(body)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n<body>\n{content}\n'
        "</body></html>\n"
    )


def _figure(file: str, caption: str = "") -> str:
    told = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img src="{quote(file)}" alt="{escape(caption or file)}" loading="lazy">{told}</figure>'
