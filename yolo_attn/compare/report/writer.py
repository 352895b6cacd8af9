"""Write a comparison's report: report.html and report.md for people, results.csv for their programs."""

import csv
import io
import json
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from yolo_attn.coco.dataset.locations import parts_of
from yolo_attn.compare.analysis.detections import ERRORS
from yolo_attn.compare.analysis.seeds import LEVEL, POWER
from yolo_attn.compare.analysis.verdicts import GAIN, LOSS, NO_EVIDENCE, NO_VERDICT, SOUGHT, Results, results_of
from yolo_attn.compare.execution.costs import ROUNDS
from yolo_attn.compare.report.charts import MOST_CLASSES, changed_most, draw_charts
from yolo_attn.compare.report.confusions import draw_confusions
from yolo_attn.compare.report.formatting import FILTERS, interval, p
from yolo_attn.compare.study_folder import Study
from yolo_attn.files import write_bytes
from yolo_attn.tables import aligned

MARKS = {GAIN: "▲", LOSS: "▼", NO_EVIDENCE: "●", NO_VERDICT: "○"}
"""Marks of the verdicts, which tell them apart without colours."""

MISS = 0.02
"""Share by which a control's GFLOPs may miss its variant's before the report lists it as a problem."""


class Report(NamedTuple):
    """A report that was written.

    Attributes:
        page: report.html, beside which are report.md and results.csv.
        verdicts: Its verdicts, as lines for a terminal.
    """

    page: Path
    verdicts: list[str]


def write_report(study: Study) -> Report:
    """Report a comparison as far as its trainings have come, in its folder; the same files give the same report."""
    results = _without_places(results_of(study))
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {function.__name__: function for function in FILTERS}
    content = _content(results)
    one_line = environment.overlay(finalize=lambda value: " ".join(str(value).splitlines()))  # a name is no paragraph
    content["prose"] = one_line.get_template("prose.txt").make_module(content)
    page = study.folder / "report.html"
    files = {study.folder / "results.csv": _table(results)}
    for file in (study.folder / "report.md", page):
        files[file] = environment.get_template(file.name).render(content)
    for file, text in files.items():
        write_bytes(file, text.encode(errors="replace"))  # names may contain lone surrogates
    return Report(page, _verdicts(results))


def _without_places(results: Results) -> Results:
    """Return results in whose texts folders of this machine are not named: "." is the comparison's own."""
    study = results.study
    manifest, images = study.manifest, results.images
    given = [*map(str, parts_of(manifest.data.path)), *([manifest.weights.path] if manifest.weights else [])]
    shown = {place: Path(place).name for place in given if Path(place).is_absolute()}
    shown |= {str(Path.home()): "~", str(Path.cwd()): ".", str(study.folder.absolute()): "."}
    places = sorted(filter(lambda place: len(Path(place).parts) > 1, shown), key=len, reverse=True)

    def plain(text: str) -> str:
        for place in places:
            text = text.replace(place, shown[place])
        return text

    calls = tuple(replace(call, command=plain(call.command)) for call in manifest.calls)
    data = replace(manifest.data, path=plain(manifest.data.path))
    weights = manifest.weights and replace(manifest.weights, path=plain(manifest.weights.path))
    runs = tuple(replace(run, error=plain(run.error)) if run.error else run for run in study.runs)
    costs = replace(study.costs, error=plain(study.costs.error))
    study = replace(study, manifest=replace(manifest, data=data, weights=weights, calls=calls), runs=runs, costs=costs)
    return replace(results, study=study, images=replace(images, problems=tuple(map(plain, images.problems))))


def _verdicts(results: Results) -> list[str]:
    """Return a table of the verdicts; scores are points, 0 to 100."""
    rows = [
        [
            each.variant.label,
            each.against.label,
            f"{MARKS[each.verdict]} {each.verdict}",
            interval(each.main),
            p(each.p),
            str(len(each.main.by_seed) if each.main else 0),
        ]
        for each in results.contrasts
    ]
    if not rows:
        return []
    title = f"{results.scoring.label(results.main)}, points of 100; ± is half of a 95 % interval over seeds, paired"
    return [title, *aligned([["variant", "against", "verdict", "difference", "p", "seeds"], *rows])]


def _content(results: Results) -> dict[str, Any]:
    """Return the variables of the templates."""
    study = results.study
    names = dict.fromkeys(name for each in results.variants for run in each.runs.values() for name in run.per_class)
    of_base = [run.per_class for run in study.done(study.base.name).values()]
    rows = changed_most(results, names) if len(names) > MOST_CLASSES else names
    classes = {name: [of[name][results.main] for of in of_base if results.main in of.get(name, ())] for name in rows}
    scores = [each.scores[results.main].mean for each in results.variants if results.main in each.scores]
    seeds = [len(each.main.by_seed) for each in results.contrasts if each.p is not None and each.main]
    planned = next((call.seeds for call in study.manifest.calls), ())
    return {
        "results": results,
        "study": study,
        "manifest": study.manifest,
        "manifest_json": json.dumps(asdict(study.manifest), indent=2, ensure_ascii=False),
        "base": study.base,
        "key": results.main,
        "main": results.scoring.label(results.main),
        "images": results.images,
        "to_base": results.to_base,
        "labels": {variant.name: variant.label for variant in study.manifest.variants},
        "marks": MARKS,
        "errors": ERRORS,
        "sorted_classes": len(names) > MOST_CLASSES,
        "classes": {name: fmean(values) if values else None for name, values in classes.items()},
        "evaluators": sorted({run.evaluator for run in study.runs if run.evaluator}),
        "charts": draw_charts(results),
        "confusions": draw_confusions(results),
        "disagreements": [each for each in results.contrasts if each.disagreements],
        **_judged(results),
        "all_zero": bool(scores) and not any(scores),
        "tested": len(seeds),
        "pairs": seeds.count(2),
        "added": [seed for seed in study.manifest.seeds if planned and seed not in planned],
        "differing": _differing(study),
        "unmeasured": [each.variant for each in results.variants if each.cost.latency_ms is None],
        "unequal": _unequal(results),
        **{"LEVEL": LEVEL, "POWER": POWER, "SOUGHT": SOUGHT, "ROUNDS": ROUNDS},
    }


def _judged(results: Results) -> dict[str, Any]:
    """Return variants by their verdict against the base; those that gained, by that against their control, too."""
    tried = [c for c in results.to_base if not c.variant.control_for]
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


def _table(results: Results) -> str:
    """Return results.csv: a line for each training, scores as fractions of 1."""
    variants = {each.variant.name: each for each in results.variants}
    rows = []
    for run in results.study.runs:
        variant, cost = variants[run.variant].variant, variants[run.variant].cost
        row = {"variant": run.variant, **asdict(variant)}
        del row["name"]
        row["options"] = json.dumps(variant.options) if variant.options else None
        row |= {"seed": run.seed, "error": run.error, **{name: run.scores.get(name) for name in results.metrics}}
        row |= {"evaluator": run.evaluator or None}
        row |= {name: getattr(cost, name) for name in ("parameters", "gflops", "latency_ms")}
        names = ("epochs", "seconds", "memory_mb", "device", "machine", "finished")
        row |= {name: getattr(run.record, name, None) for name in names}
        rows.append(row | (run.record.versions if run.record else {}))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, dict.fromkeys(name for row in rows for name in row), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
