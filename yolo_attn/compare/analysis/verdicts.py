"""Each variant's scores over its seeds, its differences to the base, and the verdict on each difference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from yolo_attn.compare.analysis.answers import Disagreement
from yolo_attn.compare.analysis.images import Images
from yolo_attn.compare.analysis.scoring import Scoring, scoring_of
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
from yolo_attn.compare.study_folder import Confusion, Cost, Run, Study, Variant, read_epochs

SOUGHT = 0.005
"""The gain, a fraction of 1, for which the number of seeds is computed: 0.5 points of 100."""

GAIN, LOSS, NO_EVIDENCE, NO_VERDICT = "gain", "loss", "no evidence of a gain", "no verdict"
"""The verdicts."""


@dataclass(frozen=True)
class Result:
    """A variant's numbers.

    Attributes:
        runs: Its finished runs by seed.
        scores: By metric, over its seeds.
        cost: The model's cost, as far as known.
        seconds: Training time; None if no training finished.
        memory_mb: Highest peak memory of its trainings, MiB.
        errors: Mean over its seeds for each of TIDE's kinds of errors; empty if unknown.
        curves: For each of the scoring's curves, by epoch, the numbers of its seeds.
        confusion: The mean over its seeds; None for models that are no classifiers.
    """

    variant: Variant
    runs: Mapping[int, Run]
    scores: Mapping[str, Spread]
    cost: Cost
    seconds: Spread | None
    memory_mb: float | None
    errors: Mapping[str, float]
    curves: Mapping[str, Mapping[int, Sequence[float]]]
    confusion: Confusion | None


@dataclass(frozen=True)
class Contrast:
    """The difference between one variant and another.

    Attributes:
        against: The base, or the control of equal cost.
        main: The difference of the main metric; None without a common seed.
        metrics: By metric, the difference.
        per_class: By class, the difference of the main metric.
        images: By metric, half of the 95 % interval that the choice of images leaves open.
        disagreements: By seed, how two classifiers differ image by image.
        p: p-value of the main metric, with Holm's correction for all verdicts of the report; None if undefined, or if
            the metric is 0 in all trainings.
        verdicts: The number of verdicts that it is corrected for.
    """

    variant: Variant
    against: Variant
    main: Difference | None
    metrics: Mapping[str, Difference]
    per_class: Mapping[str, Difference]
    images: Mapping[str, float]
    disagreements: Mapping[int, Disagreement]
    p: float | None
    verdicts: int

    @property
    def verdict(self) -> str:
        """Gain or loss if the corrected p-value is below LEVEL and the difference does not round to 0.00."""
        if self.p is None or self.main is None:
            return NO_VERDICT
        if self.p >= LEVEL or round(100 * self.main.mean, 2) == 0:
            return NO_EVIDENCE
        return GAIN if self.main.mean > 0 else LOSS

    def needed(self) -> list[int | None] | None:
        """Return the seeds that show SOUGHT at the measured spread and at the largest plausible one; None without one.

        Each is None above MOST_SEEDS.
        """
        if self.main is None or not self.main.deviation:
            return None
        largest = largest_deviation(self.main.deviation, len(self.main.by_seed))
        return [seeds_needed(SOUGHT, each, self.verdicts) for each in (self.main.deviation, largest)]


@dataclass(frozen=True)
class Results:
    """All of a comparison's results.

    Attributes:
        scoring: What the models are scored by; verdicts are about its main score.
        shown: The metrics of tables: average precisions, or all metrics if there are none.
        variants: The variants' numbers, the base's first.
        contrasts: Each variant with the base, then each with its control of equal cost.
        images: What the validation images show.
    """

    study: Study
    metrics: tuple[str, ...]
    scoring: Scoring
    shown: tuple[str, ...]
    variants: tuple[Result, ...]
    contrasts: tuple[Contrast, ...]
    images: Images

    @property
    def main(self) -> str:
        """The name of the score that verdicts are about."""
        return self.scoring.main

    @property
    def to_base(self) -> tuple[Contrast, ...]:
        """The contrast of each variant with the base."""
        return self.contrasts[: len(self.variants) - 1]


def results_of(study: Study) -> Results:
    """Compute a comparison's results so far."""
    metrics = list(dict.fromkeys(name for run in study.runs for name in run.scores))
    scoring = scoring_of(study, metrics)
    images = scoring.examine(study, [run for run in study.runs if run.done])
    variants = study.manifest.variants
    by_name = {variant.name: variant for variant in variants}
    pairs = [(variant, study.base) for variant in variants[1:]]
    pairs += [(by_name[control.control_for], control) for control in variants if control.control_for in by_name]
    return Results(
        study,
        tuple(metrics),
        scoring,
        tuple(name for name in metrics if name.startswith("AP")) or tuple(metrics),
        tuple(_result(study, variant, scoring, images) for variant in variants),
        tuple(_contrasts(study, scoring.main, images, pairs)),
        images,
    )


def _result(study: Study, variant: Variant, scoring: Scoring, images: Images) -> Result:
    runs = study.done(variant.name)
    records = [run.record for run in runs.values() if run.record]
    errors = [images.errors[variant.name, seed] for seed in runs if (variant.name, seed) in images.errors]
    values: dict[str, list[float]] = {}
    curves: dict[str, dict[int, list[float]]] = {name: {} for name in scoring.curves}
    for run in runs.values():
        for name, score in run.scores.items():
            values.setdefault(name, []).append(score)
        for epoch, row in read_epochs(run.folder).items():
            for name, column in scoring.curves.items():
                if column in row:
                    curves[name].setdefault(epoch, []).append(row[column])
    return Result(
        variant,
        runs,
        {name: spread(scores) for name, scores in values.items()},
        study.costs.variants.get(variant.name, Cost()),
        spread([record.seconds for record in records]) if records else None,
        max((record.memory_mb for record in records if record.memory_mb is not None), default=None),
        {name: fmean(each[name] for each in errors) for name in (errors[0] if errors else ())},
        {name: curve for name, curve in curves.items() if curve},
        _mean_confusion([run.confusion for run in runs.values() if run.confusion]),
    )


def _mean_confusion(found: Sequence[Confusion]) -> Confusion | None:
    """Return the mean over seeds; those of other classes than the first's, which its data has, do not count."""
    same = [each.counts for each in found if each.classes == found[0].classes]
    return Confusion(found[0].classes, np.mean(same, axis=0)) if same else None


def _contrasts(study: Study, main: str, images: Images, pairs: Sequence[tuple[Variant, Variant]]) -> list[Contrast]:
    runs = [[study.done(variant.name) for variant in pair] for pair in pairs]
    differences = [_paired(*({s: r.scores for s, r in each.items()} for each in both)) for both in runs]
    learned = [any(run.scores.get(main) for each in both for run in each.values()) for both in runs]
    p = [found[main].p if main in found and some else None for found, some in zip(differences, learned, strict=True)]
    tested = [each for each in p if each is not None]
    corrected = iter(holm(tested))
    contrasts = []
    for (variant, against), both, found, own_p in zip(pairs, runs, differences, p, strict=True):
        classes = (
            {s: {name: of[main] for name, of in r.per_class.items() if main in of} for s, r in each.items()}
            for each in both
        )
        halves = {name: images.half(name, variant.name, against.name, d.by_seed) for name, d in found.items()}
        contrasts.append(
            Contrast(
                variant,
                against,
                found.get(main),
                found,
                _paired(*classes),
                {name: half for name, half in halves.items() if half is not None},
                images.disagreements(variant.name, against.name, list(found[main].by_seed if main in found else ())),
                None if own_p is None else next(corrected),
                len(tested),
            )
        )
    return contrasts


def _paired(
    ours: Mapping[int, Mapping[str, float]], theirs: Mapping[int, Mapping[str, float]]
) -> dict[str, Difference]:
    """Return the difference of each name that both have under a common seed."""
    names = dict.fromkeys(name for numbers in ours.values() for name in numbers)
    found = {
        name: difference(*({s: n[name] for s, n in each.items() if name in n} for each in (theirs, ours)))
        for name in names
    }
    return {name: each for name, each in found.items() if each}
