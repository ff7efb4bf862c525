"""What limits a ranking: facts that a reader must know before using it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from siglip_study.ranking.gate import GateVerdict, Verdict
from siglip_study.ranking.outlook import RunHours, TunedChoice
from siglip_study.ranking.pairs import BaselineTest
from siglip_study.ranking.within import WithinDemand

#: Level of the tests that the procedure fixes beforehand.
LEVEL = 0.05
#: Seeds the procedure asks for, and groups under which a t-interval leans on normality.
MIN_SEEDS, FEW_GROUPS = 3, 30

CaveatCode = Literal[
    "one_run",
    "few_seeds",
    "other_level",
    "halved",
    "cross_fitted",
    "few_groups",
    "fewer_groups_than_clips",
    "not_ranked",
    "templated",
    "templated_references",
    "within_not_asked",
    "all_tuning_collapsed",
    "no_tuning_grounded",
    "tuned_by_luck",
    "truncated",
    "below_retrieval",
    "no_human_scale",
    "frame_order",
    "unlike_sentences",
]

#: Ranked projectors whose captions differ in sentences by more than this ratio are told.
SENTENCE_RATIO = 1.25
#: A choice among tuning cells that is the best one less often than this is told.
SURE_CHOICE = 0.8


@dataclass(frozen=True)
class Caveat:
    """One fact; its figures stand in the ranking.

    ``shares`` go with ``projectors``, if any: shares of captions, or mean sentences a caption.
    """

    code: CaveatCode
    projectors: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()


@dataclass(frozen=True)
class Circumstances:
    """How the figures came about, as far as it limits what they say.

    Attributes:
        halved: one held-out split, halved by source video; one half chose, the other is reported.
        cross_fitted: one held-out split, halved; each half reported with the other's choice.
        chosen_gates: the gate's word on each chosen tuning cell, on the clips that chose it (the
            worse of two halves').
        tuned: mean M of each tuning cell that could be chosen, by each set of clips that chose,
            per projector.
        n_tuning_seeds: runs of each tuning cell.
        truncated: share of captions cut at the token budget, per projector.
        sentences: mean sentences a caption, per projector.
        hours: device hours of a report run, per projector; empty unless known of all.
    """

    halved: bool = False
    cross_fitted: bool = False
    chosen_gates: Mapping[str, Verdict] = field(default_factory=dict)
    tuned: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    n_tuning_seeds: int = 1
    truncated: Mapping[str, float] = field(default_factory=dict)
    sentences: Mapping[str, float] = field(default_factory=dict)
    hours: Mapping[str, RunHours] = field(default_factory=dict)


def find_caveats(
    given: Circumstances,
    gates: Mapping[str, GateVerdict],
    retrieval: Sequence[BaselineTest],
    demand: WithinDemand | None,
    human_scale: bool | None,
    n_seeds: int,
    n_groups: int,
    n_clips: int,
    alpha: float,
    tuning: Sequence[TunedChoice] = (),
) -> tuple[Caveat, ...]:
    """What holds of this ranking, gravest first.

    ``demand`` is ``None`` without human captions, ``human_scale`` (whether "human = 1" may be
    printed) where no scorer was checked.
    """
    found: list[Caveat] = []

    def add(code: CaveatCode, holds: bool, *projectors: str, shares: Sequence[float] = ()) -> None:
        if holds:
            found.append(Caveat(code, projectors, tuple(shares)))

    add("one_run", n_seeds == 1)
    add("few_seeds", 1 < n_seeds < MIN_SEEDS)
    add("other_level", alpha != LEVEL)
    add("halved", given.halved)
    add("cross_fitted", given.cross_fitted)
    add("few_groups", 1 < n_groups < FEW_GROUPS)
    add("fewer_groups_than_clips", 1 < n_groups < n_clips)
    for label, verdict in gates.items():
        add("not_ranked", not verdict.may_be_ranked, label)
        add("templated", verdict.reason == "templated", label)
    add("templated_references", any("diversity_unknown" in v.stamps for v in gates.values()))
    add("within_not_asked", demand is not None and not demand.demanded)
    chosen: dict[CaveatCode, Verdict] = {
        "all_tuning_collapsed": "collapsed",
        "no_tuning_grounded": "category_only",
    }
    for code, word in chosen.items():
        labels = [label for label, gate in given.chosen_gates.items() if gate == word]
        add(code, bool(labels), *labels)
    lucky = [choice for choice in tuning if choice.best < SURE_CHOICE]
    add(
        "tuned_by_luck",
        bool(lucky),
        *(choice.projector for choice in lucky),
        shares=[choice.best for choice in lucky],
    )
    cut = {label: share for label, share in given.truncated.items() if share > 0}
    add("truncated", bool(cut), *cut, shares=tuple(cut.values()))
    told = {label: n for label, n in given.sentences.items() if gates[label].may_be_ranked}
    apart = len(told) > 1 and max(told.values()) > SENTENCE_RATIO * min(told.values())
    add("unlike_sentences", apart, *told, shares=tuple(told.values()))
    below = [test.projector for test in retrieval if not test.cleared]
    add("below_retrieval", bool(below), *below)
    add("no_human_scale", human_scale is False)
    add("frame_order", human_scale is not None)
    return tuple(found)
