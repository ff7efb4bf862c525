"""Choosing among tuning cells of which some know the category alone."""

from __future__ import annotations

import numpy as np
import pytest

from tools.simulation.selection_trial import TuningWorld, play, worlds

WORLDS = 150
KINDS = dict(worlds())


def test_a_projector_is_not_lost_to_its_louder_blind_cell() -> None:
    outcome = play(KINDS["a louder cell of the category beside one that sees"], WORLDS, seed=3)
    # By the highest D alone it mostly is: the simulation is not vacuous.
    assert outcome.blind[0] > 0.5 and outcome.grounded[0] < 0.5
    # The blind one stays where it passes by chance (5 %), or the other fails.
    assert outcome.blind[1] < 0.12 and outcome.grounded[1] > 0.88
    assert outcome.margin[1] > 0.85


def test_nothing_changes_where_all_cells_see_or_none_does() -> None:
    seeing = play(KINDS["all see, equally"], WORLDS, seed=3)
    assert seeing.blind == (0, 0) and seeing.grounded[1] >= seeing.grounded[0] > 0.95
    assert seeing.margin[1] == pytest.approx(seeing.margin[0], abs=0.01)
    blind = play(KINDS["all of the category"], WORLDS, seed=3)
    assert blind.blind == (1, 1) and blind.grounded[1] <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / WORLDS)


def test_one_cell_is_chosen_either_way() -> None:
    outcome = play(TuningWorld(((1.0, 0.1),), n_clips=24), 20, seed=4)
    for pair in (outcome.blind, outcome.grounded, outcome.margin):
        assert pair[0] == pair[1]
    assert outcome.margin[0] == pytest.approx(1)
