"""A comparison's report: report.html and report.md for people, results.csv for their programs."""

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from yolo_attn.compare.analysis.detections import ERRORS
from yolo_attn.compare.analysis.results import GAIN, LOSS, NO_EVIDENCE, UNTOLD, Result, Results, results_of
from yolo_attn.compare.analysis.seeds import Spread
from yolo_attn.compare.report import charts
from yolo_attn.compare.report import wording as words
from yolo_attn.compare.study import Cost, Study
from yolo_attn.files import write_bytes

MARKS = {GAIN: "▲", LOSS: "▼", NO_EVIDENCE: "●", UNTOLD: "○"}
"""What stands before a verdict, so that it is seen without colours."""


def write_report(study: Study) -> Path:
    """Report a comparison as far as its trainings have come, in its folder; the same files give the same report.

    Returns:
        report.html, beside which report.md and results.csv are.
    """
    results = results_of(study)
    content = _content(results)
    environment = _environment()
    page = study.folder / "report.html"
    files = {study.folder / "results.csv": _table(results)}
    for file in (study.folder / "report.md", page):
        files[file] = environment.get_template(file.name).render(content)
    for file, text in files.items():
        write_bytes(file, text.encode(errors="replace"))  # names may hold halves of characters
    return page


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "points": words.points,
        "interval": words.interval,
        "fixed": words.fixed,
        "p": words.p_value,
        "seeds": words.seeds_needed,
        "spread": _spread,
        "latency": _latency,
        "seconds": _seconds,
        "cell": _cell,
    }
    return environment


def _content(results: Results) -> dict[str, Any]:
    """What the templates are filled with."""
    study = results.study
    to_base = [each for each in results.comparisons if each.against == study.base]
    names = dict.fromkeys(name for each in results.variants for run in each.runs.values() for name in run.per_class)
    return {
        "results": results,
        "study": study,
        "base": study.base,
        "to_base": to_base,
        "labels": {variant.name: variant.label for variant in study.manifest.variants},
        "budget": words.budget(results),
        "headline": words.headline(results),
        "verdicts": [(each, MARKS[each.verdict], words.verdict(each, results.main)) for each in results.comparisons],
        "problems": list(words.problems(results)),
        "shown": list(words.shown(results)),
        "not_shown": list(words.not_shown(results)),
        "rules": dict(words.rules(results)),
        "classes": {name: _of_class(results.variants[0], name, results.main) for name in names},
        "errors": ERRORS,
        "evaluators": sorted({run.evaluator for run in study.runs if run.evaluator}),
        "charts": _charts(results),
        "manifest_json": json.dumps(asdict(study.manifest), indent=2, ensure_ascii=False),
    }


def _charts(results: Results) -> list[tuple[str, str]]:
    """Each picture with what it shows."""
    spread = "bars are standard deviation over seeds"

    def latency(each: Result) -> Sequence[float] | None:
        cost = each.cost
        return None if cost.latency_ms is None else (cost.latency_ms, *(cost.latency_quartiles_ms or ()))

    def parameters(each: Result) -> Sequence[float] | None:
        return None if each.cost.parameters is None else (each.cost.parameters / 1e6,)

    drawn = {
        f"{results.main} against latency: {spread} and quartiles": charts.cost_chart(results, "latency, ms", latency),
        f"{results.main} against parameters: {spread}": charts.cost_chart(results, "parameters, millions", parameters),
        "Learning curves: mean over seeds, and a band from the lowest to the highest": charts.curve_chart(results),
        "Differences by object size, with 95 % t-intervals over seeds": charts.size_chart(results),
        "Differences by class, with 95 % t-intervals over seeds; of many classes those with the most objects": (
            charts.class_chart(results)
        ),
        "Kinds of errors: AP50 that would be gained without them, mean over seeds": charts.error_chart(results),
    }
    return [(caption, svg) for caption, svg in drawn.items() if svg]


def _of_class(result: Result, name: str, metric: str) -> float | None:
    values = [run.per_class[name][metric] for run in result.runs.values() if metric in run.per_class.get(name, {})]
    return sum(values) / len(values) if values else None


def _table(results: Results) -> str:
    """results.csv: a line for each training, scores as fractions of 1."""
    study = results.study
    rows = []
    for run in study.runs:
        variant = next(each for each in study.manifest.variants if each.name == run.variant)
        cost, record = study.costs.variants.get(run.variant, Cost()), run.record
        row: dict[str, Any] = {
            "variant": variant.name,
            "label": variant.label,
            "layer": variant.layer,
            "at": variant.at,
            "options": json.dumps(variant.options) if variant.options else None,
            "control_for": variant.control_for,
            "seed": run.seed,
            "error": run.error,
            **{name: run.scores.get(name) for name in results.metrics},
            "evaluator": run.evaluator or None,
            "parameters": cost.parameters,
            "gflops": cost.gflops,
            "latency_ms": cost.latency_ms,
        }
        names = ("epochs", "seconds", "memory_mb", "device", "machine", "finished")
        row |= {name: getattr(record, name) if record else None for name in names}
        row |= record.versions if record else {}
        rows.append(row)
    stream = io.StringIO()
    columns = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _spread(found: Spread | None) -> str:
    if found is None:
        return words.NONE
    return words.points(found.mean) + ("" if found.deviation is None else f" ± {words.points(found.deviation)}")


def _latency(cost: Cost) -> str:
    quartiles = [words.fixed(each, 2) for each in cost.latency_quartiles_ms or ()]
    return words.fixed(cost.latency_ms, 2) + (f" ({' – '.join(quartiles)})" if quartiles else "")


def _seconds(found: Spread | None) -> str:
    if found is None:
        return words.NONE
    return words.fixed(found.mean) + ("" if found.deviation is None else f" ± {words.fixed(found.deviation)}")


def _cell(value: object) -> str:
    """A cell of a Markdown table."""
    return re.sub(r"([\\`*_\[\]<>|#~$])", r"\\\1", " ".join(str(value).split()))
