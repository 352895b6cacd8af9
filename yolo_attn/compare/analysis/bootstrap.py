"""The bootstrap over validation images: AP, or the accuracy of classifiers, on resampled images.

A resample draws as many images as there are, with repetition (Efron, Bootstrap methods, 1979). Its AP is COCO's of a
set that has an image as often as it was drawn: matches within an image stay the same, so only the ranking of all
detections by score is computed again, each detection counted as often as its image.
"""

import numpy as np
from numpy.typing import NDArray

from yolo_attn.compare.analysis.detections import Group, Matches

RECALLS = np.linspace(0, 1, 101)
"""Recalls at which COCO reads precision."""

MOST, LEAST = 1000, 200
"""Resamples of small and of large sets. The spread over B resamples has a relative error of 1/√(2B): 2.2 % and 5 %."""

DRAWN = 1_000_000
"""Images drawn in all, above which there are fewer resamples."""

BLOCK = 50
"""Resamples computed at once."""

SEED = 0


def resamples(images: int) -> int:
    """Return the number of resamples for a set of images."""
    return min(MOST, max(LEAST, DRAWN // images))


def draw(images: int, number: int) -> NDArray[np.int32]:
    """Draw resamples, the same ones every time: (1 + number, images) how often each has each image, first the set."""
    drawn = np.random.default_rng(SEED).multinomial(images, np.full(images, 1 / images), size=number)
    return np.concatenate([np.ones((1, images)), drawn]).astype(np.int32)


def accuracies(right: NDArray[np.bool_], drawn: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return (B,) shares of images that are right, (images,), of resamples as `average_precisions` takes them."""
    return (drawn @ right.astype(np.int32)) / len(right)


def average_precisions(matches: Matches, drawn: NDArray[np.int32]) -> dict[str, NDArray[np.float64]]:
    """Return COCO's average precisions of resamples that `drawn` has, (B, images) how often each has each image.

    By the metric's name (B,) fractions of 1; NaN where COCO defines none.
    """
    blocks = [np.ascontiguousarray(drawn[start : start + BLOCK].T) for start in range(0, len(drawn), BLOCK)]
    parts = [_of_block(matches, block) for block in blocks]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _of_block(matches: Matches, counts: NDArray[np.int32]) -> dict[str, NDArray[np.float64]]:
    found = {
        area: np.stack([_precision(group, counts) for group in groups.values()])
        for area, groups in matches.groups.items()
        if groups
    }
    undefined = np.full((1, 1, counts.shape[1]), np.nan)
    chosen = {metric.name: (found.get(metric.area, undefined), metric.threshold) for metric in matches.metrics}
    return {
        name: np.ma.masked_invalid(values if threshold is None else values[:, [threshold]]).mean((0, 1)).filled(np.nan)
        for name, (values, threshold) in chosen.items()
    }


def _precision(group: Group, counts: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return (T, B) average precision of a category at each IoU threshold; NaN in resamples without its objects."""
    weights = counts[group.image]
    truths = counts[group.truth_image].sum(0, dtype=np.int32)
    needed = _needed(truths)
    result = np.zeros((len(group.right), counts.shape[1]))
    for t, (right, counted) in enumerate(zip(group.right, group.counted, strict=True)):
        if t == 0 or not np.array_equal(counted, group.counted[t - 1]):
            so_far = weights[counted].cumsum(0, dtype=np.int32)
        hits = weights[right].cumsum(0, dtype=np.int32)
        if len(hits):
            result[t] = _interpolated(hits, so_far[right[counted]], needed, truths)
    result[:, truths == 0] = np.nan
    return result


def _needed(truths: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return (B, 101) hits that reach each recall, in COCO's floating point: the least n with n / truths ≥ recall."""
    total = np.maximum(truths, 1)[:, None]
    needed = np.ceil(RECALLS * total)
    needed -= (needed - 1) / total >= RECALLS
    needed += needed / total < RECALLS
    return needed.astype(np.int64)


def _interpolated(
    hits: NDArray[np.int32], so_far: NDArray[np.int32], needed: NDArray[np.int64], truths: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Return (B,) the mean over recalls of the highest precision at that recall or above.

    Precision rises within the copies of a hit and falls within those of an error, so the ends of the hits suffice.

    Args:
        hits: (P, B) right detections up to each right one.
        so_far: (P, B) counted detections up to it.
        needed: (B, 101) hits that reach each recall.
        truths: (B,) objects.
    """
    precision = hits / np.maximum(so_far, 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    apart = (np.arange(len(truths)) * (int(truths.max()) + 1))[:, None]  # one search for all resamples
    first = np.searchsorted((hits.T + apart).ravel(), (needed + apart).ravel()).reshape(needed.shape)
    first -= (np.arange(len(truths)) * len(hits))[:, None]
    reached = np.concatenate([highest, np.zeros((1, len(truths)))])[first, np.arange(len(truths))[:, None]]
    return reached.mean(1)
