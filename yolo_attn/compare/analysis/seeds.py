"""Statistics over a few seeds: paired differences, their intervals, and how many seeds a difference takes.

The distributions are SciPy's; the correction for several verdicts is Holm's, A simple sequentially rejective multiple
test procedure, 1979.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy import stats

LEVEL = 0.05
"""How often, at most, a report on seeds fixed beforehand says gain or loss without any effect.

Intervals cover 1 - LEVEL.
"""

POWER = 0.8
"""How often the seeds of `seeds_needed` show the difference."""

MOST_SEEDS = 1000
"""The largest number that `seeds_needed` considers."""

SAME = 1e-12
"""Differences, as fractions of 1, with a smaller spread count as equal."""


@dataclass(frozen=True)
class Spread:
    """Numbers of several seeds: their mean and standard deviation (n - 1); None for one seed."""

    mean: float
    deviation: float | None


@dataclass(frozen=True)
class Difference:
    """The difference between two models, seed by seed.

    Attributes:
        by_seed: The difference under each common seed.
        mean: Their mean.
        deviation: Their standard deviation; None for one seed.
        half: Half of the 95 % t-interval around the mean; None without a spread.
        p: Two-sided p-value of the paired t-test; None without a spread.
    """

    by_seed: Mapping[int, float]
    mean: float
    deviation: float | None
    half: float | None
    p: float | None


def spread(values: Sequence[float]) -> Spread:
    """Return the mean and standard deviation of at least one number."""
    return Spread(fmean(values), stdev(values) if len(values) > 1 else None)


def difference(base: Mapping[int, float], variant: Mapping[int, float]) -> Difference | None:
    """Compare a variant's numbers with the base's, paired by seed; None without a common seed.

    The interval is mean ± t(0.975, n - 1) · s / √n, the p-value 2 · P(T > |mean| √n / s), with s the standard deviation
    of the n differences. One seed has no spread, nor have seeds with exactly the same difference: they give only the
    mean, except for 0 throughout, which is no difference at p = 1.
    """
    by_seed = {seed: variant[seed] - base[seed] for seed in base if seed in variant}
    if not by_seed:
        return None
    found = spread(list(by_seed.values()))
    if found.deviation is None:
        return Difference(by_seed, found.mean, None, None, None)
    if found.deviation < SAME:
        none = abs(found.mean) < SAME
        return Difference(by_seed, found.mean, 0.0, 0.0 if none else None, 1.0 if none else None)
    test = stats.ttest_rel([variant[seed] for seed in by_seed], [base[seed] for seed in by_seed])
    low, high = test.confidence_interval(1 - LEVEL)
    return Difference(by_seed, found.mean, found.deviation, float(high - low) / 2, float(test.pvalue))


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values with Holm's correction: tests below LEVEL err, all together, at most as often as LEVEL."""
    adjusted, highest = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = highest
    return adjusted


def seeds_needed(gain: float, deviation: float, verdicts: int = 1) -> int | None:
    """Return the least number of seeds that shows a gain with a probability of POWER.

    It is the least n with P(T > t(1 - LEVEL / (2 verdicts), n - 1)) ≥ POWER, T of n - 1 degrees of freedom and
    non-centrality gain · √n / deviation: the paired t-test at the strictest level that Holm's correction of so many
    verdicts has. It is at least 2, and None if MOST_SEEDS do not suffice.
    """

    def power(n: int) -> float:
        shift = gain * math.sqrt(n) / deviation
        return float(stats.nct.sf(stats.t.ppf(1 - LEVEL / (2 * verdicts), n - 1), n - 1, shift))

    enough = bisect_left(range(MOST_SEEDS + 1), POWER, lo=2, key=power)
    return enough if enough <= MOST_SEEDS else None


def largest_deviation(deviation: float, seeds: int) -> float:
    """Return the upper limit of the true spread at 80 % confidence: s · √((n - 1) / χ²(1 - 0.8, n - 1))."""
    return deviation * math.sqrt((seeds - 1) / float(stats.chi2.ppf(1 - 0.8, seeds - 1)))
