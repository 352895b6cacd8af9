"""Write a comparison's report: report.html and report.md for people, results.csv for their programs."""

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from yolo_attn.compare.analysis.detections import ERRORS
from yolo_attn.compare.analysis.seeds import LEVEL, POWER
from yolo_attn.compare.analysis.verdicts import (
    GAIN,
    LOSS,
    NO_EVIDENCE,
    NO_VERDICT,
    SOUGHT,
    Result,
    Results,
    results_of,
)
from yolo_attn.compare.execution.costs import ROUNDS
from yolo_attn.compare.report import charts
from yolo_attn.compare.report.formatting import FILTERS
from yolo_attn.compare.study_folder import Cost, Study
from yolo_attn.files import write_bytes

MARKS = {GAIN: "▲", LOSS: "▼", NO_EVIDENCE: "●", NO_VERDICT: "○"}
"""Marks of the verdicts, which tell them apart without colours."""

MISS = 0.02
"""Share by which a control's GFLOPs may miss its variant's before the report lists it as a problem."""


def write_report(study: Study) -> Path:
    """Report a comparison as far as its trainings have come, in its folder; the same files give the same report.

    Returns:
        report.html, beside which are report.md and results.csv.
    """
    results = results_of(study)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= FILTERS
    content = _content(results)
    one_line = environment.overlay(finalize=lambda value: " ".join(str(value).splitlines()))  # a name is no paragraph
    content["prose"] = one_line.get_template("prose.txt").make_module(content)
    page = study.folder / "report.html"
    files = {study.folder / "results.csv": _table(results)}
    for file in (study.folder / "report.md", page):
        files[file] = environment.get_template(file.name).render(content)
    for file, text in files.items():
        write_bytes(file, text.encode(errors="replace"))  # names may contain lone surrogates
    return page


def _content(results: Results) -> dict[str, Any]:
    """Return the variables of the templates."""
    study = results.study
    to_base = [each for each in results.contrasts if each.against == study.base]
    names = dict.fromkeys(name for each in results.variants for run in each.runs.values() for name in run.per_class)
    scores = [each.scores[results.main].mean for each in results.variants if results.main in each.scores]
    seeds = [len(each.main.by_seed) for each in results.contrasts if each.p is not None and each.main]
    planned = next((call.seeds for call in study.manifest.calls), ())
    return {
        "results": results,
        "study": study,
        "manifest": study.manifest,
        "manifest_json": json.dumps(asdict(study.manifest), indent=2, ensure_ascii=False),
        "base": study.base,
        "main": results.main,
        "images": results.images,
        "to_base": to_base,
        "labels": {variant.name: variant.label for variant in study.manifest.variants},
        "marks": MARKS,
        "errors": ERRORS,
        "classes": {name: _of_class(results.variants[0], name, results.main) for name in names},
        "evaluators": sorted({run.evaluator for run in study.runs if run.evaluator}),
        "charts": _charts(results),
        **_judged(results),
        "all_zero": bool(scores) and not any(scores),
        "tested": len(seeds),
        "pairs": seeds.count(2),
        "added": [seed for seed in study.manifest.seeds if planned and seed not in planned],
        "differing": _differing(study),
        "unmeasured": [each.variant for each in results.variants if each.cost.latency_ms is None],
        "unequal": _unequal(results),
        "no_truth": any(run.done for run in study.runs) and not study.truth.exists(),
        **{"LEVEL": LEVEL, "POWER": POWER, "SOUGHT": SOUGHT, "ROUNDS": ROUNDS},
    }


def _judged(results: Results) -> dict[str, Any]:
    """Return variants by their verdict against the base; those that gained, by that against their control, too."""
    tried = [c for c in results.contrasts if c.against == results.study.base and not c.variant.control_for]
    of = {kind: [c.variant for c in tried if c.verdict == kind] for kind in MARKS}
    control = {c.variant.name: c.verdict for c in results.contrasts if c.against.control_for}
    gained = {
        kind: [each for each in of[GAIN] if control.get(each.name) == kind]
        for kind in (None, GAIN, NO_EVIDENCE, LOSS, NO_VERDICT)
    }
    return {
        "tried": of,
        "gained": {kind: variants for kind, variants in gained.items() if variants},
        "beaten": [each for each in of[NO_EVIDENCE] if control.get(each.name) == LOSS],
    }


def _differing(study: Study) -> dict[str, list[tuple[str, int]]]:
    """Return what is not the same for all trainings: its values and their numbers, the most frequent first."""
    runs = [run for run in study.runs if run.done]
    records = [run.record for run in runs if run.record]
    values: dict[str, list[str]] = {
        f"versions of {name}": [record.versions.get(name, "unknown") for record in records]
        for name in sorted({name for record in records for name in record.versions})
    }
    values["machines"] = [record.machine for record in records]
    values["devices"] = [record.device for record in records]
    values["evaluators"] = [run.evaluator for run in runs]
    values["numbers of epochs"] = [str(record.epochs) for record in records]
    return {what: Counter(each).most_common() for what, each in values.items() if len(set(each)) > 1}


def _unequal(results: Results) -> list[tuple[Any, float, float]]:
    """Return controls whose GFLOPs miss their variant's, with both numbers."""
    gflops = {each.variant.name: each.cost.gflops for each in results.variants}
    pairs = [(each.variant, each.cost.gflops, gflops.get(each.variant.control_for or "")) for each in results.variants]
    return [(of, own, wanted) for of, own, wanted in pairs if own and wanted and abs(own / wanted - 1) > MISS]


def _charts(results: Results) -> list[tuple[str, str]]:
    """Return each chart that has something to show, with its caption."""
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
    """Return results.csv: a line for each training, scores as fractions of 1."""
    study = results.study
    variants = {variant.name: variant for variant in study.manifest.variants}
    rows = []
    for run in study.runs:
        variant, cost = variants[run.variant], study.costs.variants.get(run.variant, Cost())
        row: dict[str, Any] = {"variant": variant.name, **asdict(variant)}
        row["options"] = json.dumps(variant.options) if variant.options else None
        row |= {"seed": run.seed, "error": run.error, **{name: run.scores.get(name) for name in results.metrics}}
        row |= {"evaluator": run.evaluator or None}
        row |= {name: getattr(cost, name) for name in ("parameters", "gflops", "latency_ms")}
        names = ("epochs", "seconds", "memory_mb", "device", "machine", "finished")
        row |= {name: getattr(run.record, name, None) for name in names}
        row |= run.record.versions if run.record else {}
        del row["name"]
        rows.append(row)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, dict.fromkeys(name for row in rows for name in row), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
