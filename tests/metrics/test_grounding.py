"""Grounding: against least squares by numpy, and the properties that make D hard to fool."""

import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from siglip_study.base.errors import StudyError
from siglip_study.metrics.grounding import (
    auc,
    auc_within,
    bits,
    fit_temperature,
    grounding_margin,
    grounding_margin_within,
    mean_interval,
    means_by_group,
    standardised_margin,
    standardised_margin_within,
)


def random_scores(seed: int, n: int, own: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    hubs = rng.normal(size=n)[:, None] * 0.1 + rng.normal(size=n)[None, :] * 0.2
    return hubs + rng.normal(size=(n, n)) * 0.05 + own * np.eye(n)


def additive(seed: int, n: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=n)[:, None] + rng.normal(size=n)[None, :]


def least_squares_margin(scores: np.ndarray, spoken: np.ndarray) -> np.ndarray:
    """D by a dense least-squares fit of caption and clip effects to the off-diagonal cells."""
    n = len(scores)
    cells = [(i, j) for i in spoken for j in range(n) if i != j]
    design = np.zeros((len(cells), 1 + 2 * n))
    for row, (i, j) in enumerate(cells):
        design[row, [0, 1 + i, 1 + n + j]] = 1
    fit = np.linalg.lstsq(design, np.array([scores[cell] for cell in cells]), rcond=None)[0]
    margins = np.zeros(n)
    for i in spoken:
        margins[i] = scores[i, i] - fit[0] - fit[1 + i] - fit[1 + n + i]
    return margins


@pytest.mark.parametrize(
    ("n", "silent"), [(3, []), (4, []), (17, []), (8, [0]), (8, [1, 4]), (8, [0, 1, 2, 3, 4, 5])]
)
def test_margin_equals_least_squares_on_captions_that_speak(n, silent):
    scores = random_scores(n, n)
    empty = np.isin(np.arange(n), silent)
    expected = least_squares_margin(scores, np.flatnonzero(~empty))
    assert grounding_margin(scores, empty) == pytest.approx(expected)


def test_mean_margin_is_own_minus_others():
    scores = random_scores(5, 20)
    off = scores[~np.eye(20, dtype=bool)].mean()
    assert grounding_margin(scores).mean() == pytest.approx(np.trace(scores) / 20 - off)


@pytest.mark.parametrize("n", [2, 3, 10, 60])
def test_margins_of_an_additive_matrix_are_0(n):
    rng = np.random.default_rng(n)
    clips, captions = rng.normal(size=(2, n))
    # One caption for all clips, clips that are all alike, and the sum of both.
    generic, alike = np.outer(np.ones(n), clips), np.outer(captions, np.ones(n))
    for scores in (generic, alike, generic + alike):
        assert grounding_margin(scores) == pytest.approx(np.zeros(n), abs=1e-12)
        within = grounding_margin_within(scores, ["a"] * n)
        assert within == pytest.approx(np.zeros(n), abs=1e-12)


def test_adding_caption_and_clip_effects_changes_no_margin():
    scores = random_scores(6, 25)
    assert grounding_margin(scores + additive(7, 25)) == pytest.approx(grounding_margin(scores))


def test_silence_on_unpopular_clips_gains_nothing():
    # A generic captioner scores high with popular clips; it says nothing about the others.
    scores = additive(8, 40)
    empty = scores[0] < np.median(scores[0])
    scores[empty] = -1.0
    assert grounding_margin(scores, empty) == pytest.approx(np.zeros(40), abs=1e-12)
    # Taken at its face, the row of -1 would have been worth a margin.
    assert grounding_margin(scores).mean() > 0.1


def test_two_clips_share_the_mean_margin():
    assert grounding_margin(np.array([[0.5, 0.1], [0.2, 0.3]])) == pytest.approx([0.25, 0.25])


def test_degenerate_inputs():
    with pytest.raises(StudyError, match="1 clips is undefined"):
        grounding_margin(np.array([[0.3]]))
    with pytest.raises(StudyError, match=r"shape \(2, 3\)"):
        grounding_margin(np.zeros((2, 3)))
    with pytest.raises(StudyError, match="not finite"):
        grounding_margin(np.full((2, 2), np.nan))
    assert grounding_margin(np.full((3, 3), -1.0), np.ones(3, dtype=bool)).tolist() == [0, 0, 0]
    assert grounding_margin(random_scores(1, 3), np.array([1, 1, 0], bool)).tolist() == [0, 0, 0]


def test_seeing_only_the_category_has_no_margin_within():
    category = ["a"] * 10 + ["b"] * 10
    same = np.array(category)[:, None] == np.array(category)[None, :]
    scores = 0.5 * same + additive(11, 20) * 0.1
    assert grounding_margin(scores).mean() > 0.1
    assert grounding_margin_within(scores, category) == pytest.approx(np.zeros(20), abs=1e-12)


def test_within_leaves_out_clips_without_mates():
    within = grounding_margin_within(random_scores(1, 5), ["a", "a", "a", "b", None])
    assert np.isnan(within).tolist() == [False, False, False, True, True]
    values = auc_within(random_scores(1, 5), ["a", "a", "a", "b", None])
    assert np.isnan(values).tolist() == [False, False, False, True, True]


def test_auc_equals_mann_whitney():
    scores = np.round(random_scores(12, 15), 1)
    expected = [
        scipy.stats.mannwhitneyu([scores[i, i]], np.delete(scores[i], i)).statistic / 14
        for i in range(15)
    ]
    assert auc(scores) == pytest.approx(expected)


def test_auc_of_empty_captions_is_the_minimum():
    assert auc(np.full((3, 3), -1.0), empty=np.array([True, False, True])).tolist() == [0, 0.5, 0]


def test_bits_by_hand():
    assert bits(np.zeros((8, 8)), 0.1) == pytest.approx(np.zeros(8))
    assert bits(np.eye(8), 1e-3) == pytest.approx(np.full(8, 3.0))
    # Two clips, own score 1 above the other at temperature 1: log2(2e / (e + 1)).
    assert bits(np.eye(2), 1.0) == pytest.approx(np.full(2, math.log2(2 * math.e / (math.e + 1))))


def test_temperature_by_hand():
    # Two captions of two clips, and a third that is wrong: the softmax must give the right clip
    # 2/3, so exp(1 / T) = 2.
    assert fit_temperature(np.eye(2)) == pytest.approx(1 / math.log(2), rel=1e-4)


def test_temperature_gives_the_most_bits_to_the_captions_and_one_mistaken():
    scores = random_scores(13, 30, own=0.1)
    n = len(scores)

    def told(temperature: float) -> float:
        # Every caption in favour of every clip: rolled by k, the diagonal holds i and i + k.
        of = [bits(np.roll(scores, -k, axis=1), temperature).mean() for k in range(n)]
        return float(n * of[0] + np.mean(of[1:]))

    best = fit_temperature(scores)
    assert all(told(best * factor) < told(best) for factor in (0.5, 0.9, 1.1, 2))
    # Some of these are mistaken as they stand, so one more is little.
    plain = scipy.optimize.minimize_scalar(
        lambda log_t: -bits(scores, math.exp(log_t)).mean(), bounds=(-9, 2), method="bounded"
    )
    assert best == pytest.approx(math.exp(plain.x), rel=0.1)


def test_references_that_are_all_told_apart_have_a_temperature_that_bears_a_mistake():
    scores = random_scores(14, 9, own=2.0)
    assert (scores.argmax(axis=1) == np.arange(9)).all()
    temperature = fit_temperature(scores)
    assert bits(scores, temperature).mean() > 0.9 * math.log2(9)
    assert bits(np.roll(scores, 1, axis=0), temperature).mean() > -5


def test_interval_equals_scipy():
    values = np.random.default_rng(3).normal(size=12)
    expected = scipy.stats.t.interval(0.95, 11, values.mean(), scipy.stats.sem(values))
    assert mean_interval(values) == pytest.approx((values.mean(), *expected))


def test_interval_is_over_groups():
    values = np.array([1.0, 3.0, 10.0, np.nan, 4.0])
    groups = ["a", "a", "b", "b", "c"]
    assert means_by_group(values, groups).tolist() == [2, 10, 4]
    assert mean_interval(values, groups) == pytest.approx(mean_interval(np.array([2.0, 10, 4])))


def test_copies_of_a_clip_do_not_narrow_the_interval():
    values = np.array([1.0, 2.0, 4.0])
    copied = mean_interval(np.repeat(values, 9), list(np.repeat(["a", "b", "c"], 9)))
    assert copied == pytest.approx(mean_interval(values))


def test_interval_of_one_group_or_none():
    mean, low, high = mean_interval(np.array([1.0, 3.0]), ["a", "a"])
    assert mean == 2 and math.isnan(low) and math.isnan(high)
    assert all(math.isnan(value) for value in mean_interval(np.array([np.nan])))


def residual_sd(scores: np.ndarray, spoken: np.ndarray) -> float:
    """Of the same dense fit: root of the residual sum of squares over cells less the fit's rank."""
    n = len(scores)
    cells = [(i, j) for i in spoken for j in range(n) if i != j]
    design = np.zeros((len(cells), 1 + 2 * n))
    for row, (i, j) in enumerate(cells):
        design[row, [0, 1 + i, 1 + n + j]] = 1
    told = np.array([scores[cell] for cell in cells])
    fit, _, rank, _ = np.linalg.lstsq(design, told, rcond=None)
    return math.sqrt(np.square(told - design @ fit).sum() / (len(cells) - rank))


@pytest.mark.parametrize("silent", [[], [0], [1, 4]])
def test_the_standardised_margin_is_d_over_the_residual_sd(silent):
    scores = random_scores(3, 8)
    empty = np.isin(np.arange(8), silent)
    expected = grounding_margin(scores, empty) / residual_sd(scores, np.flatnonzero(~empty))
    assert standardised_margin(scores, empty) == pytest.approx(expected)


def test_the_standardised_margin_does_not_move_with_the_scale_or_with_hubs():
    scores = random_scores(7, 25)
    moved = 0.3 * scores + additive(1, 25)
    assert standardised_margin(moved) == pytest.approx(standardised_margin(scores))


def test_the_standardised_margin_is_0_where_all_captions_are_the_same():
    rounding = np.random.default_rng(0).normal(0, 1e-8, (20, 20))
    assert standardised_margin(additive(2, 20) * 0 + rounding).tolist() == [0] * 20
    assert standardised_margin(np.array([[0.5, 0.1], [0.2, 0.3]])).tolist() == [0, 0]


def test_within_category_the_unit_is_that_of_all_clips():
    scores, category = random_scores(5, 12), ["a"] * 5 + ["b"] * 6 + [None]
    expected = grounding_margin_within(scores, category) / residual_sd(scores, np.arange(12))
    np.testing.assert_allclose(standardised_margin_within(scores, category), expected)


def test_signal_detection_a_binary_fact_told_right_is_worth_one_sd():
    # Captions name one of two colours, half of the clips each: ±1, own always +1.
    colour = np.repeat([1.0, -1.0], 200)
    assert standardised_margin(np.outer(colour, colour)).mean() == pytest.approx(1, abs=0.02)
