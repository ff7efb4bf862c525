"""The whole: what a reader is told in studies whose truth is known."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from siglip_study.base.errors import StudyError
from siglip_study.ranking.gate import References
from siglip_study.ranking.rank import Entry, rank
from siglip_study.ranking.scorer_check import check_scorer
from siglip_study.ranking.wording import Circumstances

N = 60
GROUPS = [f"v{i:02d}" for i in range(N)]
HUMAN = References(effective=0.9, top_share=0.03, mean_margin=0.1)
_RNG = np.random.default_rng(0)
SCORER = check_scorer(_RNG.normal(0.1, 0.03, (N, N)) + 0.1 * np.eye(N), GROUPS)


def entry(mean: float, name: int = 0, seeds: int = 3, diversity: float = 0.8) -> Entry:
    rng = np.random.default_rng(name)
    margins = mean + rng.normal(0, 0.03, (seeds, N)) + rng.normal(0, 0.002, (seeds, 1))
    top = 0.03 if diversity > 0.5 else 0.5
    return Entry(margins, [diversity] * seeds, [top] * seeds)


def planted(seeds: int = 3) -> dict[str, Entry]:
    """Captioners with 0, 25, 50, 75 and 100 % of the facts right."""
    return {f"facts_{100 * k // 4}": entry(0.025 * k, k, seeds) for k in range(5)}


def table(result: dict) -> dict[str, dict]:
    return {row["projector"]: row for row in result["projectors"]}


def test_planted_captioners_come_out_in_order() -> None:
    result = rank(planted(), GROUPS, HUMAN, SCORER)
    rows = table(result)
    order = ["facts_100", "facts_75", "facts_50", "facts_25"]
    assert [rows[name]["rank_low"] for name in order] == [1, 2, 3, 4]
    assert [rows[name]["rank_high"] for name in order] == [1, 2, 3, 4]
    assert rows["facts_0"]["ranked"] is False
    assert rows["facts_0"]["rank_low"] is None
    assert rows["facts_0"]["gate"] in ("ungrounded", "undetermined")
    assert result["verdict"].startswith("facts_100 ranks first of 4")
    assert " > ".join(order) in result["verdict"]
    assert any("facts_0 is not ranked" in sentence for sentence in result["caveats"])
    assert len(result["pairs"]) == 10  # gated ones are tested too
    assert [row["projector"] for row in result["projectors"]] == [*order, "facts_0"]


def test_it_is_json_and_depends_on_no_order() -> None:
    entries = planted()
    result = rank(entries, GROUPS, HUMAN, SCORER)
    text = json.dumps(result, allow_nan=False)
    shuffled = np.random.default_rng(3).permutation(N)
    turned = {
        name: replace(e, margins=np.asarray(e.margins)[:, shuffled])
        for name, e in reversed(entries.items())
    }
    again = rank(turned, [GROUPS[i] for i in shuffled], HUMAN, SCORER)
    assert json.loads(text)["verdict"] == again["verdict"]
    assert [p["p_holm"] for p in again["pairs"]] == pytest.approx(
        [p["p_holm"] for p in result["pairs"]]
    )


def test_one_projector_entered_twice_is_inseparable() -> None:
    result = rank({"a": entry(0.05), "b": entry(0.05)}, GROUPS, HUMAN, SCORER)
    assert {(r["rank_low"], r["rank_high"]) for r in result["projectors"]} == {(1, 2)}
    assert result["pairs"][0]["p"] == 1.0
    assert result["verdict"].startswith("No order can be claimed: a and b do not differ")


def test_two_at_the_top() -> None:
    entries = {"a": entry(0.08, 1), "b": entry(0.08, 2), "c": entry(0.03, 3)}
    verdict = rank(entries, GROUPS, HUMAN, SCORER)["verdict"]
    assert verdict.startswith("No first place can be claimed: ")
    assert "cannot be told apart; c cannot be first" in verdict


def test_one_seed_has_no_ranks() -> None:
    result = rank(planted(seeds=1), GROUPS, HUMAN, SCORER)
    assert result["can_rank"] is False
    assert "one run each" in result["why_not"]
    assert result["verdict"].startswith("No order can be claimed")
    assert all(row["rank_low"] is None and not row["ranked"] for row in result["projectors"])
    assert all(pair["p"] is None and not pair["significant"] for pair in result["pairs"])
    assert max(pair["seed_sd_to_undo"] for pair in result["pairs"]) > 0
    assert result["caveats"][0].startswith("One run each")


def test_two_seeds_are_ranked_with_a_warning() -> None:
    result = rank(planted(seeds=2), GROUPS, HUMAN, SCORER)
    assert result["can_rank"]
    assert result["caveats"][0].startswith("2 seeds")


def test_scorer_that_cannot_tell_ends_it() -> None:
    blind = check_scorer(np.random.default_rng(1).normal(0.1, 0.03, (N, N)), GROUPS)
    result = rank(planted(), GROUPS, HUMAN, blind)
    assert (result["can_rank"], result["scorer_can_tell"]) == (False, False)
    assert "The scorer cannot tell; no verdict" in result["verdict"]


def test_collapsed_and_templated() -> None:
    entries = {
        "collapsed": entry(0.0, 1, diversity=0.05),
        "boilerplate": entry(0.05, 2, diversity=0.1),
        "free": entry(0.08, 3),
    }
    rows = table(rank(entries, GROUPS, HUMAN, SCORER))
    assert (rows["collapsed"]["gate"], rows["collapsed"]["ranked"]) == ("collapsed", False)
    assert (rows["boilerplate"]["ranked"], rows["boilerplate"]["stamps"]) == (True, ["templated"])
    assert (rows["free"]["rank_low"], rows["boilerplate"]["rank_low"]) == (1, 2)


def test_nobody_and_somebody_alone() -> None:
    nobody = rank({"a": entry(0.0, 1), "b": entry(0.0, 2)}, GROUPS, HUMAN, SCORER)
    assert nobody["can_rank"] is False
    assert "no projector's captions" in nobody["verdict"]
    alone = rank({"a": entry(0.08, 1), "b": entry(0.0, 2)}, GROUPS, HUMAN, SCORER)
    assert alone["verdict"].startswith("Only a can be ranked")
    assert rank({"a": entry(0.08)}, GROUPS, HUMAN, SCORER)["pairs"] == []


def test_one_group_has_no_ranks() -> None:
    result = rank(planted(), ["v"] * N, HUMAN, SCORER)
    assert result["can_rank"] is False
    assert "there is one group of clips" in result["verdict"]
    assert not any("groups" in said or "source videos" in said for said in result["caveats"])
    json.dumps(result, allow_nan=False)


def test_retrieval_and_circumstances_are_said() -> None:
    entries = {"a": entry(0.08, 1), "b": entry(0.02, 2)}
    bar = np.random.default_rng(5).normal(0.04, 0.03, N)
    said = Circumstances(
        optimistic=True,
        cross_fitted=True,
        chosen_gates={"a": "category_only", "b": "collapsed"},
        truncated={"a": 0.25, "b": 0.0},
    )
    result = rank(entries, [f"v{i // 3}" for i in range(N)], HUMAN, SCORER, bar, None, said)
    assert result["retrieval"]["cleared_by"] == ["a"]
    text = " ".join(result["caveats"])
    for part in (
        "optimistic",
        "halved",
        "On a half of the clips every tuning cell of b collapsed; the one",
        "On a half of the clips no tuning cell of a was grounded; the one",
        "a 25.0%",
        "20 source videos",
        "Only 20 independent",
        "nearest training clip: b",
        "order of frames",
    ):
        assert part in text


def test_bad_margins_are_named() -> None:
    with pytest.raises(StudyError, match="'a': margins of shape"):
        rank({"a": Entry(np.ones((3, 5)), [1] * 3, [0.1] * 3)}, GROUPS, HUMAN, SCORER)
