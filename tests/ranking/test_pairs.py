"""Pairs, ranks, intervals of means and the retrieval bar, degenerate cases first."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from siglip_study.base.errors import StudyError
from siglip_study.ranking.pairs import PairTest, baseline_tests, pair_tests, rank_intervals
from siglip_study.ranking.scores import group_means, mean_intervals


def study(means: list[float], seeds: int = 3, groups: int = 60, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    clip = rng.normal(0, 0.05, groups)
    return {
        f"p{i}": mean
        + clip
        + rng.normal(0, 0.02, (seeds, groups))
        + rng.normal(0, 0.003, (seeds, 1))
        for i, mean in enumerate(means)
    }


def test_clear_differences_are_ordered() -> None:
    scores = study([0.1, 0.2, 0.3])
    tests = pair_tests(scores)
    assert all(test.significant for test in tests)
    assert rank_intervals(tests, scores) == {"p0": (3, 3), "p1": (2, 2), "p2": (1, 1)}
    for test in tests:
        assert test.low < test.difference < test.high < 0
        assert test.p <= test.p_holm


def test_interval_and_test_share_their_standard_error() -> None:
    test = pair_tests(study([0.1, 0.11]))[0]
    se = (test.high - test.low) / 2 / stats.t.ppf(0.975, test.df)
    assert test.p == pytest.approx(2 * stats.t.sf(abs(test.difference) / se, test.df))
    detectable = (stats.t.ppf(0.975, test.df) + stats.t.ppf(0.8, test.df)) * se
    assert test.smallest_detectable == pytest.approx(detectable)


def test_a_projector_entered_twice_is_inseparable() -> None:
    scores = study([0.2])
    scores["twin"] = scores["p0"].copy()
    silent = {"a": np.zeros((3, 10)), "b": np.zeros((3, 10))}
    for given in (scores, silent):
        with np.errstate(all="raise"):
            (test,) = pair_tests(given)
        assert (test.difference, test.p, test.significant) == (0.0, 1.0, False)
        assert set(rank_intervals([test], given).values()) == {(1, 2)}


def test_one_seed_claims_nothing() -> None:
    scores = study([0.1, 0.3], seeds=1)
    (test,) = pair_tests(scores)
    assert test.p is None and test.p_holm is None and test.smallest_detectable is None
    assert not test.significant
    # With that seed SD on both runs, the difference is exactly at the critical value.
    t = stats.t.ppf(0.975, test.df)
    clip_variance = ((test.high - test.low) / 2 / t) ** 2
    assert abs(test.difference) / np.sqrt(clip_variance + 2 * test.seed_sd_to_undo**2) == (
        pytest.approx(t)
    )
    noise = np.random.default_rng(0).normal(0, 0.02, 60)
    level = {"a": scores["p0"], "b": scores["p0"] + noise - noise.mean() + 1e-4}
    assert pair_tests(level)[0].seed_sd_to_undo == 0.0  # not significant, whatever the seeds
    assert mean_intervals(scores)[0].basis == "clips only"
    assert mean_intervals(scores)[0].seed_sd is None


def test_one_group_and_one_projector() -> None:
    (test,) = pair_tests({"a": np.ones((3, 1)), "b": np.zeros((3, 1))})
    assert (test.difference, test.p, test.low, test.significant) == (1.0, None, None, False)
    assert mean_intervals({"a": np.ones((3, 1))})[0].low is None
    assert baseline_tests({"a": np.ones((3, 1))}, [0.0])[0].cleared is False
    assert pair_tests({"a": np.ones((3, 9))}) == []
    assert rank_intervals([], ["a"]) == {"a": (1, 1)}


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"a": np.ones((3, 5)), "b": np.ones((2, 5))}, "'b' has 2 seeds, projector 'a' has 3"),
        ({"a": np.ones((3, 5)), "b": np.ones((3, 4))}, "'b' has 4 groups"),
        ({"a": np.full((3, 5), np.nan)}, "'a': 15 scores are not finite"),
        ({"a": np.ones(5)}, "'a': scores of shape"),
        ({}, "no projector"),
    ],
)
def test_bad_scores_are_named(scores: dict, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        pair_tests(scores)


def test_ranks_of_gated_projectors_count_nowhere() -> None:
    def won(a: str, b: str, significant: bool) -> PairTest:
        return PairTest(a, b, 1.0, 0, 2, 0.0, 0.0, 9.0, 1.0, significant)

    # a ≈ b, b ≈ c, a > c: not being told apart is not transitive, and no rank is shared.
    tests = [won("a", "b", False), won("b", "c", False), won("a", "c", True)]
    assert rank_intervals(tests, ["a", "b", "c"]) == {"a": (1, 2), "b": (1, 3), "c": (2, 3)}
    assert rank_intervals(tests, ["a", "b"]) == {"a": (1, 2), "b": (1, 2)}


def test_mean_interval_is_wider_than_that_of_clips_alone() -> None:
    rng = np.random.default_rng(5)
    scores = {"a": rng.normal(size=(3, 40)) + np.array([[-1.0], [0.0], [1.0]])}
    with_seeds = mean_intervals(scores)[0]
    clips_only = mean_intervals({"a": scores["a"].mean(axis=0, keepdims=True)})[0]
    assert with_seeds.high - with_seeds.low > clips_only.high - clips_only.low
    assert with_seeds.seed_sd == pytest.approx(scores["a"].mean(axis=1).std(ddof=1))


def test_retrieval_bar() -> None:
    scores = study([0.1, 0.3])
    bar = scores["p0"].mean(axis=0)
    low, high = baseline_tests(scores, bar)
    assert (low.projector, low.cleared, high.cleared) == ("p0", False, True)
    assert high.low > 0
    with pytest.raises(StudyError, match="retrieval baseline"):
        baseline_tests(scores, bar[:-1])


def test_groups_are_averaged_first() -> None:
    names, means = group_means([[1.0, 3.0, 10.0]], ["v2", "v2", "v1"])
    assert names == ["v1", "v2"]
    assert means.tolist() == [[10.0, 2.0]]
    with pytest.raises(StudyError, match="groups"):
        group_means([1.0, 2.0], ["a"])
