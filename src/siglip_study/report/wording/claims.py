"""Sentences on what the claims rest on: single runs and videos, other measures, the facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from siglip_study.data.summary import ManifestSummary
from siglip_study.ranking.gate import Verdict
from siglip_study.ranking.orders import MetricOrder, TruthOrder
from siglip_study.ranking.outlook import excluded_failure_rate
from siglip_study.ranking.pairs import PairInfluence, PairTest, Run, RunInfluence
from siglip_study.report.language import NOTHING, Text, join, listed, said
from siglip_study.report.wording.gate import gate_name
from siglip_study.report.wording.metrics import as_written
from siglip_study.report.words import p_value, significant, span

SAID: dict[str, Text] = {
    "retrieval.none": Text(
        "No retrieval baseline was scored.", "검색 기준선을 채점하지 않았습니다."
    ),
    "retrieval.not_cleared": Text(
        "No projector is shown to beat copying the nearest training caption.",
        "가장 비슷한 학습 캡션을 복사하는 것보다 낫다고 확인된 프로젝터가 없습니다.",
    ),
    "claim": Text(
        "{winner} beats {loser} by {difference} in margin {interval} (Holm's p {p}).",
        "{winner}의 마진이 {loser}보다 {difference} 높습니다({interval}, Holm p {p}).",
    ),
    "claim.more": Text(
        "{n} more pairs differ; all are below.", "다른 {n}쌍도 차이가 납니다. 아래에 모두 있습니다."
    ),
    # Two studies.
    "studies.neither": Text(
        "Neither study is shown to be better: the best of each, {test.a} and {test.b}, differ by "
        "{difference} in margin {interval} (Holm's p {p}); a difference under {missed} could have "
        "been missed.",
        "어느 연구가 낫다고 확인되지 않았습니다. 각 연구의 최선인 {test.a}^과/와 {test.b}의 마진 "
        "차이는 {difference}입니다({interval}, Holm p {p}). {missed}보다 작은 차이는 놓쳤을 수 "
        "있습니다.",
    ),
    "studies.no_guess": Text(
        "Study {name} has no projector whose captions are shown to fit their clips.",
        "연구 {name}에는 캡션이 영상과 맞는다고 확인된 프로젝터가 없습니다.",
    ),
    "control.failed": Text(
        "Not as it must: {control}. {expected} The check says: {gate}.",
        "기대와 다른 대조군: {control}. {expected} 검사 결과: {gate}.",
    ),
    "copying.all": Text(
        "Every projector is shown to beat copying the nearest training caption.",
        "모든 프로젝터가 가장 비슷한 학습 캡션을 복사하는 것보다 낫다고 확인되었습니다.",
    ),
    "copying.some": Text(
        "Shown to beat copying the nearest training caption: {who}.",
        "가장 비슷한 학습 캡션을 복사하는 것보다 낫다고 확인된 것: {who}.",
    ),
    "generic": Text(
        "One caption for all clips, chosen on other clips, has a SigLIP cosine of {raw}{other}, "
        "above that of {below} of {trained} trained runs{names}; its M is {margin}, and the check "
        "says: {gate}.",
        "다른 영상에서 고른 캡션 하나를 모든 영상에 붙이면 SigLIP 코사인이 {raw}{other}로, 학습 "
        "{trained}개 가운데 {below}개보다 높습니다{names}. 그 M은 {margin}이며 검사 결과는 '{gate}'"
        "입니다.",
    ),
    "generic.other": Text(
        " (a human caption of another clip: {other})", "(다른 영상의 사람 캡션은 {other})"
    ),
    "generic.names": Text(" ({names})", "({names})"),
    "category": Text(
        "One caption a category has M {margin}, of which {within} within the category (the check, "
        "taken as a projector: {gate}).{tests}",
        "범주마다 캡션 하나를 붙이면 M이 {margin}이고 범주 안 M은 {within}입니다(프로젝터라고 볼 "
        "때 "
        "검사 결과는 '{gate}').{tests}",
    ),
    "category.above": Text(" Shown to exceed it: {above}.", " 이를 넘는다고 확인된 것: {above}."),
    "category.nobody": Text("no projector", "없음"),
    "category.rest": Text(" Not shown to: {rest}.", " 확인되지 않은 것: {rest}."),
    "not_computed": Text("Not computed: {why}.", "계산하지 않았습니다: {why}."),
    "not_computed.unknown": Text("no cell has these figures", "이 수치를 가진 학습이 없음"),
    "company": Text(
        "{own} of {all} clips, in {kinds} {word} of 3 or more.",
        "영상 {all}개 가운데 {own}개, 영상이 3개 이상인 범주 {kinds}개.",
    ),
    # Single runs.
    "runs.sound": Text(
        "{n} sound seeds exclude a failure rate of a run above {rate:.0%}, and no lower one.",
        "정상인 시드 {n}개로는 학습 실패율이 {rate:.0%}를 넘지 않는다는 것까지만 알 수 있습니다.",
    ),
    "runs.one": Text(
        "One run each: how often a run fails is unknown.",
        "학습이 한 번씩이어서 얼마나 자주 실패하는지 알 수 없습니다.",
    ),
    "runs.failed": Text(
        "{failed} of {n_seeds} runs of {projector} failed by themselves ({told}): whoever trains "
        "it once may get such a run.",
        "{projector}의 학습 {n_seeds}번 가운데 {failed}번이 단독으로 실패했습니다({told}). 한 번만 "
        "학습하면 그런 결과를 얻을 수 있습니다.",
    ),
    "runs.failed_all": Text(
        "All {n_seeds} runs of {projector} failed by themselves ({told}).",
        "{projector}의 학습 {n_seeds}번이 모두 단독으로 실패했습니다({told}).",
    ),
    "runs.failed_one": Text("{verdict} with seed {seed}", "시드 {seed}: {verdict}"),
    "runs.name": Text("seed {seed} of {projector}", "{projector}의 시드 {seed}"),
    # What single runs and source videos carry.
    "run_influence.nothing": Text(
        "No difference is claimed, so none can hang on a single run.",
        "주장한 차이가 없으므로 학습 하나에 달린 주장도 없습니다.",
    ),
    "run_influence.none": Text(
        "No single run decides a claim: each of the {claims} claimed differences would still be "
        "claimed without any one run.",
        "학습 하나가 주장을 좌우하지 않습니다. 주장한 차이 {claims}개 모두 어떤 학습 하나를 빼도 "
        "그대로입니다.",
    ),
    "run_influence.none_of_one": Text(
        "No single run decides the claim: the difference would still be claimed without any one "
        "run.",
        "학습 하나가 주장을 좌우하지 않습니다. 어떤 학습 하나를 빼도 차이는 그대로입니다.",
    ),
    "run_influence.some": Text(
        "{lost} of {claims} claimed differences would be lost without a single run: {told}.",
        "주장한 차이 {claims}개 가운데 {lost}개는 학습 하나를 빼면 사라집니다: {told}.",
    ),
    "run_influence.one": Text(
        "{p.a} and {p.b} (without {runs})", "{p.a}^과/와 {p.b}({runs}^을/를 빼면)"
    ),
    "influence.none": Text(
        "No single source video makes or unmakes {verdicts} ({claims} claimed): {size}.",
        "원본 영상 하나가 {verdicts}^을/를 좌우하지 않습니다(주장 {claims}개). {size}.",
    ),
    "influence.some": Text(
        "A single source video decides {pairs}, {told}; {size}.",
        "원본 영상 하나가 {pairs}^을/를 좌우합니다: {told}. {size}.",
    ),
    "influence.size": Text(
        "leaving one out moves a difference by {change} in M at most ({p.a} and {p.b}, without "
        "'{p.change_group}')",
        "하나를 뺄 때 M의 차이는 많아야 {change} 움직입니다({p.a}^과/와 {p.b}, "
        "'{p.change_group}' 제외)",
    ),
    "influence.one_verdict": Text("the verdict on the pair", "이 쌍의 판정"),
    "influence.any_verdict": Text("any of the {n} pairwise verdicts", "{n}쌍의 판정"),
    "influence.one_pair": Text("the pair", "이 쌍"),
    "influence.some_pairs": Text("{shaken} of the {n} pairs", "{n}쌍 가운데 {shaken}쌍"),
    "influence.claimed": Text(
        "{p.a} and {p.b} (claimed only with {group})",
        "{p.a}^과/와 {p.b}({group}^이/가 있어야 주장됨)",
    ),
    "influence.not_claimed": Text(
        "{p.a} and {p.b} (claimed without {group})",
        "{p.a}^과/와 {p.b}({group}^이/가 없으면 주장됨)",
    ),
    "influence.group": Text("'{group}'", "'{group}'"),
    "influence.each": Text("each of {n}", "{n}개 각각"),
    "influence.any": Text("any one of {n}", "{n}개 가운데 하나"),
    # Other orders: by other measures, and by the facts that only the demo knows.
    "orders.highest_one": Text(
        "{best} has the highest mean {lead}", "{best}의 평균 {lead}^이/가 가장 높습니다"
    ),
    "orders.highest": Text(
        "{best} have the highest mean {lead}", "{best}의 평균 {lead}^이/가 가장 높습니다"
    ),
    "orders.all_agree": Text(
        "{text}, and is first by every other measure: {agree}.",
        "{text}. 다른 모든 지표에서도 1위입니다: {agree}.",
    ),
    "orders.none_agree": Text(
        "{text}; by every other measure another is first: {differ}.",
        "{text}. 다른 지표에서는 모두 다른 것이 1위입니다: {differ}.",
    ),
    "orders.some_agree": Text(
        "{text}, and is first by {agree}; elsewhere {differ}.",
        "{text}. {agree}에서도 1위입니다. {differ}^이/가 1위입니다.",
    ),
    "orders.differs": Text("{best} by {measure}", "{measure}에서는 {best}"),
    "grain.lost": Text(
        "Beside {keeper}, {who} loses more of {grains} than of the coarse.",
        "{keeper}에 비해 {who}^은/는 범주보다 {grains}에서 더 많이 잃습니다.",
    ),
    "grain.how": Text("{grain} ({lost} {interval})", "{grain}({lost} {interval})"),
    "grain.kept": Text(
        "That {who} loses detail beside {keeper} is not shown.",
        "{who}^이/가 {keeper}보다 세부를 더 잃는다는 것은 확인되지 않았습니다.",
    ),
    "truth.nothing": Text(
        "The facts (mean κ) tell none of {n} pairs of projectors apart, and so contradict nothing.",
        "사실(평균 κ)로는 프로젝터 {n}쌍 가운데 어느 쌍도 가려지지 않아 모순도 없습니다.",
    ),
    "truth.found": Text(
        "The facts (mean κ) tell {told} of {n} pairs of projectors apart",
        "사실(평균 κ)은 프로젝터 {n}쌍 가운데 {told}쌍을 가려냅니다",
    ),
    "truth.contradicts": Text(
        "M CONTRADICTS THE TRUTH. {found}, and M claims the opposite order where {pairs}.",
        "M이 사실과 어긋납니다. {found}. M은 다음에서 반대 순서를 주장합니다: {pairs}.",
    ),
    "truth.knows_more": Text(
        "{better} knows more facts than {worse}", "{better}^이/가 {worse}보다 사실을 더 많이 앎"
    ),
    "truth.agrees": Text(
        "{found}; {parts}, and contradicts none.", "{found}. {parts}. 모순되는 쌍은 없습니다."
    ),
    "truth.same": Text(
        "M orders {n} of these the same way", "M은 이 가운데 {n}쌍을 같은 순서로 봅니다"
    ),
    "truth.leans": Text("leans the same way on {n}", "{n}쌍은 같은 쪽으로 기웁니다"),
    "truth.leans_away": Text(
        "leans the other way, within its error, on {n} ({pairs})",
        "{n}쌍은 오차 안에서 반대쪽으로 기웁니다({pairs})",
    ),
    "truth.over": Text("{better} over {worse}", "{worse}보다 {better}"),
}
_say = partial(said, SAID)


def claim_sentence(test: PairTest) -> Text:
    """A claimed difference, seen from the better of the two."""
    winner, loser = (test.a, test.b) if test.difference > 0 else (test.b, test.a)
    ends = (test.low, test.high)
    if test.difference < 0 and test.low is not None and test.high is not None:
        ends = (-test.high, -test.low)
    return _say(
        "claim",
        winner=winner,
        loser=loser,
        difference=significant(abs(test.difference)),
        interval=span(*ends),
        p=p_value(test.p_holm),
    )


def better_study(test: PairTest | None, name: str) -> Text:
    """Which of two studies is better, by the best projector of each; ``name`` has none if None."""
    if test is None:
        return _say("studies.no_guess", name=name)
    if test.significant:
        return claim_sentence(test)
    return _say(
        "studies.neither",
        test=test,
        difference=significant(test.difference),
        interval=span(test.low, test.high),
        p=p_value(test.p_holm),
        missed=significant(test.smallest_detectable),
    )


def more_claims(n: int) -> Text:
    """That there are further claimed differences."""
    return _say("claim.more", n=n)


def control_failed(control: Text, expected: Text, verdict: Verdict | None) -> Text:
    """A control that came out otherwise than it must."""
    gate = gate_name(verdict).lower()
    return _say("control.failed", control=control, expected=expected, gate=gate)


def copying_sentence(cleared_by: Sequence[str] | None, n: int) -> Text:
    """Who of ``n`` projectors beats copying the nearest training caption; ``None``: not scored."""
    if cleared_by is None:
        return _say("retrieval.none")
    if not cleared_by:
        return _say("retrieval.not_cleared")
    if len(cleared_by) == n:
        return _say("copying.all")
    return _say("copying.some", who=listed(cleared_by))


def generic_sentence(
    raw: float | None,
    other: float | None,
    below: int,
    trained: int,
    names: Mapping[str, Text | None],
    margin: float | None,
    verdict: Verdict | None,
) -> Text:
    """What the raw score makes of one caption for all.

    Args:
        raw: its SigLIP cosine.
        other: that of human captions of other clips, if known.
        below: how many runs are below it.
        trained: of how many.
        names: whose those below are, with the words for those that are controls.
        margin: its M.
        verdict: the gate's.
    """
    listed_names = list(dict.fromkeys(role or Text.same(name) for name, role in names.items()))
    return _say(
        "generic",
        raw=significant(raw),
        other=NOTHING if other is None else _say("generic.other", other=significant(other)),
        below=below,
        trained=trained,
        names=_say("generic.names", names=join(", ", listed_names)) if names else NOTHING,
        margin=significant(margin),
        gate=gate_name(verdict).lower(),
    )


def category_sentence(
    margins: tuple[float | None, float | None],
    verdict: Verdict | None,
    above: Sequence[str] | None,
    rest: Sequence[str],
) -> Text:
    """What knowing the category alone is worth; ``margins`` are M and M within the category.

    ``above`` are shown to exceed it (``None``: not tested), ``rest`` are not.
    """
    tests = NOTHING
    if above is not None:
        who = join(", ", above) if above else _say("category.nobody")
        tests = _say("category.above", above=who)
        tests += _say("category.rest", rest=join(", ", rest)) if rest else NOTHING
    margin, within = (significant(value) for value in margins)
    gate = gate_name(verdict).lower()
    return _say("category", margin=margin, within=within, gate=gate, tests=tests)


def not_computed(why: str) -> Text:
    """That figures against clips of the same category are missing, and why."""
    return _say("not_computed", why=as_written(why) if why else _say("not_computed.unknown"))


def company(own: int, clips: int, kinds: int) -> Text:
    """How many clips have others of their category, in how many categories."""
    word = "category" if kinds == 1 else "categories"
    return _say("company", own=own, all=clips, kinds=kinds, word=word)


def data_line(summary: ManifestSummary, listed_in: str) -> Text:
    """What became of the dataset; in English as the console says it."""
    clips = ", ".join(f"{split} {n}" for split, n in summary.clips.items())
    korean = f"사용한 영상: {clips}. "
    if summary.rejected:
        kinds = ", ".join(f"{as_written(kind).ko} {n}" for kind, n in summary.rejected.items())
        korean += f"제외 {sum(summary.rejected.values())}개({kinds}), 목록은 {listed_in}"
    else:
        korean += "제외된 영상은 없습니다"
    for what, n in summary.left_out.items():
        korean += f". 라벨 {n}개에서 값을 뺌: {what}"
    if summary.without_decord:
        korean += f". {summary.without_decord}개는 decord 없이 읽음"
    return Text(summary.line(listed_in), korean)


# ---- Single runs.


def seed_of(projector: str, seed: int | None) -> Text:
    """A run by its projector and seed."""
    return _say("runs.name", projector=projector, seed=seed)


def failed_runs(projector: str, failed: Sequence[tuple[int | None, Verdict]], n_seeds: int) -> Text:
    """Which of a projector's runs, by seed, the gate refused by themselves."""
    told = [
        _say("runs.failed_one", seed=seed, verdict=gate_name(verdict).lower())
        for seed, verdict in failed
    ]
    key = "runs.failed_all" if len(failed) == n_seeds else "runs.failed"
    return _say(key, failed=len(failed), n_seeds=n_seeds, projector=projector, told=listed(told))


def sound_runs(n_seeds: int, alpha: float) -> Text:
    """What this many runs of one projector without a failure exclude."""
    if n_seeds == 1:
        return _say("runs.one")
    return _say("runs.sound", n=n_seeds, rate=excluded_failure_rate(n_seeds, alpha))


# ---- What one source video, or one run, carries.


def influence(found: Sequence[PairInfluence]) -> Text:
    """Whether any claim hangs on one source video, of which at least one could be left out."""
    shaken = [pair for pair in found if pair.flipped_by]
    n, one = len(found), len(found) == 1
    most = max(found, key=lambda pair: abs(pair.change))
    size = _say("influence.size", change=significant(abs(most.change)), p=most)
    if not shaken:
        verdicts = _say("influence.one_verdict" if one else "influence.any_verdict", n=n)
        claims = sum(pair.claimed for pair in found)
        return _say("influence.none", verdicts=verdicts, claims=claims, size=size)
    told = []
    for pair in shaken:
        many = "influence.each" if pair.claimed else "influence.any"
        key = "influence.group" if len(pair.flipped_by) == 1 else many
        group = _say(key, group=pair.flipped_by[0], n=len(pair.flipped_by))
        claimed = "influence.claimed" if pair.claimed else "influence.not_claimed"
        told.append(_say(claimed, p=pair, group=group))
    pairs = _say("influence.one_pair" if one else "influence.some_pairs", shaken=len(shaken), n=n)
    return _say("influence.some", pairs=pairs, told=listed(told), size=size)


def run_influence(found: Sequence[RunInfluence], names: Mapping[Run, Text]) -> Text:
    """Whether any claim hangs on one run; ``names`` are the runs' in words."""
    claims = sum(pair.claimed for pair in found)
    hanging = [pair for pair in found if pair.lost_without]
    if not claims:
        return _say("run_influence.nothing")
    if not hanging:
        return _say(
            "run_influence.none_of_one" if claims == 1 else "run_influence.none", claims=claims
        )
    told = [
        _say(
            "run_influence.one",
            p=pair,
            runs=listed([names[run] for run in pair.lost_without], "or"),
        )
        for pair in hanging
    ]
    return _say("run_influence.some", lost=len(hanging), claims=claims, told=listed(told))


# ---- Other orders.


def metric_orders_sentence(
    orders: Sequence[MetricOrder], lead: str, names: Mapping[str, Text]
) -> Text:
    """Which other measures agree with ``lead`` on the first place, and which do not."""
    first = next((order for order in orders if order.metric == lead), None)
    others = [order for order in orders if order.metric != lead]
    if first is None or not others or len(first.values) < 2:
        return NOTHING
    agree = [names[o.metric] for o in others if o.same_top]
    differ = [
        _say("orders.differs", measure=names[o.metric], best=listed(o.top))
        for o in others
        if not o.same_top
    ]
    key = "orders.highest" if len(first.top) > 1 else "orders.highest_one"
    kind = "some_agree" if agree and differ else "all_agree" if agree else "none_agree"
    return _say(
        f"orders.{kind}",
        text=_say(key, best=listed(first.top), lead=names[lead]),
        agree=listed(agree),
        differ=listed(differ),
    )


def grain_sentence(who: str, keeper: str, tests: Mapping[Text, PairTest]) -> Text:
    """What ``who`` loses beside ``keeper``; ``tests`` are of each finer grain less the coarse.

    The interval is the one that excludes 0 exactly where the test claims it.
    """
    lost = []
    for grain, test in tests.items():
        sign = 1 if test.a == keeper else -1
        if test.significant and sign * test.difference > 0:
            ends = sorted(sign * (end or 0.0) for end in (test.joint_low, test.joint_high))
            told = {"lost": significant(abs(test.difference)), "interval": span(*ends)}
            lost.append(_say("grain.how", grain=grain.lower(), **told))
    if not lost:
        return _say("grain.kept", who=who, keeper=keeper)
    return _say("grain.lost", who=who, keeper=keeper, grains=listed(lost))


def truth_order(order: TruthOrder) -> Text:
    """Whether M contradicts the facts."""

    def pairs(key: str, told: Sequence[tuple[str, str]]) -> Text:
        return join("; ", [_say(key, better=better, worse=worse) for better, worse in told])

    if not order.told:
        return _say("truth.nothing", n=order.n_pairs)
    found = _say("truth.found", told=len(order.told), n=order.n_pairs)
    if order.contradict:
        opposite = pairs("truth.knows_more", order.contradict)
        return _say("truth.contradicts", found=found, pairs=opposite)
    away = order.reversed_only
    rest = len(order.told) - len(order.agree) - len(away)
    parts = [_say("truth.same", n=len(order.agree))]
    if rest:
        parts.append(_say("truth.leans", n=rest))
    if away:
        parts.append(_say("truth.leans_away", n=len(away), pairs=pairs("truth.over", away)))
    return _say("truth.agrees", found=found, parts=join(", ", parts))
