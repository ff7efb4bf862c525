"""What choosing by halves costs: estimates against drawn worlds, the charge by hand."""

from __future__ import annotations

import numpy as np
import pytest

from siglip_study.ranking.choice import HalfChoice, choice_variance, half_choice, together


def test_kept_and_drawn_are_unbiased() -> None:
    # Variances: clips 1, cell × clip .5, redrawn .3. Cell 2 is far better and so is always chosen.
    rng = np.random.default_rng(0)
    studies, cells, seeds, clips = 4000, 4, 3, 20
    shared = rng.standard_normal((studies, 1, clips))
    own = np.sqrt(0.5) * rng.standard_normal((studies, cells, clips))
    own += 5.0 * (np.arange(cells) == 2)[:, None]
    tuned = shared + own + np.sqrt(0.3) * rng.standard_normal(own.shape)
    fresh = shared + own[:, [2]] + np.sqrt(0.3) * rng.standard_normal((studies, seeds, clips))
    found = half_choice(tuned, np.full(studies, 2), fresh)
    assert found.kept.mean() == pytest.approx(0.5, abs=0.01)
    assert found.drawn.mean() == pytest.approx(0.8, abs=0.01)


def test_the_largest_of_a_few_normal_draws_gives_the_published_correlations() -> None:
    # m²/(K − 1), and what is charged is above it for every K.
    rng = np.random.default_rng(1)
    most = {
        k: rng.standard_normal((400_000, k)).max(axis=1).mean() ** 2 / (k - 1) for k in range(2, 10)
    }
    assert [round(most[k], 2) for k in (2, 3, 4, 5)] == [0.32, 0.36, 0.35, 0.34]
    assert max(most.values()) < 0.36


def test_the_charge_worked_by_hand() -> None:
    # Halves of 20 and 30 videos. Averaged over two projectors, kept is 1 and 2, drawn 2 and 4: the
    # errors are 1/√(2 · 20) and 2/√(4 · 30), and the shares of the mean .4 and .6.
    a = HalfChoice(np.array([0.5, 1.5]), np.array([1.0, 3.0]), 20)
    b = HalfChoice(np.array([2.5, 1.5]), np.array([4.0, 4.0]), 30)
    expected = 2 * 0.4 * 0.6 * 0.45 / np.sqrt(2 * 20) * 2 / np.sqrt(4 * 30)
    assert choice_variance(a, b) == pytest.approx([expected])


@pytest.mark.parametrize("kept", [-0.3, 0.0])
def test_cells_that_keep_nothing_cost_nothing(kept: float) -> None:
    half = HalfChoice(np.array([kept]), np.array([1.0]), 30)
    assert choice_variance(half, half) == pytest.approx([0.0])


def test_projectors_stand_side_by_side() -> None:
    one, two = (HalfChoice(np.array(x), np.array(1.0), 8) for x in (0.1, 0.3))
    both = together([one, two])
    assert both.kept.tolist() == [0.1, 0.3] and both.n_groups == 8
