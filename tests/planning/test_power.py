"""Power before money: against simulated studies and the gate itself, by hand, and at the edges."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats
from support.pages import ROOT, arguments, documented

from siglip_study.base.errors import StudyError
from siglip_study.metrics.grounding import standardised_margin
from siglip_study.planning.power import main, read_references
from siglip_study.planning.power_design import (
    AssumedScores,
    Design,
    GateDesign,
    asked_within,
    from_references,
    groups_needed,
)
from siglip_study.ranking.caveats import Circumstances
from siglip_study.ranking.gate import Candidate, References, gate_all
from siglip_study.ranking.outlook import RunHours
from siglip_study.ranking.pairs import pair_arrays
from siglip_study.ranking.procedure import Entry, rank_study, write_ranking
from siglip_study.ranking.scorer_check import CHECK_SCHEMA, check_scorer
from siglip_study.ranking.variance import seed_noise
from siglip_study.ranking.within import WithinSpread, spread_within


def simulated(design: Design, difference: float, n: int, seed: int) -> float:
    """Share of studies in which projector 0 is called better than 1; the others lie between."""
    rng = np.random.default_rng(seed)
    a, p, s, g = design.assumed, design.n_projectors, design.n_seeds, design.n_groups
    between, within = a.between_projectors, a.between_seeds
    y = np.sqrt(between) * rng.standard_normal((n, 1, 1, g))
    y = y + np.sqrt(within - between) * rng.standard_normal((n, p, 1, g))
    y = a.sd * (y + np.sqrt(1 - within) * rng.standard_normal((n, p, s, g)))
    y += np.reshape(a.seed_sds(p), (p, 1, 1)) * rng.standard_normal((n, p, s, 1))
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
        assert simulated(design, difference, 1600, seed=g) == pytest.approx(target, abs=0.05)


@pytest.mark.parametrize("seed_sd", [(0.02, 0.02, 0.4, 0.1), (0.3, 0.02, 0.02, 0.02)])
def test_agrees_with_simulated_studies_where_seed_noise_is_unequal(seed_sd) -> None:
    design = Design(AssumedScores(sd=0.8, seed_sd=seed_sd), 60, 3, 4)
    difference = design.detectable()
    assert simulated(design, difference, 2500, seed=1) == pytest.approx(0.8, abs=0.08)
    # An equal noise of the same mean square promises something else.
    equal = replace(design.assumed, seed_sd=float(np.sqrt(np.mean(np.square(seed_sd)))))
    assert abs(replace(design, assumed=equal).power(difference) - 0.8) > 0.15


def test_without_seed_noise_it_is_near_the_paired_t_test() -> None:
    # Two projectors, nothing redrawn: the paired t-test, but for what max(v̄, v) may add: nothing.
    assumed = AssumedScores(sd=1.0, between_projectors=0.5, between_seeds=1.0, seed_sd=0.0)
    design = Design(assumed, 40, 3, 2)
    assert design.plan.variance == pytest.approx(2 * 0.5 / 40)
    critical = stats.t.ppf(0.975, 39)
    for difference in (0.2, 0.45, 0.6):
        exact = stats.nct.sf(critical, 39, difference / np.sqrt(design.plan.variance))
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
        slack = {2: 1.1, 3: 1.05}.get(s, 1.01)
        assert all(found[b, s] <= slack * found[a, s] for a, b in itertools.pairwise(groups))
    for g in groups:
        # Two seeds are charged the mean of all, which is sharper than the median where projectors
        # are equally noisy, as they are assumed to be here (and wrong where they are not).
        assert found[g, 3] <= 1.05 * found[g, 2]
        assert found[g, 3] >= found[g, 5] >= found[g, 8]
    reached = [groups_needed(assumed, 0.1, s, p) or np.inf for s in seeds[1:]]
    assert reached == sorted(reached, reverse=True)


def test_more_power_for_larger_differences_and_fewer_projectors() -> None:
    design = Design(AssumedScores(sd=0.3, seed_sd=0.02), 97, 3, 4)
    powers = [design.power(d) for d in (0.0, 0.05, 0.1, 0.2, 1.0)]
    assert powers == sorted(powers)
    assert powers[0] < 0.03 and powers[-1] > 0.999
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


def write_check(path: Path, figures: dict[str, object]) -> Path:
    """A scorer check with these figures of the split that decides."""
    body = {"schema": CHECK_SCHEMA, "decides": "report", "splits": {"report": figures}}
    path.write_text(json.dumps(body), encoding="utf-8")
    return path


def check_of(values: np.ndarray) -> dict[str, object]:
    """What a scorer check says of these margins, those within category apart."""
    spread = {"mean": values.mean(), "sd": values.std(ddof=1), "within": None}
    return {"n_groups": len(values), "alpha": 0.05, "standardised": spread}


def test_references_are_read_from_either_file(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(0.3, 0.1, 40)
    found = read_references(write_check(tmp_path / "scorer_check.json", check_of(values)))
    assert found.sd == pytest.approx(values.std(ddof=1))
    margins = np.repeat(values, 2)
    columns = {
        "group": [f"v{i // 2}" for i in range(80)],
        "standardised_margin": margins,
        "standardised_margin_within": [None, None, *(margins[2:] / 2)],
    }
    pl.DataFrame(columns).write_parquet(tmp_path / "clips.parquet")
    clips = read_references(tmp_path / "clips.parquet")
    assert (clips.n_groups, clips.sd) == (40, pytest.approx(values.std(ddof=1)))
    within = clips.within
    assert within is not None and (within.n_groups, within.n_total) == (39, 40)
    assert within.mean == pytest.approx(values[1:].mean() / 2)
    assert within.correlation == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.json", None, "no such file"),
        ("none.parquet", None, "no such file"),
        ("x.json", "[]", "expected an object"),
        ("x.json", '{"schema": "metrics/1"}', f"expected {CHECK_SCHEMA}"),
        ("x.parquet", pl.DataFrame({"id": ["a"]}), "standardised_margin"),
        (
            "x.json",
            json.dumps(
                {
                    "schema": CHECK_SCHEMA,
                    "decides": "report",
                    "splits": {"report": {"n_groups": 9, "alpha": 0.05, "mean_margin": 0.3}},
                }
            ),
            "the references' D alone; expected their M",
        ),
    ],
)
def test_unusable_references_are_named(tmp_path: Path, name, content, said) -> None:
    if isinstance(content, pl.DataFrame):
        content.write_parquet(tmp_path / name)
    elif content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(StudyError, match=said):
        read_references(tmp_path / name)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--alpha 0", "alpha 0.0; expected a number between 0 and 1"),
        ("--alpha 1", "alpha 1.0; expected a number between 0 and 1"),
        ("--seeds 0", "0 seeds; expected at least 1"),
        ("--projectors 0", "0 projectors; expected at least 2"),
        ("--groups 0", "0 groups; expected at least 2"),
        ("--difference 0", "difference of 0.0; expected a number above 0"),
        ("--sd 0", "SD of M over clips is 0.0; expected a number above 0"),
        ("--sd nan", "SD of M over clips is nan; expected a number above 0"),
        ("--seed-sd -1", "SD of M over seeds is -1.0; expected 0 or more"),
        ("--seed-sd .1 .2 --projectors 3", "2 values; expected one, or one for each of the 3"),
        ("--between-projectors .6", "expected 0 ≤ projectors ≤ seeds ≤ 1"),
    ],
)
def test_impossible_figures_are_named(given: str, said: str, capsys) -> None:
    assert main(["--sd", "0.2", *given.split()]) == 1
    assert said in capsys.readouterr().err


def test_the_command_needs_something_to_go_by(capsys) -> None:
    assert main([]) == 1
    assert "expected a config, a file or an SD" in capsys.readouterr().err


# ---- The chance to pass the gate, against the gate itself in simulated studies.

STUDIES = 250


def simulated_gate(design: GateDesign, mean: float, within: float, seed: int) -> float:
    """Share of studies whose projector 0 is grounded; the others are far from it."""
    rng = np.random.default_rng(seed)
    a, g, s, p = design.assumed, design.n_groups, design.n_seeds, design.n_projectors
    high = [0.9] * s, [0.03] * s
    passed = 0
    for _ in range(STUDIES):
        seeds = np.reshape(a.seed_sds(p), (p, 1, 1)) * rng.standard_normal((p, s, 1))
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


@pytest.mark.parametrize(("g", "s", "p"), [(40, 1, 3), (40, 3, 4)])
@pytest.mark.parametrize(("seed_sd", "known"), [(0.0, 28), (0.03, 40)])
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
            found = simulated_gate(design, mean, 0.9 * mean, seed=g + s)
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
    assert assumed.sd == pytest.approx(0.13)
    assert from_references(0.1, seed_sd=0.0, sd=0.2) == AssumedScores(sd=0.2, seed_sd=0.0)
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


@pytest.mark.parametrize(
    ("mean", "known", "asked"), [(0.3, 40, True), (0.3, 29, False), (0.01, 40, False)]
)
def test_asked_where_the_gate_asks(mean: float, known: int, asked: bool) -> None:
    spread = WithinSpread(mean, 0.1, 0.8, known, 60)
    assert asked_within(spread, 0.05) is asked
    assert not asked_within(spread, 0.05, wanted=False)


def test_the_spread_by_hand() -> None:
    margin, within = np.array([1.0, 2.0, 4.0, 9.0]), np.array([2.0, 4.0, np.nan, 18.0])
    found = spread_within(margin, within)
    assert found == WithinSpread(8.0, pytest.approx(np.sqrt(76)), pytest.approx(1.0), 3, 4)
    assert spread_within(margin, np.array([1.0, np.nan, np.nan, np.nan])) is None
    still = spread_within(margin, np.ones(4))
    assert still is not None and still.correlation == 0 and still.sd == 0


def references_by_category(n: int = 30) -> tuple[np.ndarray, list[str], list[str | None]]:
    """References that share a little within their category, and one category of two clips."""
    rng = np.random.default_rng(0)
    category: list[str | None] = [f"c{i // 7}" for i in range(n - 2)] + ["two", "two"]
    same = np.equal.outer(category, category)
    matrix = 0.2 * same + 0.4 * np.eye(n) + rng.normal(0, 0.02, (n, n))
    return matrix, [f"v{i:02d}" for i in range(n)], category


def test_the_scorer_check_tells_it_and_power_reads_it(tmp_path: Path, capsys) -> None:
    matrix, groups, category = references_by_category()
    check = check_scorer(matrix, groups, category)
    spread = check.standardised
    assert spread is not None and spread.within is not None
    assert spread.mean == pytest.approx(standardised_margin(matrix).mean())
    # Two clips are no category.
    assert (spread.within.n_groups, spread.within.n_total) == (28, 30)
    assert spread.within.mean == pytest.approx(0.4 / 0.5 * spread.mean, rel=0.3)
    plain = check_scorer(matrix, groups).standardised
    assert plain is not None and plain.within is None
    path = write_check(tmp_path / "scorer_check.json", asdict(check))
    assert read_references(path).within == spread.within
    assert main(["--references", str(path), "--projectors", "4", "--seeds", "3"]) == 0
    said = capsys.readouterr().out
    assert "Passing the gate with 30 source videos and 3 seeds (M above 0, M within" in said
    lines = [line for line in said.splitlines() if "of the references' M (" in line]
    assert len(lines) == 5 and all("within)" in line for line in lines)


def test_one_seed_and_no_figures_within_category(tmp_path: Path, capsys) -> None:
    values = np.random.default_rng(0).normal(0.3, 0.1, 40)
    path = write_check(tmp_path / "scorer_check.json", check_of(values))
    assert main(["--references", str(path), "--seeds", "1"]) == 0
    said = capsys.readouterr().out
    assert "no ranks with one seed" in said and "This study has one seed: no ranks" in said
    assert "40 source videos and 1 seed (M above 0, M within category is unknown" in said


def test_what_the_page_says_is_printed_is_printed(capsys) -> None:
    line = documented(
        ".venv/bin/python -m siglip_study.planning.power --sd 1 --groups 60 --projectors 4"
        " --seed-sd .03 .03 .4 .1 --difference .5"
    )
    assert main(arguments(line)) == 0
    page = (ROOT / "docs/ranking.md").read_text("utf-8")
    (shown,) = re.findall(r"and prints:\n\n```\n(.*?)```", page, re.S)
    number, said = re.compile(r"\d+\.?\d*"), capsys.readouterr().out
    assert number.sub("", said) == number.sub("", shown)
    # Simulated: other machines' last bits may fall on the other side of a threshold.
    figures = (np.array(number.findall(text), float) for text in (said, shown))
    np.testing.assert_allclose(*figures, rtol=0.02)


# ---- After a study.


def test_a_finished_study_tells_what_each_pair_would_gain_and_cost(tmp_path: Path, capsys) -> None:
    rng = np.random.default_rng(0)
    seed_sd = {"linear": 0.01, "mlp": 0.01, "resampler": 0.4}
    margins = {
        label: 3 + rng.normal(0, 0.6, (3, 40)) + sd * np.array([[-1], [0], [1]])
        for label, sd in seed_sd.items()
    }
    hours = {"linear": RunHours(1.0, 0.5), "mlp": RunHours(2.0, 0.5), "resampler": RunHours(3, 1)}
    found = rank_study(
        {label: Entry(table) for label, table in margins.items()},
        [f"v{i}" for i in range(40)],
        circumstances=Circumstances(hours=hours),
    )
    write_ranking(tmp_path / "ranking.json", found)
    line = documented(
        ".venv/bin/python -m siglip_study.planning.power --ranking results/tables/ranking.json",
        {"results/tables": tmp_path},
    )
    assert main([*arguments(line), "--more", "2"]) == 0
    said = capsys.readouterr().out
    for pair in found.plans:
        (line,) = [line for line in said.splitlines() if line.startswith(f"{pair.a} - {pair.b}")]
        powers = [pair.plan.power(pair.difference, n_seeds=s) for s in (3, 4, 5)]
        powers += [pair.plan.power(pair.difference, times_clips=t) for t in (1.5, 2, 4)]
        assert line.split()[-6:] == [f"{power:.0%}" for power in powers]
    # A seed: 4.5 hours of training + 2 of captions, of all; clips: captions of three seeds.
    (cost,) = [line for line in said.splitlines() if line.startswith("hours more")]
    assert cost.split()[2:] == ["0", "8", "16", "3", "6", "18"]
    assert "resampler 0.3" in said or "resampler 0.4" in said


def test_a_ranking_without_plans_is_named(tmp_path: Path, capsys) -> None:
    alone = rank_study({"linear": Entry(np.ones((1, 5)))}, list("abcde"))
    write_ranking(tmp_path / "ranking.json", alone)
    assert main(["--ranking", str(tmp_path / "ranking.json")]) == 1
    assert "holds no plan of a pair" in capsys.readouterr().err
