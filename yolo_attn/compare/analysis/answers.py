"""What classifiers answered, image by image, and McNemar's test of two of them.

The test is McNemar's, Note on the sampling error of the difference between correlated proportions or percentages, 1947,
in its exact form: SciPy's binomial test.
"""

from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from yolo_attn.compare.study_folder import read_json
from yolo_attn.errors import UserError

SCORES = ("accuracy_top1", "accuracy_top5")
"""Scores of an answer: whether the image's class is the best, and whether it is among the best five."""

Image = tuple[str, str]
"""An image by its path below the split's folder, and its class."""


class _Answer(msgspec.Struct, rename={"actual": "class"}):
    image: str
    actual: str
    top: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]


class Disagreement(NamedTuple):
    """How two classifiers differ on the same images.

    Attributes:
        gained: Images that only the variant has right.
        lost: Images that only the other has right.
        p: Two-sided p-value of the exact McNemar test: how often a fair coin would divide these images as unevenly.
    """

    gained: int
    lost: int
    p: float


def read_answers(file: Path) -> dict[Image, tuple[bool, bool]]:
    """Return the SCORES of each answer in a classifier's predictions.json.

    Raises:
        UserError: If the file cannot be read, has no image, or has one twice.
    """
    answers = read_json(file, list[_Answer])
    found = {(each.image, each.actual): (each.actual == each.top[0], each.actual in each.top[:5]) for each in answers}
    if not found or len(found) < len(answers):
        raise UserError(f"{file}: it has {'an image twice' if found else 'no image'}; expected each image once")
    return found


def mcnemar(variant: NDArray[np.bool_], against: NDArray[np.bool_]) -> Disagreement:
    """Compare two classifiers by which of the same images, (images,), each has right.

    p is 2 · P(X ≤ min(gained, lost)), at most 1, X binomial with gained + lost trials of probability 1/2.
    """
    gained, lost = int((variant & ~against).sum()), int((against & ~variant).sum())
    p = float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    return Disagreement(gained, lost, p)
