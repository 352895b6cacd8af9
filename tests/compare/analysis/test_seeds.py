"""Statistics over seeds against their formulas, and how often verdicts are right on drawn results."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from studies import study_in_memory, write_study

from yolo_attn.compare.analysis.seeds import (
    LEVEL,
    POWER,
    difference,
    holm,
    largest_deviation,
    seeds_needed,
    spread,
)
from yolo_attn.compare.analysis.verdicts import GAIN, LOSS, NO_EVIDENCE, NO_VERDICT, results_of
from yolo_attn.compare.report.writer import write_report

DRAWS = 4000
SPREAD = 0.006
"""Standard deviation of the part of a seed's AP that base and variant do not share."""


def within(found, draws, rate):
    """Whether a count agrees with a rate, wrong once in ten thousand tests."""
    low, high = stats.binom.ppf([0.00005, 0.99995], draws, rate)
    return low <= found <= high


def drawn_scores(rng, seeds, gain=0.0):
    """AP of a base and a variant by seed; they share a part of each seed's luck."""
    shared = rng.normal(0.35, 0.01, seeds)
    base, variant = shared + rng.normal(0, SPREAD, (2, seeds)) / np.sqrt(2)
    return dict(enumerate(base)), dict(enumerate(variant + gain))


@pytest.mark.parametrize("seeds", [2, 3, 5, 20])
def test_the_true_spread_is_below_the_largest_as_often_as_its_level_says(seeds):
    measured = np.random.default_rng(seeds).normal(0, SPREAD, (DRAWS, seeds)).std(1, ddof=1)
    covered = sum(largest_deviation(each, seeds) >= SPREAD for each in measured)
    assert within(covered, DRAWS, 0.8)


@pytest.mark.parametrize("seeds", [2, 3, 5, 20])
def test_a_difference_has_the_mean_the_interval_and_the_p_of_its_formula(seeds):
    base, variant = drawn_scores(np.random.default_rng(seeds), seeds, gain=0.004)
    each = np.array(list(variant.values())) - list(base.values())
    error = each.std(ddof=1) / np.sqrt(seeds)
    found = difference(base, variant)
    assert found.mean == pytest.approx(each.mean(), rel=1e-9)
    assert found.half == pytest.approx(stats.t.ppf(0.975, seeds - 1) * error, rel=1e-9)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(each.mean()) / error, seeds - 1), rel=1e-9)
    assert spread(list(base.values())).deviation == pytest.approx(np.std(list(base.values()), ddof=1))


def test_differences_are_of_the_seeds_that_both_have():
    found = difference({0: 0.1, 1: 0.2, 2: 0.3, 7: 0.9}, {1: 0.25, 2: 0.37, 3: 0.5, 0: 0.11})
    assert found.by_seed == pytest.approx({0: 0.01, 1: 0.05, 2: 0.07})
    assert difference({0: 0.1}, {1: 0.1}) is None


def test_without_spread_only_equal_numbers_have_a_p_value():
    alone = difference({3: 0.1}, {3: 0.4})
    assert (alone.mean, alone.deviation, alone.half, alone.p) == (pytest.approx(0.3), None, None, None)
    alike = difference({0: 0.1, 1: 0.2}, {0: 0.3, 1: 0.4})
    assert (alike.deviation, alike.half, alike.p) == (0, None, None)
    same = difference({0: 0.1, 1: 0.2}, {0: 0.1, 1: 0.2})
    assert (same.mean, same.half, same.p) == (0, 0, 1)


@given(st.lists(st.floats(0, 1), max_size=7))
def test_holm_rejects_as_its_step_down_does(p):
    """By the definition: the k-th smallest of m is rejected if it and all before it are below LEVEL / (m - k + 1)."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    rejected = set(itertools.takewhile(lambda i: p[i] * (len(p) - order.index(i)) < LEVEL, order))
    assert {i for i, each in enumerate(holm(p)) if each < LEVEL} == rejected
    assert all(adjusted >= own for adjusted, own in zip(holm(p), p, strict=True))


def test_holms_p_values():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.integration
@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_cover_the_truth_as_often_as_they_say(seeds):
    rng, truth = np.random.default_rng(seeds), 0.004
    found = [difference(*drawn_scores(rng, seeds, truth)) for _ in range(DRAWS)]
    covered = sum(abs(each.mean - truth) <= each.half for each in found)
    false = sum(each.p < LEVEL for each in (difference(*drawn_scores(rng, seeds)) for _ in range(DRAWS)))
    print(f"{seeds} seeds: intervals cover {covered / DRAWS:.2%}, a null difference has p < 0.05 {false / DRAWS:.2%}")
    assert within(covered, DRAWS, 1 - LEVEL)
    assert within(false, DRAWS, LEVEL)


@pytest.mark.parametrize(("looks", "rate"), [((3, 5), 0.09), (range(3, 11), 0.17)])
def test_seeds_added_after_a_result_err_as_often_as_the_report_says(looks, rate, tmp_path):
    differences = np.random.default_rng(0).normal(size=(100_000, max(looks)))
    p = [stats.ttest_1samp(differences[:, :n], 0, axis=1).pvalue for n in looks]
    assert np.mean(np.min(p, axis=0) < LEVEL) == pytest.approx(rate, abs=0.005)
    page = write_report(write_study(tmp_path, {"base": {0: 0.3}, "a": {0: 0.3}})).page
    assert f"in {100 * rate:.0f} %" in page.read_text(encoding="utf-8")


@pytest.mark.integration
@pytest.mark.parametrize("seeds", [3, 5])
def test_reports_without_an_effect_say_gain_or_loss_at_most_one_time_in_twenty(seeds):
    """Comparisons of three variants without effect: one base and one correction for all."""
    rng, draws, wrong, by_chance = np.random.default_rng(seeds), 400, 0, 0
    for _ in range(draws):
        shared = rng.normal(0.35, 0.01, seeds)
        scores = {v: dict(enumerate(shared + rng.normal(0, SPREAD, seeds))) for v in ("base", "a", "b", "c")}
        contrasts = results_of(study_in_memory(scores)).contrasts
        assert {each.verdict for each in contrasts} <= {GAIN, LOSS, NO_EVIDENCE}
        wrong += any(each.verdict != NO_EVIDENCE for each in contrasts)
        by_chance += any(each.main.p < LEVEL for each in contrasts)
    rates = f"{wrong / draws:.2%}, uncorrected {by_chance / draws:.2%}"
    print(f"{seeds} seeds, three null variants: reports that say gain or loss {rates}")
    assert wrong <= stats.binom.ppf(0.9999, draws, LEVEL)
    assert by_chance > wrong


@pytest.mark.parametrize("seeds", [3, 5])
def test_reports_distinguish_a_gain_a_loss_and_no_effect(seeds):
    rng, verdicts = np.random.default_rng(seeds), {"better": [], "worse": [], "same": []}
    for _ in range(200):
        shared = rng.normal(0.35, 0.01, seeds)
        shifts = {"base": 0, "better": 12 * SPREAD, "worse": -12 * SPREAD, "same": 0}
        scores = {v: dict(enumerate(shared + shift + rng.normal(0, SPREAD, seeds))) for v, shift in shifts.items()}
        for each in results_of(study_in_memory(scores)).contrasts:
            verdicts[each.variant.name].append(each.verdict)
    assert verdicts["better"].count(GAIN) > 0.8 * 200
    assert verdicts["worse"].count(LOSS) > 0.8 * 200
    assert verdicts["better"].count(LOSS) + verdicts["worse"].count(GAIN) == 0
    assert verdicts["same"].count(NO_EVIDENCE) > 0.9 * 200


@pytest.mark.parametrize("deviation", [0.001, 0.003, 0.005, 0.012])
@pytest.mark.parametrize("verdicts", [1, 4])
def test_the_seeds_that_are_needed_are_the_fewest_with_that_power(deviation, verdicts):
    def power(n):
        return stats.nct.sf(stats.t.ppf(1 - LEVEL / 2 / verdicts, n - 1), n - 1, 0.005 / deviation * np.sqrt(n))

    needed = seeds_needed(0.005, deviation, verdicts)
    assert power(needed) >= POWER
    assert needed == 2 or power(needed - 1) < POWER
    differences = np.random.default_rng(0).normal(0.005, deviation, (DRAWS, needed))
    found = stats.ttest_1samp(differences, 0, axis=1)
    seen = (found.pvalue < LEVEL / verdicts) & (found.statistic > 0)
    assert within(seen.sum(), DRAWS, power(needed))


def test_too_many_seeds_to_need_are_not_counted():
    assert seeds_needed(0.005, 0.0001) == 2
    assert seeds_needed(0.005, 0.05) is not None
    assert seeds_needed(0.005, 0.2) is None


def test_a_verdict_is_about_common_seeds_and_needs_two(tmp_path):
    scores = {
        "base": {0: 0.3, 1: 0.31, 2: 0.29},
        "a": {0: 0.4, 1: 0.41, 2: None},
        "b": {0: 0.5, 1: None, 2: "it broke"},
    }
    a, b = results_of(write_study(tmp_path, scores)).contrasts
    assert sorted(a.main.by_seed) == [0, 1]
    assert a.verdict == NO_VERDICT  # both seeds are 0.1 above the base
    assert (b.verdict, b.main.half, b.p) == (NO_VERDICT, None, None)
    assert b.needed() is None
