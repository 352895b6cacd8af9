"""What the trainings of a comparison are scored by: COCO's AP, a classifier's accuracy, or Ultralytics' own metrics."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from yolo_attn.compare.analysis.images import Images, examine_answers, examine_detections
from yolo_attn.compare.study_folder import Run, Study


@dataclass(frozen=True)
class Scoring:
    """What the models of a comparison are scored by.

    Attributes:
        main: The score that verdicts are about, by its name in metrics.json.
        curves: Columns of results.csv whose learning curves are drawn, by what the report calls them.
        labels: What the report calls scores, by their names in metrics.json; others keep those.
        counted: What there is a number of for each class.
        examine: Analyses the finished runs image by image.
    """

    main: str
    curves: Mapping[str, str]
    labels: Mapping[str, str] = field(default_factory=dict)
    counted: str = "objects"
    examine: Callable[[Study, Sequence[Run]], Images] = examine_detections

    def label(self, score: str) -> str:
        """Return what the report calls a score."""
        return self.labels.get(score, score)


COCO = Scoring("AP", {"AP": "metrics/COCO_AP"})

CLASSIFIERS = Scoring(
    "accuracy_top1",
    {"top-1 accuracy": "metrics/accuracy_top1", "training loss": "train/loss", "validation loss": "val/loss"},
    {"accuracy_top1": "top-1 accuracy", "accuracy_top5": "top-5 accuracy"},
    "images",
    examine_answers,
)

OWN = "mAP50-95"
"""How Ultralytics' main metrics begin; a task with two of them, as boxes and masks, has its own last."""


def scoring_of(study: Study, scores: Sequence[str]) -> Scoring:
    """Return what a comparison is scored by, given the names of its scores; by its data if it has none yet."""
    known = next((each for each in (COCO, CLASSIFIERS) if each.main in scores), None)
    if known or not scores:
        return known or (CLASSIFIERS if study.manifest.data.kind == "classify" else COCO)
    main = [scores[0], *(name for name in scores if name.startswith(OWN))][-1]
    return Scoring(main, {main: f"metrics/{main}"})
