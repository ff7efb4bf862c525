"""A captioner that knows the category alone is not grounded; one that sees clips of it apart is."""

from __future__ import annotations

import numpy as np
import pytest

from siglip_study.base.errors import StudyError
from siglip_study.metrics.grounding import grounding_margin, grounding_margin_within
from siglip_study.ranking.gate import Candidate, GateThresholds, References, gate, gate_all
from siglip_study.ranking.gate_reason import CATEGORY_ONLY
from siglip_study.ranking.rank import Entry, rank
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
    assert sees.numbers["decided_by"] == "D within category"
    assert "0.1000 within a category" in sees.reason
    only = gate(*DIVERSE, around(0.2), HUMAN, within=around(0.0))
    assert (only.verdict, only.stamps) == ("category_only", (CATEGORY_ONLY,))
    assert not only.may_be_ranked and "0.0000 within a category" in only.reason
    few = gate([0.05] * 3, [0.25] * 3, around(0.2), HUMAN, within=around(0.0))
    assert (few.verdict, few.stamps) == ("collapsed", (CATEGORY_ONLY,))
    nothing = gate(*DIVERSE, around(0.0, 0.01), HUMAN, within=around(0.0))
    assert (nothing.verdict, nothing.stamps) == ("ungrounded", ())


def test_boilerplate_with_right_facts_stays_templated() -> None:
    told = gate([0.1] * 3, [0.3] * 3, around(0.2), HUMAN, within=around(0.1))
    assert (told.verdict, told.stamps) == ("grounded", ("templated",))


def test_references_as_captions_are_grounded() -> None:
    told = gate(0.9, 0.03, HUMAN_WITHIN + 0.05, HUMAN, within=HUMAN_WITHIN)
    assert told.verdict == "grounded" and told.may_be_ranked


def test_the_weaker_test_decides_and_holm_runs_over_projectors() -> None:
    # The p of "both above 0" is the larger one; of two projectors the smaller is doubled.
    def of(mean: float, within: float) -> Candidate:
        return Candidate(*DIVERSE, around(mean), around(within))

    both = gate_all({"a": of(0.2, 0.010), "b": of(0.010, 0.2)}, HUMAN)
    alone = {p: gate_all({p: c}, HUMAN)[p].numbers for p, c in (("a", of(0.2, 0.010)),)}["a"]
    assert alone["p_within"] > alone["p"] and alone["p_holm"] == alone["p_within"]
    a, b = both["a"].numbers, both["b"].numbers
    assert (a["decided_by"], b["decided_by"]) == ("D within category", "D")
    for numbers in (a, b):
        least = min(max(x["p"], x["p_within"]) for x in (a, b))
        assert numbers["p_holm"] == pytest.approx(max(2 * least, max(numbers["p"], least)))


@pytest.mark.parametrize(
    ("within", "wanted", "word"),
    [
        (None, True, "No category has three clips"),
        (np.full(G, np.nan), True, "No category has three clips"),
        (np.where(np.arange(G) < 29, 0.3 + 0.01 * RNG.normal(size=G), np.nan), True, "29 of 60"),
        (RNG.normal(0.0, 1.0, G) - 0.5, True, "not shown to be above 0"),
        (HUMAN_WITHIN, False, "gate.within_category is off"),
    ],
)
def test_where_it_cannot_be_asked_for_it_is_not_and_this_is_said(within, wanted, word) -> None:
    demand = within_demand(within, 0.05, wanted)
    assert not demand.demanded and word in demand.sentence
    assert "knows only the category" in demand.sentence
    limits = GateThresholds(within_category=wanted)
    human = References(0.9, 0.03, 0.35, within)
    told = gate(*DIVERSE, around(0.2), human, limits, within=around(0.0))
    assert told.verdict == "grounded" and told.numbers["mean_margin_within"] is None


def test_videos_without_category_are_left_out() -> None:
    hole = np.arange(G) % 3 == 0
    human = References(0.9, 0.03, 0.35, np.where(hole, np.nan, HUMAN_WITHIN))
    within = np.where(hole, np.nan, around(0.1))
    told = gate(*DIVERSE, around(0.2), human, within=within)
    assert told.verdict == "grounded"
    assert told.numbers["mean_margin_within"] == pytest.approx(np.nanmean(within))


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
    told = rank(entries, groups, figures, check_scorer(human, groups, categories))
    assert told["within_category"]["demanded"] and not told["can_rank"]
    assert told["why_not"].endswith("tell clips of one category apart")
    assert {row["gate"] for row in told["projectors"]} == {"category_only"}
    assert not any("could pass the gate" in caveat for caveat in told["caveats"])
    seeing = {**entries, "sees": entrant(0.2 * same + 0.1 * np.eye(G), categories)}
    rows = rank(seeing, groups, figures, check_scorer(human, groups, categories))["projectors"]
    # Its D is the smallest, and it is the only one with a rank.
    assert [row["projector"] for row in rows if row["ranked"]] == ["sees"]
    assert rows[0]["mean_margin"] == min(row["mean_margin"] for row in rows)
    off = GateThresholds(within_category=False)
    body = rank(seeing, groups, figures, check_scorer(human, groups, categories), thresholds=off)
    assert body["projectors"][0]["projector"] == "category"
    assert any("gate.within_category is off" in caveat for caveat in body["caveats"])
