"""Variance, degrees of freedom and p, against scipy and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from siglip_study.ranking.variance import (
    Method,
    contrast_variance,
    holm,
    noise_of,
    one_sided_p,
    seed_noise,
    two_sided_p,
)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def test_without_seeds_it_is_the_one_sample_t_test(rng: np.random.Generator) -> None:
    x = rng.normal(0.3, 1.0, 25)
    variance, df = contrast_variance(x, None, ())
    expected = stats.ttest_1samp(x, 0)
    assert df == 24
    assert two_sided_p(x.mean(), variance, df, 3.0) == pytest.approx(expected.pvalue)
    greater = stats.ttest_1samp(x, 0, alternative="greater")
    assert one_sided_p(x.mean(), variance, df, 3.0) == pytest.approx(greater.pvalue)


def test_two_seeds_are_charged_the_mean_worked_by_hand() -> None:
    # Two projectors, two seeds, two groups. Seed means: A 1, 3; B 2, 2. v_A = 2, v_B = 0, v̄ = 1.
    y = np.array([[[0.0, 2.0], [2.0, 4.0]], [[2.0, 2.0], [2.0, 2.0]]])
    noise = seed_noise(y)
    assert noise.spread.tolist() == noise.own.tolist() == [2.0, 0.0]
    assert noise.least == 1.0
    delta = y[0].mean(axis=0) - y[1].mean(axis=0)  # [-1, 1]: variance 2, U_clip = 1
    variance, df = contrast_variance(delta, noise, (0, 1))
    # U_seed = (2 + 1) / 2 = 1.5. Weights 1.5 of v_A, .5 of v_B: one v alone, f = 1; the harmonic
    # mean with 2 is 4/3; f = 2.5² / (1²/1 + 1.5²/(4/3)).
    assert variance == pytest.approx(2.5)
    assert df == pytest.approx(6.25 / (1 + 2.25 / (4 / 3)))


def test_three_seeds_are_charged_the_floored_median_worked_by_hand() -> None:
    # Seed means −d, 0, d: v = d². Of 1, 4, 9, 100 the median is 6.5; χ²₀.₅(2) = 2 ln 2.
    spread = np.sqrt([1.0, 4.0, 9.0, 100.0])[:, None] * np.array([-1.0, 0.0, 1.0])
    noise = noise_of(spread, 0.0, 5)
    least = 6.5 * 2 / (2 * np.log(2))
    assert noise.least == pytest.approx(least)
    variance, df = contrast_variance(np.zeros(5), noise, (0, 3))
    assert variance == pytest.approx((least + 100) / 3)
    # The median's share has 4 · 2 / 2 degrees of freedom, the noisy one's own 2; at most G − 1.
    expected = (least + 100) ** 2 / (least**2 / 4 + 100**2 / 2)
    assert df == pytest.approx(expected)


def test_one_collapsed_projector_of_four_is_left_out_of_what_the_others_are_charged() -> None:
    spread = np.sqrt([1.0, 4.0, 9.0, 100.0])[:, None] * np.array([-1.0, 0.0, 1.0])
    telling = np.array([True, True, True, False])
    noise = replace(noise_of(spread, 0.0, 9), telling=telling)
    least = 4.0 * 2 / (2 * np.log(2))  # the median of 1, 4, 9
    assert noise.least == pytest.approx(least)
    variance, df = contrast_variance(np.zeros(9), noise, (0, 3))
    assert variance == pytest.approx((least + 100) / 3)
    # The median of three has 3 · 2 / 2 degrees of freedom.
    assert df == pytest.approx((least + 100) ** 2 / (least**2 / 3 + 100**2 / 2))


@pytest.mark.parametrize("method", ["floor", "mean"])
def test_where_more_than_a_quarter_collapse_all_are_charged_for_it(method: Method) -> None:
    spread = np.sqrt([1.0, 4.0, 100.0])[:, None] * np.array([-1.0, 0.0, 1.0])
    noise = noise_of(spread, 0.0, 9, method)
    apart = replace(noise, telling=np.array([True, True, False]))
    assert apart.least == noise.least
    assert contrast_variance(np.zeros(9), apart, (0, 1)) == contrast_variance(
        np.zeros(9), noise, (0, 1)
    )


def test_what_a_choice_by_halves_adds_is_added_for_both_members() -> None:
    noise = noise_of(np.zeros((3, 3)), 0.0, 5)
    delta = np.arange(5.0)
    plain, _ = contrast_variance(delta, noise, (0, 2))
    noise = replace(noise, choice=np.array([0.1, 0.2, 0.4]))
    charged, _ = contrast_variance(delta, noise, (0, 2))
    assert charged == pytest.approx(plain + 0.5)


def test_one_noisy_projector_does_not_move_what_the_others_are_charged() -> None:
    calm = np.ones((4, 1)) * np.array([-1.0, 0.0, 1.0])
    wild = calm * np.array([1.0, 1.0, 1.0, 100.0])[:, None]
    delta = np.arange(5.0)
    for member in ((0, 1), (0, 2)):
        alone = contrast_variance(delta, noise_of(calm, 0.0, 5), member)
        assert contrast_variance(delta, noise_of(wild, 0.0, 5), member) == alone


def test_corrected_takes_the_residual_mean_square_off() -> None:
    # No interaction: every seed shifts all groups alike, so nothing is taken off.
    shift = np.array([0.0, 1.0, 5.0])[:, None]
    pure = (np.arange(4.0)[None, :] + shift)[None]
    assert seed_noise(pure).own == pytest.approx(seed_noise(pure).spread)
    # Interaction only: over many draws the seed part is 0 on average, not σ²/G.
    noise = seed_noise(np.random.default_rng(0).normal(size=(4000, 1, 3, 20)))
    assert noise.spread.mean() == pytest.approx(1 / 20, rel=0.05)
    assert abs(noise.own.mean()) < 0.002


def test_no_variance_has_no_division_by_zero() -> None:
    zero = np.zeros(4)
    with np.errstate(all="raise"):
        p = two_sided_p([0.0, 1.0, -1.0, 1e-17], zero, np.full(4, 5.0), 1.0)
    assert p.tolist() == [1.0, 0.0, 0.0, 1.0]


def test_holm_by_hand(rng: np.random.Generator) -> None:
    # Sorted .005·4, .01·3, .03·2, .04·1 → .02, .03, .06, and .04 raised to .06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    # As multipletests(p, method="holm") of statsmodels 0.15.0.
    tied = [0.001, 0.001, 0.2, 0.5, 0.012, 0.013, 0.0499]
    assert holm(tied) == pytest.approx([0.007, 0.007, 0.4, 0.5, 0.06, 0.06, 0.1497])
    assert holm([]).shape == (0,)
    # The closed test it shortens: p of i is the largest Bonferroni p of any set that holds i.
    p = rng.uniform(size=5) ** 2
    subsets = [[i for i in range(5) if code >> i & 1] for code in range(1, 32)]
    for i, adjusted in enumerate(holm(p)):
        closed = max(len(s) * min(p[s]) for s in subsets if i in s)
        assert adjusted == pytest.approx(min(closed, 1.0))
    assert holm(np.stack([p, p[::-1]]))[1] == pytest.approx(holm(p)[::-1])


def test_degrees_of_freedom_never_fall_below_those_of_the_parts() -> None:
    # A far-off value in one seed makes v_p large, and what is taken off it nearly as large: the
    # formula alone gave less than one degree of freedom.
    rng = np.random.default_rng(0)
    y = rng.normal(size=(500, 4, 3, 20))
    y[np.arange(500), 0, 0, 0] += rng.uniform(0, 1e4, 500)
    noise = seed_noise(y)
    delta = (y[:, 2] - y[:, 3]).mean(axis=-2)
    _, df = contrast_variance(delta, noise, (2, 3))
    assert df.min() >= 2 - 1e-9
