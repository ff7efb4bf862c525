"""Simulated draws of permuted captions: their level, their power, and the gate's own verdicts."""

import numpy as np
import pytest

from siglip_study.ranking.gate import Candidate, References, gate, gate_all
from tools.simulation.draws_trial import HUMAN, N_GROUPS, SHARED, SPREADS, draw, judged, play

WORLDS = 3000
#: Three standard errors of a share of 5 %.
ERROR = 3 * (0.05 * 0.95 / WORLDS) ** 0.5


@pytest.mark.parametrize("shared", SHARED)
@pytest.mark.parametrize("spread", SPREADS)
def test_five_draws_are_falsely_grounded_in_five_percent_at_most(spread, shared):
    assert play(5, spread, shared, WORLDS, seed=1).grounded <= 0.05 + ERROR


def test_two_draws_judged_as_projectors_are_falsely_grounded_too_often():
    told = play(2, 3.0, 0.5, WORLDS, seed=1)
    assert told.pooled > 0.05 + ERROR and told.grounded < 0.02


def test_five_draws_as_in_the_demo_are_mostly_called_ungrounded_and_two_are_not():
    assert play(5, 2.0, 0.0, WORLDS, seed=1).ungrounded > 0.8
    assert play(2, 2.0, 0.0, WORLDS, seed=1).ungrounded < 0.2


@pytest.mark.parametrize("n_draws", [2, 5])
def test_the_simulation_judges_as_the_gate_does(n_draws):
    tables = draw(150, n_draws, 2.0, 0.5, np.random.default_rng(2))
    high = [0.9] * n_draws, [0.03] * n_draws
    human = References(0.9, 0.03, HUMAN)
    assert tables.shape == (150, n_draws, N_GROUPS)
    alone = [gate(*high, table, human).verdict for table in tables]
    pooled = [gate_all({"": Candidate(*high, table)}, human)[""].verdict for table in tables]
    told = judged(tables)
    assert told[0].tolist() == [verdict == "grounded" for verdict in alone]
    assert told[1].tolist() == [verdict == "grounded" for verdict in pooled]
    assert told[2].tolist() == [verdict == "ungrounded" for verdict in alone]


def test_a_draws_clip_error_is_the_unit():
    means = draw(4000, 2, 0.0, 0.3, np.random.default_rng(3)).mean(axis=-1)
    assert means.std() == pytest.approx(1, abs=0.05)
    assert np.corrcoef(means.T)[0, 1] == pytest.approx(0.3, abs=0.06)
