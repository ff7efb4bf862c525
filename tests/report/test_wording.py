"""Sentences: every code has its words, and the figures stand where they belong."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from string import Formatter
from typing import get_args

import numpy as np
import pytest
from support.made_study.ranking import made_ranking, verdict

from siglip_study.metrics import METRICS
from siglip_study.ranking.answer import Answer, AnswerCode, Refusal, RefusalCode
from siglip_study.ranking.caveats import Caveat, CaveatCode
from siglip_study.ranking.gate import Reason, Stamp, Verdict
from siglip_study.ranking.orders import metric_orders
from siglip_study.ranking.pairs import PairInfluence, PairTest
from siglip_study.ranking.procedure import RankedProjector
from siglip_study.ranking.scorer_check import check_scorer
from siglip_study.ranking.variance import Bounds
from siglip_study.ranking.within import DemandReason, WithinDemand
from siglip_study.report.language import Text, texts, written
from siglip_study.report.wording import conclusion
from siglip_study.report.wording.claims import influence, metric_orders_sentence
from siglip_study.report.wording.conclusion import caveats
from siglip_study.report.wording.gate import (
    gate_explained,
    gate_reason,
    scorer_check,
    stamps,
    within_demand_sentence,
)
from siglip_study.report.wording.glossary import TERMS
from siglip_study.report.wording.metrics import as_written, definition

GROUNDED = verdict("linear")
COLLAPSED = verdict("query_perceiver")

# ---- The catalogue.

SENTENCES = {key for part in ("gate", "conclusion") for key in texts(part)}


def fields(template: str) -> set[str]:
    return {name.partition(".")[0] for _, name, _, _ in Formatter().parse(template) if name}


@pytest.mark.parametrize("part", written("en"))
def test_both_languages_have_the_same_texts_with_the_same_figures(part: str) -> None:
    assert written("ko")[part].keys() == written("en")[part].keys()
    for key, told in texts(part).items():
        assert told.en.strip() and told.ko.strip(), key
        # English alone has plurals.
        assert fields(told.en) - {"plural", "word"} == fields(told.ko), key


@pytest.mark.parametrize("key", TERMS)
def test_every_term_is_explained_in_both_languages(key: str) -> None:
    meaning = TERMS[key].meaning
    assert re.search("[가-힣]", meaning.ko) and not re.search("[가-힣]", meaning.en)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_defined_in_both_languages(name: str) -> None:
    told = definition(name, METRICS[name].description)
    assert re.search("[가-힣]", told.ko) and not re.search("[가-힣]", told.en)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("kiwipiepy 0.24.1, content morphemes", "kiwipiepy 0.24.1, 내용 형태소"),
        ("characters (NFC, lower case)", "글자 (NFC, 소문자)"),
        (
            "no model is configured (metrics.bertscore)",
            "설정된 모델이 없습니다 (metrics.bertscore)",
        ),
        ("a reason of tomorrow", "a reason of tomorrow"),
    ],
)
def test_what_the_files_say_is_read_in_korean_as_far_as_it_is_known(written, read) -> None:
    assert as_written(written) == Text(written, read)


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
    assert {f"{head}.{code}" for code in codes(kind) - without} <= SENTENCES


# ---- The gate.


@pytest.mark.parametrize("name", sorted(codes(Verdict)))
def test_every_verdict_has_a_mark_and_a_colour(name: str) -> None:
    style = (Path(__file__).parents[2] / "report" / "style.css").read_text(encoding="utf-8")
    assert f".pill.{name}" in style


DIVERSITY = (
    "distinct captions are 0.04 of the clips (limit 0.46), the largest group of near-copies holds "
    "100% (limit 10%)"
)
MARGIN = "M is 0.00400 (one-sided bounds −0.00800 and 0.0160, Holm's p 0.3)"
WITHIN = "and 0.100 within a category (0.0500 and 0.150), Holm's p 0.3, decided by M within"


@pytest.mark.parametrize(
    ("changes", "head", "figures"),
    [
        ({}, "Collapsed: ", (DIVERSITY, MARGIN, "not shown to be above 0.")),
        ({"category_only": True}, "Collapsed: ", (DIVERSITY, MARGIN, "within a category.")),
        ({"verdict": "grounded"}, "Grounded though templated: ", (MARGIN, DIVERSITY)),
        ({"verdict": "category_only"}, "Category only: ", (MARGIN,)),
        ({"verdict": "ungrounded"}, "Ungrounded: ", (MARGIN, "M is under 0.0180")),
        (
            {"verdict": "undetermined", "margin": Bounds(-1e-9, None, None, 1.0)},
            "Undetermined: ",
            ("M is 0.00 on one group of clips, so it has no bound",),
        ),
        (
            {
                "verdict": "grounded",
                "diversity": None,
                "within": Bounds(0.1, 0.05, 0.15, 0.001),
                "decided_within": True,
            },
            "Grounded: ",
            ("M is 0.00400 (one-sided bounds −0.00800 and 0.0160)", WITHIN),
        ),
    ],
)
def test_the_gates_reason(changes: dict, head: str, figures: tuple[str, ...]) -> None:
    told = replace(COLLAPSED, **changes)
    said = gate_reason(told).en
    assert said.startswith(head)
    assert [figure for figure in figures if figure not in said] == []
    # Beside the verdict's name: what it means, then the same figures.
    assert gate_explained(told).en.lower().endswith(said.removeprefix(head).lower())


def test_few_captions_that_tell_categories_apart_are_not_said_to_have_no_tie() -> None:
    assert "no tie to the clip" in gate_explained(COLLAPSED).en
    assert "no tie" not in gate_explained(replace(COLLAPSED, category_only=True)).en


def test_stamps_are_short_in_tables_and_at_length_on_the_page() -> None:
    told = replace(verdict("c_abstractor"), n_seeds=1)
    assert [stamp.en for stamp in stamps(told)] == ["templated", "clips only"]
    long = [stamp.en for stamp in stamps(told, on_page=True)]
    assert long[0].startswith("templated: ") and "one seed" in long[1]
    some = replace(
        GROUNDED, n_seeds=3, diversity=replace(GROUNDED.diversity, low_runs=(False, True, False))
    )
    assert [stamp.en for stamp in stamps(some)] == ["low diversity in 1 of 3 seeds"]


@pytest.mark.parametrize(
    ("reason", "figure"),
    [
        ("asked", "0.200 (lower bound 0.100)"),
        ("not_shown", "0.200 (lower bound 0.100)"),
        ("few_videos", "29 of 60"),
    ],
)
def test_why_d_within_category_is_asked_for_or_not(reason: DemandReason, figure: str) -> None:
    assert figure in within_demand_sentence(WithinDemand(reason, 0.2, 0.1, 0.01, 29, 60)).en


@pytest.mark.parametrize(("alpha", "level"), [(0.05, "95"), (0.025, "97.5"), (0.1, "90")])
@pytest.mark.parametrize(
    ("signal", "head"), [(0.1, "The scorer tells"), (0.0, "The scorer cannot")]
)
def test_the_scorer_check_names_its_level(alpha, level, signal, head) -> None:
    scores = np.random.default_rng(0).normal(0.1, 0.03, (60, 60)) + signal * np.eye(60)
    said = scorer_check(check_scorer(scores, [f"v{i}" for i in range(60)], alpha=alpha)).en
    assert said.startswith(head)
    assert f"({level}% interval " in said


# ---- The answer.


def answered(answer: Answer, tests: list[tuple], human: float | None = None) -> str:
    """The sentence on ``linear``, ``mlp`` and ``query``, or those of them that ``tests`` have.

    All are ranked, anywhere from first to last but for a first that is proven. A test is a pair,
    its smallest detectable difference, its difference and whether that is significant.
    """
    pairs = []
    for a, b, detectable, difference, sure in tests:
        ends = (-0.2, 0.2, 0.8, 1.0, 4.0)
        pairs.append(PairTest(a, b, difference, *ends, detectable, sure))
    labels = sorted({label for test in tests for label in test[:2]})
    projectors = []
    for place, label in enumerate(labels, start=1):
        ranks = (place, place) if answer.code == "first" else (1, len(labels))
        own = RankedProjector(label, 0.3 - place / 10, None, None, "", None, GROUNDED, *ranks)
        projectors.append(own)
    made = made_ranking(["linear"], 2)
    found = {"answer": answer, "projectors": tuple(projectors), "pairs": tuple(pairs)}
    return conclusion.answer(replace(made, **found, human_margin=human)).en


TESTS = [
    ("linear", "mlp", 0.5, 0.01, False),
    ("linear", "query", 0.5, 0.2, True),
    ("mlp", "query", 0.5, 0.01, False),
]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer("only_projector", ("linear",)), ["linear is the only projector"]),
        (Answer("only_ranked", ("linear",)), ["Only linear can be ranked"]),
        (
            Answer("no_first", ("linear", "mlp")),
            ["No first place can be claimed: linear and mlp", "; query cannot be first"],
        ),
        (
            Answer("unproven_first", ("linear",)),
            ["No first place can be claimed: linear alone", "not shown to exceed mlp."],
        ),
        (
            Answer("first", ("linear",), ("loud",)),
            [
                "linear ranks first of 3",
                "by 0.0100 in M over mlp (−0.200 to 0.200)",
                "the whole order is linear > mlp > query",
                "loud has a higher M and did not pass the gate",
            ],
        ),
        (
            Answer("refused", refusal=Refusal("copied_runs", ("mlp",))),
            ["No order can be claimed: two runs of one projector (mlp) have the same scores"],
        ),
    ],
)
def test_the_answer(answer: Answer, said: list[str]) -> None:
    found = answered(answer, TESTS)
    assert [part for part in said if part not in found] == []


@pytest.mark.parametrize(
    ("human", "detectable", "missed", "beyond"),
    [
        (0.37, (0.05, 0.5, 0.4), "under 0.500", None),  # the hardest pair decides
        (0.37, (0.38, 0.5, 0.4), "under 0.500", "every pair could miss one as large as"),
        (0.4, (0.5,), "linear and mlp do not differ", "no less than the human captions' whole M"),
        (None, (0.38, 0.5, 0.4), "under 0.500", None),
        (-0.1, (0.38, 0.5, 0.4), "under 0.500", None),
        (0.0, (0.38, 0.5, 0.4), "under 0.500", None),
    ],
)
def test_what_could_have_been_missed_beside_the_human_d(human, detectable, missed, beyond) -> None:
    tests = [(a, b, d, 0.01, False) for (a, b, *_), d in zip(TESTS, detectable, strict=False)]
    said = answered(Answer("no_difference"), tests, human)
    assert missed in said and ("human" in said) == (beyond is not None)
    if beyond is not None:
        assert beyond in said and f"{human:.3g}" in said


# ---- What limits it.


def test_every_caveat_is_a_sentence() -> None:
    first, second = (said.en for said in caveats(made_ranking(["linear", "query_perceiver"], 2)))
    assert first.startswith("The scorer averages over frames")
    assert second == f"query_perceiver is not ranked. {gate_reason(COLLAPSED).en}"


@pytest.mark.parametrize(
    ("alpha", "level", "warned"), [(0.3, "70 %", True), (0.025, "97.5 %", False)]
)
def test_a_lenient_level_is_warned_of(alpha: float, level: str, warned: bool) -> None:
    found = replace(made_ranking(["linear"], 2), alpha=alpha, caveats=(Caveat("other_level"),))
    (said,) = caveats(found)
    assert f"of the scorer check at {level};" in said.en
    assert ("The procedure asks for 0.05" in said.en) == warned


def influenced(flipped_by: tuple[str, ...], claimed: bool) -> PairInfluence:
    return PairInfluence("a", "b", -0.01, "v3", 0.0, 0.1, 0.2, "v3", flipped_by, claimed)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([influenced((), True)], "unmakes the verdict on the pair (1 claimed): "),
        (
            [influenced((), True), influenced((), False)],
            "unmakes any of the 2 pairwise verdicts (1 claimed): ",
        ),
        ([influenced(("v0",), False)], "decides the pair, a and b (claimed without 'v0'); "),
        (
            [influenced(("v0", "v1"), True), influenced((), True)],
            "decides 1 of the 2 pairs, a and b (claimed only with each of 2); ",
        ),
    ],
)
def test_what_single_source_videos_carry(found, said: str) -> None:
    sentence = influence(found).en
    assert said in sentence and "by 0.0100 in M at most (a and b, without 'v3')" in sentence


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
        (["same", "swap"], ", and is first by every other measure: same and swap."),
        (["same", "reverse"], ", and is first by same; elsewhere c by reverse."),
        (["reverse"], "; by every other measure another is first: c by reverse."),
    ],
)
def test_who_agrees_on_the_first_place(metrics: list[str], said: str) -> None:
    orders = metric_orders({metric: VALUES[metric] for metric in ("d", *metrics)}, "d")
    names = {metric: Text.same(metric) for metric in VALUES} | {"d": Text.same("D")}
    head = "a has the highest mean D" if said else ""
    assert metric_orders_sentence(orders, "d", names).en == head + said
