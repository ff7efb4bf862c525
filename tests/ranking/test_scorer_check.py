"""Can the scorer tell? On scores that tell everything, nothing, and only the category."""

from __future__ import annotations

import numpy as np
import pytest

from siglip_study.metrics.grounding import grounding_margin
from siglip_study.ranking.scorer_check import check_scorer, swapped_curve, uniform_derangement
from siglip_study.scoring.score_captions import score_captions

N = 60
GROUPS = [f"v{i}" for i in range(N)]
CATEGORIES = [f"c{i % 4}" for i in range(N)]


def scores(signal: float, category: float = 0.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    same = np.equal.outer(CATEGORIES, CATEGORIES)
    return rng.normal(0.1, 0.03, (N, N)) + signal * np.eye(N) + category * same


def test_a_scorer_that_tells() -> None:
    check = check_scorer(scores(0.1), GROUPS, CATEGORIES)
    assert check.can_tell and check.human_scale
    assert check.low < 0.1 < check.high
    assert check.auc > 0.95 and check.auc_within_category > 0.95


def test_a_scorer_that_cannot() -> None:
    check = check_scorer(scores(0.0), GROUPS, CATEGORIES)
    assert not check.can_tell and not check.human_scale
    blind = check_scorer(np.full((N, N), 0.1), GROUPS)
    assert not blind.can_tell
    assert blind.auc == 0.5 and blind.auc_within_category is None


def test_a_scorer_that_knows_the_category_only() -> None:
    check = check_scorer(scores(0.0, category=0.1), GROUPS, CATEGORIES)
    assert check.can_tell
    assert check.auc > 0.8
    assert check.auc_within_category == pytest.approx(0.5, abs=0.1)


def test_swapped_curve_falls_to_nothing() -> None:
    matrix = scores(0.1)
    curve = swapped_curve([matrix], np.random.default_rng(0))
    assert [point.share for point in curve] == [0.0, 0.1, 0.25, 0.5, 1.0]
    assert [point.n_swapped for point in curve] == [0, 6, 15, 30, 60]
    means = [point.mean for point in curve]
    assert means == sorted(means, reverse=True)
    assert means[0] == pytest.approx(grounding_margin(matrix).mean())
    assert means[3] == pytest.approx(means[0] / 2, abs=0.01)
    assert abs(means[4]) < 0.01


def test_swaps_need_no_new_matrix() -> None:
    matrix = scores(0.1)
    order = uniform_derangement(N, np.random.default_rng(1))
    total = matrix.sum()
    own = matrix[order, np.arange(N)].sum()
    assert own / N - (total - own) / (N * (N - 1)) == pytest.approx(
        grounding_margin(matrix[order]).mean()
    )
    assert not (order == np.arange(N)).any()


def test_same_seed_same_curve_and_two_clips() -> None:
    assert check_scorer(scores(0.1), GROUPS) == check_scorer(scores(0.1), GROUPS)
    two = check_scorer([[0.9, 0.1], [0.2, 0.8]], ["a", "b"])
    assert [point.n_swapped for point in two.swapped] == [0, 2, 2, 2, 2]
    assert check_scorer([[0.9, 0.1], [0.2, 0.8]], ["a", "a"]).low is None


def test_intervals_of_auc() -> None:
    check = check_scorer(scores(0.03), GROUPS, CATEGORIES)
    assert 0.5 < check.auc_low < check.auc < check.auc_high <= 1
    assert check.auc_within_low < check.auc_within_category < check.auc_within_high
    # A fourth of the clips, so fewer comparisons a caption: the wider interval.
    assert check.auc_within_high - check.auc_within_low > 0.8 * (check.auc_high - check.auc_low) > 0
    blind = check_scorer(np.full((N, N), 0.1), GROUPS)
    # All ties: no variance, so 60 clips of .5 (statsmodels 0.15.0, proportion_confint, t for z).
    assert (blind.auc_low, blind.auc_high) == pytest.approx((0.37494, 0.62506), abs=1e-5)
    assert blind.auc_within_low is None
    one_group = check_scorer([[0.9, 0.1], [0.2, 0.8]], ["a", "a"])
    assert one_group.auc == 1.0 and one_group.auc_low is None


def test_the_figure_within_a_category_is_the_one_of_the_metrics() -> None:
    """Two of a category are no comparison within it, on the card as in the table."""
    sizes = {"a": 4, "b": 2, "c": 2, "d": 2, "e": 2}
    kinds = [name for name, size in sizes.items() for _ in range(size)]
    ids = [f"i{k:02d}" for k in range(len(kinds))]
    matrix = np.random.default_rng(3).normal(0, 0.1, (12, 12)) + 0.05 * np.eye(12)
    check = check_scorer(matrix, ids, kinds)
    captions = [f"caption {i}" for i in ids]
    told = score_captions(
        captions,
        [[caption] for caption in captions],
        ids,
        language="en",
        train_references=[["one"], ["another"]],
        categories=kinds,
        matrix=matrix,
        are_references=True,
    ).values["auc_within"]
    assert check.n_within_category == 4
    found = (check.auc_within_category, check.auc_within_low, check.auc_within_high)
    assert found == pytest.approx((told["value"], told["low"], told["high"]))
