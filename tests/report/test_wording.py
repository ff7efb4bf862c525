"""Sentences: every code has its words, and the figures stand where they belong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from string import Formatter
from typing import get_args

import numpy as np
import pytest
from support.made_study.ranking import made_ranking, verdict

from siglip_study.ranking.caveats import CaveatCode
from siglip_study.ranking.gate import Reason, Stamp, Verdict
from siglip_study.ranking.orders import metric_orders
from siglip_study.ranking.pairs import PairInfluence, PairTest
from siglip_study.ranking.procedure import (
    Answer,
    AnswerCode,
    RankedProjector,
    Refusal,
    RefusalCode,
)
from siglip_study.ranking.scorer_check import check_scorer
from siglip_study.ranking.variance import Bounds
from siglip_study.ranking.within import DemandReason, WithinDemand
from siglip_study.report import wording
from siglip_study.report.charts import ranking_chart

GROUNDED = verdict("linear")
LABELS = ["linear", "mlp", "query"]


# ---- The catalogue.


def fields(template: str) -> set[str]:
    return {name.partition(".")[0] for _, name, _, _ in Formatter().parse(template) if name}


@pytest.mark.parametrize("language", wording.CATALOGUES)
def test_a_language_has_every_template_with_its_figures(language: str) -> None:
    found = wording.CATALOGUES[language]
    assert set(found) == set(wording.ENGLISH)
    for key, template in found.items():
        assert fields(template) <= fields(wording.ENGLISH[key]), key


def codes(kind: object) -> set[str]:
    """Of a ``Literal``, or of a union of them."""
    return {code for part in get_args(kind) for code in (get_args(part) or (part,))}


@pytest.mark.parametrize(
    ("kind", "head", "without"),
    [
        (Verdict, "gate", set()),
        (Reason, "figures", set()),
        (Reason, "meaning", set()),
        (Stamp, "stamp", set()),
        (DemandReason, "within", set()),
        (RefusalCode, "refusal", {"scorer_cannot_tell"}),  # the scorer check's own sentence
        (AnswerCode, "answer", set()),
        (CaveatCode, "caveat", {"within_not_asked"}),  # the demand's own sentence
    ],
)
def test_every_code_has_words(kind, head: str, without: set[str]) -> None:
    assert {f"{head}.{code}" for code in codes(kind) - without} <= set(wording.ENGLISH)


@pytest.mark.parametrize(
    ("names", "said"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), ("abc", "a, b and c")]
)
def test_a_list_of_names(names, said: str) -> None:
    assert wording.listed(names) == said


# ---- The gate.


@pytest.mark.parametrize("name", sorted(codes(Verdict)))
def test_every_verdict_has_a_mark_and_a_colour(name: str) -> None:
    style = (Path(__file__).parents[2] / "report" / "style.css").read_text(encoding="utf-8")
    assert f".pill.{name}" in style
    row = {"projector": "a", "grounding_margin": 0.1, "gate": name}
    row |= {"grounding_margin_low": 0.0, "grounding_margin_high": 0.2}
    chart = json.dumps(ranking_chart([row], {}, 0.05))
    assert "grounding D, 95 % interval" in chart
    # An interval is called what it is, whatever the config's level.
    assert "grounding D, 70 % interval" in json.dumps(ranking_chart([row], {}, 0.3))
    assert f'"domain": ["{name}"]' in chart


DIVERSITY = "effective captions are 0.04 (limit 0.46), the top cluster holds 100% (limit 10%)"
MARGIN = "D is 0.0040 (one-sided bounds -0.0080 and 0.0160, Holm p 0.3)"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, f"Collapsed: {DIVERSITY}, and {MARGIN}, not shown to be above 0."),
        (
            {"category_only": True},
            f"Collapsed: {DIVERSITY}, and {MARGIN}: not shown to be above 0 within a category.",
        ),
        ({"verdict": "grounded"}, f"Grounded though templated: {MARGIN}, while {DIVERSITY}."),
        (
            {"verdict": "category_only"},
            f"Category only: {MARGIN}: above 0 over all clips, not shown to be so within one.",
        ),
        (
            {"verdict": "ungrounded"},
            f"Ungrounded: {MARGIN}; D is under 0.0180, a small share of what human captions reach.",
        ),
        (
            {"verdict": "undetermined", "margin": Bounds(-1e-9, None, None, 1.0)},
            "Undetermined: D is 0.0000 on one group of clips, so it has no bound, neither shown to "
            "be above 0 nor shown to be negligible.",
        ),
        (
            {
                "verdict": "grounded",
                "diversity": None,
                "within": Bounds(0.1, 0.05, 0.15, 0.001),
                "decided_within": True,
            },
            "Grounded: D is 0.0040 (one-sided bounds -0.0080 and 0.0160) and 0.1000 within a "
            "category (0.0500 and 0.1500), Holm p 0.3, decided by D within category.",
        ),
    ],
)
def test_the_gates_reason(changes: dict, said: str) -> None:
    told = replace(verdict("query_perceiver"), **changes)
    assert wording.gate_reason(told) == said
    # Beside the verdict's name: what it means, then the same figures.
    figures = said.split(": ", 1)[1]
    assert wording.gate_explained(told).endswith(figures[:1].upper() + figures[1:])


def test_few_captions_that_tell_categories_apart_are_not_said_to_have_no_tie() -> None:
    told = verdict("query_perceiver")
    assert "no tie to the clip" in wording.gate_explained(told)
    only = wording.gate_explained(replace(told, category_only=True))
    assert only.startswith("A few captions for all clips, which tell categories apart and no more.")


def test_stamps_are_short_in_tables_and_at_length_on_the_page() -> None:
    told = replace(verdict("c_abstractor"), n_seeds=1)
    assert wording.stamps(told) == ["templated", "clips only"]
    page = wording.stamps(told, on_page=True)
    assert page[0].startswith("templated: grounded, but many captions are near-copies")
    assert page[1] == "one seed: the interval carries clips only"
    some = replace(GROUNDED, n_seeds=3, diversity=replace(GROUNDED.diversity, low_seeds=1))
    assert wording.stamps(some) == ["low diversity in 1 of 3 seeds"]


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("asked", "their D within category is 0.2000 (lower bound 0.1000)."),
        ("off", "gate.within_category is off: a captioner that knows only the category"),
        ("no_category", "No category has three clips: a captioner that knows only the category"),
        ("few_videos", "Only 29 of 60 source videos lie in a category"),
        ("not_shown", "is 0.2000 (lower bound 0.1000), not shown to be above 0, so nobody"),
    ],
)
def test_why_d_within_category_is_asked_for_or_not(reason: DemandReason, said: str) -> None:
    assert said in wording.within_demand_sentence(WithinDemand(reason, 0.2, 0.1, 0.01, 29, 60))


@pytest.mark.parametrize(("alpha", "level"), [(0.05, "95"), (0.025, "97.5"), (0.1, "90")])
@pytest.mark.parametrize(
    ("signal", "head"), [(0.1, "The scorer tells"), (0.0, "The scorer cannot")]
)
def test_the_scorer_check_names_its_level(alpha, level, signal, head) -> None:
    scores = np.random.default_rng(0).normal(0.1, 0.03, (60, 60)) + signal * np.eye(60)
    said = wording.scorer_check(check_scorer(scores, [f"v{i}" for i in range(60)], alpha=alpha))
    assert said.startswith(head)
    assert f"({level}% interval " in said


# ---- The answer.


def pair(
    a: str, b: str, detectable: float, difference: float = 0.01, sure: bool = False
) -> PairTest:
    return PairTest(a, b, difference, -0.2, 0.2, 0.8, 1.0, 4.0, detectable, sure)


def ranking(answer: Answer, labels: list[str], pairs: list[PairTest], human: float | None = None):
    """All ``labels`` ranked, anywhere from first to last but for a first that is proven."""
    made = made_ranking(["linear"], 2)
    proven = answer.code == "first"
    own = tuple(
        RankedProjector(
            label,
            0.3 - i / 10,
            None,
            None,
            "",
            None,
            GROUNDED,
            *((i + 1, i + 1) if proven else (1, len(labels))),
        )
        for i, label in enumerate(labels)
    )
    scorer = None if human is None else replace(made.scorer, mean_margin=human)
    return replace(made, answer=answer, projectors=own, pairs=tuple(pairs), scorer=scorer)


def undecided(human: float | None, *detectable: float) -> str:
    pairs = [
        pair(a, b, d)
        for (a, b), d in zip(
            [("linear", "mlp"), ("linear", "query"), ("mlp", "query")], detectable, strict=True
        )
    ]
    return wording.answer(ranking(Answer("no_difference", tuple(LABELS)), LABELS, pairs, human))


def test_the_hardest_pair_says_what_could_be_missed() -> None:
    said = undecided(0.37, 0.05, 0.5, 0.4)
    assert said.endswith("a difference in D under 0.5000 could have been missed.")


def test_no_order_was_ever_possible_where_every_pair_misses_the_human_d() -> None:
    said = undecided(0.37, 0.38, 0.5, 0.4)
    assert "under 0.5000 could have been missed; every pair could miss one as large as" in said
    assert "the human captions' whole D of 0.3700" in said
    assert said.endswith("two projectors.")


@pytest.mark.parametrize("human", [None, -0.1, 0.0])
def test_without_a_human_d_nothing_is_held_against_it(human: float | None) -> None:
    assert "human" not in undecided(human, 0.38, 0.5, 0.4)


def test_one_pair_is_spoken_of_as_one() -> None:
    answer = Answer("no_difference", ("linear", "mlp"))
    assert wording.answer(
        ranking(answer, ["linear", "mlp"], [pair("linear", "mlp", 0.5)], 0.4)
    ) == (
        "No order can be claimed: linear and mlp do not differ significantly, and a difference in "
        "D under 0.5000 could have been missed; that is no less than the human captions' whole D "
        "of 0.4000, so this study has too few seeds or clips to order any two projectors."
    )


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            Answer("only_projector", ("linear",)),
            "No order can be claimed: linear is the only projector of the study.",
        ),
        (
            Answer("only_ranked", ("linear",)),
            "Only linear can be ranked: no other projector's captions passed the gate.",
        ),
        (
            Answer("no_first", ("linear", "mlp")),
            "No first place can be claimed: linear and mlp cannot be told apart; query cannot be "
            "first.",
        ),
        (
            Answer("unproven_first", ("linear",)),
            "No first place can be claimed: linear alone is beaten by none, but it is not shown to "
            "exceed mlp.",
        ),
        (
            Answer("first", ("linear",), ("loud",)),
            "linear ranks first of 3: its captions fit their clips better than those of every "
            "other ranked projector, by 0.0100 in D over mlp (-0.2000 to 0.2000); the whole order "
            "is linear > mlp > query; loud has a higher D and did not pass the gate.",
        ),
        (
            Answer("refused", refusal=Refusal("copied_runs", ("mlp",))),
            "No order can be claimed: two runs of one projector (mlp) have the same scores on "
            "every clip, so they are one run counted twice, and the difference between seeds is "
            "unknown.",
        ),
    ],
)
def test_the_answer(answer: Answer, said: str) -> None:
    pairs = [pair("linear", "mlp", 0.5), pair("linear", "query", 0.5, 0.2, True)]
    assert wording.answer(ranking(answer, LABELS, [*pairs, pair("mlp", "query", 0.5)])) == said


# ---- What limits it.


def test_every_caveat_is_a_sentence() -> None:
    found = wording.caveats(made_ranking(["linear", "query_perceiver"], 2))
    assert found[0].startswith("The scorer averages over frames")
    assert (
        found[1]
        == f"query_perceiver is not ranked. {wording.gate_reason(verdict('query_perceiver'))}"
    )


@pytest.mark.parametrize(
    ("alpha", "level", "warned"), [(0.3, "70 %", True), (0.025, "97.5 %", False)]
)
def test_a_lenient_level_is_warned_of(alpha: float, level: str, warned: bool) -> None:
    from siglip_study.ranking.caveats import Caveat

    found = replace(made_ranking(["linear"], 2), alpha=alpha, caveats=(Caveat("other_level"),))
    (said,) = wording.caveats(found)
    assert f"of the scorer check at {level}; those beside the metrics of one captioner" in said
    assert ("The procedure asks for 0.05" in said) == warned


def influence(flipped_by: tuple[str, ...], claimed: bool) -> PairInfluence:
    return PairInfluence("a", "b", -0.01, "v3", 0.0, 0.1, 0.2, "v3", flipped_by, claimed)


SIZE = "leaving one out moves a difference by 0.0100 in D at most (a and b, without 'v3')."


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([], None),
        (
            [influence((), True)],
            "No single source video makes or unmakes the verdict on the pair (1 claimed): ",
        ),
        (
            [influence((), True), influence((), False)],
            "No single source video makes or unmakes any of the 2 pairwise verdicts (1 claimed): ",
        ),
        (
            [influence(("v0",), False)],
            "A single source video decides the pair, a and b (claimed without 'v0'); ",
        ),
        (
            [influence(("v0", "v1"), True), influence((), True)],
            "A single source video decides 1 of the 2 pairs, a and b (claimed only with each of "
            "2); ",
        ),
    ],
)
def test_what_single_source_videos_carry(found, said: str | None) -> None:
    assert wording.influence(found) == (said and said + SIZE)


# ---- Other orders.

VALUES = {
    "d": {"a": 0.4, "b": 0.3, "c": 0.2},
    "same": {"a": 9.0, "b": 2.0, "c": 1.0},
    "swap": {"a": 3.0, "b": 1.0, "c": 2.0},
    "reverse": {"a": 1.0, "b": 2.0, "c": 3.0},
}


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ([], ""),
        (["same", "swap"], ", and the highest of every other measure: same and swap."),
        (["same", "reverse"], ", and of same; another is first by reverse (c)."),
        (["reverse"], "; every other measure puts another first: reverse (c)."),
    ],
)
def test_who_agrees_on_the_first_place(metrics: list[str], said: str) -> None:
    orders = metric_orders({metric: VALUES[metric] for metric in ("d", *metrics)}, "d")
    names = {metric: metric for metric in VALUES} | {"d": "D"}
    head = "a has the highest mean D" if said else ""
    assert wording.metric_orders_sentence(orders, "d", names) == head + said
