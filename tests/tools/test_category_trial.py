"""Studies in which captioners of the category alone compete: what the gate makes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import nct, t

from siglip_study.metrics.grounding import grounding_margin, grounding_margin_within
from siglip_study.ranking.gate import References, gate
from tools.simulation.category_trial import (
    BLIND,
    SEERS,
    CategoryWorld,
    draw,
    margins,
    margins_within,
    play,
    worlds,
)

pytestmark = pytest.mark.full

WORLDS = 200
#: Three standard errors of a share of 5 % in so many worlds.
ERROR = 3 * (0.05 * 0.95 / WORLDS) ** 0.5


def test_fast_margins_are_those_of_the_metric() -> None:
    world = CategoryWorld(24, 4, 2)
    scores, human = draw(world, np.random.default_rng(0))
    assert scores.shape == (len(BLIND) + len(SEERS), 2, 24, 24)
    category = [f"c{i // 6}" for i in range(24)]
    for matrix in (human, scores[3, 1], scores[6, 0]):
        np.testing.assert_allclose(margins(matrix), grounding_margin(matrix), atol=1e-12)
        np.testing.assert_allclose(
            margins_within(matrix, 4), grounding_margin_within(matrix, category), atol=1e-12
        )
    np.testing.assert_allclose(margins_within(scores, 4)[:2], 0, atol=1e-12)
    assert margins(scores)[0] == pytest.approx(0, abs=1e-12)
    assert margins(scores)[1].mean() > 0.01


@pytest.mark.parametrize(
    "world",
    [world for name, world in worlds() if world.n_clips == 60],
    ids=[name for name, world in worlds() if world.n_clips == 60],
)
def test_what_knows_the_category_is_never_above_what_sees(world: CategoryWorld) -> None:
    outcome = play(world, WORLDS, seed=5)
    assert outcome.asked == 1
    # Without the demand it is nearly always; the simulation is not vacuous.
    assert outcome.above[0] > 0.85 and outcome.false[0] > 0.95
    assert outcome.above[1] <= outcome.false[1] <= 0.05 + ERROR
    for (_, kept), power in zip(outcome.grounded, outcome.power, strict=True):
        assert kept >= power > 0.3


def test_a_captioner_of_one_caption_a_category_never_passes() -> None:
    world = replace(CategoryWorld(), detail=0.5)
    rng = np.random.default_rng(6)
    for _ in range(20):
        scores, human = draw(world, rng)
        reference = References(0.9, 0.03, float(margins(human).mean()), margins_within(human, 4))
        table, within = margins(scores), margins_within(scores, 4)
        told = [
            gate([0.9] * 3, [0.03] * 3, table[p], reference, within=within[p])
            for p in (0, 1, len(BLIND))
        ]
        assert [verdict.may_be_ranked for verdict in told] == [False, False, True]
        assert told[1].verdict == "category_only"


@pytest.mark.parametrize("effect", [0.0, 2.0, 3.5])
def test_a_grounded_projector_is_lost_as_often_as_the_power_says(effect: float) -> None:
    """One run, so the tests are one-sample t-tests, whose power is a noncentral t's."""
    n, studies = 40, 1500
    rng = np.random.default_rng(7)
    human = References(0.9, 0.03, 0.3, rng.normal(0.3, 0.05, n))
    passed = sum(
        gate(
            0.9,
            0.03,
            rng.normal(1.0, 0.05, n),
            human,
            within=rng.normal(effect / np.sqrt(n), 1.0, n),
        ).may_be_ranked
        for _ in range(studies)
    )
    expected = nct.sf(t.ppf(0.95, n - 1), n - 1, effect) if effect else 0.05
    error = (expected * (1 - expected) / studies) ** 0.5
    assert abs(passed / studies - expected) <= 3.5 * error
