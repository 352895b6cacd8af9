"""What the validation images tell of a comparison's runs: spread over resampled images, kinds of errors, objects."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from yolo_attn.compare.analysis.bootstrap import average_precisions, draw, resamples
from yolo_attn.compare.analysis.detections import match
from yolo_attn.compare.analysis.seeds import LEVEL
from yolo_attn.compare.study import Run, Study
from yolo_attn.errors import UserError

NORMAL = float(stats.norm.ppf(1 - LEVEL / 2))
"""What a normal number stays within, in standard deviations, 95 % of the time."""

CLOSE = 1e-4
"""How far a run's numbers may be from those that its predictions give."""

Key = tuple[str, int]


@dataclass(frozen=True)
class Images:
    """What was found on the validation images.

    Attributes:
        number: Images; 0 where there is no ground truth to hold detections against.
        resamples: How often they were drawn anew.
        drawn: For each run, by its variant and seed: by metric (resamples,) fractions of 1.
        errors: For each run its errors by TIDE's kinds, fractions of 1.
        objects: By class, objects on the images.
        problems: What could not be used, and why, a line each.
    """

    number: int = 0
    resamples: int = 0
    drawn: Mapping[Key, Mapping[str, NDArray[np.float64]]] = field(default_factory=dict)
    errors: Mapping[Key, Mapping[str, float]] = field(default_factory=dict)
    objects: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def half(self, metric: str, variant: str, against: str, seeds: Mapping[int, float]) -> float | None:
        """Half of the 95 % interval of a difference, averaged over seeds, that the choice of images leaves open.

        It is 1.96 standard deviations of the mean difference over the resamples, both models on the same ones; those
        in which the metric is not defined are left out.

        Args:
            metric: Name of the metric.
            variant: Name of the variant.
            against: Name of what it is held against.
            seeds: Seeds that both have.

        Returns:
            None where it is not known.
        """
        pairs = [(self.drawn.get((variant, seed)), self.drawn.get((against, seed))) for seed in seeds]
        both = [(v[metric], b[metric]) for v, b in pairs if v and b and metric in v and metric in b]
        if not both or len(both) < len(pairs):
            return None
        mean = np.mean([v - b for v, b in both], axis=0)
        defined = mean[~np.isnan(mean)]
        return NORMAL * float(defined.std(ddof=1)) if len(defined) > 1 else None


def look(study: Study) -> Images:
    """Hold the detections of all finished runs against the ground truth."""
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
        problem = _unlike(run, found)
        if problem:
            problems.append(problem)
            continue
        drawn[run.variant, run.seed] = {name: values[1:] for name, values in found.items()}
        errors[run.variant, run.seed] = matches.errors
    return Images(images.number, images.resamples, drawn, errors, images.objects, tuple(problems))


def _unlike(run: Run, found: Mapping[str, NDArray[np.float64]]) -> str | None:
    """Tell of predictions that give other numbers than the run has."""
    for name, score in run.scores.items():
        if name in found and not abs(found[name][0] - score) < CLOSE:
            return (
                f"{run.folder / 'predictions.json'}: {name} is {100 * found[name][0]:.2f} by it and {100 * score:.2f} "
                f"by metrics.json; left out where images and kinds of errors are looked at"
            )
    return None
