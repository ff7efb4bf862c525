"""Sentences of the answer at length, and of what limits it."""

from __future__ import annotations

from functools import partial
from typing import Any

from siglip_study.ranking.caveats import LEVEL, MIN_SEEDS, Caveat, CaveatCode
from siglip_study.ranking.pairs import PairTest
from siglip_study.ranking.procedure import Ranking
from siglip_study.report.language import NOTHING, Text, listed, said, texts
from siglip_study.report.wording.gate import (
    gate_reason,
    scorer_check,
    within_demand_sentence,
)
from siglip_study.report.words import significant

SAID = texts("conclusion")
_say = partial(said, SAID)


def why_no_ranks(ranking: Ranking) -> Text | None:
    """A clause, or ``None`` where ranks are given."""
    refusal = ranking.answer.refusal
    if refusal is None:
        return None
    if refusal.code == "scorer_cannot_tell" and ranking.scorer is not None:
        found = scorer_check(ranking.scorer)
        return Text(found.en.rstrip("."), found.ko.rstrip("."))
    return _say(f"refusal.{refusal.code}", projectors=listed(refusal.projectors))


def answer(ranking: Ranking) -> Text:
    """The answer of the study in one sentence."""
    code, best = ranking.answer.code, ranking.answer.best
    ranked = [own.projector for own in ranking.projectors if own.ranked]
    among = [test for test in ranking.pairs if test.a in ranked and test.b in ranked]
    figures: dict[str, Any] = {"first": best[0] if best else "", "best": listed(best)}
    if code == "refused":
        figures["why"] = why_no_ranks(ranking)
    elif code == "no_difference":
        missed = [t.smallest_detectable for t in among if t.smallest_detectable is not None]
        kind = "pair" if len(among) == 1 else "pairs"
        # Said where any pair could miss even the gap between human captions and blind ones.
        human = ranking.human_margin or 0.0
        beyond = 0 < human <= min(missed)
        figures |= {
            "pairs": _say(f"answer.{kind}", projectors=listed(ranked), n=len(among)),
            "missed": significant(max(missed)),
            "beyond": _say(f"answer.beyond_{kind}", human=significant(human)) if beyond else "",
        }
    elif code == "no_first":
        below = [label for label in ranked if label not in best]
        figures["below"] = _say("answer.below", projectors=listed(below)) if below else ""
    elif code == "unproven_first":
        own = [test for test in among if best[0] in (test.a, test.b) and not test.significant]
        figures["unclear"] = listed([_other(test, best[0]) for test in own])
    elif code == "first":
        own = [test for test in among if best[0] in (test.a, test.b)]
        closest = min(own, key=lambda test: abs(test.difference))
        # The interval of the difference, seen from the better of the two.
        ends = closest.low or 0.0, closest.high or 0.0
        low, high = ends if closest.difference > 0 else (-ends[1], -ends[0])
        above, order = ranking.answer.above, " > ".join(ranked)
        whole = all(own.rank_low == own.rank_high for own in ranking.projectors if own.ranked)
        many = "answer.above_one" if len(above) == 1 else "answer.above"
        figures |= {
            "n": len(ranked),
            "difference": significant(abs(closest.difference)),
            "second": _other(closest, best[0]),
            "low": significant(low),
            "high": significant(high),
            "order": _say("answer.order", order=order) if whole and len(ranked) > 2 else "",
            "above": _say(many, projectors=listed(above)) if above else "",
        }
    return _say(f"answer.{code}", **figures)


def _other(test: PairTest, label: str) -> str:
    return test.b if test.a == label else test.a


# ---- What limits the answer.


def caveats(ranking: Ranking, code: CaveatCode | None = None) -> list[Text]:
    """What a reader must know before using the ranking, gravest first; one ``code`` alone."""
    crossed = any(caveat.code == "cross_fitted" for caveat in ranking.caveats)
    return [
        _caveat(caveat, ranking, crossed)
        for caveat in ranking.caveats
        if code is None or caveat.code == code
    ]


def _caveat(caveat: Caveat, ranking: Ranking, crossed: bool) -> Text:
    if caveat.code == "within_not_asked" and ranking.within_category is not None:
        return within_demand_sentence(ranking.within_category)
    reason = NOTHING
    if caveat.code in ("not_ranked", "templated"):
        gates = {own.projector: own.gate for own in ranking.projectors}
        reason = gate_reason(gates[caveat.projectors[0]])
    n_tuning = ranking.tuning[0].n_seeds if ranking.tuning else 1
    figures = {"tuned_by_luck": "caveat.chance", "unlike_sentences": "caveat.mean"}
    each = figures.get(caveat.code, "caveat.share")
    return _say(
        f"caveat.{caveat.code}",
        r=ranking,
        n_tuning=Text("one", "1") if n_tuning == 1 else n_tuning,
        plural="" if n_tuning == 1 else "s",
        seeds=MIN_SEEDS,
        level=100 * (1 - ranking.alpha),
        more=_say("caveat.more", asked=LEVEL) if ranking.alpha > LEVEL else NOTHING,
        projectors=listed(caveat.projectors),
        reason=reason,
        where=_say("caveat.where_half" if crossed else "caveat.where_selection"),
        shares=listed(
            [
                _say(each, label=label, share=share)
                for label, share in zip(caveat.projectors, caveat.shares, strict=False)
            ]
        ),
    )
