"""What the claims rest on: pairs, single runs, and where a metric's variance comes from."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
from support.made_study.ranking import made_ranking
from support.page import part

from siglip_study.base.errors import StudyError
from siglip_study.ranking.caveats import Caveat
from siglip_study.ranking.gate import RunGate
from siglip_study.ranking.pairs import Run, RunInfluence
from siglip_study.ranking.scores import Components
from siglip_study.ranking.variance import Bounds
from siglip_study.report.evidence import (
    evidence,
    pair_views,
    run_sentences,
    run_views,
    variance_figures,
)
from siglip_study.report.results import CellResult
from siglip_study.report.wording.claims import sound_runs
from siglip_study.report.wording.conclusion import caveats

LABELS = ["linear", "mlp_2l", "c_abstractor"]
#: Skills of .10, .12 and .06: the first two cannot be told apart.
RANKING = made_ranking(LABELS, 2)


def run(projector: str, seed: int) -> CellResult:
    values = {
        "standardised_margin": {"value": 4.0 + seed, "low": 3.5, "high": 5.5},
        "effective_captions": {"value": 0.9, "low": None, "high": None},
        "sentences": {"value": 2.25},
        "retrieval_r1": {"value": 1.0, "low": 0.94, "high": 1.0},
    }
    return CellResult(f"{projector}_{seed}", "report", {"values": values}, {**_of(projector, seed)})


def _of(projector: str, seed: int) -> dict:
    return {"projector": projector, "seed": seed}


CELLS = [run(label, seed) for label in LABELS for seed in (7, 9)]


# ---- Pairs.


def test_a_claim_has_its_winner_and_says_where_power_was_low() -> None:
    told = {(view.test.a, view.test.b): view for view in pair_views(RANKING)}
    assert told["linear", "mlp_2l"].better is None
    assert told["mlp_2l", "c_abstractor"].better == "mlp_2l"
    assert not told["mlp_2l", "c_abstractor"].weak  # power .93
    assert told["linear", "c_abstractor"].better == "linear"
    assert told["linear", "c_abstractor"].weak  # power .54


def test_where_no_ranks_are_given_nobody_is_better() -> None:
    views = pair_views(made_ranking(LABELS, 1))
    assert {view.better for view in views} == {None} and not any(view.weak for view in views)


# ---- Run by run.


def test_each_run_stands_with_its_own_verdict_and_figures() -> None:
    views = run_views(RANKING, CELLS)
    assert [view.run for view in views[:3]] == [
        Run("mlp_2l", 0),
        Run("mlp_2l", 1),
        Run("linear", 0),
    ]
    first = views[1]
    assert (first.cell.seed, first.cell.name, first.gate) == (9, "mlp_2l_9", "grounded")
    assert first.cell.figure("standardised_margin") == {"value": 13.0, "low": 3.5, "high": 5.5}
    assert first.cell.figure("auc") == {"value": None, "low": None, "high": None}


def test_a_ranking_of_other_runs_is_refused() -> None:
    with pytest.raises(StudyError, match="gates 2 runs of 'linear'; expected the 1 that are"):
        run_views(RANKING, [cell for cell in CELLS if cell.name != "linear_7"])


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        (
            ("grounded", "collapsed"),
            "1 of 2 runs of linear failed by themselves (collapsed with seed 9): whoever trains it "
            "once may get such a run.",
        ),
        (
            ("ungrounded", "collapsed"),
            "All 2 runs of linear failed by themselves (ungrounded with seed 7 and collapsed with "
            "seed 9).",
        ),
        (("grounded", "undetermined"), None),
    ],
)
def test_failed_runs_are_named_by_their_seeds(verdicts: tuple, said: str | None) -> None:
    gated = tuple(RunGate(verdict, Bounds(0.1, 0.0, 0.2, 0.5)) for verdict in verdicts)
    projectors = tuple(
        replace(own, gate=replace(own.gate, runs=gated)) if own.projector == "linear" else own
        for own in RANKING.projectors
    )
    ranking = replace(RANKING, projectors=projectors)
    *failed, sound = (said.en for said in run_sentences(ranking, run_views(ranking, CELLS)))
    assert failed == ([said] if said else [])
    # 1 − √.05.
    assert sound == "2 sound seeds exclude a failure rate of a run above 78%, and no lower one."


def test_one_seed_says_nothing_of_failures() -> None:
    assert "how often a run fails is unknown" in sound_runs(1, 0.05).en


# ---- Leaving out one run.


def influence(a: str, b: str, claimed: bool, *lost: Run) -> RunInfluence:
    return RunInfluence(a, b, -0.1, Run(a, 1), 0.2, 0.4, False, claimed, lost)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([influence("linear", "mlp_2l", False)], "No difference is claimed"),
        ([influence("linear", "mlp_2l", True)], "No single run decides the claim"),
        ([influence("linear", "mlp_2l", True)] * 2, "each of the 2 claimed differences"),
        (
            [
                influence("linear", "mlp_2l", True, Run("linear", 1), Run("mlp_2l", 0)),
                influence("linear", "c_abstractor", True),
            ],
            "1 of 2 claimed differences would be lost without a single run: linear and mlp_2l "
            "(without seed 9 of linear or seed 7 of mlp_2l).",
        ),
    ],
)
def test_claims_that_hang_on_a_run_name_it(found: list, said: str) -> None:
    told = evidence(replace(RANKING, run_influence=tuple(found)), CELLS)
    assert told.run_influence is not None and said in told.run_influence.en
    assert told.run_names[found[0].run].en == "seed 9 of linear"


def test_with_one_seed_no_run_can_be_left_out() -> None:
    assert (
        evidence(made_ranking(LABELS, 1), [run(label, 7) for label in LABELS]).run_influence is None
    )


# ---- Variance.


def test_shares_are_of_the_sum_of_all_parts() -> None:
    found = Components(4.0, 1.0, 2.0, 1.0, 8.0, 3.0)
    assert found.shares == [0.25, 0.0625, 0.125, 0.0625, 0.5]
    assert Components(0, 0, 0, 0, 0, None).shares == [None] * 5


def test_metrics_stand_by_signal_to_noise_and_those_without_one_last() -> None:
    (margin, _), (constant, parts) = variance_figures(RANKING)
    assert (margin, constant) == ("standardised_margin", "retrieval_r1")
    assert parts.signal_to_noise is None


# ---- On the page and in the tables.


@pytest.fixture(scope="module")
def section(page: str) -> str:
    return " ".join(part(page, "evidence").split())


@pytest.mark.parametrize(
    "said",
    [
        "linear − c_abstractor",
        '<td class="num">[0.0110, 0.0690]</td>',  # jointly: .04 ± .029
        '<td class="num">54 %</td><td class="num">0.0200</td>',  # power, shrunken
        '<td class="num">93 %</td><td class="num">–</td>',
        "2 sound seeds exclude a failure rate of a run above 78%",
        "All 2 runs of query_perceiver failed by themselves (collapsed with seed 1 and",
        "M, which ranks",
    ],
)
def test_the_page_has_the_evidence(section: str, said: str) -> None:
    assert said in section


def test_runs_that_carry_a_claim_are_on_the_page(page: str) -> None:
    assert "mlp_2l and c_abstractor (without seed 2 of mlp_2l)" in " ".join(page.split())


def test_the_tables_hold_the_same_figures(study) -> None:
    tables = {
        name: pl.read_parquet(study.root / f"tables/{name}.parquet")
        for name in ("pairs", "runs", "variance", "sensitivity")
    }
    pair = tables["pairs"].filter(a="linear", b="c_abstractor").row(0, named=True)
    assert pair["joint_low"] == pytest.approx(0.011) and pair["power"] == 0.54
    runs = tables["runs"].filter(projector="linear")
    assert runs["seed"].to_list() == [1, 2] and set(runs["gate"]) == {"grounded"}
    assert (runs["standardised_margin_low"] < runs["standardised_margin"]).all()
    assert tables["variance"]["metric"].to_list() == ["standardised_margin", "retrieval_r1"]
    lead = tables["sensitivity"].filter(metric="standardised_margin")
    assert (lead["low"] < lead["value"]).all() and (lead["value"] < lead["high"]).all()


# ---- Sentences a caption.


def test_unlike_numbers_of_sentences_are_told_in_sentences() -> None:
    caveat = Caveat("unlike_sentences", ("linear", "mlp_2l"), (1.0, 2.5))
    ranking = replace(RANKING, caveats=(caveat, Caveat("frame_order")))
    (said,) = (told.en for told in caveats(ranking, "unlike_sentences"))
    assert "differ in sentences (linear 1.00 and mlp_2l 2.50 a caption)" in said
    assert said.endswith("and not by D or cosines.")
