"""What the validation images show of a comparison's runs: spread over resampled images, kinds of errors, objects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from yolo_attn.compare.analysis.answers import SCORES, Disagreement, Image, mcnemar, read_answers
from yolo_attn.compare.analysis.bootstrap import accuracies, average_precisions, draw, resamples
from yolo_attn.compare.analysis.detections import match
from yolo_attn.compare.analysis.seeds import LEVEL
from yolo_attn.compare.study_folder import COUNT, Run, Study, run_folder
from yolo_attn.errors import UserError

NORMAL = float(stats.norm.ppf(1 - LEVEL / 2))
"""Standard deviations within which a normal variable is 95 % of the time."""

CLOSE = 1e-4
"""Tolerance between a run's metrics and those that its predictions give."""

Key = tuple[str, int]


@dataclass(frozen=True)
class Images:
    """Results on the validation images.

    Attributes:
        number: Number of images; 0 if they were not analysed.
        resamples: How often they were resampled.
        drawn: For each run, by variant and seed: by metric (resamples,) fractions of 1.
        errors: For each run of detectors its errors by TIDE's kinds, fractions of 1.
        right: For each run of classifiers (images,) whether each image's best class is right.
        counts: By class, the number of its objects, or of its images for classifiers.
        problems: What could not be used, and why, one line each.
    """

    number: int = 0
    resamples: int = 0
    drawn: Mapping[Key, Mapping[str, NDArray[np.float64]]] = field(default_factory=dict)
    errors: Mapping[Key, Mapping[str, float]] = field(default_factory=dict)
    right: Mapping[Key, NDArray[np.bool_]] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def half(self, metric: str, variant: str, against: str, seeds: Mapping[int, float]) -> float | None:
        """Return half of the 95 % interval that the choice of images leaves open for a difference, averaged over seeds.

        It is 1.96 standard deviations of the mean difference over the resamples, both models on the same ones, without
        those on which the metric is undefined; None if it is unknown. Both models have all of the seeds.
        """
        pairs = [(self.drawn.get((variant, seed)), self.drawn.get((against, seed))) for seed in seeds]
        both = [(v[metric], b[metric]) for v, b in pairs if v and b and metric in v and metric in b]
        if not both or len(both) < len(pairs):
            return None
        mean = np.mean([v - b for v, b in both], axis=0)
        defined = mean[~np.isnan(mean)]
        return NORMAL * float(defined.std(ddof=1)) if len(defined) > 1 else None

    def disagreements(self, variant: str, against: str, seeds: Sequence[int]) -> dict[int, Disagreement]:
        """Return how two classifiers differ image by image under each seed of which that is known."""
        pairs = {seed: (self.right.get((variant, seed)), self.right.get((against, seed))) for seed in seeds}
        return {seed: mcnemar(ours, theirs) for seed, (ours, theirs) in pairs.items() if ours is not None is not theirs}


def examine_detections(study: Study, runs: Sequence[Run]) -> Images:
    """Compare the detections of finished runs with the ground truth."""
    if not runs:
        return Images()
    if not study.truth.exists():
        text = "There is no ground_truth.json, as the data is not in COCO format: the choice of images and the kinds of"
        return Images(problems=(f"{text} errors were not analysed.",))
    kind = study.manifest.data.kind or "bbox"
    images, problems = Images(), []
    drawn: dict[Key, Mapping[str, NDArray[np.float64]]] = {}
    errors: dict[Key, Mapping[str, float]] = {}
    for run in runs:
        file = run.folder / "predictions.json"
        try:
            matches = match(study.truth, file, kind)
        except UserError as error:
            problems.append(str(error))
            continue
        if not images.number:
            images = Images(matches.images, resamples(matches.images), counts=matches.objects)
            counts = draw(images.number, images.resamples)
        found = average_precisions(matches, counts)
        unlike = _unlike(file, run.scores, {name: values[0] for name, values in found.items()})
        if unlike:
            problems.append(unlike)
            continue
        drawn[run.variant, run.seed] = {name: values[1:] for name, values in found.items()}
        errors[run.variant, run.seed] = matches.errors
    return replace(images, drawn=drawn, errors=errors, problems=tuple(problems))


def examine_answers(study: Study, runs: Sequence[Run]) -> Images:
    """Compare the answers of classifiers, on the images that all finished runs have."""
    answers, problems = _answers(runs)
    counts = {name: int(of[COUNT]) for run in runs[:1] for name, of in run.per_class.items() if COUNT in of}
    if not answers:
        return Images(counts=counts, problems=tuple(problems))
    first, *others = answers
    common = sorted(set(answers[first]).intersection(*answers.values()))
    for key in others:
        differing = sorted(answers[key].keys() ^ answers[first].keys())
        if differing:
            files = [run_folder(study.folder, *each) / "predictions.json" for each in (key, first)]
            problems.append(
                f"{files[0]}: its images are not those of {files[1]}, first {differing[0][0]}; the choice of images is "
                f"analysed on the {len(common)} that all trainings have"
            )
    if not common:
        return Images(counts=counts, problems=tuple(problems))
    drawn_images = draw(len(common), resamples(len(common)))[1:]
    right = {key: np.array([of[image] for image in common]).T for key, of in answers.items()}
    drawn = {
        key: {name: accuracies(row, drawn_images) for name, row in zip(SCORES, rows, strict=True)}
        for key, rows in right.items()
    }
    return Images(
        len(common),
        len(drawn_images),
        drawn,
        right={key: rows[0] for key, rows in right.items()},
        counts=counts,
        problems=tuple(problems),
    )


def _answers(runs: Sequence[Run]) -> tuple[dict[Key, dict[Image, tuple[bool, bool]]], list[str]]:
    """Return the answers of each run that can be used, and why others cannot."""
    answers: dict[Key, dict[Image, tuple[bool, bool]]] = {}
    problems: list[str] = []
    for run in runs:
        file = run.folder / "predictions.json"
        try:
            found = read_answers(file)
        except UserError as error:
            problems.append(str(error))
            continue
        shares = np.mean(list(found.values()), axis=0)
        unlike = _unlike(file, run.scores, dict(zip(SCORES, shares.tolist(), strict=True)))
        if unlike:
            problems.append(unlike)
        else:
            answers[run.variant, run.seed] = found
    return answers, problems


def _unlike(file: Path, stated: Mapping[str, float], found: Mapping[str, float]) -> str | None:
    """Return why a run's predictions cannot be used: they give other scores than its metrics.json states."""
    name = next((n for n, score in stated.items() if n in found and not abs(found[n] - score) < CLOSE), None)
    if name is None:
        return None
    both = f"{100 * found[name]:.2f} by it, but {100 * stated[name]:.2f} by metrics.json"
    return f"{file}: {name} is {both}; skipped in the analysis of images"
