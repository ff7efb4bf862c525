"""Sentences of the first screen: the answer in at most twelve words, whom to avoid, what to check.

Names of projectors count as one word each.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from siglip_study.ranking.answer import Avoid, NextStep
from siglip_study.ranking.caveats import MIN_SEEDS
from siglip_study.ranking.outlook import MOST_CLIPS, MOST_SEEDS, POWER
from siglip_study.ranking.procedure import Ranking
from siglip_study.report.language import NOTHING, Text, listed, said, texts
from siglip_study.report.words import probability

#: Names that a headline spells out; of more it says how many.
NAMED = 2

SAID = texts("headline")
_say = partial(said, SAID)


def headline(ranking: Ranking) -> Text:
    """The answer in one of four shapes: a clear winner, a tie, a best guess, no answer."""
    told = ranking.answer
    first = told.best[0] if told.best else told.guess or ""
    others = [own.projector for own in ranking.projectors if own.ranked and own.projector != first]
    if told.code == "refused":
        code = told.refusal.code if told.refusal else "none_grounded"
        if told.guess is not None and f"unproven.{code}" in SAID:
            return _say("guess", guess=told.guess, why=_say(f"unproven.{code}"))
        return _say(f"refused.{code}" if f"refused.{code}" in SAID else "refused.none_grounded")
    if told.code in ("only_projector", "only_ranked"):
        return _say(told.code, first=first)
    if told.code == "first":
        return _say("first", first=first, others=_rest(others))
    if told.code == "no_first":
        tied = _rest(told.best[1:], all_others=len(told.best) > len(others))
        return _say("tie", first=first, others=tied)
    rivals = [label for label in others if label not in told.better_than]
    why = _say("unproven.rivals", rivals=_rest(rivals, all_others=len(rivals) == len(others)))
    return _say("guess", guess=told.guess or first, why=why)


def _rest(names: Sequence[str], *, all_others: bool = True) -> Text:
    """Names where they are few, else how many."""
    if len(names) <= NAMED:
        return listed(names)
    return _say("rest.all" if all_others else "rest.some", n=len(names))


# ---- Below it: whom to avoid, and what would tell more.


def avoid_sentence(avoid: Sequence[Avoid], guess: str | None) -> Text:
    """Whom to avoid and why, those of one reason together; nothing where there is nobody."""
    by_reason: dict[str, list[str]] = {}
    for one in avoid:
        by_reason.setdefault(one.reason, []).append(one.projector)
    told = [
        _say("avoid.who", who=listed(labels), why=_say(f"avoid.{reason}", guess=guess or ""))
        for reason, labels in by_reason.items()
    ]
    return _say("avoid", told=listed(told)) if told else NOTHING


def blind_sentence(ranking: Ranking, motion: dict[str, float]) -> Text:
    """Who cannot see the order of frames, with κ of motion where the facts are known."""
    blind = ranking.time_order.blind if ranking.time_order else ()
    if not blind:
        return NOTHING
    known = [motion[label] for label in blind if label in motion]
    facts = NOTHING
    if known:
        kappa = max(known)
        facts = _say("order.guessing" if kappa <= 0 else "order.kappa", kappa=kappa)
    return _say("order.blind", who=listed(blind), facts=facts)


def next_step_sentence(guess: str | None, step: NextStep | None) -> Text:
    """What more seeds or clips would buy; nothing where nothing is left to be told."""
    if step is None or guess is None:
        return NOTHING
    pair = {"guess": guess, "rival": step.rival, "power": 100 * POWER}
    if step.seeds is not None:
        hours = (
            _say("next.hours", h=step.device_hours) if step.device_hours is not None else NOTHING
        )
        now = probability(step.power)
        return _say("next.seeds", **pair, seeds=step.seeds, hours=hours, now=now)
    if step.groups is not None:
        return _say("next.groups", **pair, groups=step.groups)
    return _say("next.neither", **pair, seeds=MOST_SEEDS, clips=MOST_CLIPS)


# ---- "Can you believe it?": one line each.


def scorer_line(ranking: Ranking) -> Text:
    """Whether the scorer tells human captions of a clip from those of other clips."""
    check = ranking.scorer
    if check is None:
        return _say("scorer.unknown")
    return _say("scorer.tells" if check.can_tell else "scorer.cannot", auc=check.auc)


def controls_line(met: int, tested: int, hot: bool | None, trained: bool) -> Text:
    """How many controls came out as they must; ``hot``: whether the run made to collapse did."""
    if not trained:
        return _say("controls.none")
    caught = NOTHING if hot is None else _say("controls.caught" if hot else "controls.missed")
    return _say("controls", met=met, tested=tested, caught=caught)


def measures_line(guess: str, agree: int, differ: Sequence[tuple[Text, Sequence[str]]]) -> Text:
    """On how many measures the best guess leads; ``differ``: measures with another first."""
    n = agree + len(differ)
    if not differ:
        return _say("measures.all", guess=guess, n=n)
    by = [
        _say("measures.by", who=listed(first), measure=measure) for measure, first in differ[:NAMED]
    ]
    return _say("measures.some", guess=guess, agree=agree, n=n, by=listed(by))


def seeds_line(n_seeds: int, failed: int, loudest: tuple[str, float] | None) -> Text:
    """How many seeds, and whose runs differ most: ``loudest`` has a share of the seed variance."""
    if n_seeds == 1:
        return _say("seeds.one")
    seeds = _say("seeds" if n_seeds >= MIN_SEEDS else "seeds.few", n=n_seeds, asked=MIN_SEEDS)
    if failed:
        return _say("seeds.failed", seeds=seeds, failed=failed)
    if loudest is None:
        return _say("seeds.sound", seeds=seeds)
    return _say("seeds.loud", seeds=seeds, share=100 * loudest[1], who=loudest[0])


def order_line(ranking: Ranking, motion: dict[str, float]) -> Text:
    """Who sees the order of frames, which the score does not see."""
    blind = blind_sentence(ranking, motion)
    if blind:
        return Text(blind.en.rstrip("."), blind.ko.rstrip("."))
    if ranking.time_order is None:
        return _say("order.unknown")
    n = sum(own.verdict == "sees" for own in ranking.time_order.projectors)
    return _say("order.seen", n=n, all=len(ranking.time_order.projectors))
