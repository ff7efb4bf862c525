"""The draws of a control are shown as one: their mean, and an interval that knows them."""

import numpy as np
import polars as pl
import pytest
from scipy import stats
from support.made_study.ranking import made_ranking

from siglip_study.report.controls import control_rows, gate_controls, join_draws
from siglip_study.report.results import Cell
from siglip_study.report.trust import by_cell

CLIPS = 40
MEANS = (0.03, 0.02, -0.02, -0.01, 0.0)


def cell(name, role, projector, margins, seed):
    values = {
        "grounding_margin": float(np.mean(margins)),
        "grounding_margin_within": None,
        "retrieval_r1": 0.1 * (seed or 0),
        "effective_captions": 0.9,
        "top_cluster_share": 0.05,
    }
    found = {k: {"value": v, "low": -1.0, "high": 1.0} for k, v in values.items()}
    gap = {"value": 0.1 * (seed or 0), "low": -1.0, "high": 1.0}
    metrics = {
        "values": found,
        "split": "report",
        "n_clips": CLIPS,
        "losses": {"matched": 1.0, "shuffled_gap": gap},
    }
    return Cell(name, role, metrics, {"projector": projector, "seed": seed, "device": "cpu"})


@pytest.fixture
def world():
    """Human captions, five draws of one control, and one run of another: cells and clips."""
    generator = np.random.default_rng(0)
    shape = [
        ("references", "references", None, 0.4, None),
        ("n", "control_noise", "n.linear", 0, 1),
    ]
    shape += [
        (f"p{i}", "control_permuted", "permuted.linear", mean, i)
        for i, mean in enumerate(MEANS, start=1)
    ]
    cells, tables = [], []
    for name, role, projector, mean, seed in shape:
        margins = mean + 0.1 * generator.standard_normal(CLIPS)
        cells.append(cell(name, role, projector, margins, seed))
        ids = [f"{i:02d}" for i in range(CLIPS)]
        tables.append(
            pl.DataFrame(
                {
                    "cell": name,
                    "id": ids,
                    "group": ids,
                    "grounding_margin": margins,
                    "grounding_margin_within": pl.Series([None] * CLIPS, dtype=pl.Float64),
                }
            )
        )
    return cells, pl.concat(tables)


def test_the_draws_are_one_control_where_the_first_stood(world):
    cells, clips = world
    joined = join_draws(cells, clips)
    assert [c.name for c in joined] == ["references", "n", "permuted.linear"]
    assert joined[:2] == cells[:2]
    draws = joined[2]
    assert draws.runs == ("p1", "p2", "p3", "p4", "p5") and draws.seed is None
    assert draws.value("retrieval_r1") == pytest.approx(0.3)
    assert draws.gap("shuffled_gap") == pytest.approx(0.3)
    assert draws.value("grounding_margin_within") is None
    # Intervals of one run carry clips only.
    assert draws.value("retrieval_r1", "low") is None and draws.gap("shuffled_gap", "low") is None


def test_the_interval_of_the_mean_carries_draws_and_clips(world):
    cells, clips = world
    draws = join_draws(cells, clips)[2]
    table = np.stack(
        [clips.filter(pl.col("cell") == f"p{i}")["grounding_margin"] for i in range(1, 6)]
    )
    # Two-way layout by hand: clips, and what draws differ by beyond what clips explain.
    residual = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    within = (residual**2).sum() / (4 * (CLIPS - 1)) / CLIPS
    between = max(table.mean(axis=1).var(ddof=1) - within, 0)
    error = np.sqrt(table.mean(axis=0).var(ddof=1) / CLIPS + between / 5)
    half = stats.t.ppf(0.975, 4) * error
    assert draws.value("grounding_margin") == pytest.approx(table.mean())
    assert draws.value("grounding_margin", "low") == pytest.approx(table.mean() - half)
    assert draws.value("grounding_margin", "high") == pytest.approx(table.mean() + half)


def test_the_controls_table_has_one_row_for_all_draws_with_their_number_and_verdict(world):
    cells, clips = world
    gates = gate_controls(cells, clips)
    assert gates["p1"] == gates["p3"] == gates["p5"] == gates["permuted.linear"]
    rows = control_rows(join_draws(cells, clips), made_ranking(["linear"], 2), gates)
    (margin,) = (
        row
        for row in rows
        if (row["role"], row["metric"]) == ("control_permuted", "grounding_margin")
    )
    assert (margin["cell"], margin["n_runs"], margin["seed"]) == ("permuted.linear", 5, None)
    assert margin["gate"] == gates["p3"].verdict != "grounded" and margin["as_expected"]
    assert {row["n_runs"] for row in rows if row["role"] != "control_permuted"} == {1}
    assert [found["grounding_margin"]["cell"] for found in by_cell(rows)] == [
        "references",
        "n",
        "permuted.linear",
    ]
