"""What the validation images show of a comparison's runs: spread over resampled images, kinds of errors, objects."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from yolo_attn.compare.analysis.bootstrap import average_precisions, draw, resamples
from yolo_attn.compare.analysis.detections import match
from yolo_attn.compare.analysis.seeds import LEVEL
from yolo_attn.compare.study_folder import Study
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
        number: Number of images; 0 without ground truth.
        resamples: How often they were resampled.
        drawn: For each run, by variant and seed: by metric (resamples,) fractions of 1.
        errors: For each run its errors by TIDE's kinds, fractions of 1.
        objects: By class, the objects on the images.
        problems: What could not be used, and why, one line each.
    """

    number: int = 0
    resamples: int = 0
    drawn: Mapping[Key, Mapping[str, NDArray[np.float64]]] = field(default_factory=dict)
    errors: Mapping[Key, Mapping[str, float]] = field(default_factory=dict)
    objects: Mapping[str, int] = field(default_factory=dict)
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


def examine_images(study: Study) -> Images:
    """Compare the detections of all finished runs with the ground truth."""
    runs = [run for run in study.runs if run.done]
    if not runs or not study.truth.exists():
        return Images()
    kind = study.manifest.data.kind or "bbox"
    images, problems = Images(), []
    drawn: dict[Key, Mapping[str, NDArray[np.float64]]] = {}
    errors: dict[Key, Mapping[str, float]] = {}
    for run in runs:
        try:
            matches = match(study.truth, run.folder / "predictions.json", kind)
        except UserError as error:
            problems.append(str(error))
            continue
        if not images.number:
            images = Images(matches.images, resamples(matches.images), objects=matches.objects)
            counts = draw(images.number, images.resamples)
        found = average_precisions(matches, counts)
        unlike = next((n for n, s in run.scores.items() if n in found and not abs(found[n][0] - s) < CLOSE), None)
        if unlike is not None:
            problems.append(
                f"{run.folder / 'predictions.json'}: {unlike} is {100 * found[unlike][0]:.2f} by it, but "
                f"{100 * run.scores[unlike]:.2f} by metrics.json; skipped in the analysis of images and kinds of errors"
            )
            continue
        drawn[run.variant, run.seed] = {name: values[1:] for name, values in found.items()}
        errors[run.variant, run.seed] = matches.errors
    return Images(images.number, images.resamples, drawn, errors, images.objects, tuple(problems))
