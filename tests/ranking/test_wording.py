"""The verdict says how large a difference went unseen, and when that is all there could be."""

from __future__ import annotations

import pytest

from siglip_study.ranking.pairs import PairTest
from siglip_study.ranking.wording import verdict_sentence


def pair(a: str, b: str, detectable: float) -> PairTest:
    return PairTest(a, b, 0.01, -0.2, 0.2, 0.8, 1.0, 4.0, detectable, False)


def verdict(human: float | None, *detectable: float) -> str:
    labels = ["linear", "mlp", "query"]
    pairs = [("linear", "mlp"), ("linear", "query"), ("mlp", "query")]
    tests = [pair(a, b, d) for (a, b), d in zip(pairs, detectable, strict=True)]
    return verdict_sentence(None, labels, tests, dict.fromkeys(labels, (1, 3)), human=human)


def test_the_hardest_pair_says_what_could_be_missed() -> None:
    said = verdict(0.37, 0.05, 0.5, 0.4)
    assert said.endswith("a difference in D under 0.5000 could have been missed.")


def test_no_order_was_ever_possible_where_every_pair_misses_the_human_d() -> None:
    said = verdict(0.37, 0.38, 0.5, 0.4)
    assert "under 0.5000 could have been missed; every pair could miss one as large as" in said
    assert "the human captions' whole D of 0.3700" in said and said.endswith("two projectors.")


def test_a_projector_alone_is_not_said_to_have_beaten_others() -> None:
    said = verdict_sentence(None, ["linear"], [], {"linear": (1, 1)}, human=0.4)
    assert said == "No order can be claimed: linear is the only projector of the study."
    refused = verdict_sentence(None, ["linear"], [pair("linear", "mlp", 0.5)], {"linear": (1, 1)})
    assert refused.startswith("Only linear can be ranked: no other projector's captions passed")


def test_one_pair_is_spoken_of_as_one() -> None:
    tests = [pair("linear", "mlp", 0.5)]
    said = verdict_sentence(
        None, ["linear", "mlp"], tests, dict.fromkeys(["linear", "mlp"], (1, 2)), human=0.4
    )
    assert said == (
        "No order can be claimed: linear and mlp do not differ significantly, and a difference in "
        "D under 0.5000 could have been missed; that is no less than the human captions' whole D "
        "of 0.4000, so this study has too few seeds or clips to order any two projectors."
    )


@pytest.mark.parametrize("human", [None, -0.1, 0.0])
def test_without_a_human_d_nothing_is_held_against_it(human: float | None) -> None:
    assert "human" not in verdict(human, 0.38, 0.5, 0.4)
