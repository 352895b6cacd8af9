"""The page that shows the pictures: one HTML file beside them, without scripts, that works offline and prints."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from yolo_attn.gates.statistics import DEAD, percent

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


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
    return TEMPLATES.get_template("index.html").render(
        title=title, facts=facts, table=table, plot=plot, parts=parts, dead=percent(DEAD)
    )
