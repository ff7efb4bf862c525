"""What one tuning seed loses, against normal probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tools.simulation.tuning_seeds_trial import TuningSeeds, play

pytestmark = pytest.mark.full


@pytest.mark.parametrize("times", [1, 2, 3])
def test_two_cells_are_confused_as_often_as_two_normal_draws(times: int) -> None:
    luck = play(TuningSeeds((0.2, 0.0), seed_sd=0.3, n_tuning_seeds=times), 4000, seed=1)
    right = stats.norm.cdf(0.2 / np.sqrt(2 * (0.3**2 / times + 0.1**2)))
    assert luck.best == pytest.approx(right, abs=0.03)
    assert luck.loss == pytest.approx(0.2 * (1 - right), abs=0.006)


def test_noisy_seeds_lose_what_steady_ones_do_not_and_more_of_them_win_it_back() -> None:
    cells = (0.36, 0.24, 0.12, 0.0)
    steady, noisy, thrice = (
        play(TuningSeeds(cells, sd, times), 2000, seed=2)
        for sd, times in ((0.06, 1), (0.65, 1), (0.65, 3))
    )
    assert steady.best > 0.65 and noisy.best < 0.4
    assert steady.loss < thrice.loss < noisy.loss


@pytest.mark.parametrize("seed_sd", [0.06, 0.65])
@pytest.mark.parametrize("cells", [(0.36, 0.24, 0.12, 0.0), (1.5, 1.0, 0.5, 0.0)])
def test_the_report_promises_hardly_more_than_is_so(cells, seed_sd: float) -> None:
    luck = play(TuningSeeds(cells, seed_sd), 1200, seed=3)
    assert luck.best_here - 0.2 < luck.told < luck.best_here + 0.05
