"""What a claim is worth and what more seeds buy: against simulation, scipy, brute force."""

import numpy as np
import pytest
from scipy import stats

from siglip_study.metrics.grounding import proportion_interval
from siglip_study.ranking.outlook import (
    PairPlan,
    SeedCharge,
    chance_best,
    excluded_failure_rate,
    overlap_bars,
    shrunken,
)
from siglip_study.ranking.variance import noise_of

CHARGE = SeedCharge(0.03, 4)
PLAN = PairPlan(0.01, CHARGE, CHARGE, n_groups=60, n_seeds=3, n_pairs=6, alpha=0.05)


def test_power_grows_with_seeds_clips_and_the_difference():
    assert PLAN.power(0.3) < PLAN.power(0.3, n_seeds=5) < PLAN.power(0.3, n_seeds=9)
    assert PLAN.power(0.3) < PLAN.power(0.3, times_clips=4)
    assert PLAN.power(0.0) == pytest.approx(0.05 / 12)
    assert PLAN.power(0.3) < PLAN.power(0.6)


def test_the_seeds_needed_are_the_fewest():
    seeds = PLAN.seeds_needed(0.4)
    assert PLAN.power(0.4, seeds - 1) < 0.8 <= PLAN.power(0.4, seeds)
    groups = PLAN.groups_needed(0.5)
    assert PLAN.power(0.5, times_clips=(groups - 1) / 60) < 0.8
    assert PLAN.power(0.5, times_clips=groups / 60) >= 0.8
    assert PLAN.seeds_needed(0.05) is None and PLAN.groups_needed(0.2) is None


def test_a_third_seed_frees_a_pair_from_a_noisy_neighbour():
    means = np.array([[-0.1, 0.1], [-0.1, 0.1], [-0.1, 0.1], [-5.0, 5.0]])
    delta = np.random.default_rng(0).normal(1.0, 1.0, 60)
    plan = PairPlan.of(delta, noise_of(means, 0.0, 60), (0, 1), 6, 0.05)
    # Variances .02 and 50: their mean 12.5 is charged twice; the median, over .4549, with three.
    assert plan.charged.variance == pytest.approx(2 * (3 * 0.02 + 50) / 4)
    assert plan.planned.variance == pytest.approx(2 * 0.02 / stats.chi2.ppf(0.5, 1))
    assert plan.power(1.0) < 0.05 and plan.seeds_needed(1.0) == 3


@pytest.mark.parametrize("true", [0.5, 1.5, 3.0])
def test_claimed_differences_shrink_to_the_truth_of_which_they_are_the_mean(true):
    d = np.random.default_rng(0).normal(true, 1.0, 2_000_000)
    claimed = d[np.abs(d) > 2.5].mean()
    assert claimed > true
    assert shrunken(claimed, 1.0, 2.5) == pytest.approx(true, abs=0.03)
    assert shrunken(-claimed, 1.0, 2.5) == -shrunken(claimed, 1.0, 2.5)


def test_bars_overlap_exactly_where_nothing_is_claimed():
    means, errors = np.array([0.5, 0.42, 0.40, 0.1]), np.array([0.02, 0.03, 0.02, 0.05])
    pairs = [(a, b) for a in range(4) for b in range(a + 1, 4)]
    d = np.array([means[a] - means[b] for a, b in pairs])
    claimed = np.array([False, True, True, False, True, True])
    bars = overlap_bars(d, claimed, errors)
    for (a, b), gap, told in zip(pairs, d, claimed, strict=True):
        assert (bars[a] + bars[b] < gap) == told


def test_claims_that_no_bars_can_show_have_none():
    # Small gaps claimed, larger ones not: w0 + w1 < .1, w2 + w3 < .1, yet w0 + w2 and w1 + w3 ≥ .2.
    d = np.array([0.1, 0.2, 0.3, 0.1, 0.2, 0.1])
    claimed = np.array([True, False, False, False, False, True])
    assert overlap_bars(d, claimed, np.full(4, 0.02)) is None


def test_wilson_s_interval_is_that_of_scipy():
    p, n = 59 / 60, 60
    expected = stats.binomtest(59, n).proportion_ci(method="wilson")
    found = proportion_interval(p, p * (1 - p) / n, n, df=10**9)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-6)
    # All right: n / (n + z²).
    low, high = proportion_interval(1.0, 0.0, n, df=10**9)
    assert (low, high) == pytest.approx((60 / (60 + stats.norm.ppf(0.975) ** 2), 1.0))


def test_three_sound_seeds_exclude_no_rate_under_63_percent():
    assert excluded_failure_rate(3) == pytest.approx(0.6316, abs=1e-4)
    # The rate at which as many sound runs have probability alpha.
    assert (1 - excluded_failure_rate(5)) ** 5 == pytest.approx(0.05)


def test_a_chosen_cell_is_the_best_as_probably_as_shrunken_means_say():
    means, variance = [0.5, 0.3, 0.1, 0.0], 0.01
    beyond = np.var(means, ddof=1) - variance
    kept = beyond / (beyond + variance)
    draws = kept * np.array(means) + np.sqrt(kept * variance) * np.random.default_rng(
        0
    ).standard_normal((400_000, 4))
    assert chance_best(means, variance) == pytest.approx((draws.argmax(1) == 0).mean(), abs=0.003)


def test_cells_that_vary_no_more_than_seeds_do_are_chosen_by_chance():
    assert chance_best([0.51, 0.5, 0.5, 0.49], 0.01) == 0.25
    assert chance_best([0.5], 0.01) == chance_best([0.5, 0.4], 0.0) == 1.0
