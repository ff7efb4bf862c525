"""Retrieval on permuted identity matrices and full ties."""

import numpy as np
import pytest

from siglip_study.metrics.base import METRICS
from siglip_study.metrics.retrieval import ranks


def chance(n: int) -> dict[str, float]:
    names = ("retrieval_r1", "retrieval_r5", "retrieval_mrr")
    return {name: METRICS[name].chance(np.zeros((n, n))) for name in names}


def test_permuted_identity_puts_the_own_clip_among_the_rest():
    # The caption fits another clip; its own ties with the other n - 2 at ranks 2..n.
    n = 6
    found = ranks(np.roll(np.eye(n), 1, axis=1))
    assert found.recall(1).tolist() == [0] * n
    # Ranks 2..5 of 2..6 are within the first five: 4 of 5.
    assert found.recall(5) == pytest.approx([4 / 5] * n)
    assert found.mean_rank().tolist() == [4] * n
    assert found.reciprocal_rank() == pytest.approx(
        [np.mean([1 / 2, 1 / 3, 1 / 4, 1 / 5, 1 / 6])] * n
    )


def test_chance_by_hand():
    harmonic = (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4
    expected = {"retrieval_r1": 1 / 4, "retrieval_r5": 1, "retrieval_mrr": harmonic}
    assert chance(4) == pytest.approx(expected)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_full_ties_are_chance(n):
    found, expected = ranks(np.full((n, n), 0.3)), chance(n)
    assert found.recall(1) == pytest.approx([expected["retrieval_r1"]] * n)
    assert found.recall(5) == pytest.approx([expected["retrieval_r5"]] * n)
    assert found.reciprocal_rank() == pytest.approx([expected["retrieval_mrr"]] * n)
    assert found.mean_rank() == pytest.approx([(n + 1) / 2] * n)


def test_one_caption_for_all_is_chance_on_average():
    scores = np.tile(np.random.default_rng(0).normal(size=20), (20, 1))
    found, expected = ranks(scores), chance(20)
    assert found.recall(1).mean() == pytest.approx(expected["retrieval_r1"])
    assert found.recall(5).mean() == pytest.approx(expected["retrieval_r5"])
    assert found.reciprocal_rank().mean() == pytest.approx(expected["retrieval_mrr"])


def test_ties_equal_the_average_over_random_tie_breaks():
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 4, size=(9, 9)).astype(float)
    found = ranks(scores)
    broken = [ranks(scores + rng.random((9, 9)) * 0.5) for _ in range(4000)]
    for name, call in {
        "r1": lambda r: r.recall(1),
        "r5": lambda r: r.recall(5),
        "mrr": lambda r: r.reciprocal_rank(),
        "rank": lambda r: r.mean_rank(),
    }.items():
        assert call(found) == pytest.approx(np.mean([call(r) for r in broken], 0), abs=0.15), name


def test_empty_captions_come_last():
    found = ranks(np.full((4, 4), -1.0), np.array([True, False, False, False]))
    assert found.recall(1).tolist() == [0, 0.25, 0.25, 0.25]
    assert found.mean_rank()[0] == 4
    assert found.reciprocal_rank()[0] == pytest.approx(0.25)
