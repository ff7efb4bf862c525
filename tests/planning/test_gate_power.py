"""The chance to pass the gate, against the gate itself in simulated studies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from siglip_study.planning.power import main, read_references
from siglip_study.planning.power_design import (
    AssumedScores,
    GateDesign,
    asked_within,
    from_references,
)
from siglip_study.ranking.gate import Candidate, References, gate_all
from siglip_study.ranking.scorer_check import check_scorer
from siglip_study.ranking.within import WithinSpread, spread_within

STUDIES = 500


def simulated(design: GateDesign, mean: float, within: float, seed: int) -> float:
    """Share of studies whose projector 0 is grounded; the others are far from it."""
    rng = np.random.default_rng(seed)
    a, g, s, p = design.assumed, design.n_groups, design.n_seeds, design.n_projectors
    high = [0.9] * s, [0.03] * s
    passed = 0
    for _ in range(STUDIES):
        seeds = a.seed_sd * rng.standard_normal((p, s, 1))
        kept, again = rng.standard_normal((2, p, 1, g)), rng.standard_normal((2, p, s, g))
        noise = np.sqrt(a.between_seeds) * kept + np.sqrt(1 - a.between_seeds) * again
        level = np.array([0.0] + [-9.0] * (p - 1))[:, None, None]
        y = mean + level + a.sd * noise[0] + seeds
        if design.within is None:
            tables, human = [None] * p, None
        else:
            r, ratio = design.within.correlation, design.within.sd / design.reference_sd
            mixed = r * noise[0] + np.sqrt(1 - r**2) * noise[1]
            w = within + level + ratio * (a.sd * mixed + seeds)
            known = np.arange(g) < round(g * design.within.n_groups / design.within.n_total)
            tables = list(np.where(known, w, np.nan))
            human = np.where(known, 0.3 + 0.01 * rng.standard_normal(g), np.nan)
        told = gate_all(
            {f"p{k}": Candidate(*high, y[k], tables[k]) for k in range(p)},
            References(0.9, 0.03, 0.4, human),
        )
        passed += told["p0"].may_be_ranked
    return passed / STUDIES


@pytest.mark.parametrize("known", [40, 28])
@pytest.mark.parametrize(("g", "s", "p"), [(40, 1, 3), (40, 3, 4)])
@pytest.mark.parametrize("seed_sd", [0.0, 0.03])
def test_agrees_with_the_gate_in_simulated_studies(
    g: int, s: int, p: int, seed_sd: float, known: int
) -> None:
    spread = WithinSpread(0.3, 0.13, 0.7, known, 40)
    assumed = AssumedScores(sd=0.2, seed_sd=seed_sd)
    for within in (spread, None):
        design = GateDesign(assumed, within, 0.1, g, s, p)
        for mean in (0.0, 0.13):
            expected = design.passing(mean, 0.9 * mean)
            error = 3.5 * np.sqrt(max(expected * (1 - expected), 0.01) / STUDIES)
            found = simulated(design, mean, 0.9 * mean, seed=g + s)
            assert found == pytest.approx(expected, abs=error + 0.01)


def test_one_seed_and_no_seed_noise_is_the_one_sample_t_test() -> None:
    assumed = AssumedScores(sd=1.0, between_seeds=1.0, seed_sd=0.0)
    design = GateDesign(assumed, None, 1.0, 40, 1, 2)
    for effect in (0.0, 0.3, 0.6):
        exact = stats.nct.sf(stats.t.ppf(1 - 0.05 / 2, 39), 39, effect * np.sqrt(40))
        assert design.passing(effect) == pytest.approx(exact, abs=0.012)


def test_the_second_test_only_takes_away_and_more_of_anything_helps() -> None:
    spread = WithinSpread(0.3, 0.13, 0.8, 40, 40)
    assumed = from_references(0.1)
    both = GateDesign(assumed, spread, 0.1, 40, 3, 4)
    alone = GateDesign(assumed, None, 0.1, 40, 3, 4)
    for mean in (0.02, 0.1, 0.2):
        assert both.passing(mean, 0.9 * mean) <= alone.passing(mean)
        # Where a captioner knows the category alone, the second test is what stands.
        assert both.passing(mean, 0.0) < 0.05
    chances = [both.passing(mean, mean) for mean in (0.0, 0.05, 0.1, 0.2, 0.5)]
    assert chances == sorted(chances) and chances[0] < 0.02 and chances[-1] > 0.99
    assert GateDesign(assumed, spread, 0.1, 40, 8, 4).passing(0.1, 0.1) > chances[2]
    assert GateDesign(assumed, spread, 0.1, 40, 3, 2).passing(0.1, 0.1) > chances[2]


def test_asked_where_the_gate_asks() -> None:
    assert asked_within(WithinSpread(0.3, 0.1, 0.8, 40, 60), 0.05)
    assert not asked_within(WithinSpread(0.3, 0.1, 0.8, 29, 60), 0.05)
    assert not asked_within(WithinSpread(0.01, 0.1, 0.8, 40, 60), 0.05)
    assert not asked_within(WithinSpread(0.3, 0.1, 0.8, 40, 60), 0.05, wanted=False)
    assert not asked_within(None, 0.05)


def test_the_spread_by_hand() -> None:
    margin, within = np.array([1.0, 2.0, 4.0, 9.0]), np.array([2.0, 4.0, np.nan, 18.0])
    found = spread_within(margin, within)
    assert found == WithinSpread(8.0, pytest.approx(np.sqrt(76)), pytest.approx(1.0), 3, 4)
    assert spread_within(margin, np.array([1.0, np.nan, np.nan, np.nan])) is None
    still = spread_within(margin, np.ones(4))
    assert still is not None and still.correlation == 0 and still.sd == 0


def study(n: int = 30) -> tuple[np.ndarray, list[str], list[str | None]]:
    """References that share a little within their category, and one category of two clips."""
    rng = np.random.default_rng(0)
    category: list[str | None] = [f"c{i // 7}" for i in range(n - 2)] + ["two", "two"]
    same = np.equal.outer(category, category)
    matrix = 0.2 * same + 0.4 * np.eye(n) + rng.normal(0, 0.02, (n, n))
    return matrix, [f"v{i:02d}" for i in range(n)], category


def test_the_scorer_check_tells_it_and_power_reads_it(tmp_path: Path, capsys) -> None:
    from dataclasses import asdict

    matrix, groups, category = study()
    check = check_scorer(matrix, groups, category)
    assert check.within is not None
    # Two clips are no category.
    assert (check.within.n_groups, check.within.n_total) == (28, 30)
    assert check.within.mean == pytest.approx(0.4, abs=0.03)
    assert check_scorer(matrix, groups).within is None
    path = tmp_path / "scorer_check.json"
    body = {"schema": "scorer_check/1", "alpha": 0.05, "splits": {"report": asdict(check)}}
    path.write_text(json.dumps(body), encoding="utf-8")
    assert read_references(path).within == check.within
    assert main(["--references", str(path), "--projectors", "4", "--seeds", "3"]) == 0
    said = capsys.readouterr().out
    assert "Passing the gate with 30 source videos and 3 seeds (D above 0, D within" in said
    lines = [line for line in said.splitlines() if "of the references' D (" in line]
    assert len(lines) == 5 and all("within)" in line for line in lines)
    # A check of before, which has no such figures.
    del body["splits"]["report"]["within"]
    path.write_text(json.dumps(body), encoding="utf-8")
    assert main(["--references", str(path), "--seeds", "1"]) == 0
    said = capsys.readouterr().out
    assert "1 seed (D above 0, D within category is unknown here and not counted" in said


def test_clips_tell_it_too(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(0.3, 0.1, 20)
    table = pl.DataFrame(
        {
            "group": [f"v{i}" for i in range(20)],
            "grounding_margin": values,
            "grounding_margin_within": [None, *(values[1:] / 2)],
        }
    )
    table.write_parquet(tmp_path / "clips.parquet")
    found = read_references(tmp_path / "clips.parquet").within
    assert found is not None and (found.n_groups, found.n_total) == (19, 20)
    assert found.mean == pytest.approx(values[1:].mean() / 2)
    assert found.correlation == pytest.approx(1)
