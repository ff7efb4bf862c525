"""Sentences of the answer at length, and of what limits it."""

from __future__ import annotations

from functools import partial
from typing import Any

from siglip_study.ranking.caveats import LEVEL, MIN_SEEDS, Caveat, CaveatCode
from siglip_study.ranking.pairs import PairTest
from siglip_study.ranking.procedure import Ranking
from siglip_study.report.language import NOTHING, Text, listed, said
from siglip_study.report.wording.gate import (
    gate_reason,
    scorer_check,
    within_demand_sentence,
)
from siglip_study.report.words import significant

SAID: dict[str, Text] = {
    # Why there are no ranks.
    "refusal.two_clips": Text(
        "there are two clips, which have the same M by definition",
        "영상이 두 개뿐이며 두 영상의 M은 정의상 같습니다",
    ),
    "refusal.one_group": Text(
        "there is one group of clips, so the difference between clips is unknown",
        "영상 묶음이 하나뿐이어서 영상에 따른 차이를 알 수 없습니다",
    ),
    "refusal.one_seed": Text(
        "there is one run each, so the difference between seeds is unknown",
        "학습이 한 번씩뿐이어서 시드에 따른 차이를 알 수 없습니다",
    ),
    "refusal.copied_runs": Text(
        "two runs of one projector ({projectors}) have the same scores on every clip, so they are "
        "one run counted twice, and the difference between seeds is unknown",
        "한 프로젝터({projectors})의 두 학습이 모든 영상에서 점수가 같아 한 번을 두 번 센 것이며, "
        "시드에 따른 차이를 알 수 없습니다",
    ),
    "refusal.category_only": Text(
        "no projector's captions were shown to tell clips of one category apart",
        "같은 범주의 영상을 구별한다고 확인된 프로젝터가 없습니다",
    ),
    "refusal.none_grounded": Text(
        "no projector's captions were shown to fit their clips",
        "캡션이 영상과 맞는다고 확인된 프로젝터가 없습니다",
    ),
    # The answer of the study.
    "answer.refused": Text("No order can be claimed: {why}.", "순서를 주장할 수 없습니다. {why}."),
    "answer.only_projector": Text(
        "No order can be claimed: {first} is the only projector of the study.",
        "순서를 주장할 수 없습니다. 이 연구의 프로젝터는 {first}뿐입니다.",
    ),
    "answer.only_ranked": Text(
        "Only {first} can be ranked: no other projector's captions passed the gate.",
        "{first}만 순위를 매길 수 있습니다. 다른 프로젝터의 캡션은 검사를 통과하지 못했습니다.",
    ),
    "answer.no_difference": Text(
        "No order can be claimed: {pairs}, and a difference in M under {missed} could have been "
        "missed{beyond}.",
        "순서를 주장할 수 없습니다. {pairs}. M의 차이가 {missed}보다 작으면 놓쳤을 수 있습니다"
        "{beyond}.",
    ),
    "answer.pair": Text(
        "{projectors} do not differ significantly",
        "{projectors}^은/는 통계적으로 유의하게 다르지 않습니다",
    ),
    "answer.pairs": Text(
        "none of the {n} pairs of ranked projectors differs significantly",
        "순위를 매긴 프로젝터의 {n}쌍 가운데 유의하게 다른 쌍이 없습니다",
    ),
    "answer.beyond_pair": Text(
        "; that is no less than the human captions' whole M of {human}, so this study has too few "
        "seeds or clips to order any two projectors",
        ". 이는 사람 캡션의 M 전체인 {human}보다 작지 않으므로, 이 연구는 시드나 영상이 적어 어떤 "
        "두 프로젝터의 순서도 가릴 수 없습니다",
    ),
    "answer.beyond_pairs": Text(
        "; every pair could miss one as large as the human captions' whole M of {human}, so this "
        "study has too few seeds or clips to order any two projectors",
        ". 모든 쌍이 사람 캡션의 M 전체인 {human}만 한 차이도 놓칠 수 있으므로, 이 연구는 시드나 "
        "영상이 적어 어떤 두 프로젝터의 순서도 가릴 수 없습니다",
    ),
    "answer.no_first": Text(
        "No first place can be claimed: {best} cannot be told apart{below}.",
        "1위를 주장할 수 없습니다. {best}의 우열을 가릴 수 없습니다{below}.",
    ),
    "answer.below": Text(
        "; {projectors} cannot be first", ". {projectors}^은/는 1위가 될 수 없습니다"
    ),
    "answer.unproven_first": Text(
        "No first place can be claimed: {first} alone is beaten by none, but it is not shown to "
        "exceed {unclear}.",
        "1위를 주장할 수 없습니다. {first}보다 나은 것은 없지만, {unclear}보다 낫다고는 확인되지 "
        "않았습니다.",
    ),
    "answer.first": Text(
        "{first} ranks first of {n}: its captions fit their clips better than those of every "
        "other ranked projector, by {difference} in M over {second} ({low} to {high}){order}"
        "{above}.",
        "{first}^이/가 {n}개 가운데 1위입니다. 캡션이 순위에 든 다른 모든 프로젝터보다 영상에 더 "
        "잘 맞으며, {second}^과/와의 M 차이는 {difference}입니다({low} ~ {high}){order}{above}.",
    ),
    "answer.order": Text("; the whole order is {order}", ". 전체 순서는 {order}입니다"),
    "answer.above_one": Text(
        "; {projectors} has a higher M and did not pass the gate",
        ". {projectors}^은/는 M이 더 높지만 검사를 통과하지 못했습니다",
    ),
    "answer.above": Text(
        "; {projectors} have a higher M and did not pass the gate",
        ". {projectors}^은/는 M이 더 높지만 검사를 통과하지 못했습니다",
    ),
    # What a reader must know before using the ranking.
    "caveat.one_run": Text(
        "One run each: every interval carries the clips only, and another seed may turn any "
        "difference around.",
        "학습이 한 번씩입니다. 모든 구간에 영상만 반영되어 있으며, 시드를 바꾸면 어떤 차이도 "
        "뒤집힐 "
        "수 있습니다.",
    ),
    "caveat.few_seeds": Text(
        "{r.n_seeds} seeds a projector: the procedure asks for at least {seeds}, and where one "
        "projector's seeds vary much more than the others' false orders exceed 5 %.",
        "프로젝터당 시드가 {r.n_seeds}개입니다. 이 절차는 {seeds}개 이상을 요구하며, 한 프로젝터의 "
        "시드가 유난히 들쭉날쭉하면 잘못된 순서가 5 %를 넘습니다.",
    ),
    "caveat.other_level": Text(
        "Every test and the gate's bounds stand at {r.alpha:g}, and the intervals of projectors, "
        "of their differences and of the scorer check at {level:g} %; those beside the metrics of "
        "one captioner (a run, the human captions, a control) stay at 95 %.{more}",
        "모든 검정과 검사의 한계는 {r.alpha:g} 수준이고, 프로젝터와 그 차이, 채점 모델 확인의 "
        "구간은 "
        "{level:g} % 구간입니다. 학습 하나, 사람 캡션, 대조군의 지표 옆 구간은 95 %입니다.{more}",
    ),
    "caveat.more": Text(
        " The procedure asks for {asked:g}: false claims are as frequent.",
        " 이 절차는 {asked:g}^을/를 요구하므로 그만큼 잘못된 주장이 잦아집니다.",
    ),
    "caveat.halved": Text(
        "There is one held-out split: it was halved by source video; one half chose the settings, "
        "the other is reported, and they were not exchanged (no cross-fitting).",
        "평가용 데이터가 하나여서 원본 영상별로 반씩 나누었습니다. 한쪽은 설정을 고르고 다른 쪽은 "
        "보고에 썼으며, 서로 바꾸어 반복하지는 않았습니다.",
    ),
    "caveat.cross_fitted": Text(
        "There is one held-out split: it was halved by source video, and each half is reported "
        "with the settings that the other half chose.",
        "평가용 데이터가 하나여서 원본 영상별로 반씩 나누었고, 각 절반은 다른 절반이 고른 설정으로 "
        "보고했습니다.",
    ),
    "caveat.few_groups": Text(
        "Only {r.n_groups} independent groups of clips: the intervals lean on means of few values "
        "being near normal.",
        "독립적인 영상 묶음이 {r.n_groups}개뿐입니다. 구간은 적은 값의 평균이 정규분포에 가깝다는 "
        "가정에 기댑니다.",
    ),
    "caveat.fewer_groups_than_clips": Text(
        "The {r.n_clips} clips come from {r.n_groups} source videos; the intervals count videos, "
        "each weighing the same.",
        "영상 {r.n_clips}개는 원본 영상 {r.n_groups}개에서 나왔습니다. 구간은 원본 영상을 같은 "
        "무게로 셉니다.",
    ),
    "caveat.not_ranked": Text(
        "{projectors} is not ranked. {reason}", "{projectors}^은/는 순위에 들지 않습니다. {reason}"
    ),
    "caveat.templated": Text(
        "{projectors} is ranked with a stamp. {reason}",
        "{projectors}^은/는 단서를 달고 순위에 들었습니다. {reason}",
    ),
    "caveat.templated_references": Text(
        "The human captions are templated themselves, so low diversity is not held against "
        "anybody.",
        "사람 캡션도 틀에 박혀 있어 낮은 다양성을 문제 삼지 않았습니다.",
    ),
    "caveat.all_tuning_collapsed": Text(
        "{where} every tuning setting of {projectors} collapsed; the one with the highest M was "
        "trained on.",
        "{where} {projectors}의 모든 탐색 설정이 붕괴했습니다. M이 가장 높은 설정으로 "
        "학습했습니다.",
    ),
    "caveat.no_tuning_grounded": Text(
        "{where} no tuning setting of {projectors} was grounded; the one with the highest M of "
        "those not collapsed tells categories apart, was not shown to tell clips of one category "
        "apart, and was trained on.",
        "{where} {projectors}의 탐색 설정 가운데 영상에 근거한 것이 없습니다. 붕괴하지 않은 것 "
        "가운데 M이 가장 높은 설정은 범주는 구별하지만 같은 범주의 영상을 구별하는지 확인되지 "
        "않았으며, 그 설정으로 학습했습니다.",
    ),
    "caveat.tuned_by_luck": Text(
        "With {n_tuning} tuning seed{plural} the chosen setting is the best of its projector's "
        "with probability {shares}, as far as seeds go. Where settings hardly differ that costs "
        "little; where they do, a projector with noisy seeds is reported below its best, and more "
        "tuning seeds (seeds.tuning: [0, 1]) would tell.",
        "탐색 시드가 {n_tuning}개여서, 고른 설정이 그 프로젝터의 최선일 확률은 시드만 놓고 보면 "
        "{shares}입니다. 설정 사이의 차이가 작으면 손해가 적지만, 크면 시드 변동이 큰 프로젝터가 "
        "실력보다 낮게 보고됩니다. 탐색 시드를 늘리면(seeds.tuning: [0, 1]) 알 수 있습니다.",
    ),
    "caveat.where_half": Text("On a half of the clips", "영상 절반에서"),
    "caveat.where_selection": Text("On the selection clips", "선택용 영상에서"),
    "caveat.truncated": Text(
        "Captions cut at the token budget are scored as they stand: {shares}.",
        "토큰 한도에서 잘린 캡션은 잘린 그대로 채점했습니다: {shares}.",
    ),
    "caveat.share": Text("{label} {share:.1%}", "{label} {share:.1%}"),
    "caveat.chance": Text("{share:.0%} ({label})", "{share:.0%}({label})"),
    "caveat.mean": Text("{label} {share:.2f}", "{label} {share:.2f}"),
    "caveat.below_retrieval": Text(
        "Not shown to be better than handing out the caption of the nearest training clip: "
        "{projectors}.",
        "가장 비슷한 학습 영상의 캡션을 그대로 내놓는 것보다 낫다고 확인되지 않은 프로젝터: "
        "{projectors}.",
    ),
    "caveat.no_human_scale": Text(
        "The human captions' own M is less than 5 standard errors above 0, so no score is given "
        "as a share of it.",
        "사람 캡션의 M이 0에서 표준오차 5배만큼도 떨어져 있지 않아, 사람 대비 비율을 내지 "
        "않았습니다.",
    ),
    "caveat.unlike_sentences": Text(
        "The ranked projectors' captions differ in sentences ({shares} a caption): compare them by "
        "M, which that does not move, and not by D or cosines.",
        "순위에 든 프로젝터마다 캡션의 문장 수가 다릅니다(캡션당 {shares}). 문장 수에 흔들리지 "
        "않는 "
        "M으로 비교하고 D나 코사인으로는 비교하지 마십시오.",
    ),
    "caveat.frame_order": Text(
        "The scorer averages over frames: the order of frames is invisible to it, and so to this "
        "ranking.",
        "채점 모델은 프레임을 평균하므로 프레임의 순서를 보지 못하며, 이 순위도 마찬가지입니다.",
    ),
}
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
