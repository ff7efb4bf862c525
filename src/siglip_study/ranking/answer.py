"""The answer of a ranking: which projector, what is proven of it, whom to avoid, what next."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from siglip_study.ranking.gate import GateVerdict, Verdict
from siglip_study.ranking.outlook import PairPlan
from siglip_study.ranking.pairs import PairTest
from siglip_study.ranking.scores import Scores, study_noise

RefusalCode = Literal[
    "scorer_cannot_tell",
    "two_clips",
    "one_group",
    "one_seed",
    "copied_runs",
    "category_only",
    "none_grounded",
]
AnswerCode = Literal[
    "refused",
    "only_projector",
    "only_ranked",
    "no_difference",
    "no_first",
    "unproven_first",
    "first",
]


@dataclass(frozen=True)
class Refusal:
    """Why no ranks are given; ``projectors`` are those of which two runs are one."""

    code: RefusalCode
    projectors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Avoid:
    """A projector that should not caption these clips, and why.

    ``reason`` is the gate's verdict, or ``worse``: proven to be so than the best guess.
    """

    projector: str
    reason: Verdict | Literal["worse"]


@dataclass(frozen=True)
class NextStep:
    """What would tell the best guess from a rival that it is not proven better than.

    Attributes:
        rival: the one of the highest mean.
        difference: between their means, taken for the true one.
        power: probability that this study, made again, would claim it.
        seeds: report seeds with which that is .8, on these clips; ``None``: more than 20.
        groups: source videos with which it is, with these seeds; ``None``: over 16 times as many.
        device_hours: of these further seeds, of all projectors, trained and captioned on one device
            (GPU-hours; on a machine without a GPU its own); ``None`` where not known.
    """

    rival: str
    difference: float
    power: float
    seeds: int | None
    groups: int | None
    device_hours: float | None


@dataclass(frozen=True)
class Answer:
    """Which projector, and how sure.

    Attributes:
        code: ``first``: one projector is proven better than every other ranked one;
            ``unproven_first``: one is beaten by none, and not shown to exceed all; ``no_first``:
            several are beaten by none; ``no_difference``: no pair differs; ``only_ranked`` and
            ``only_projector``: there is nobody to compare with; ``refused``: no ranks at all.
        best: ranked projectors that none is proven to beat, in falling order of means.
        above: those of a higher mean than the first ranked one, which the gate refused.
        refusal: why no ranks are given, where they are not.
        guess: the grounded projector of the highest mean, whatever is proven of it; ``None`` where
            none is grounded, or the scorer cannot tell.
        better_than: ranked projectors that it is proven better than, in falling order of means.
        avoid: projectors to be avoided, and why; the rest may be as good as the guess.
        next_step: what would tell more; ``None`` where nothing is left to be told.
    """

    code: AnswerCode
    best: tuple[str, ...] = ()
    above: tuple[str, ...] = ()
    refusal: Refusal | None = None
    guess: str | None = None
    better_than: tuple[str, ...] = ()
    avoid: tuple[Avoid, ...] = ()
    next_step: NextStep | None = None


def answer_of(
    refusal: Refusal | None,
    scores: Scores,
    gates: Mapping[str, GateVerdict],
    tests: Sequence[PairTest],
    ranks: Mapping[str, tuple[int, int]],
    alpha: float,
    device_hours_a_seed: float | None,
) -> Answer:
    """What may be said of the projectors.

    Args:
        refusal: why no ranks are given, if they are not.
        scores: projectors in falling order of their means.
        gates: verdict on each.
        tests: of all pairs.
        ranks: rank interval of each ranked one.
        alpha: level.
        device_hours_a_seed: of one more report seed of all projectors, if known.
    """
    order = list(scores.labels)
    grounded = [label for label in order if gates[label].may_be_ranked]
    refused = [
        Avoid(label, gates[label].verdict)
        for label in order
        if gates[label].verdict not in ("grounded", "undetermined")
    ]
    if refusal is not None:
        blind = refusal.code in ("scorer_cannot_tell", "two_clips")
        guess = grounded[0] if grounded and not blind else None
        avoid = () if blind else tuple(refused)
        return Answer("refused", refusal=refusal, guess=guess, avoid=avoid)
    guess = grounded[0]
    orders = [
        (test.a, test.b) if test.difference > 0 else (test.b, test.a)
        for test in tests
        if test.significant
    ]
    beaten = {loser for winner, loser in orders if winner == guess}
    better_than = tuple(label for label in grounded if label in beaten)
    rivals = set(grounded) - {guess, *better_than}
    best = tuple(label for label in grounded if ranks[label][0] == 1)
    code: AnswerCode
    if len(order) == 1:
        code = "only_projector"
    elif len(grounded) == 1:
        code = "only_ranked"
    elif not any(test.significant for test in tests if test.a in ranks and test.b in ranks):
        code = "no_difference"
    elif len(best) > 1:
        code = "no_first"
    else:
        code = "first" if ranks[best[0]][1] == 1 else "unproven_first"
    return Answer(
        code,
        best,
        tuple(order[: order.index(guess)]),
        guess=guess,
        better_than=better_than,
        avoid=(*(Avoid(label, "worse") for label in better_than), *refused),
        next_step=_next_step(scores, guess, rivals, alpha, device_hours_a_seed),
    )


def _next_step(
    table: Scores,
    guess: str,
    rivals: Collection[str],
    alpha: float,
    device_hours_a_seed: float | None,
) -> NextStep | None:
    """The plan against the rival of the highest mean, with the study's own unequal noise."""
    noise = study_noise(table)
    rival = next((label for label in table.labels if label in rivals), None)
    if rival is None or noise is None:
        return None
    members = table.labels.index(guess), table.labels.index(rival)
    delta = table.y[members[0]].mean(axis=0) - table.y[members[1]].mean(axis=0)
    difference = float(delta.mean())
    plan = PairPlan.of(delta, noise, members, alpha)
    seeds = plan.seeds_needed(difference)
    hours = None
    if seeds is not None and device_hours_a_seed is not None:
        hours = (seeds - table.n_seeds) * device_hours_a_seed
    return NextStep(
        rival, difference, plan.power(difference), seeds, plan.groups_needed(difference), hours
    )
