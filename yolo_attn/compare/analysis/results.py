"""A comparison's results: each variant's numbers over its seeds, and what they are above the base's."""

import contextlib
import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from yolo_attn.compare.analysis.images import Images, look
from yolo_attn.compare.analysis.seeds import (
    LEVEL,
    Difference,
    Spread,
    difference,
    holm,
    largest_deviation,
    seeds_needed,
    spread,
)
from yolo_attn.compare.study import Cost, Run, Study, Variant

SOUGHT = 0.005
"""The gain, a fraction of 1, whose number of seeds is told: 0.5 AP."""

OWN = ("accuracy_top1", "mAP50-95")
"""How Ultralytics' main numbers begin; a task of two, as boxes and masks, has its own last."""

GAIN, LOSS, NO_EVIDENCE, UNTOLD = "gain", "loss", "no evidence of a gain", "cannot be told"
"""The verdicts."""


@dataclass(frozen=True)
class Result:
    """A variant's numbers.

    Attributes:
        variant: The variant.
        runs: Its finished runs by their seeds.
        scores: By metric, over its seeds.
        cost: What the model costs, as far as it is known.
        seconds: Of its trainings; None if none has finished.
        memory_mb: Highest peak memory of its trainings, MiB.
        errors: TIDE's kinds of errors, the mean over its seeds; empty where they are not known.
        curve: By epoch, the main metric of its seeds.
    """

    variant: Variant
    runs: Mapping[int, Run]
    scores: Mapping[str, Spread]
    cost: Cost
    seconds: Spread | None
    memory_mb: float | None
    errors: Mapping[str, float]
    curve: Mapping[int, Sequence[float]]


@dataclass(frozen=True)
class Needed:
    """Seeds that show SOUGHT at the measured spread, and at the largest plausible one; None for too many to tell."""

    measured: int | None
    at_most: int | None


@dataclass(frozen=True)
class Contrast:
    """What one variant is above another.

    Attributes:
        variant: The variant.
        against: The base, or the control of equal cost.
        main: The difference of the main metric; None where no seed is common.
        metrics: By metric, the difference.
        per_class: By class, the difference of the main metric.
        images: By metric, half of the 95 % interval that the choice of images leaves open.
        p: p-value of the main metric, corrected by Holm for all verdicts of the report; None where there is none.
        verdicts: For how many verdicts it is corrected.
    """

    variant: Variant
    against: Variant
    main: Difference | None
    metrics: Mapping[str, Difference]
    per_class: Mapping[str, Difference]
    images: Mapping[str, float]
    p: float | None
    verdicts: int

    @property
    def verdict(self) -> str:
        """Gain or loss where the corrected p-value is below LEVEL; no evidence where not, or the difference is 0.00."""
        if self.p is None or self.main is None:
            return UNTOLD
        if self.p >= LEVEL or round(100 * self.main.mean, 2) == 0:
            return NO_EVIDENCE
        return GAIN if self.main.mean > 0 else LOSS

    def needed(self) -> Needed | None:
        """Seeds that a difference of SOUGHT takes; None where there is no spread to tell by."""
        if self.main is None or not self.main.deviation:
            return None
        largest = largest_deviation(self.main.deviation, len(self.main.by_seed))
        return Needed(*(seeds_needed(SOUGHT, each, self.verdicts) for each in (self.main.deviation, largest)))


@dataclass(frozen=True)
class Results:
    """All of a comparison's results.

    Attributes:
        study: The comparison.
        metrics: All metrics.
        main: The metric that verdicts are about.
        shown: The metrics of tables: average precisions, or all that there are.
        variants: The variants' numbers, the base's first.
        comparisons: Each variant with the base, then each with its control of equal cost.
        images: What the validation images tell.
    """

    study: Study
    metrics: tuple[str, ...]
    main: str
    shown: tuple[str, ...]
    variants: tuple[Result, ...]
    comparisons: tuple[Contrast, ...]
    images: Images

    def against_base(self, variant: Variant) -> Contrast | None:
        """A variant held against the base; None for the base."""
        return next((c for c in self.comparisons if c.variant == variant and c.against == self.study.base), None)


def results_of(study: Study) -> Results:
    """Compute a comparison's results, as far as its trainings have come."""
    metrics = list(dict.fromkeys(name for run in study.runs for name in run.scores))
    main = _main(metrics)
    images = look(study)
    variants = study.manifest.variants
    by_name = {variant.name: variant for variant in variants}
    pairs = [(variant, study.base) for variant in variants[1:]]
    pairs += [(by_name[control.control_for], control) for control in variants if control.control_for in by_name]
    return Results(
        study,
        tuple(metrics),
        main,
        tuple(name for name in metrics if name.startswith("AP")) or tuple(metrics),
        tuple(_result(study, variant, main, images) for variant in variants),
        tuple(_compared(study, main, images, pairs)),
        images,
    )


def _main(metrics: Sequence[str]) -> str:
    own = [name for start in OWN for name in metrics if name.startswith(start)]
    return "AP" if "AP" in metrics else [*metrics[:1], *own][-1] if metrics else "AP"


def _result(study: Study, variant: Variant, main: str, images: Images) -> Result:
    runs = study.done(variant.name)
    records = [run.record for run in runs.values() if run.record]
    errors = [images.errors[variant.name, seed] for seed in runs if (variant.name, seed) in images.errors]
    values: dict[str, list[float]] = {}
    curve: dict[int, list[float]] = {}
    for run in runs.values():
        for name, score in run.scores.items():
            values.setdefault(name, []).append(score)
        for epoch, score in _curve(run, main).items():
            curve.setdefault(epoch, []).append(score)
    return Result(
        variant,
        runs,
        {name: spread(scores) for name, scores in values.items()},
        study.costs.variants.get(variant.name, Cost()),
        spread([record.seconds for record in records]) if records else None,
        max((record.memory_mb for record in records if record.memory_mb is not None), default=None),
        {name: fmean(each[name] for each in errors) for name in (errors[0] if errors else ())},
        curve,
    )


def _curve(run: Run, main: str) -> dict[int, float]:
    """The main metric after each epoch, as far as results.csv has it."""
    wanted = "metrics/COCO_AP" if main == "AP" else f"metrics/{main}"
    curve: dict[int, float] = {}
    with contextlib.suppress(OSError, UnicodeDecodeError), (run.folder / "results.csv").open(newline="") as stream:
        for row in csv.DictReader(stream, skipinitialspace=True):
            with contextlib.suppress(KeyError, TypeError, ValueError):
                curve[int(row["epoch"])] = float(row[wanted])
    return curve


def _compared(study: Study, main: str, images: Images, pairs: Sequence[tuple[Variant, Variant]]) -> list[Contrast]:
    differences = [_paired(*({s: r.scores for s, r in study.done(v.name).items()} for v in pair)) for pair in pairs]
    p = [found[main].p if main in found else None for found in differences]
    tested = [each for each in p if each is not None]
    corrected = iter(holm(tested))
    compared = []
    for (variant, against), found, own_p in zip(pairs, differences, p, strict=True):
        halves = {name: images.half(name, variant.name, against.name, d.by_seed) for name, d in found.items()}
        compared.append(
            Contrast(
                variant,
                against,
                found.get(main),
                found,
                _paired(*(_of_classes(study.done(v.name), main) for v in (variant, against))),
                {name: half for name, half in halves.items() if half is not None},
                None if own_p is None else next(corrected),
                len(tested),
            )
        )
    return compared


def _of_classes(runs: Mapping[int, Run], metric: str) -> dict[int, dict[str, float]]:
    return {s: {name: of[metric] for name, of in r.per_class.items() if metric in of} for s, r in runs.items()}


def _paired(
    ours: Mapping[int, Mapping[str, float]], theirs: Mapping[int, Mapping[str, float]]
) -> dict[str, Difference]:
    """The difference of everything that has a name and a number under some seed of both."""
    names = dict.fromkeys(name for numbers in ours.values() for name in numbers)
    found = {}
    for name in names:
        base, variant = ({s: n[name] for s, n in each.items() if name in n} for each in (theirs, ours))
        each = difference(base, variant)
        if each:
            found[name] = each
    return found
