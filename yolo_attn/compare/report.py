"""Stand-in."""

from pathlib import Path

from yolo_attn.compare.study import Study


def write_report(study: Study) -> Path:
    """Nothing yet."""
    return study.folder / "report.html"
