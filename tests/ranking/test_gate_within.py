"""A captioner that knows the category alone is not grounded; one that sees clips of it apart is."""

from __future__ import annotations

import numpy as np
import pytest

from siglip_study.base.errors import StudyError
from siglip_study.metrics.grounding import grounding_margin, grounding_margin_within
from siglip_study.ranking.gate import Candidate, GateThresholds, References, gate, gate_all
from siglip_study.ranking.procedure import Entry, Refusal, rank_study
from siglip_study.ranking.scorer_check import check_scorer
from siglip_study.ranking.within import known_group_means, within_demand

G, SEEDS = 60, 3
RNG = np.random.default_rng(0)
HUMAN_WITHIN = RNG.normal(0.3, 0.08, G)
HUMAN = References(0.9, 0.03, 0.35, HUMAN_WITHIN)
DIVERSE = [0.9] * SEEDS, [0.03] * SEEDS


def around(mean: float, sd: float = 0.05, groups: int = G) -> np.ndarray:
    """Margins ``[S, G]`` whose mean is exactly ``mean``."""
    x = np.random.default_rng(1).normal(0, sd, (SEEDS, groups))
    return x - x.mean() + mean


def test_known_group_means_by_hand() -> None:
    values = [[1.0, 3.0, np.nan, np.nan, 5.0], [2.0, 2.0, np.nan, np.nan, 0.0]]
    found = known_group_means(values, ["b", "b", "b", "a", "c"])
    np.testing.assert_array_equal(found, [[np.nan, 2.0, 5.0], [np.nan, 2.0, 0.0]])


def test_more_than_the_category_is_grounded_and_no_more_is_not() -> None:
    sees = gate(*DIVERSE, around(0.2), HUMAN, within=around(0.1))
    assert (sees.verdict, sees.stamps) == ("grounded", ())
    assert sees.decided_within
    assert sees.within.mean == pytest.approx(0.1)
    only = gate(*DIVERSE, around(0.2), HUMAN, within=around(0.0))
    assert (only.verdict, only.stamps) == ("category_only", ("category_only",))
    assert not only.may_be_ranked
    few = gate([0.05] * 3, [0.25] * 3, around(0.2), HUMAN, within=around(0.0))
    assert (few.verdict, few.stamps) == ("collapsed", ("category_only",))
    assert few.reason == "collapsed_category"
    nothing = gate(*DIVERSE, around(0.0, 0.01), HUMAN, within=around(0.0))
    assert (nothing.verdict, nothing.stamps) == ("ungrounded", ())


def test_the_weaker_test_decides_and_holm_runs_over_projectors() -> None:
    # The p of "both above 0" is the larger one; of two projectors the smaller is doubled.
    def of(mean: float, within: float) -> Candidate:
        return Candidate(*DIVERSE, around(mean), around(within))

    both = gate_all({"a": of(0.2, 0.010), "b": of(0.010, 0.2)}, HUMAN)
    alone = gate_all({"a": of(0.2, 0.010)}, HUMAN)["a"]
    assert alone.within.p > alone.margin.p
    assert alone.p_holm == alone.within.p
    a, b = both["a"], both["b"]
    assert (a.decided_within, b.decided_within) == (True, False)
    for told in (a, b):
        least = min(max(x.margin.p, x.within.p) for x in (a, b))
        assert told.p_holm == pytest.approx(max(2 * least, max(told.margin.p, least)))


@pytest.mark.parametrize(
    ("within", "wanted", "reason"),
    [
        (None, True, "no_category"),
        (np.full(G, np.nan), True, "no_category"),
        (np.where(np.arange(G) < 29, 0.3 + 0.01 * RNG.normal(size=G), np.nan), True, "few_videos"),
        (RNG.normal(0.0, 1.0, G) - 0.5, True, "not_shown"),
        (HUMAN_WITHIN, False, "off"),
    ],
)
def test_where_it_cannot_be_asked_for_it_is_not(within, wanted, reason) -> None:
    demand = within_demand(within, 0.05, wanted)
    assert (demand.demanded, demand.reason) == (False, reason)
    limits = GateThresholds(within_category=wanted)
    human = References(0.9, 0.03, 0.35, within)
    told = gate(*DIVERSE, around(0.2), human, limits, within=around(0.0))
    assert told.verdict == "grounded" and told.within is None


def test_videos_without_category_are_left_out() -> None:
    hole = np.arange(G) % 3 == 0
    human = References(0.9, 0.03, 0.35, np.where(hole, np.nan, HUMAN_WITHIN))
    within = np.where(hole, np.nan, around(0.1))
    told = gate(*DIVERSE, around(0.2), human, within=within)
    assert told.verdict == "grounded"
    assert told.within.mean == pytest.approx(np.nanmean(within))


@pytest.mark.parametrize("within", [None, around(0.1)[:, :-1], np.full((SEEDS, G), np.nan)])
def test_margins_that_are_missing_are_named(within) -> None:
    with pytest.raises(StudyError, match="'x': D within category"):
        gate_all({"x": Candidate(*DIVERSE, around(0.2), within)}, HUMAN)


def entrant(matrix: np.ndarray, categories: list[str]) -> Entry:
    margins = np.tile(grounding_margin(matrix), (SEEDS, 1))
    within = np.tile(grounding_margin_within(matrix, categories), (SEEDS, 1))
    noise = 1e-3 * np.random.default_rng(2).normal(size=margins.shape)
    return Entry(margins + noise, *DIVERSE, within + noise)


def test_the_ranking_says_that_nobody_saw_more_than_the_category() -> None:
    categories = [f"c{i % 4}" for i in range(G)]
    same = np.array([[a == b for b in categories] for a in categories], dtype=float)
    human = same + np.eye(G) + 0.01 * np.random.default_rng(3).normal(size=(G, G))
    groups = [f"v{i}" for i in range(G)]
    figures = References(
        0.9, 0.03, float(grounding_margin(human).mean()), grounding_margin_within(human, categories)
    )
    entries = {"category": entrant(same, categories), "guess": entrant(0.5 * same, categories)}
    check = check_scorer(human, groups, categories)
    told = rank_study(entries, groups, figures, check)
    assert told.within_category.demanded
    assert told.answer.refusal == Refusal("category_only")
    assert {own.gate.verdict for own in told.projectors} == {"category_only"}
    assert "within_not_asked" not in {caveat.code for caveat in told.caveats}
    # Its D is the smallest, and it is the only one with a rank.
    seeing = {**entries, "sees": entrant(0.2 * same + 0.1 * np.eye(G), categories)}
    first, *others = rank_study(seeing, groups, figures, check).projectors
    assert (first.projector, first.ranked) == ("sees", True)
    assert not any(own.ranked or own.mean_margin < first.mean_margin for own in others)
    off = GateThresholds(within_category=False)
    found = rank_study(seeing, groups, figures, check, thresholds=off)
    assert found.projectors[0].projector == "category"
    assert "within_not_asked" in {caveat.code for caveat in found.caveats}
