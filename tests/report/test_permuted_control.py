"""Permuted captions are judged over all their draws: a single one may fit the clips by chance."""

import numpy as np
import polars as pl
import pytest

from siglip_study.report.controls import gate_controls
from siglip_study.report.results import Cell

CLIPS = 60
# Mean D of three runs of the demo that differ in how the captions fell, and its SD over clips.
DRAWS, SPREAD = (0.0336, -0.0131, -0.0077), 0.09


def cell(name, role, margin, seed=None):
    values = {"grounding_margin": margin, "effective_captions": 0.92, "top_cluster_share": 0.05}
    found = {key: {"value": value} for key, value in values.items()}
    return Cell(name, role, {"values": found}, {"projector": "permuted.linear", "seed": seed})


def margins(mean, draw=0):
    """60 values with exactly this mean and spread; those of two draws have nothing in common."""
    values = np.random.default_rng(draw).normal(size=CLIPS)
    values = (values - values.mean()) / values.std(ddof=1)
    return mean + SPREAD * values


def verdicts(draws):
    cells = [cell("references", "references", 0.365)]
    cells += [cell(f"p{i}", "control_permuted", d, i) for i, d in enumerate(draws)]
    tables = [
        pl.DataFrame(
            {
                "cell": name,
                "id": [f"{i:03d}" for i in range(CLIPS)],
                "group": [f"{i:03d}" for i in range(CLIPS)],
                "grounding_margin": margins(mean, i),
                "grounding_margin_within": pl.Series([None] * CLIPS, dtype=pl.Float64),
            }
        )
        for i, (name, mean) in enumerate(
            [("references", 0.365), *((f"p{i}", d) for i, d in enumerate(draws))]
        )
    ]
    told = gate_controls(cells, pl.concat(tables))
    return [told[f"p{i}"].verdict for i in range(len(draws))]


def test_one_draw_alone_may_pass_for_sight():
    assert verdicts(DRAWS[:1]) == ["grounded"]


def test_draws_are_judged_together_and_share_their_verdict():
    (verdict,) = set(verdicts(DRAWS))
    assert verdict != "grounded"


def test_what_every_draw_shows_is_grounded():
    assert set(verdicts((0.2, 0.22, 0.19))) == {"grounded"}


def test_two_draws_that_happen_to_agree_show_nothing():
    """The demo's first two: how much draws differ cannot be known from them."""
    assert set(verdicts((0.0336, 0.0259))) == {"undetermined"}


def test_the_first_five_draws_of_the_demo_are_ungrounded():
    assert set(verdicts((0.0336, 0.0259, -0.0131, -0.0077, -0.004))) == {"ungrounded"}


@pytest.mark.parametrize("n_draws", [2, 5])
@pytest.mark.parametrize("spread", [0.0, 0.023])
def test_false_alarms_stay_at_the_level_however_much_draws_differ(n_draws, spread):
    """0.023 is twice what clips give one draw; ``tests/ranking/test_draws_trial.py`` has more."""
    generator = np.random.default_rng(0)
    alarms = 0
    for _ in range(80):
        means = generator.normal(0, spread, n_draws)
        means += generator.normal(0, SPREAD / CLIPS**0.5, n_draws)
        alarms += verdicts(means)[0] == "grounded"
    assert alarms / 80 <= 0.05 + 3 * (0.05 * 0.95 / 80) ** 0.5
