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
from siglip_study.report.language import NOTHING, Text, listed, said
from siglip_study.report.words import probability

#: Names that a headline spells out; of more it says how many.
NAMED = 2

SAID: dict[str, Text] = {
    # The headline, in one of four shapes: no answer, …
    "refused.scorer_cannot_tell": Text(
        "No answer: the scorer cannot tell right captions from wrong.",
        "답이 없습니다. 채점 모델이 맞는 캡션과 틀린 캡션을 구별하지 못합니다.",
    ),
    "refused.two_clips": Text(
        "No answer: two clips cannot rank anything.",
        "답이 없습니다. 영상 두 개로는 순위를 매길 수 없습니다.",
    ),
    "refused.category_only": Text(
        "No answer: no projector tells clips of one category apart.",
        "답이 없습니다. 같은 범주의 영상을 구별하는 프로젝터가 없습니다.",
    ),
    "refused.none_grounded": Text(
        "No answer: no projector's captions are shown to fit their clips.",
        "답이 없습니다. 캡션이 영상과 맞는다고 확인된 프로젝터가 없습니다.",
    ),
    "only_projector": Text(
        "{first} is the only projector: nothing to compare.",
        "프로젝터가 {first} 하나뿐이어서 비교할 것이 없습니다.",
    ),
    # … a clear winner, …
    "only_ranked": Text(
        "Only {first} qualifies: no other projector's captions follow their clips.",
        "{first}만 남았습니다. 다른 프로젝터의 캡션은 영상을 따르지 않습니다.",
    ),
    "first": Text(
        "{first} is best: proven ahead of {others}.",
        "{first}^이/가 가장 좋습니다. {others}보다 낫다는 것이 확인되었습니다.",
    ),
    # … a tie at the top, …
    "tie": Text(
        "{first} leads, but ties with {others} at the top.",
        "{first}^이/가 앞서지만, {others}^과/와 함께 공동 1위입니다.",
    ),
    # … a best guess, and what it lacks.
    "guess": Text("Best guess: {guess}. {why}", "가장 유력한 것은 {guess}입니다. {why}"),
    "unproven.one_seed": Text(
        "One seed proves no order.", "시드 하나로는 순서를 증명할 수 없습니다."
    ),
    "unproven.one_group": Text(
        "One source video proves no order.", "원본 영상 하나로는 순서를 증명할 수 없습니다."
    ),
    "unproven.copied_runs": Text(
        "Copied runs prove no order.", "복사된 학습 결과로는 순서를 증명할 수 없습니다."
    ),
    "unproven.rivals": Text(
        "Not proven better than {rivals}.", "{rivals}보다 낫다고는 확인되지 않았습니다."
    ),
    "rest.all": Text("all {n} others", "나머지 {n}개 모두"),
    "rest.some": Text("{n} others", "다른 {n}개"),
    # Below it: whom to avoid, and what would tell more.
    "avoid": Text("Avoid {told}.", "피해야 할 것: {told}."),
    "avoid.who": Text("{who} ({why})", "{who}({why})"),
    "avoid.worse": Text("proven worse than {guess}", "{guess}보다 못하다고 확인됨"),
    "avoid.collapsed": Text(
        "says nearly the same of every clip", "모든 영상에 거의 같은 캡션을 붙임"
    ),
    "avoid.ungrounded": Text("its captions do not follow the clip", "캡션이 영상을 따르지 않음"),
    "avoid.category_only": Text(
        "tells categories apart, not clips", "범주만 구별하고 영상은 구별하지 못함"
    ),
    "avoid.unstable": Text("some of its runs failed", "일부 학습이 실패함"),
    "next.neither": Text(
        "More seeds would hardly help: {guess} and {rival} differ too little even for "
        "{seeds} seeds or {clips} times the clips.",
        "시드를 늘려도 큰 도움이 되지 않습니다. {guess}^과/와 {rival}의 차이는 시드 {seeds}개나 "
        "영상 {clips}배로도 가려내기 어려울 만큼 작습니다.",
    ),
    "next.groups": Text(
        "More seeds would hardly help; {groups} source videos would tell {guess} from "
        "{rival} ({power:.0f} % power).",
        "시드를 늘려도 큰 도움이 되지 않습니다. 원본 영상이 {groups}개면 {guess}^과/와 "
        "{rival}^을/를 가려냅니다(검정력 {power:.0f} %).",
    ),
    "next.seeds": Text(
        "{seeds} seeds would tell {guess} from {rival} ({power:.0f} % power{hours}); this study "
        "had {now} to do so.",
        "시드 {seeds}개면 {guess}^과/와 {rival}^을/를 가려냅니다(검정력 {power:.0f} %{hours}). "
        "이 연구의 검정력은 {now}였습니다.",
    ),
    "next.hours": Text(", +{h:.3g} device-hours", ", 장치 {h:.3g}시간 추가"),
    # "Can you believe it?": one line each.
    "scorer.unknown": Text(
        "The scorer was not checked against human captions",
        "채점 모델을 사람의 캡션으로 확인하지 않았습니다",
    ),
    "scorer.tells": Text(
        "The scorer tells right from wrong human captions (AUC {auc:.2f})",
        "채점 모델은 사람의 캡션이 맞는지 틀리는지 구별합니다(AUC {auc:.2f})",
    ),
    "scorer.cannot": Text(
        "The scorer cannot tell right from wrong human captions (AUC {auc:.2f})",
        "채점 모델은 사람의 캡션이 맞는지 틀리는지 구별하지 못합니다(AUC {auc:.2f})",
    ),
    "controls.none": Text(
        "No control was trained: that a blind model would be caught is not shown",
        "학습한 대조군이 없습니다. 보지 못하는 모델이 걸러지는지는 확인되지 않았습니다",
    ),
    "controls": Text(
        "{met} of {tested} controls came out as they must{caught}",
        "대조군 {tested}개 가운데 {met}개가 예상대로 나왔습니다{caught}",
    ),
    "controls.caught": Text(
        "; the run made to collapse was caught", "(일부러 망가뜨린 학습도 걸러짐)"
    ),
    "controls.missed": Text(
        "; the run made to collapse did not", "(일부러 망가뜨린 학습이 망가지지 않음)"
    ),
    "measures.all": Text(
        "{guess} leads on all {n} other measures",
        "{guess}^은/는 다른 지표 {n}개에서도 모두 1위입니다",
    ),
    "measures.some": Text(
        "{guess} leads on {agree} of {n} other measures; {by}",
        "{guess}^은/는 다른 지표 {n}개 가운데 {agree}개에서 1위이고, {by}^이/가 1위입니다",
    ),
    "measures.by": Text("{who} by {measure}", "{measure}에서는 {who}"),
    "seeds.one": Text(
        "One seed each: another seed may turn any difference around",
        "시드가 하나씩입니다. 시드를 바꾸면 어떤 차이도 뒤집힐 수 있습니다",
    ),
    "seeds": Text("{n} seeds each", "시드 {n}개씩"),
    "seeds.few": Text("{n} seeds each, {asked} asked for", "시드 {n}개씩(권장 {asked}개)"),
    "seeds.failed": Text(
        "{seeds}; {failed} runs failed by themselves",
        "{seeds}, 그중 학습 {failed}개가 실패했습니다",
    ),
    "seeds.sound": Text("{seeds}, and every run is sound", "{seeds}이며 모든 학습이 정상입니다"),
    "seeds.loud": Text(
        "{seeds}; {share:.0f} % of the seed noise is {who}'s",
        "{seeds}이며, 시드에 따른 변동의 {share:.0f} %는 {who}에서 나옵니다",
    ),
    "order.blind": Text(
        "{who} cannot see the order of frames{facts}; the score does not notice.",
        "{who}^은/는 프레임의 순서를 보지 못합니다{facts}. 점수에는 드러나지 않습니다.",
    ),
    "order.guessing": Text(
        " (motion right no more often than by guessing)",
        "(움직임을 맞히는 비율이 찍는 것보다 높지 않음)",
    ),
    "order.kappa": Text(" (κ of motion {kappa:.2f})", "(움직임 κ {kappa:.2f})"),
    "order.unknown": Text(
        "The score cannot see the order of frames, and no model was asked",
        "점수는 프레임의 순서를 보지 못하며, 모델이 보는지도 확인하지 않았습니다",
    ),
    "order.seen": Text(
        "{n} of {all} models notice a video run backwards; the score itself cannot",
        "모델 {all}개 가운데 {n}개가 거꾸로 튼 영상을 알아챕니다. 점수 자체는 알아채지 못합니다",
    ),
}
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
