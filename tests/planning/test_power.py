"""Power before money: against simulated studies, by hand, and at the edges."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from siglip_study.base.errors import StudyError
from siglip_study.planning.power import main, read_references
from siglip_study.planning.power_design import (
    AssumedScores,
    Design,
    from_references,
    groups_needed,
)
from siglip_study.ranking.pairs import pair_arrays
from siglip_study.ranking.variance import seed_noise


def simulated(design: Design, difference: float, n: int, seed: int) -> float:
    """Share of studies in which projector 0 is called better than 1; the others lie between."""
    rng = np.random.default_rng(seed)
    a, p, s, g = design.assumed, design.n_projectors, design.n_seeds, design.n_groups
    between, within = a.between_projectors, a.between_seeds
    y = np.sqrt(between) * rng.standard_normal((n, 1, 1, g))
    y = y + np.sqrt(within - between) * rng.standard_normal((n, p, 1, g))
    y = a.sd * (y + np.sqrt(1 - within) * rng.standard_normal((n, p, s, g)))
    y += a.seed_sd * rng.standard_normal((n, p, s, 1))
    y[:, 0] += difference / 2
    y[:, 1] -= difference / 2
    tests = pair_arrays(y, seed_noise(y))
    found = (tests.p_holm[:, 0] <= design.alpha) & (tests.difference[:, 0] > 0)
    return float(found.mean())


@pytest.mark.parametrize("seed_sd", [0.0, 0.03, 0.1])
@pytest.mark.parametrize(("g", "s", "p"), [(40, 2, 2), (40, 3, 4), (97, 3, 2), (60, 6, 4)])
def test_agrees_with_simulated_studies(g: int, s: int, p: int, seed_sd: float) -> None:
    design = Design(AssumedScores(sd=0.2, seed_sd=seed_sd), g, s, p)
    for target in (0.5, 0.8):
        difference = design.detectable(target)
        assert design.power(difference) == pytest.approx(target, abs=0.002)
        assert simulated(design, difference, 2500, seed=g) == pytest.approx(target, abs=0.05)


def test_without_seed_noise_it_is_near_the_paired_t_test() -> None:
    # Two projectors, nothing redrawn: the paired t-test, but for what max(v̄, v) may add: nothing.
    assumed = AssumedScores(sd=1.0, between_projectors=0.5, between_seeds=1.0, seed_sd=0.0)
    design = Design(assumed, 40, 3, 2)
    assert design.variance == pytest.approx(2 * 0.5 / 40)
    critical = stats.t.ppf(0.975, 39)
    for difference in (0.2, 0.45, 0.6):
        exact = stats.nct.sf(critical, 39, difference / np.sqrt(design.variance))
        assert design.power(difference) == pytest.approx(exact, abs=0.01)


@pytest.mark.parametrize("seed_sd", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("p", [2, 4, 8])
def test_monotone(p: int, seed_sd: float) -> None:
    assumed = AssumedScores(sd=0.3, seed_sd=seed_sd)
    groups = (30, 60, 97, 200, 400)
    seeds = (2, 3, 5, 8)
    found = {(g, s): Design(assumed, g, s, p).detectable() for g in groups for s in seeds}
    for s in seeds:
        # Two seeds: more clips leave V to the seeds and their few degrees of freedom, and the
        # test itself loses by it.
        slack = 1.1 if s == 2 else 1.01
        assert all(found[b, s] <= slack * found[a, s] for a, b in itertools.pairwise(groups))
    for g in groups:
        by_seeds = [found[g, s] for s in seeds]
        assert by_seeds == sorted(by_seeds, reverse=True)
    reached = [groups_needed(assumed, 0.1, s, p) or np.inf for s in seeds]
    assert reached == sorted(reached, reverse=True)


def test_more_power_for_larger_differences_and_fewer_projectors() -> None:
    design = Design(AssumedScores(sd=0.3, seed_sd=0.02), 97, 3, 4)
    powers = [design.power(d) for d in (0.0, 0.05, 0.1, 0.2, 1.0)]
    assert powers == sorted(powers) and powers[0] < 0.03 and powers[-1] > 0.999
    assert Design(design.assumed, 97, 3, 2).detectable() < design.detectable()


def test_needed_groups_are_the_fewest() -> None:
    assumed = AssumedScores(sd=0.3, seed_sd=0.02)
    needed = groups_needed(assumed, 0.1, 5, 4)
    assert needed is not None
    assert Design(assumed, needed, 5, 4).power(0.1) >= 0.8
    assert Design(assumed, needed - 1, 5, 4).power(0.1) < 0.8
    # Seeds alone hide it, whatever the number of clips.
    assert groups_needed(AssumedScores(sd=0.3, seed_sd=0.2), 0.1, 3, 4) is None


def test_nothing_varies() -> None:
    still = AssumedScores(sd=1.0, between_projectors=1.0, between_seeds=1.0, seed_sd=0.0)
    design = Design(still, 10, 3, 2)
    assert design.detectable() == 0.0 and design.power(0.0) == 0.0 and design.power(0.1) == 1.0


def test_impossible_assumptions_are_named() -> None:
    for wrong, match in (
        ({"sd": 0.0}, "above 0"),
        ({"sd": float("nan")}, "above 0"),
        ({"sd": 1.0, "seed_sd": -1.0}, "0 or more"),
        ({"sd": 1.0, "between_projectors": 0.6}, "0 ≤ projectors ≤ seeds"),
    ):
        with pytest.raises(StudyError, match=match):
            AssumedScores(**wrong)
    with pytest.raises(StudyError, match="1 seeds; expected at least 2"):
        Design(AssumedScores(1.0), 97, 1, 4)
    with pytest.raises(StudyError, match="above 0"):
        groups_needed(AssumedScores(1.0), 0.0, 3, 4)


def scorer_check(path: Path, values: np.ndarray) -> Path:
    """A scorer check as the study writes it, of these references."""
    test = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    split = {
        "mean_margin": values.mean(),
        "low": test.low,
        "high": test.high,
        "n_groups": len(values),
    }
    body = {"schema": "scorer_check/1", "alpha": 0.05, "splits": {"report": split}}
    path.write_text(json.dumps(body), encoding="utf-8")
    return path


def test_references_are_read_from_either_file(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(0.3, 0.1, 40)
    found = read_references(scorer_check(tmp_path / "scorer_check.json", values))
    assert found.sd == pytest.approx(values.std(ddof=1))
    pl.DataFrame(
        {"group": [f"v{i // 2}" for i in range(80)], "grounding_margin": np.repeat(values, 2)}
    ).write_parquet(tmp_path / "clips.parquet")
    clips = read_references(tmp_path / "clips.parquet")
    assert (clips.n_groups, clips.sd) == (40, pytest.approx(values.std(ddof=1)))
    assert from_references(0.1).sd == pytest.approx(0.13)
    assert from_references(0.1, seed_sd=0.0, sd=0.2) == AssumedScores(sd=0.2, seed_sd=0.0)


def test_unusable_references_are_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no such file"):
        read_references(tmp_path / "none.json")
    with pytest.raises(StudyError, match="no such file"):
        read_references(tmp_path / "none.parquet")
    (tmp_path / "x.json").write_text("[]", encoding="utf-8")
    with pytest.raises(StudyError, match="expected an object"):
        read_references(tmp_path / "x.json")
    (tmp_path / "x.json").write_text('{"schema": "metrics/1"}', encoding="utf-8")
    with pytest.raises(StudyError, match="expected scorer_check/1"):
        read_references(tmp_path / "x.json")
    pl.DataFrame({"id": ["a"]}).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(StudyError, match="grounding_margin"):
        read_references(tmp_path / "x.parquet")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = scorer_check(tmp_path / "c.json", np.random.default_rng(0).normal(0.3, 0.1, 40))
    assert main(["--references", str(path), "--seeds", "1"]) == 0
    out = capsys.readouterr().out
    assert "no ranks with one seed" in out and "This study has one seed: no ranks" in out
    assert "40 source videos" in out
    assert main(["--sd", "0.2", "--groups", "97", "--difference", "0.1", "--seed-sd", "0"]) == 0
    first = capsys.readouterr().out
    assert main(["--sd", "0.2", "--groups", "97", "--difference", "0.1", "--seed-sd", "0"]) == 0
    assert capsys.readouterr().out == first
    assert main([]) == 1
    assert "expected a config, a file or an SD" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--alpha", "0"], "alpha 0.0; expected a number between 0 and 1"),
        (["--alpha", "1"], "alpha 1.0; expected a number between 0 and 1"),
        (["--seeds", "0"], "0 seeds; expected at least 1"),
        (["--projectors", "0"], "0 projectors; expected at least 2"),
        (["--groups", "0"], "0 groups; expected at least 2"),
        (["--sd", "0"], "SD of D over clips is 0.0; expected a number above 0"),
    ],
)
def test_a_zero_is_no_default(
    given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--sd", "0.2", *given]) == 1
    assert said in capsys.readouterr().err
