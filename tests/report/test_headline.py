"""The headline: four shapes of an answer, each in at most twelve words, a name being one."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
from support.made_study import PROJECTORS
from support.made_study.ranking import made_ranking

from siglip_study.ranking.answer import Answer, AnswerCode, Avoid, NextStep, Refusal, RefusalCode
from siglip_study.report.wording.headline import (
    avoid_sentence,
    headline,
    measures_line,
    next_step_sentence,
    seeds_line,
)
from siglip_study.report.wording.metrics import NAMES

RANKED = tuple(label for label in PROJECTORS if label != "query_perceiver")


def told(answer: Answer, projectors: int = 12) -> str:
    labels = list(PROJECTORS[:projectors])
    return headline(replace(made_ranking(labels, 3), answer=answer)).en


@pytest.mark.parametrize(
    ("answer", "projectors", "said"),
    [
        (
            Answer("first", ("mlp_2l",)), 3,
            "mlp_2l is best: proven ahead of linear and c_abstractor.",
        ),
        (Answer("first", ("mlp_2l",)), 12, "mlp_2l is best: proven ahead of all 10 others."),
        (
            Answer("no_first", ("mlp_2l", "linear")), 4,
            "mlp_2l leads, but ties with linear at the top.",
        ),
        (
            Answer("no_first", RANKED[:5]), 12,
            "linear leads, but ties with 4 others at the top.",
        ),
        (
            Answer("unproven_first", ("mlp_2l",), guess="mlp_2l", better_than=("c_abstractor",)), 3,
            "Best guess: mlp_2l. Not proven better than linear.",
        ),
        (
            Answer("no_difference", RANKED, guess="mlp_2l"), 12,
            "Best guess: mlp_2l. Not proven better than all 10 others.",
        ),
        (
            Answer("refused", refusal=Refusal("one_seed"), guess="mlp_2l"), 4,
            "Best guess: mlp_2l. One seed proves no order.",
        ),
        (
            Answer("refused", refusal=Refusal("scorer_cannot_tell")), 4,
            "No answer: the scorer cannot tell right captions from wrong.",
        ),
    ],
)  # fmt: skip
def test_the_headline_of_an_answer(answer: Answer, projectors: int, said: str) -> None:
    assert told(answer, projectors) == said


ANSWERS = [
    *(
        Answer(code, RANKED[:n], guess=RANKED[0])
        for code in get_args(AnswerCode)
        for n in (1, 3, 9)
    ),
    *(Answer("refused", refusal=Refusal(code)) for code in get_args(RefusalCode)),
    *(Answer("refused", refusal=Refusal(code), guess="mlp_2l") for code in get_args(RefusalCode)),
]


@pytest.mark.parametrize("projectors", [1, 2, 3, 4, 12])
def test_no_headline_has_more_than_twelve_words(projectors: int) -> None:
    long = [said for own in ANSWERS if len((said := told(own, projectors)).split()) > 12]
    assert long == []


# ---- Below it.


def test_whom_to_avoid_is_told_by_reason() -> None:
    avoid = (Avoid("a", "worse"), Avoid("b", "collapsed"), Avoid("c", "worse"))
    assert avoid_sentence(avoid, "mlp").en == (
        "Avoid a and c (proven worse than mlp) and b (says nearly the same of every clip)."
    )
    assert not avoid_sentence((), "mlp")


@pytest.mark.parametrize(
    ("seeds", "groups", "said"),
    [
        (5, None, "5 seeds would tell a from b (80 % power, +2 device-hours); this study had 40 %"),
        (None, 90, "More seeds would hardly help; 90 source videos would tell a from b"),
        (None, None, "a and b differ too little even for 20 seeds or 16 times the clips."),
    ],
)
def test_what_more_seeds_would_buy(seeds: int | None, groups: int | None, said: str) -> None:
    assert said in next_step_sentence("a", NextStep("b", 0.1, 0.4, seeds, groups, 2.0)).en


def test_measures_that_agree_and_measures_that_do_not() -> None:
    assert measures_line("a", 6, []).en == "a leads on all 6 other measures"
    line = measures_line("a", 5, [(NAMES["meteor_gain"], ["mlp_2l"])])
    assert line.en == "a leads on 5 of 6 other measures; mlp_2l by METEOR gain"
    assert (
        line.ko == "a는 다른 지표 6개 가운데 5개에서 1위이고, METEOR 이득에서는 mlp_2l이 1위입니다"
    )


@pytest.mark.parametrize(
    ("seeds", "failed", "loudest", "said"),
    [
        (1, 0, None, "One seed each: another seed may turn any difference around"),
        (2, 0, None, "2 seeds each, 3 asked for, and every run is sound"),
        (3, 2, None, "3 seeds each; 2 runs failed by themselves"),
        (3, 0, ("a", 0.93), "3 seeds each; 93 % of the seed noise is a's"),
    ],
)
def test_what_the_seeds_are_worth(seeds, failed, loudest, said) -> None:
    assert seeds_line(seeds, failed, loudest).en == said
