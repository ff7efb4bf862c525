"""The ranking in plain words: one sentence of verdict, and the sentences that limit it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from siglip_study.ranking.gate import GateVerdict
from siglip_study.ranking.influence import PairInfluence
from siglip_study.ranking.pairs import BaselineTest, PairTest
from siglip_study.ranking.within import WithinDemand

#: Level of the tests that the procedure fixes beforehand.
LEVEL = 0.05
#: Seeds the procedure asks for, and groups under which a t-interval leans on normality.
MIN_SEEDS, FEW_GROUPS = 3, 30


@dataclass(frozen=True)
class Circumstances:
    """How the figures came about, as far as it limits what they say.

    Attributes:
        optimistic: settings were chosen on the clips that are reported.
        halved: one held-out split, halved by source video; one half chose, the other is reported.
        cross_fitted: one held-out split, halved; each half reported with the other's choice.
        chosen_gates: the gate's word on each chosen tuning cell, on the clips that chose it (the
            worse of two halves').
        truncated: share of captions cut at the token budget, per projector.
    """

    optimistic: bool = False
    halved: bool = False
    cross_fitted: bool = False
    chosen_gates: Mapping[str, str] = field(default_factory=dict)
    truncated: Mapping[str, float] | None = None


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else list(names))


def why_no_ranks(
    scorer_sentence: str | None,
    n_seeds: int,
    n_groups: int,
    ranked: Sequence[str],
    n_clips: int,
    category_only: bool = False,
    copied: Sequence[str] = (),
) -> str | None:
    """Why no ranks are given, or ``None`` where they are.

    ``scorer_sentence`` is given only where the scorer cannot tell; ``category_only`` where some
    captions fit clips of their category, and no more was shown; ``copied`` names projectors of
    which two runs are one.
    """
    if scorer_sentence is not None:
        return scorer_sentence.rstrip(".")
    if n_clips == 2:
        return "there are two clips, which have the same D by definition"
    if n_groups < 2:
        return "there is one group of clips, so the difference between clips is unknown"
    if n_seeds < 2:
        return "there is one run each, so the difference between seeds is unknown"
    if copied:
        return (
            f"two runs of one projector ({listed(copied)}) have the same scores on every clip, so "
            "they are one run counted twice, and the difference between seeds is unknown"
        )
    if not ranked and category_only:
        return "no projector's captions were shown to tell clips of one category apart"
    if not ranked:
        return "no projector's captions were shown to fit their clips"
    return None


def verdict_sentence(
    why_not: str | None,
    ranked: Sequence[str],
    tests: Sequence[PairTest],
    ranks: Mapping[str, tuple[int, int]],
    above: Sequence[str] = (),
    human: float | None = None,
) -> str:
    """The answer of the study in one sentence.

    Args:
        why_not: why no ranks are given, where they are not.
        ranked: in falling order of mean D.
        tests: of all pairs.
        ranks: rank interval of each ranked projector.
        above: those of higher mean D than the first ranked one, which the gate refused.
        human: the references' mean D: what a difference that can be seen is held against.
    """
    if why_not is not None:
        return f"No order can be claimed: {why_not}."
    if not tests:
        return f"No order can be claimed: {ranked[0]} is the only projector of the study."
    if len(ranked) == 1:
        return f"Only {ranked[0]} can be ranked: no other projector's captions passed the gate."
    among = [test for test in tests if test.a in ranks and test.b in ranks]
    if not any(test.significant for test in among):
        missed = [t.smallest_detectable for t in among if t.smallest_detectable is not None]
        said = (
            f"none of the {len(among)} pairs of ranked projectors differs significantly"
            if len(among) > 1
            else f"{listed(ranked)} do not differ significantly"
        )
        return (
            f"No order can be claimed: {said}, and a difference in D under {max(missed):.4f} could "
            f"have been missed{_beyond(missed, human)}."
        )
    firsts = [label for label in ranked if ranks[label][0] == 1]
    if len(firsts) > 1:
        below = [label for label in ranked if label not in firsts]
        tail = f"; {listed(below)} cannot be first" if below else ""
        return f"No first place can be claimed: {listed(firsts)} cannot be told apart{tail}."
    winner = firsts[0]
    if ranks[winner][1] > 1:
        unclear = [
            t.b if t.a == winner else t.a
            for t in among
            if winner in (t.a, t.b) and not t.significant
        ]
        return (
            f"No first place can be claimed: {winner} alone is beaten by none, "
            f"but it is not shown to exceed {listed(unclear)}."
        )
    closest = min((t for t in among if winner in (t.a, t.b)), key=lambda t: abs(t.difference))
    other = closest.b if closest.a == winner else closest.a
    low, high = sorted(abs_bound(closest))
    text = (
        f"{winner} ranks first of {len(ranked)}: its captions fit their clips better than those "
        f"of every other ranked projector, by {abs(closest.difference):.4f} in D over {other} "
        f"({low:.4f} to {high:.4f})"
    )
    if all(low_rank == high_rank for low_rank, high_rank in ranks.values()) and len(ranked) > 2:
        text += f"; the whole order is {' > '.join(ranked)}"
    if above:
        verb = "has" if len(above) == 1 else "have"
        text += f"; {listed(above)} {verb} a higher D and did not pass the gate"
    return text + "."


def _beyond(missed: Sequence[float], human: float | None) -> str:
    """Said where any pair could miss even the gap between human captions and blind ones."""
    if human is None or not 0 < human <= min(missed):
        return ""
    missing = "every pair could miss one as large as" if len(missed) > 1 else "that is no less than"
    return (
        f"; {missing} the human captions' whole D of {human:.4f}, so this study has too few seeds "
        "or clips to order any two projectors"
    )


def abs_bound(test: PairTest) -> tuple[float, float]:
    """Interval of the difference, seen from the better of the two."""
    low, high = test.low or 0.0, test.high or 0.0
    return (low, high) if test.difference > 0 else (-high, -low)


def _refused_choices(circumstances: Circumstances) -> list[str]:
    """Projectors of which the gate would have refused the chosen cell itself, and why."""
    where = "On a half of the clips" if circumstances.cross_fitted else "On the selection clips"
    said = []
    for gate, found in (
        ("collapsed", "every tuning cell of {} collapsed; the one with the highest D"),
        (
            "category_only",
            "no tuning cell of {} was grounded; the one with the highest D of those not collapsed "
            "tells categories apart, was not shown to tell clips of one category apart, and",
        ),
    ):
        names = [label for label, word in circumstances.chosen_gates.items() if word == gate]
        if names:
            said.append(f"{where} {found.format(listed(names))} was trained on.")
    return said


def influence_sentence(found: Sequence[PairInfluence]) -> str | None:
    """Whether any claim hangs on one source video; ``None`` where none could be left out."""
    if not found:
        return None
    shaken = [pair for pair in found if pair.flipped_by]
    claims = sum(pair.claimed for pair in found)
    most = max(found, key=lambda pair: abs(pair.change))
    size = (
        f"leaving one out moves a difference by {abs(most.change):.4f} in D at most "
        f"({most.a} and {most.b}, without '{most.change_group}')"
    )
    one = len(found) == 1
    if not shaken:
        verdicts = (
            "the verdict on the pair" if one else f"any of the {len(found)} pairwise verdicts"
        )
        return f"No single source video makes or unmakes {verdicts} ({claims} claimed): {size}."
    told = listed(
        [
            f"{pair.a} and {pair.b} ({'claimed only with' if pair.claimed else 'claimed without'} "
            + (f"'{pair.flipped_by[0]}'" if len(pair.flipped_by) == 1 else _one_of(pair))
            + ")"
            for pair in shaken
        ]
    )
    pairs = "the pair" if one else f"{len(shaken)} of the {len(found)} pairs"
    return f"A single source video decides {pairs}, {told}; {size}."


def _one_of(pair: PairInfluence) -> str:
    return f"{'each' if pair.claimed else 'any one'} of {len(pair.flipped_by)}"


def caveats(
    circumstances: Circumstances,
    gates: Mapping[str, GateVerdict],
    retrieval: Sequence[BaselineTest] | None,
    n_seeds: int,
    n_groups: int,
    n_clips: int,
    human_scale: bool,
    demand: WithinDemand,
    alpha: float = LEVEL,
) -> list[str]:
    """Sentences that a reader must know before using the ranking, gravest first."""
    said = []
    if n_seeds == 1:
        said.append(
            "One run each: every interval carries the clips only, and another seed may turn any "
            "difference around."
        )
    elif n_seeds < MIN_SEEDS:
        said.append(
            f"{n_seeds} seeds a projector: the procedure asks for at least {MIN_SEEDS}, and where "
            "one projector's seeds vary much more than the others' false orders exceed 5 %."
        )
    if alpha != LEVEL:
        more = f" The procedure asks for {LEVEL:g}: false claims are as frequent."
        said.append(
            f"Every test and the gate's bounds stand at {alpha:g}, and the intervals of "
            "projectors, of their differences and of the scorer check at "
            f"{100 * (1 - alpha):g} %; those beside the metrics of one captioner (a run, the "
            f"human captions, a control) stay at 95 %.{more if alpha > LEVEL else ''}"
        )
    if circumstances.optimistic:
        said.append(
            "Settings were chosen on the very clips that are reported, so the figures are "
            "optimistic."
        )
    if circumstances.halved:
        said.append(
            "There is one held-out split: it was halved by source video; one half chose the "
            "settings, the other is reported, and they were not exchanged (no cross-fitting)."
        )
    if circumstances.cross_fitted:
        said.append(
            "There is one held-out split: it was halved by source video, and each half is reported "
            "with the settings that the other half chose."
        )
    if 1 < n_groups < FEW_GROUPS:
        said.append(
            f"Only {n_groups} independent groups of clips: the intervals lean on means of few "
            "values being near normal."
        )
    if 1 < n_groups < n_clips:
        said.append(
            f"The {n_clips} clips come from {n_groups} source videos; the intervals count videos, "
            "each weighing the same."
        )
    for label, verdict in gates.items():
        if not verdict.may_be_ranked:
            said.append(f"{label} is not ranked. {verdict.reason}")
        elif verdict.stamps and "templated" in verdict.stamps:
            said.append(f"{label} is ranked with a stamp. {verdict.reason}")
    if any(verdict.low_diversity is None for verdict in gates.values()):
        said.append(
            "The human captions are templated themselves, so low diversity is not held against "
            "anybody."
        )
    if not demand.demanded:
        said.append(demand.sentence)
    said += _refused_choices(circumstances)
    cut = {k: v for k, v in (circumstances.truncated or {}).items() if v > 0}
    if cut:
        shares = listed([f"{label} {share:.1%}" for label, share in cut.items()])
        said.append(f"Captions cut at the token budget are scored as they stand: {shares}.")
    if retrieval is not None:
        below = [test.projector for test in retrieval if not test.cleared]
        if below:
            said.append(
                f"Not shown to be better than handing out the caption of the nearest training "
                f"clip: {listed(below)}."
            )
    if not human_scale:
        said.append(
            "The human captions' own D is less than 5 standard errors above 0, so no score is "
            "given as a share of it."
        )
    said.append(
        "The scorer averages over frames: the order of frames is invisible to it, and so to this "
        "ranking."
    )
    return said
