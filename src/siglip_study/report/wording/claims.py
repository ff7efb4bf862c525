"""Sentences on what the claims rest on: single runs and videos, other measures, the facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from siglip_study.data.summary import ManifestSummary
from siglip_study.ranking.gate import Verdict
from siglip_study.ranking.orders import MetricOrder, TruthOrder
from siglip_study.ranking.outlook import excluded_failure_rate
from siglip_study.ranking.pairs import PairInfluence, PairTest, Run, RunInfluence
from siglip_study.report.language import NOTHING, Text, join, listed, said, texts
from siglip_study.report.wording.gate import gate_name
from siglip_study.report.wording.metrics import as_written
from siglip_study.report.words import p_value, significant, span

SAID = texts("claims")
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
