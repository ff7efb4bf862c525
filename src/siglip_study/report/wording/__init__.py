"""Sentences on results, made from typed results: a catalogue of templates for each language.

Another language is another dictionary with the keys of :data:`ENGLISH` in :data:`CATALOGUES`.
Nothing reads a sentence back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from siglip_study.ranking.caveats import LEVEL, MIN_SEEDS, Caveat, CaveatCode
from siglip_study.ranking.gate import GateVerdict, PublishedVerdict, Verdict
from siglip_study.ranking.orders import MetricOrder, TruthOrder
from siglip_study.ranking.outlook import excluded_failure_rate
from siglip_study.ranking.pairs import PairInfluence, PairTest, Run, RunInfluence
from siglip_study.ranking.procedure import Ranking
from siglip_study.ranking.scorer_check import ScorerCheck
from siglip_study.ranking.selection import Selection
from siglip_study.ranking.within import WithinDemand

#: The language of the page.
LANGUAGE = "en"

ENGLISH: dict[str, str] = {
    "list.and": " and ",
    "list.or": " or ",
    # The gate's verdicts: their names, what they mean, and the figures that made them.
    "gate.grounded": "Grounded",
    "gate.ungrounded": "Ungrounded",
    "gate.undetermined": "Undetermined",
    "gate.category_only": "Category only",
    "gate.collapsed": "Collapsed",
    "gate.templated": "Grounded though templated",
    "gate.collapsed_category": "Collapsed",
    "gate.unstable": "Unstable",
    "gate.not_judged": "not judged",
    "meaning.grounded": "its captions fit their own clip better than other clips",
    "meaning.templated": "its captions fit their own clip better than other clips",
    "meaning.ungrounded": "its captions fit their own clip no better than other clips",
    "meaning.undetermined": "the data cannot tell whether its captions follow the clip",
    "meaning.category_only": "its captions tell categories apart; that they tell clips of one "
    "category apart is not shown",
    "meaning.unstable": "some of its runs failed while others are sound",
    "meaning.collapsed": "nearly the same caption for every clip, and no tie to the clip",
    "meaning.collapsed_category": "a few captions for all clips, which tell categories apart and "
    "no more",
    "figures.grounded": "{margin}.",
    "figures.templated": "{margin}, while {diversity}.",
    "figures.ungrounded": "{margin}; M is under {ceiling}, a small share of what human captions "
    "reach.",
    "figures.undetermined": "{margin}, neither shown to be above 0 nor shown to be negligible.",
    "figures.category_only": "{margin}: above 0 over all clips, not shown to be so within one.",
    "figures.unstable": "{failed} of its {n_seeds} runs failed by themselves ({margin}): whoever "
    "trains it once may get such a run.",
    "figures.collapsed": "{diversity}, and {margin}, not shown to be above 0.",
    "figures.collapsed_category": "{diversity}, and {margin}: not shown to be above 0 within a "
    "category.",
    "diversity": "effective captions are {d.effective:.2f} (limit {d.effective_limit:.2f}), the "
    "top cluster holds {d.top_share:.0%} (limit {d.top_share_limit:.0%})",
    "margin.one_group": "M is {mean} on one group of clips, so it has no bound",
    "margin.alone": "M is {mean} (one-sided bounds {lower} and {upper}, Holm p {p:.3g})",
    "margin.within": "M is {mean} (one-sided bounds {lower} and {upper}) and {within}, Holm p "
    "{p:.3g}, decided by {by}",
    "margin.in_category": "{mean} within a category ({lower} and {upper})",
    "margin.in_category_one_group": "{mean} within a category (one group of clips, no bound)",
    "margin.by_category": "M within category",
    "margin.by_all": "M",
    "published.collapsed": "Collapsed by diversity alone",
    "published.undetermined": "Undetermined",
    "published.why_collapsed": "{v.distinct_ratio:.2f} distinct captions a clip against a limit of "
    "{v.limit:.2f}; effective captions cannot exceed that.",
    "published.why_undetermined": "{v.distinct_ratio:.2f} distinct captions a clip against a limit "
    "of {v.limit:.2f}, and distinct strings cannot show near-duplicates.",
    "published.no_diversity": "no diversity was published.",
    # Marks beside a name: in the tables, and at length on the page where that differs.
    "stamp.templated": "templated",
    "stamp.category_only": "tells categories apart, not clips",
    "stamp.diversity_unknown": "diversity test off: references templated",
    "stamp.low_in_some_seeds": "low diversity in {low_seeds} of {n_seeds} seeds",
    "stamp.clips_only": "clips only",
    "stamp.page.templated": "templated: grounded, but many captions are near-copies of each other",
    "stamp.page.clips_only": "one seed: the interval carries clips only",
    # The tuning cells; halves of one held-out split by the one that chose.
    "half.selection": "half A, choosing for half B",
    "half.report": "half B, choosing for half A",
    "tuning.seeds": "one tuning seed",
    "tuning.many_seeds": "{n} tuning seeds, each below",
    "tuning.collapsed": "{own.n_collapsed} of {own.n_cells} cells collapsed",
    "tuning.refused": "{own.n_collapsed} of {own.n_cells} cells collapsed, {own.n_category_only} "
    "category only",
    "tuning.passed_over": "{cell} was passed over. {reason}",
    # The scorer check.
    "scorer.can_tell": "The scorer tells human captions of their own clip from those of others: "
    "{found}.",
    "scorer.cannot_tell": "The scorer cannot tell; no verdict: {found}.",
    "scorer.found": "the references' D is {c.mean_margin:.4f} ({bounds}), AUC {c.auc:.2f}",
    "scorer.found_within": "the references' D is {c.mean_margin:.4f} ({bounds}), AUC {c.auc:.2f}, "
    "{c.auc_within_category:.2f} within a category",
    "scorer.one_group": "no interval on one group",
    "scorer.bounds": "{level:g}% interval {c.low:.4f} to {c.high:.4f}",
    # Whether the gate asks for M within category.
    "within.asked": "Grounded means telling clips of one category apart as well, as the human "
    "captions do: their M within category is {mean}.",
    "within.off": "gate.within_category is off: a captioner that knows only the category of a clip "
    "could pass the gate.",
    "within.no_category": "No category has three clips: a captioner that knows only the category "
    "of a clip could pass the gate.",
    "within.few_videos": "Only {d.n_groups} of {d.n_total} source videos lie in a category of "
    "three clips, too few to ask for M within category: a captioner that knows only the category "
    "of a clip could pass the gate.",
    "within.not_shown": "The human captions' own M within category is {mean}, not shown to be "
    "above 0, so nobody is asked for it: a captioner that knows only the category of a clip could "
    "pass the gate.",
    "within.mean": "{mean:.4f}",
    "within.mean_bound": "{mean:.4f} (lower bound {bound:.4f})",
    # Why there are no ranks.
    "refusal.two_clips": "there are two clips, which have the same M by definition",
    "refusal.one_group": "there is one group of clips, so the difference between clips is unknown",
    "refusal.one_seed": "there is one run each, so the difference between seeds is unknown",
    "refusal.copied_runs": "two runs of one projector ({projectors}) have the same scores on every "
    "clip, so they are one run counted twice, and the difference between seeds is unknown",
    "refusal.category_only": "no projector's captions were shown to tell clips of one category "
    "apart",
    "refusal.none_grounded": "no projector's captions were shown to fit their clips",
    # The answer of the study.
    "answer.refused": "No order can be claimed: {why}.",
    "answer.only_projector": "No order can be claimed: {first} is the only projector of the study.",
    "answer.only_ranked": "Only {first} can be ranked: no other projector's captions passed the "
    "gate.",
    "answer.no_difference": "No order can be claimed: {pairs}, and a difference in M under "
    "{missed:.4f} could have been missed{beyond}.",
    "answer.pair": "{projectors} do not differ significantly",
    "answer.pairs": "none of the {n} pairs of ranked projectors differs significantly",
    # What follows the answer: whom to take, whom to avoid, what to do next.
    "advice.guess": "The best guess is {guess}{better}.",
    "advice.better": ", proven better than {projectors}",
    "advice.avoid": "To be avoided: {told}.",
    "advice.avoid_one": "{projector} ({why})",
    "advice.worse": "proven worse",
    "advice.next": "{guess} is told from {rival} with probability {power:.0%} by a study like this "
    "one, if their difference is as measured; {needed}.",
    "advice.seeds": "{seeds} report seeds would do so with 80 %{hours}",
    "advice.hours": " ({hours:.1f} hours more)",
    "advice.groups": "{groups} source videos would do so with 80 %",
    "advice.neither": "neither 20 seeds nor 16 times the clips would with 80 %",
    "advice.blind_one": "{projectors} does not see the order of frames: reversing a video costs "
    "its model nothing.",
    "advice.blind": "{projectors} do not see the order of frames: reversing a video costs "
    "their models nothing.",
    "answer.beyond_pair": "; that is no less than the human captions' whole M of {human:.4f}, so "
    "this study has too few seeds or clips to order any two projectors",
    "answer.beyond_pairs": "; every pair could miss one as large as the human captions' whole M of "
    "{human:.4f}, so this study has too few seeds or clips to order any two projectors",
    "answer.no_first": "No first place can be claimed: {best} cannot be told apart{below}.",
    "answer.below": "; {projectors} cannot be first",
    "answer.unproven_first": "No first place can be claimed: {first} alone is beaten by none, but "
    "it is not shown to exceed {unclear}.",
    "answer.first": "{first} ranks first of {n}: its captions fit their clips better than those of "
    "every other ranked projector, by {difference:.4f} in M over {second} ({low:.4f} to "
    "{high:.4f}){order}{above}.",
    "answer.order": "; the whole order is {order}",
    "answer.above_one": "; {projectors} has a higher M and did not pass the gate",
    "answer.above": "; {projectors} have a higher M and did not pass the gate",
    # What a reader must know before using the ranking.
    "caveat.one_run": "One run each: every interval carries the clips only, and another seed may "
    "turn any difference around.",
    "caveat.few_seeds": "{r.n_seeds} seeds a projector: the procedure asks for at least {seeds}, "
    "and where one projector's seeds vary much more than the others' false orders exceed 5 %.",
    "caveat.other_level": "Every test and the gate's bounds stand at {r.alpha:g}, and the "
    "intervals of projectors, of their differences and of the scorer check at {level:g} %; those "
    "beside the metrics of one captioner (a run, the human captions, a control) stay at 95 %."
    "{more}",
    "caveat.more": " The procedure asks for {asked:g}: false claims are as frequent.",
    "caveat.halved": "There is one held-out split: it was halved by source video; one half chose "
    "the settings, the other is reported, and they were not exchanged (no cross-fitting).",
    "caveat.cross_fitted": "There is one held-out split: it was halved by source video, and each "
    "half is reported with the settings that the other half chose.",
    "caveat.few_groups": "Only {r.n_groups} independent groups of clips: the intervals lean on "
    "means of few values being near normal.",
    "caveat.fewer_groups_than_clips": "The {r.n_clips} clips come from {r.n_groups} source videos; "
    "the intervals count videos, each weighing the same.",
    "caveat.not_ranked": "{projectors} is not ranked. {reason}",
    "caveat.templated": "{projectors} is ranked with a stamp. {reason}",
    "caveat.templated_references": "The human captions are templated themselves, so low diversity "
    "is not held against anybody.",
    "caveat.all_tuning_collapsed": "{where} every tuning cell of {projectors} collapsed; the one "
    "with the highest M was trained on.",
    "caveat.no_tuning_grounded": "{where} no tuning cell of {projectors} was grounded; the one "
    "with the highest M of those not collapsed tells categories apart, was not shown to tell clips "
    "of one category apart, and was trained on.",
    "caveat.tuned_by_luck": "With {n_tuning} tuning seed{plural} the chosen cell is the best of "
    "its projector's with probability {shares}, as far as seeds go. Where cells hardly differ that "
    "costs little; where they do, a projector with noisy seeds is reported below its best, and "
    "more tuning seeds (`seeds.tuning: [0, 1]`) would tell.",
    "caveat.where_half": "On a half of the clips",
    "caveat.where_selection": "On the selection clips",
    "caveat.truncated": "Captions cut at the token budget are scored as they stand: {shares}.",
    "caveat.share": "{label} {share:.1%}",
    "caveat.chance": "{share:.0%} ({label})",
    "caveat.mean": "{label} {share:.2f}",
    "caveat.below_retrieval": "Not shown to be better than handing out the caption of the nearest "
    "training clip: {projectors}.",
    "caveat.no_human_scale": "The human captions' own M is less than 5 standard errors above 0, so "
    "no score is given as a share of it.",
    "caveat.unlike_sentences": "The ranked projectors' captions differ in sentences ({shares} a "
    "caption): compare them by M, which that does not move, and not by D or cosines.",
    "caveat.frame_order": "The scorer averages over frames: the order of frames is invisible to "
    "it, and so to this ranking.",
    "retrieval.none": "No retrieval baseline was scored.",
    "retrieval.cleared": "Cleared by {projectors}.",
    "retrieval.not_cleared": "No projector clears it: none is shown to beat copying the nearest "
    "training caption.",
    "runs.sound": "{n} sound seeds exclude a failure rate of a run above {rate:.0%}, and no "
    "lower one.",
    "runs.one": "One run each: how often a run fails is unknown.",
    "runs.failed": "{failed} of {n_seeds} runs of {projector} failed by themselves ({told}): "
    "whoever trains it once may get such a run.",
    "runs.failed_all": "All {n_seeds} runs of {projector} failed by themselves ({told}).",
    "runs.failed_one": "{verdict} with seed {seed}",
    "runs.name": "seed {seed} of {projector}",
    # What single runs and source videos carry.
    "run_influence.nothing": "No difference is claimed, so none can hang on a single run.",
    "run_influence.none": "No single run decides a claim: each of the {claims} claimed differences "
    "would still be claimed without any one run.",
    "run_influence.none_of_one": "No single run decides the claim: the difference would still be "
    "claimed without any one run.",
    "run_influence.some": "{lost} of {claims} claimed differences would be lost without a single "
    "run: {told}.",
    "run_influence.one": "{p.a} and {p.b} (without {runs})",
    "influence.none": "No single source video makes or unmakes {verdicts} ({claims} claimed): "
    "{size}.",
    "influence.some": "A single source video decides {pairs}, {told}; {size}.",
    "influence.size": "leaving one out moves a difference by {change:.4f} in M at most ({p.a} and "
    "{p.b}, without '{p.change_group}')",
    "influence.one_verdict": "the verdict on the pair",
    "influence.any_verdict": "any of the {n} pairwise verdicts",
    "influence.one_pair": "the pair",
    "influence.some_pairs": "{shaken} of the {n} pairs",
    "influence.claimed": "{p.a} and {p.b} (claimed only with {group})",
    "influence.not_claimed": "{p.a} and {p.b} (claimed without {group})",
    "influence.group": "'{group}'",
    "influence.each": "each of {n}",
    "influence.any": "any one of {n}",
    # Other orders: by other measures, and by the facts that only the demo knows.
    "orders.highest_one": "{best} has the highest mean {lead}",
    "orders.highest": "{best} have the highest mean {lead}",
    "orders.all_agree": "{text}, and the highest of every other measure: {agree}.",
    "orders.none_agree": "{text}; every other measure puts another first: {differ}.",
    "orders.some_agree": "{text}, and of {agree}; another is first by {differ}.",
    "orders.differs": "{measure} ({best})",
    "truth.nothing": "The facts (mean κ) tell none of {n} pairs of projectors apart, and so "
    "contradict nothing.",
    "truth.found": "The facts (mean κ) tell {told} of {n} pairs of projectors apart",
    "truth.contradicts": "M CONTRADICTS THE TRUTH. {found}, and M claims the opposite order where "
    "{pairs}.",
    "truth.knows_more": "{better} knows more facts than {worse}",
    "truth.agrees": "{found}; {parts}, and contradicts none.",
    "truth.same": "M orders {n} of these the same way",
    "truth.leans": "leans the same way on {n}",
    "truth.leans_away": "leans the other way, within its error, on {n} ({pairs})",
    "truth.over": "{better} over {worse}",
}

CATALOGUES: dict[str, dict[str, str]] = {"en": ENGLISH}


def say(key: str, **figures: Any) -> str:
    """The template ``key`` of the page's language, filled in."""
    return CATALOGUES[LANGUAGE][key].format(**figures)


def english_list(names: Sequence[str], word: str = "and") -> str:
    """``a``, ``a and b``, ``a, b and c``; with another ``word`` of the catalogue's lists."""
    *first, last = names or [""]
    return say(f"list.{word}").join([", ".join(first), last] if first else [last])


def capital(text: str) -> str:
    """``text`` with a capital at its start."""
    return text[:1].upper() + text[1:]


def sentence(text: str | None) -> str:
    """A clause as a sentence: a capital at its start, one full stop at its end."""
    clause = (text or "").strip().rstrip(".")
    return f"{capital(clause)}." if clause else ""


# ---- The gate.


def gate_name(verdict: Verdict | None) -> str:
    """A verdict's name."""
    return say(f"gate.{verdict or 'not_judged'}")


def gate_reason(told: GateVerdict) -> str:
    """The verdict and the figures that made it: one sentence."""
    return f"{say(f'gate.{told.reason}')}: {_gate_figures(told)}"


def gate_explained(told: GateVerdict) -> str:
    """What the verdict means, and the figures that made it, for a place that names it already."""
    return f"{sentence(say(f'meaning.{told.reason}'))} {capital(_gate_figures(told))}"


def _gate_figures(told: GateVerdict) -> str:
    return say(
        f"figures.{told.reason}",
        failed=len(told.failed_runs),
        n_seeds=told.n_seeds,
        margin=_margin(told),
        diversity=say("diversity", d=told.diversity) if told.diversity else "",
        ceiling="" if told.ungrounded_ceiling is None else _figure(told.ungrounded_ceiling),
    )


def _margin(told: GateVerdict) -> str:
    """M with its bounds, and within category where asked for; which of them decided."""
    margin, within = told.margin, told.within
    if margin.lower is None or margin.upper is None:
        return say("margin.one_group", mean=_figure(margin.mean))
    bounds = {"lower": _figure(margin.lower), "upper": _figure(margin.upper), "p": told.p_holm}
    if within is None:
        return say("margin.alone", mean=_figure(margin.mean), **bounds)
    if within.lower is None or within.upper is None:
        own = say("margin.in_category_one_group", mean=_figure(within.mean))
    else:
        ends = {"lower": _figure(within.lower), "upper": _figure(within.upper)}
        own = say("margin.in_category", mean=_figure(within.mean), **ends)
    by = say("margin.by_category" if told.decided_within else "margin.by_all")
    return say("margin.within", mean=_figure(margin.mean), **bounds, within=own, by=by)


def _figure(value: float) -> str:
    text = f"{value:.4f}"
    return text.removeprefix("-") if float(text) == 0 else text


def stamps(told: GateVerdict, on_page: bool = False) -> list[str]:
    """The marks beside a projector's name; ``on_page`` at length."""
    low_seeds = told.diversity.low_seeds if told.diversity else 0
    known = CATALOGUES[LANGUAGE]
    keys = (
        f"stamp.page.{stamp}" if on_page and f"stamp.page.{stamp}" in known else f"stamp.{stamp}"
        for stamp in told.stamps
    )
    return [say(key, low_seeds=low_seeds, n_seeds=told.n_seeds) for key in keys]


def refused_cells(own: Selection) -> str:
    """How many cells the gate refused on the clips that choose, by its word."""
    return say("tuning.refused" if own.n_category_only else "tuning.collapsed", own=own)


def tuning_seeds(n: int) -> str:
    """Over how many tuning seeds a cell's mean M is."""
    return say("tuning.seeds" if n == 1 else "tuning.many_seeds", n=n)


def passed_over(own: Selection) -> list[str]:
    """A sentence for each cell of higher M than the chosen one: why it was not taken."""
    return [
        say("tuning.passed_over", cell=cell.cell, reason=gate_reason(cell.verdict))
        for cell in own.cells
        if cell.cell in own.passed_over and cell.verdict is not None
    ]


def published_reason(told: PublishedVerdict | None) -> str:
    """Why a published run is judged so, or was not."""
    return say(f"published.why_{told.verdict}" if told else "published.no_diversity", v=told)


def within_demand_sentence(told: WithinDemand) -> str:
    """Whether M within category is asked for, and why."""
    mean = ""
    if told.mean is not None and told.lower_bound is not None:
        mean = say("within.mean_bound", mean=told.mean, bound=told.lower_bound)
    elif told.mean is not None:
        mean = say("within.mean", mean=told.mean)
    return say(f"within.{told.reason}", d=told, mean=mean)


def scorer_check(check: ScorerCheck) -> str:
    """Whether the scorer can tell, with the figures."""
    bounds = say("scorer.one_group")
    if check.low is not None:
        bounds = say("scorer.bounds", level=100 * (1 - check.alpha), c=check)
    key = "scorer.found" if check.auc_within_category is None else "scorer.found_within"
    found = say(key, c=check, bounds=bounds)
    return say("scorer.can_tell" if check.can_tell else "scorer.cannot_tell", found=found)


# ---- The answer.


def why_no_ranks(ranking: Ranking) -> str | None:
    """A clause, or ``None`` where ranks are given."""
    refusal = ranking.answer.refusal
    if refusal is None:
        return None
    if refusal.code == "scorer_cannot_tell" and ranking.scorer is not None:
        return scorer_check(ranking.scorer).rstrip(".")
    return say(f"refusal.{refusal.code}", projectors=english_list(refusal.projectors))


def answer(ranking: Ranking) -> str:
    """The answer of the study in one sentence."""
    code, best = ranking.answer.code, ranking.answer.best
    ranked = [own.projector for own in ranking.projectors if own.ranked]
    among = [test for test in ranking.pairs if test.a in ranked and test.b in ranked]
    figures: dict[str, Any] = {"first": best[0] if best else "", "best": english_list(best)}
    if code == "refused":
        figures["why"] = why_no_ranks(ranking)
    elif code == "no_difference":
        missed = [t.smallest_detectable for t in among if t.smallest_detectable is not None]
        kind = "pair" if len(among) == 1 else "pairs"
        # Said where any pair could miss even the gap between human captions and blind ones.
        human = ranking.human_margin or 0.0
        beyond = 0 < human <= min(missed)
        figures |= {
            "pairs": say(f"answer.{kind}", projectors=english_list(ranked), n=len(among)),
            "missed": max(missed),
            "beyond": say(f"answer.beyond_{kind}", human=human) if beyond else "",
        }
    elif code == "no_first":
        below = [label for label in ranked if label not in best]
        figures["below"] = say("answer.below", projectors=english_list(below)) if below else ""
    elif code == "unproven_first":
        own = [test for test in among if best[0] in (test.a, test.b) and not test.significant]
        figures["unclear"] = english_list([_other(test, best[0]) for test in own])
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
            "difference": abs(closest.difference),
            "second": _other(closest, best[0]),
            "low": low,
            "high": high,
            "order": say("answer.order", order=order) if whole and len(ranked) > 2 else "",
            "above": say(many, projectors=english_list(above)) if above else "",
        }
    return say(f"answer.{code}", **figures)


def advice(ranking: Ranking) -> list[str]:
    """What the answer means for who must choose: sentences that follow it."""
    told, found = ranking.answer, []
    if told.guess is not None:
        worse = english_list(told.better_than)
        better = say("advice.better", projectors=worse) if worse else ""
        found.append(say("advice.guess", guess=told.guess, better=better))
    if told.avoid:
        reasons = [
            say(
                "advice.avoid_one",
                projector=one.projector,
                why=say("advice.worse") if one.reason == "worse" else gate_name(one.reason).lower(),
            )
            for one in told.avoid
        ]
        found.append(say("advice.avoid", told=", ".join(reasons)))
    step = told.next_step
    if step is not None:
        hours = step.device_hours
        cost = say("advice.hours", hours=hours) if hours is not None else ""
        ways = [say("advice.seeds", seeds=step.seeds, hours=cost)] if step.seeds else []
        ways += [say("advice.groups", groups=step.groups)] if step.groups else []
        needed = ", or ".join(ways) or say("advice.neither")
        found.append(
            say("advice.next", guess=told.guess, rival=step.rival, power=step.power, needed=needed)
        )
    blind = ranking.time_order.blind if ranking.time_order else ()
    if blind:
        key = "advice.blind_one" if len(blind) == 1 else "advice.blind"
        found.append(say(key, projectors=english_list(blind)))
    if told.guess is not None and ranking.n_seeds > 1:
        found.append(sound_runs(ranking.n_seeds, ranking.alpha))
    return found


def _other(test: PairTest, label: str) -> str:
    return test.b if test.a == label else test.a


# ---- What limits the answer.


def caveats(ranking: Ranking, code: CaveatCode | None = None) -> list[str]:
    """What a reader must know before using the ranking, gravest first; one ``code`` alone."""
    crossed = any(caveat.code == "cross_fitted" for caveat in ranking.caveats)
    return [
        _caveat(caveat, ranking, crossed)
        for caveat in ranking.caveats
        if code is None or caveat.code == code
    ]


def _caveat(caveat: Caveat, ranking: Ranking, crossed: bool) -> str:
    if caveat.code == "within_not_asked" and ranking.within_category is not None:
        return within_demand_sentence(ranking.within_category)
    reason = ""
    if caveat.code in ("not_ranked", "templated"):
        gates = {own.projector: own.gate for own in ranking.projectors}
        reason = gate_reason(gates[caveat.projectors[0]])
    n_tuning = ranking.tuning[0].n_seeds if ranking.tuning else 1
    figures = {"tuned_by_luck": "caveat.chance", "unlike_sentences": "caveat.mean"}
    each = figures.get(caveat.code, "caveat.share")
    return say(
        f"caveat.{caveat.code}",
        r=ranking,
        n_tuning="one" if n_tuning == 1 else n_tuning,
        plural="" if n_tuning == 1 else "s",
        seeds=MIN_SEEDS,
        level=100 * (1 - ranking.alpha),
        more=say("caveat.more", asked=LEVEL) if ranking.alpha > LEVEL else "",
        projectors=english_list(caveat.projectors),
        reason=reason,
        where=say("caveat.where_half" if crossed else "caveat.where_selection"),
        shares=english_list(
            [
                say(each, label=label, share=share)
                for label, share in zip(caveat.projectors, caveat.shares, strict=False)
            ]
        ),
    )


def influence(found: Sequence[PairInfluence]) -> str:
    """Whether any claim hangs on one source video, of which at least one could be left out."""
    shaken = [pair for pair in found if pair.flipped_by]
    n, one = len(found), len(found) == 1
    most = max(found, key=lambda pair: abs(pair.change))
    size = say("influence.size", change=abs(most.change), p=most)
    if not shaken:
        verdicts = say("influence.one_verdict" if one else "influence.any_verdict", n=n)
        claims = sum(pair.claimed for pair in found)
        return say("influence.none", verdicts=verdicts, claims=claims, size=size)
    told = []
    for pair in shaken:
        many = "influence.each" if pair.claimed else "influence.any"
        key = "influence.group" if len(pair.flipped_by) == 1 else many
        group = say(key, group=pair.flipped_by[0], n=len(pair.flipped_by))
        claimed = "influence.claimed" if pair.claimed else "influence.not_claimed"
        told.append(say(claimed, p=pair, group=group))
    pairs = say("influence.one_pair" if one else "influence.some_pairs", shaken=len(shaken), n=n)
    return say("influence.some", pairs=pairs, told=english_list(told), size=size)


def run_influence(found: Sequence[RunInfluence], names: Mapping[Run, str]) -> str:
    """Whether any claim hangs on one run; ``names`` are the runs' in words."""
    claims = sum(pair.claimed for pair in found)
    hanging = [pair for pair in found if pair.lost_without]
    if not claims:
        return say("run_influence.nothing")
    if not hanging:
        return say(
            "run_influence.none_of_one" if claims == 1 else "run_influence.none", claims=claims
        )
    told = [
        say(
            "run_influence.one",
            p=pair,
            runs=english_list([names[run] for run in pair.lost_without], "or"),
        )
        for pair in hanging
    ]
    return say("run_influence.some", lost=len(hanging), claims=claims, told=english_list(told))


# ---- Single runs.


def seed_of(projector: str, seed: int | None) -> str:
    """A run by its projector and seed."""
    return say("runs.name", projector=projector, seed=seed)


def failed_runs(projector: str, failed: Sequence[tuple[int | None, Verdict]], n_seeds: int) -> str:
    """Which of a projector's runs, by seed, the gate refused by themselves."""
    told = [say("runs.failed_one", seed=seed, verdict=gate_name(v).lower()) for seed, v in failed]
    key = "runs.failed_all" if len(failed) == n_seeds else "runs.failed"
    return say(
        key, failed=len(failed), n_seeds=n_seeds, projector=projector, told=english_list(told)
    )


def sound_runs(n_seeds: int, alpha: float) -> str:
    """What this many runs of one projector without a failure exclude."""
    if n_seeds == 1:
        return say("runs.one")
    return say("runs.sound", n=n_seeds, rate=excluded_failure_rate(n_seeds, alpha))


# ---- Other orders.


def metric_orders_sentence(
    orders: Sequence[MetricOrder], lead: str, names: Mapping[str, str]
) -> str:
    """Which other measures agree with ``lead`` on the first place, and which do not."""
    first = next((order for order in orders if order.metric == lead), None)
    others = [order for order in orders if order.metric != lead]
    if first is None or not others or len(first.values) < 2:
        return ""
    agree = [names[o.metric] for o in others if o.same_top]
    differ = [
        say("orders.differs", measure=names[o.metric], best=english_list(o.top))
        for o in others
        if not o.same_top
    ]
    key = "orders.highest" if len(first.top) > 1 else "orders.highest_one"
    kind = "some_agree" if agree and differ else "all_agree" if agree else "none_agree"
    return say(
        f"orders.{kind}",
        text=say(key, best=english_list(first.top), lead=names[lead]),
        agree=english_list(agree),
        differ=english_list(differ),
    )


def truth_order(order: TruthOrder) -> str:
    """Whether M contradicts the facts."""

    def pairs(key: str, told: Sequence[tuple[str, str]]) -> str:
        return "; ".join(say(key, better=better, worse=worse) for better, worse in told)

    if not order.told:
        return say("truth.nothing", n=order.n_pairs)
    found = say("truth.found", told=len(order.told), n=order.n_pairs)
    if order.contradict:
        opposite = pairs("truth.knows_more", order.contradict)
        return say("truth.contradicts", found=found, pairs=opposite)
    away = order.reversed_only
    rest = len(order.told) - len(order.agree) - len(away)
    parts = [say("truth.same", n=len(order.agree))]
    if rest:
        parts.append(say("truth.leans", n=rest))
    if away:
        parts.append(say("truth.leans_away", n=len(away), pairs=pairs("truth.over", away)))
    return say("truth.agrees", found=found, parts=", ".join(parts))


#: Templates call these by name: ``{{ ranking|caveats }}``.
FILTERS: dict[str, Callable[..., Any]] = {
    each.__name__: each for each in (caveats, gate_name, influence, scorer_check, sentence, stamps)
}
