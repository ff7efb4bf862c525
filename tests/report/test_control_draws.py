"""Draws of permuted captions are judged and shown as one control: one may fit by chance."""

import numpy as np
import polars as pl
import pytest
from scipy import stats
from support.made_study.ranking import made_ranking

from siglip_study.report.controls import control_rows, gate_controls, join_draws
from siglip_study.report.results import CellResult
from siglip_study.report.trust import by_cell

CLIPS, SPREAD = 60, 0.09
#: Mean D of the demo's first five draws of its captions.
DRAWS = (0.0336, 0.0259, -0.0131, -0.0077, -0.004)


def cell(name, role, projector, margin, seed):
    share = 0.1 * (seed or 0)
    values = {
        "standardised_margin": margin,
        "standardised_margin_within": None,
        "retrieval_r1": share,
        "effective_captions": 0.92,
        "top_cluster_share": 0.05,
    }
    bounds = {"low": -1.0, "high": 1.0}
    metrics = {
        "values": {key: {"value": value, **bounds} for key, value in values.items()},
        "losses": {"matched": 1.0, "shuffled_gap": {"value": share, **bounds}},
        "split": "report",
        "n_clips": CLIPS,
    }
    return CellResult(name, role, metrics, {"projector": projector, "seed": seed, "device": "cpu"})


def world(draws):
    """Human captions, noise features, and runs of permuted captions with these mean D.

    Returns cells and the ``clips`` table. Clips of two runs have nothing in common.
    """
    shape = [("references", "references", None, 0.365, None)]
    shape.append(("n", "control_noise", "n.linear", 0.0, 1))
    shape += [
        (f"p{i}", "control_permuted", "permuted.linear", mean, i)
        for i, mean in enumerate(draws, start=1)
    ]
    ids = [f"{i:03d}" for i in range(CLIPS)]
    cells, tables = [], []
    for place, (name, role, projector, mean, seed) in enumerate(shape):
        noise = np.random.default_rng(place).normal(size=CLIPS)
        noise = (noise - noise.mean()) / noise.std(ddof=1)
        cells.append(cell(name, role, projector, mean, seed))
        columns = {
            "cell": name,
            "id": ids,
            "group": ids,
            "standardised_margin": mean + SPREAD * noise,
        }
        tables.append(pl.DataFrame(columns))
    clips = pl.concat(tables)
    return cells, clips.with_columns(standardised_margin_within=pl.lit(None, dtype=pl.Float64))


def verdicts(draws):
    """The gate's words on the draws, which share one."""
    told = gate_controls(*world(draws))
    return {told[f"p{i}"].verdict for i in range(1, len(draws) + 1)}


@pytest.mark.parametrize(
    ("draws", "verdict"),
    [
        (DRAWS[:1], "grounded"),
        # How much draws differ cannot be known from two that happen to agree.
        (DRAWS[:2], "undetermined"),
        (DRAWS, "ungrounded"),
        ((0.2, 0.22, 0.19), "grounded"),
    ],
)
def test_draws_share_one_verdict(draws, verdict):
    assert verdicts(draws) == {verdict}


@pytest.mark.parametrize("n_draws", [2, 5])
@pytest.mark.parametrize("spread", [0.0, 0.023])
def test_false_alarms_stay_at_the_level_however_much_draws_differ(n_draws, spread):
    """A spread of 0.023 is twice what clips give one draw."""
    generator = np.random.default_rng(0)
    alarms = 0
    for _ in range(80):
        means = generator.normal(0, spread, n_draws)
        means += generator.normal(0, SPREAD / CLIPS**0.5, n_draws)
        alarms += verdicts(means) == {"grounded"}
    assert alarms / 80 <= 0.05 + 3 * (0.05 * 0.95 / 80) ** 0.5


def test_the_draws_are_one_control_where_the_first_stood():
    cells, clips = world(DRAWS)
    joined = join_draws(cells, clips)
    assert [c.name for c in joined] == ["references", "n", "permuted.linear"]
    assert joined[:2] == cells[:2]
    draws = joined[2]
    assert draws.runs == ("p1", "p2", "p3", "p4", "p5") and draws.seed is None
    assert draws.value("retrieval_r1") == pytest.approx(0.3)
    assert draws.gap("shuffled_gap") == pytest.approx(0.3)
    assert draws.value("standardised_margin_within") is None
    # Intervals of one run carry clips only.
    assert draws.value("retrieval_r1", "low") is None and draws.gap("shuffled_gap", "low") is None


def test_the_interval_of_the_mean_carries_draws_and_clips():
    cells, clips = world(DRAWS)
    draws = join_draws(cells, clips)[2]
    runs = [clips.filter(pl.col("cell") == f"p{i}")["standardised_margin"] for i in range(1, 6)]
    table = np.stack(runs)
    # Two-way layout by hand: clips, and what draws differ by beyond what clips explain.
    residual = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    within = (residual**2).sum() / (4 * (CLIPS - 1)) / CLIPS
    between = max(table.mean(axis=1).var(ddof=1) - within, 0)
    error = np.sqrt(table.mean(axis=0).var(ddof=1) / CLIPS + between / 5)
    half = stats.t.ppf(0.975, 4) * error
    assert draws.value("standardised_margin") == pytest.approx(table.mean())
    assert draws.value("standardised_margin", "low") == pytest.approx(table.mean() - half)
    assert draws.value("standardised_margin", "high") == pytest.approx(table.mean() + half)


def test_the_controls_table_has_one_row_for_all_draws_with_their_number_and_verdict():
    cells, clips = world(DRAWS)
    gates = gate_controls(cells, clips)
    rows = control_rows(join_draws(cells, clips), made_ranking(["linear"], 2), gates)
    own = {row["metric"]: row for row in rows if row["role"] == "control_permuted"}
    margin = own["standardised_margin"]
    assert (margin["cell"], margin["n_runs"], margin["seed"]) == ("permuted.linear", 5, None)
    assert margin["gate"] == gates["permuted.linear"].verdict == gates["p3"].verdict
    assert margin["as_expected"]
    assert {row["n_runs"] for row in rows if row["role"] != "control_permuted"} == {1}
    shown = [found["standardised_margin"]["cell"] for found in by_cell(rows)]
    assert shown == ["references", "n", "permuted.linear"]
