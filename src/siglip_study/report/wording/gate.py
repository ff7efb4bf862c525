"""Sentences on the gate, tuning and the scorer check: verdicts, and the figures that made them."""

from __future__ import annotations

from functools import partial

from siglip_study.ranking.gate import GateVerdict, PublishedVerdict, Verdict
from siglip_study.ranking.scorer_check import ScorerCheck
from siglip_study.ranking.selection import Selection
from siglip_study.ranking.within import WithinDemand
from siglip_study.report.language import NOTHING, Text, capital, said, sentence
from siglip_study.report.words import significant

SAID: dict[str, Text] = {
    # The gate's verdicts: their names, what they mean, and the figures that made them.
    "gate.grounded": Text("Grounded", "영상에 근거함"),
    "gate.ungrounded": Text("Ungrounded", "영상과 무관함"),
    "gate.undetermined": Text("Undetermined", "판정할 수 없음"),
    "gate.category_only": Text("Category only", "범주만 구별함"),
    "gate.collapsed": Text("Collapsed", "붕괴함"),
    "gate.templated": Text("Grounded though templated", "틀에 박혔지만 영상에 근거함"),
    "gate.collapsed_category": Text("Collapsed", "붕괴함"),
    "gate.unstable": Text("Unstable", "불안정함"),
    "gate.not_judged": Text("not judged", "판정하지 않음"),
    "meaning.grounded": Text(
        "its captions fit their own clip better than other clips",
        "캡션이 다른 영상보다 제 영상에 더 잘 맞습니다",
    ),
    "meaning.templated": Text(
        "its captions fit their own clip better than other clips",
        "캡션이 다른 영상보다 제 영상에 더 잘 맞습니다",
    ),
    "meaning.ungrounded": Text(
        "its captions fit their own clip no better than other clips",
        "캡션이 다른 영상보다 제 영상에 더 잘 맞지 않습니다",
    ),
    "meaning.undetermined": Text(
        "the data cannot tell whether its captions follow the clip",
        "캡션이 영상을 따르는지 이 데이터로는 알 수 없습니다",
    ),
    "meaning.category_only": Text(
        "its captions tell categories apart; that they tell clips of one category apart is not "
        "shown",
        "캡션이 범주는 구별하지만, 같은 범주의 영상을 구별하는지는 확인되지 않았습니다",
    ),
    "meaning.unstable": Text(
        "some of its runs failed while others are sound",
        "일부 학습은 정상이지만 일부는 실패했습니다",
    ),
    "meaning.collapsed": Text(
        "nearly the same caption for every clip, and no tie to the clip",
        "모든 영상에 거의 같은 캡션을 붙이며 캡션이 영상과 무관합니다",
    ),
    "meaning.collapsed_category": Text(
        "a few captions for all clips, which tell categories apart and no more",
        "몇 가지 캡션을 돌려쓰며 범주만 구별합니다",
    ),
    "figures.grounded": Text("{margin}.", "{margin}."),
    "figures.templated": Text("{margin}, while {diversity}.", "{margin}. 한편 {diversity}."),
    "figures.ungrounded": Text(
        "{margin}; M is under {ceiling}, a small share of what human captions reach.",
        "{margin}. M의 상한이 사람 캡션의 작은 일부인 {ceiling}보다 낮습니다.",
    ),
    "figures.undetermined": Text(
        "{margin}, neither shown to be above 0 nor shown to be negligible.",
        "{margin}. 0보다 크다고도, 무시할 만큼 작다고도 확인되지 않았습니다.",
    ),
    "figures.category_only": Text(
        "{margin}: above 0 over all clips, not shown to be so within one.",
        "{margin}. 전체 영상에서는 0보다 크지만 한 범주 안에서는 확인되지 않았습니다.",
    ),
    "figures.unstable": Text(
        "{failed} of its {n_seeds} runs failed by themselves ({margin}): whoever trains it once "
        "may get such a run.",
        "학습 {n_seeds}번 가운데 {failed}번이 단독으로 실패했습니다({margin}). 한 번만 학습하면 "
        "그런 결과를 얻을 수 있습니다.",
    ),
    "figures.collapsed": Text(
        "{diversity}, and {margin}, not shown to be above 0.",
        "{diversity}. {margin}. 0보다 크다고 확인되지 않았습니다.",
    ),
    "figures.collapsed_category": Text(
        "{diversity}, and {margin}: not shown to be above 0 within a category.",
        "{diversity}. {margin}. 한 범주 안에서 0보다 크다고 확인되지 않았습니다.",
    ),
    "diversity": Text(
        "distinct captions are {d.effective:.2f} of the clips (limit {d.effective_limit:.2f}), "
        "the largest group of near-copies holds {d.top_share:.0%} (limit {d.top_share_limit:.0%})",
        "서로 다른 캡션의 비율이 {d.effective:.2f}(한계 {d.effective_limit:.2f})이고, 거의 같은 "
        "캡션의 가장 큰 무리가 {d.top_share:.0%}(한계 {d.top_share_limit:.0%})를 차지합니다",
    ),
    "margin.one_group": Text(
        "M is {mean} on one group of clips, so it has no bound",
        "M은 {mean}이며, 영상 묶음이 하나여서 한계를 구할 수 없습니다",
    ),
    "margin.alone": Text(
        "M is {mean} (one-sided bounds {lower} and {upper}, Holm's p {p:.3g})",
        "M은 {mean}입니다(단측 한계 {lower}, {upper}, Holm p {p:.3g})",
    ),
    "margin.within": Text(
        "M is {mean} (one-sided bounds {lower} and {upper}) and {within}, Holm's p {p:.3g}, "
        "decided by {by}",
        "M은 {mean}(단측 한계 {lower}, {upper})이고 {within}입니다(Holm p {p:.3g}, 판정 기준 {by})",
    ),
    "margin.in_category": Text(
        "{mean} within a category ({lower} and {upper})", "범주 안에서는 {mean}({lower}, {upper})"
    ),
    "margin.in_category_one_group": Text(
        "{mean} within a category (one group of clips, no bound)",
        "범주 안에서는 {mean}(영상 묶음 하나, 한계 없음)",
    ),
    "margin.by_category": Text("M within category", "범주 안 M"),
    "margin.by_all": Text("M", "M"),
    "published.collapsed": Text("Collapsed by diversity alone", "다양성만으로도 붕괴"),
    "published.undetermined": Text("Undetermined", "판정할 수 없음"),
    "published.why_collapsed": Text(
        "{v.distinct_ratio:.2f} distinct captions a clip against a limit of {v.limit:.2f}; near-"
        "copies counted together cannot exceed that.",
        "영상당 서로 다른 캡션이 {v.distinct_ratio:.2f}개로 한계 {v.limit:.2f}보다 적습니다. 거의 "
        "같은 캡션을 하나로 세면 더 줄어듭니다.",
    ),
    "published.why_undetermined": Text(
        "{v.distinct_ratio:.2f} distinct captions a clip against a limit of {v.limit:.2f}, and "
        "distinct strings cannot show near-duplicates.",
        "영상당 서로 다른 캡션이 {v.distinct_ratio:.2f}개로 한계 {v.limit:.2f}보다 많지만, 글자가 "
        "다르다는 것만으로는 거의 같은 캡션을 가려낼 수 없습니다.",
    ),
    "published.no_diversity": Text("no diversity was published.", "다양성이 발표되지 않았습니다."),
    # Marks beside a name: in the tables, and at length on the page where that differs.
    "stamp.templated": Text("templated", "틀에 박힘"),
    "stamp.category_only": Text("tells categories apart, not clips", "영상이 아니라 범주를 구별함"),
    "stamp.diversity_unknown": Text(
        "diversity test off: references templated", "다양성 검사 안 함: 기준 캡션이 틀에 박힘"
    ),
    "stamp.low_in_some_seeds": Text(
        "low diversity in {low_seeds} of {n_seeds} seeds",
        "시드 {n_seeds}개 가운데 {low_seeds}개에서 다양성이 낮음",
    ),
    "stamp.clips_only": Text("clips only", "영상만 반영"),
    "stamp.page.templated": Text(
        "templated: grounded, but many captions are near-copies of each other",
        "틀에 박힘: 영상에 근거하지만 서로 거의 같은 캡션이 많음",
    ),
    "stamp.page.clips_only": Text(
        "one seed: the interval carries clips only", "시드 하나: 구간에 영상만 반영됨"
    ),
    # The tuning cells; halves of one held-out split by the one that chose.
    "half.selection": Text("half A, choosing for half B", "B를 위해 고른 A 절반"),
    "half.report": Text("half B, choosing for half A", "A를 위해 고른 B 절반"),
    "tuning.seeds": Text("one tuning seed", "탐색 시드 하나"),
    "tuning.many_seeds": Text("{n} tuning seeds, each below", "탐색 시드 {n}개, 각각 아래에 표시"),
    "tuning.collapsed": Text(
        "{own.n_collapsed} of {own.n_cells} settings collapsed",
        "설정 {own.n_cells}개 가운데 {own.n_collapsed}개 붕괴",
    ),
    "tuning.refused": Text(
        "{own.n_collapsed} of {own.n_cells} settings collapsed, {own.n_category_only} category "
        "only",
        "설정 {own.n_cells}개 가운데 {own.n_collapsed}개 붕괴, {own.n_category_only}개는 범주만 "
        "구별",
    ),
    "tuning.passed_over": Text(
        "{cell} was passed over. {reason}", "{cell}^은/는 고르지 않았습니다. {reason}"
    ),
    # The scorer check.
    "scorer.can_tell": Text(
        "The scorer tells human captions of their own clip from those of others: {found}.",
        "채점 모델은 제 영상의 사람 캡션과 다른 영상의 캡션을 구별합니다: {found}.",
    ),
    "scorer.cannot_tell": Text(
        "The scorer cannot tell; no verdict: {found}.",
        "채점 모델이 구별하지 못하므로 판정할 수 없습니다: {found}.",
    ),
    "scorer.found": Text(
        "the references' D is {d} ({bounds}), AUC {c.auc:.2f}",
        "사람 캡션의 D는 {d}({bounds}), AUC {c.auc:.2f}",
    ),
    "scorer.found_within": Text(
        "the references' D is {d} ({bounds}), AUC {c.auc:.2f}, {c.auc_within_category:.2f} within "
        "a category",
        "사람 캡션의 D는 {d}({bounds}), AUC {c.auc:.2f}, 범주 안에서는 {c.auc_within_category:.2f}",
    ),
    "scorer.one_group": Text("no interval on one group", "묶음 하나여서 구간 없음"),
    "scorer.bounds": Text("{level:g}% interval {low} to {high}", "{level:g}% 구간 {low} ~ {high}"),
    # Whether the gate asks for M within category.
    "within.asked": Text(
        "Grounded means telling clips of one category apart as well, as the human captions do: "
        "their M within category is {mean}.",
        "영상에 근거한다는 판정은 같은 범주의 영상도 구별해야 받을 수 있습니다. 사람 캡션의 범주 "
        "안 M은 {mean}입니다.",
    ),
    "within.off": Text(
        "gate.within_category is off: a captioner that knows only the category of a clip could "
        "pass the gate.",
        "gate.within_category가 꺼져 있어, 영상의 범주만 아는 모델도 통과할 수 있습니다.",
    ),
    "within.no_category": Text(
        "No category has three clips: a captioner that knows only the category of a clip could "
        "pass the gate.",
        "영상이 세 개 이상인 범주가 없어, 범주만 아는 모델도 통과할 수 있습니다.",
    ),
    "within.few_videos": Text(
        "Only {d.n_groups} of {d.n_total} source videos lie in a category of three clips, too few "
        "to ask for M within category: a captioner that knows only the category of a clip could "
        "pass the gate.",
        "원본 영상 {d.n_total}개 가운데 {d.n_groups}개만 영상이 세 개 이상인 범주에 있어 범주 안 "
        "M을 요구하기에는 너무 적습니다. 범주만 아는 모델도 통과할 수 있습니다.",
    ),
    "within.not_shown": Text(
        "The human captions' own M within category is {mean}, not shown to be above 0, so nobody "
        "is asked for it: a captioner that knows only the category of a clip could pass the gate.",
        "사람 캡션의 범주 안 M도 {mean}로 0보다 크다고 확인되지 않아 아무에게도 요구하지 "
        "않았습니다. 범주만 아는 모델도 통과할 수 있습니다.",
    ),
    "within.mean": Text("{mean}", "{mean}"),
    "within.mean_bound": Text("{mean} (lower bound {bound})", "{mean}(하한 {bound})"),
}
_say = partial(said, SAID)


def gate_name(verdict: Verdict | None) -> Text:
    """A verdict's name."""
    return _say(f"gate.{verdict or 'not_judged'}")


def gate_reason(told: GateVerdict) -> Text:
    """The verdict and the figures that made it: one sentence."""
    return Text("{name}: {figures}", "{name}: {figures}").fill(
        name=_say(f"gate.{told.reason}"), figures=_gate_figures(told)
    )


def gate_explained(told: GateVerdict) -> Text:
    """What the verdict means, and the figures that made it, for a place that names it already."""
    meaning = sentence(_say(f"meaning.{told.reason}"))
    return meaning + Text.same(" ") + capital(_gate_figures(told))


def _gate_figures(told: GateVerdict) -> Text:
    return _say(
        f"figures.{told.reason}",
        failed=len(told.failed_runs),
        n_seeds=told.n_seeds,
        margin=_margin(told),
        diversity=_say("diversity", d=told.diversity) if told.diversity else NOTHING,
        ceiling=significant(told.ungrounded_ceiling),
    )


def _margin(told: GateVerdict) -> Text:
    """M with its bounds, and within category where asked for; which of them decided."""
    margin, within = told.margin, told.within
    if margin.lower is None or margin.upper is None:
        return _say("margin.one_group", mean=significant(margin.mean))
    figures = {
        "mean": significant(margin.mean),
        "lower": significant(margin.lower),
        "upper": significant(margin.upper),
        "p": told.p_holm,
    }
    if within is None:
        return _say("margin.alone", **figures)
    if within.lower is None or within.upper is None:
        own = _say("margin.in_category_one_group", mean=significant(within.mean))
    else:
        ends = {"lower": significant(within.lower), "upper": significant(within.upper)}
        own = _say("margin.in_category", mean=significant(within.mean), **ends)
    by = _say("margin.by_category" if told.decided_within else "margin.by_all")
    return _say("margin.within", **figures, within=own, by=by)


def stamps(told: GateVerdict, on_page: bool = False) -> list[Text]:
    """The marks beside a projector's name; ``on_page`` at length."""
    low_seeds = told.diversity.low_seeds if told.diversity else 0
    keys = (
        f"stamp.page.{stamp}" if on_page and f"stamp.page.{stamp}" in SAID else f"stamp.{stamp}"
        for stamp in told.stamps
    )
    return [_say(key, low_seeds=low_seeds, n_seeds=told.n_seeds) for key in keys]


def half_name(half: str) -> Text:
    """A half of a held-out split, by what it chose for; nothing where there are none."""
    return _say(f"half.{half}") if half else NOTHING


def refused_cells(own: Selection) -> Text:
    """How many cells the gate refused on the clips that choose, by its word."""
    return _say("tuning.refused" if own.n_category_only else "tuning.collapsed", own=own)


def tuning_seeds(n: int) -> Text:
    """Over how many tuning seeds a cell's mean M is."""
    return _say("tuning.seeds" if n == 1 else "tuning.many_seeds", n=n)


def passed_over(own: Selection) -> list[Text]:
    """A sentence for each cell of higher M than the chosen one: why it was not taken."""
    return [
        _say("tuning.passed_over", cell=cell.cell, reason=gate_reason(cell.verdict))
        for cell in own.cells
        if cell.cell in own.passed_over and cell.verdict is not None
    ]


def published_name(told: PublishedVerdict | None) -> Text:
    """The verdict on a published run, by what was published."""
    return _say(f"published.{told.verdict if told else 'undetermined'}")


def published_reason(told: PublishedVerdict | None) -> Text:
    """Why a published run is judged so, or was not."""
    return _say(f"published.why_{told.verdict}" if told else "published.no_diversity", v=told)


def within_demand_sentence(told: WithinDemand) -> Text:
    """Whether M within category is asked for, and why."""
    mean = NOTHING
    if told.mean is not None and told.lower_bound is not None:
        ends = {"mean": significant(told.mean), "bound": significant(told.lower_bound)}
        mean = _say("within.mean_bound", **ends)
    elif told.mean is not None:
        mean = _say("within.mean", mean=significant(told.mean))
    return _say(f"within.{told.reason}", d=told, mean=mean)


def scorer_check(check: ScorerCheck) -> Text:
    """Whether the scorer can tell, with the figures."""
    bounds = _say("scorer.one_group")
    if check.low is not None:
        ends = {"low": significant(check.low), "high": significant(check.high)}
        bounds = _say("scorer.bounds", level=100 * (1 - check.alpha), **ends)
    key = "scorer.found" if check.auc_within_category is None else "scorer.found_within"
    found = _say(key, c=check, d=significant(check.mean_margin), bounds=bounds)
    return _say("scorer.can_tell" if check.can_tell else "scorer.cannot_tell", found=found)
