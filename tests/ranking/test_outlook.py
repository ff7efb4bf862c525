"""What a claim is worth and what more seeds buy: against simulation, scipy, brute force."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from siglip_study.metrics.grounding import proportion_interval
from siglip_study.ranking.outlook import (
    PairPlan,
    chance_best,
    excluded_failure_rate,
    overlap_bars,
    shrunken,
)
from siglip_study.ranking.pairs import pair_arrays
from siglip_study.ranking.variance import noise_of, seed_noise

#: Two pairs of four projectors, the last with ten times the seed noise of the others.
STEADY = PairPlan(
    (0, 1), (0.01, 0.01, 0.01, 1.0), (0.1,) * 4, kept=0.4, n_groups=60, n_seeds=3, alpha=0.05
)
NOISY = replace(STEADY, members=(0, 3))


def test_power_grows_with_seeds_clips_and_the_difference():
    for plan, d in ((STEADY, 0.3), (NOISY, 2.0)):
        assert plan.power(d) < plan.power(d, n_seeds=5) < plan.power(d, n_seeds=9)
        assert plan.power(d) < plan.power(2 * d)
    assert STEADY.power(0.3) < STEADY.power(0.3, times_clips=4)
    # More clips do nothing for seeds that swing.
    assert NOISY.power(2.0, times_clips=4) < NOISY.power(2.0) + 0.02
    assert STEADY.power(0.0) < 0.05 / 6


def test_the_seeds_needed_are_the_fewest():
    seeds = STEADY.seeds_needed(0.35)
    assert seeds > 4 and STEADY.power(0.35, seeds - 1) < 0.8 <= STEADY.power(0.35, seeds)
    still = replace(STEADY, seed=(0.001,) * 4)
    groups = still.groups_needed(0.3)
    assert still.power(0.3, times_clips=(groups - 1) / 60) < 0.8
    assert still.power(0.3, times_clips=groups / 60) >= 0.8
    assert NOISY.seeds_needed(0.1) is None and NOISY.groups_needed(0.5) is None


def test_a_third_seed_frees_a_pair_from_a_noisy_neighbour():
    means = np.array([[-0.1, 0.1], [-0.1, 0.1], [-0.1, 0.1], [-5.0, 5.0]])
    delta = np.random.default_rng(0).normal(1.0, 1.0, 60)
    plan = PairPlan.of(delta, noise_of(means, 0.0, 60), (0, 1), 0.05)
    assert plan.seed == pytest.approx((0.02, 0.02, 0.02, 50.0))
    # With two seeds the mean of all is charged, 12.5; from three on the median.
    assert plan.power(1.0) < 0.05 and plan.power(1.0, n_seeds=3) > 0.5


def test_a_plan_holds_the_variances_of_the_study_it_is_of():
    rng = np.random.default_rng(1)
    sds, again, kept = np.array([0.1, 0.1, 0.4]), 0.5, 0.3
    y = sds[:, None, None] * rng.standard_normal((3, 400, 1))
    y = y + np.sqrt(kept / 2) * rng.standard_normal((3, 1, 900))
    y += np.sqrt(again) * rng.standard_normal((3, 400, 900))
    plan = PairPlan.of(y[0].mean(0) - y[2].mean(0), seed_noise(y), (0, 2), 0.05)
    assert plan.seed == pytest.approx(sds**2, rel=0.25)
    assert plan.again == pytest.approx([again] * 3, rel=0.02)
    assert plan.kept == pytest.approx(kept, rel=0.2)
    assert (plan.n_seeds, plan.n_groups, plan.n_pairs) == (400, 900, 3)


def claimed(plan: PairPlan, difference: float, studies: int, seed: int) -> np.ndarray:
    """Simulated studies ``[N, P, S, G]`` in which the pair differs so, as the plan has them."""
    rng = np.random.default_rng(seed)
    p, s, g = len(plan.seed), plan.n_seeds, plan.n_groups
    y = np.sqrt(plan.kept / 2) * rng.standard_normal((studies, p, 1, g))
    y = y + np.sqrt(plan.again)[:, None, None] * rng.standard_normal((studies, p, s, g))
    y += np.sqrt(plan.seed)[:, None, None] * rng.standard_normal((studies, p, s, 1))
    y[:, plan.members[0]] += difference
    return y


@pytest.mark.parametrize("members", [(0, 1), (0, 3), (2, 3)])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_what_is_promised_at_unequal_noise_is_kept(members, seeds):
    plan = replace(STEADY, members=members, n_seeds=seeds, n_groups=40)
    for difference in (0.4, 1.2, 2.4):
        y = claimed(plan, difference, 1500, seed=seeds)
        tests = pair_arrays(y, seed_noise(y))
        place = list(combinations(range(4), 2)).index(members)
        strictest = tests.p[:, place] <= plan.alpha / plan.n_pairs
        found = (strictest & (tests.difference[:, place] > 0)).mean()
        assert plan.power(difference) == pytest.approx(found, abs=0.04)


@pytest.mark.parametrize("members", [(0, 1), (0, 3)])
def test_studies_promise_on_average_what_studies_like_them_keep(members):
    truth = replace(STEADY, members=members, n_groups=40)
    difference = {(0, 1): 0.6, (0, 3): 2.4}[members]
    promised = []
    for y in claimed(truth, difference, 60, seed=7):
        delta = y[members[0]].mean(axis=0) - y[members[1]].mean(axis=0)
        promised.append(PairPlan.of(delta, seed_noise(y), members, 0.05).power(difference))
    # One study knows its noise badly; many of them do not err to one side by much.
    assert np.mean(promised) == pytest.approx(truth.power(difference), abs=0.12)


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
