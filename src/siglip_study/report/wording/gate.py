"""Sentences on the gate, tuning and the scorer check: verdicts, and the figures that made them."""

from __future__ import annotations

from functools import partial

from siglip_study.ranking.gate import GateVerdict, PublishedVerdict, Verdict
from siglip_study.ranking.scorer_check import ScorerCheck
from siglip_study.ranking.selection import Selection
from siglip_study.ranking.within import WithinDemand
from siglip_study.report.language import NOTHING, Text, capital, said, sentence, texts
from siglip_study.report.words import significant

SAID = texts("gate")
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
