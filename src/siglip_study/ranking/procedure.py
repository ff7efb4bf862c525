"""The ranking: from per-clip margins to what may be claimed of the projectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_result, write_json
from siglip_study.ranking.answer import Answer, Refusal, answer_of
from siglip_study.ranking.caveats import Caveat, Circumstances, find_caveats
from siglip_study.ranking.gate import (
    Candidate,
    GateThresholds,
    GateVerdict,
    References,
    gate_all,
)
from siglip_study.ranking.metric_figures import MARGIN, MetricFigures, metric_figures
from siglip_study.ranking.outlook import (
    PairPlan,
    PlannedPair,
    RunHours,
    TunedChoice,
    chance_best,
    overlap_bars,
)
from siglip_study.ranking.pairs import (
    BaselineTest,
    PairInfluence,
    PairTest,
    RunInfluence,
    baseline_tests,
    leave_one_out,
    leave_one_run_out,
    pair_tests,
    rank_intervals,
)
from siglip_study.ranking.scorer_check import ScorerCheck
from siglip_study.ranking.scores import (
    MeanInterval,
    Scores,
    group_means,
    mean_intervals,
    study_noise,
)
from siglip_study.ranking.time_order import Losses, TimeOrder, time_order
from siglip_study.ranking.variance import MARGIN_ROUNDING, Array
from siglip_study.ranking.within import WithinDemand, known_group_means, within_demand

#: Schema of ``ranking.json``.
RANKING_SCHEMA = "ranking/4"


@dataclass(frozen=True)
class Entry:
    """One projector on the report split.

    Attributes:
        margins: standardised margins M, ``[S, n]`` with clips in one order for the whole study.
        effective: effective captions, one value a seed; ``None`` where its captions are unknown.
        top_share: top cluster share, likewise.
        within: M within category, ``[S, n]``, NaN for a clip without; it may be absent where the
            references have none.
        cosine: the grounding margin D in cosine, ``[S, n]``, told beside M.
        losses: of the human captions under this projector's models.
        others: metrics beside these, by name, ``[S, n]`` each, NaN where a clip has no value.
        choice: variance that choosing on half of the clips adds to the mean of ``margins``.
    """

    margins: ArrayLike
    effective: ArrayLike | None = None
    top_share: ArrayLike | None = None
    within: ArrayLike | None = None
    cosine: ArrayLike | None = None
    losses: Losses | None = None
    others: Mapping[str, ArrayLike] = field(default_factory=dict)
    choice: float = 0.0


# ---- The result.


@dataclass(frozen=True)
class RankedProjector:
    """One projector's place: mean M with its interval at 1 − alpha, verdict and rank interval.

    ``low`` and ``high`` are ``None`` on one group; ``rank_low`` and ``rank_high`` where no rank is
    given. ``bar`` is the half-width with which bars about the means overlap exactly where no
    difference is claimed, ``None`` where there is none such. ``mean_cosine`` is mean D, ``None``
    where it was not given. ``seed_sd`` is the SD of its runs' means, ``None`` for one run.
    """

    projector: str
    mean_margin: float
    low: float | None
    high: float | None
    interval_basis: str
    seed_sd: float | None
    gate: GateVerdict
    rank_low: int | None
    rank_high: int | None
    bar: float | None = None
    mean_cosine: float | None = None

    @property
    def ranked(self) -> bool:
        """Whether it has a rank."""
        return self.rank_low is not None


@dataclass(frozen=True)
class RetrievalBar:
    """Mean M of the nearest training clip's captions, and each projector's test against it."""

    mean_margin: float
    comparisons: tuple[BaselineTest, ...]

    @property
    def cleared_by(self) -> tuple[str, ...]:
        """Projectors shown to be better."""
        return tuple(test.projector for test in self.comparisons if test.cleared)


@dataclass(frozen=True)
class Ranking:
    """What may be claimed of a study's projectors, and the figures that it rests on.

    ``projectors`` stand in falling order of mean M, those ranked first. ``within_category``,
    ``scorer`` and ``retrieval`` are ``None`` where their captions were not given, ``time_order``
    where the losses were not. ``metrics`` holds M first, then the others in the order given.
    ``human_margin`` is the human captions' mean M. ``tuning`` says of each projector how far its
    choice among several cells may be luck; ``plans`` holds what each pair rests on (none with one
    seed or group), ``hours`` what a run of each projector took, where it is known of all.
    """

    alpha: float
    n_seeds: int
    n_groups: int
    n_clips: int
    answer: Answer
    projectors: tuple[RankedProjector, ...]
    pairs: tuple[PairTest, ...]
    influence: tuple[PairInfluence, ...]
    caveats: tuple[Caveat, ...]
    run_influence: tuple[RunInfluence, ...] = ()
    human_margin: float | None = None
    metrics: tuple[MetricFigures, ...] = ()
    time_order: TimeOrder | None = None
    tuning: tuple[TunedChoice, ...] = ()
    plans: tuple[PlannedPair, ...] = ()
    hours: Mapping[str, RunHours] = field(default_factory=dict)
    within_category: WithinDemand | None = None
    retrieval: RetrievalBar | None = None
    scorer: ScorerCheck | None = None

    @property
    def can_rank(self) -> bool:
        """Whether any rank is given."""
        return self.answer.refusal is None


def write_ranking(path: Path, ranking: Ranking) -> None:
    """Write ``ranking.json``."""
    write_json(path, asdict(ranking), RANKING_SCHEMA)


def read_ranking(path: Path) -> Ranking:
    """Read it.

    Raises:
        StudyError: the file is missing or follows another schema.
    """
    return read_result(path, Ranking, RANKING_SCHEMA)


# ---- The procedure.


def rank(
    margins: Mapping[str, ArrayLike],
    groups: Sequence[str] | None = None,
    alpha: float = 0.05,
) -> Ranking:
    """Rank projectors by their margins, with no more order than the runs and clips prove.

    ``margins`` are projector → standardised margin of each run and clip, ``[S, n]``, with one S
    (at least 2 for any rank; 3 are asked for) and the same clips for all; ``groups`` the source
    video of each clip (each its own if absent); ``alpha`` is the level of every test, Holm over all
    pairs.

    Raises:
        StudyError: unequal seeds or clips, values that are no numbers, ``alpha`` outside (0, 0.5).

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> clips = rng.normal(0, 0.05, 60)
    >>> told = {name: mean + clips + rng.normal(0, 0.01, (3, 60))
    ...         for name, mean in {"linear": 0.10, "mlp": 0.10, "abstractor": 0.30}.items()}
    >>> found = rank(told)
    >>> found.answer.code, found.answer.best
    ('first', ('abstractor',))
    >>> [(p.projector, p.gate.verdict, p.rank_low, p.rank_high) for p in found.projectors][0]
    ('abstractor', 'grounded', 1, 1)
    """
    entries = {label: Entry(table) for label, table in margins.items()}
    if groups is None:
        first = next((np.asarray(table) for table in margins.values()), np.empty((0, 0)))
        groups = [str(clip) for clip in range(first.shape[-1])]
    return rank_study(entries, groups, thresholds=GateThresholds(alpha=alpha))


def rank_study(
    entries: Mapping[str, Entry],
    groups: Sequence[str],
    references: References | None = None,
    scorer: ScorerCheck | None = None,
    retrieval: ArrayLike | None = None,
    thresholds: GateThresholds | None = None,
    circumstances: Circumstances | None = None,
) -> Ranking:
    """Steps 3 to 9 of the procedure: gate, test all pairs, rank what may be ranked.

    Args:
        entries: the projectors of the study, controls left out.
        groups: source video of each of the n clips (its id where there is none).
        references: the human captions' figures on the same clips.
        scorer: what the scorer makes of the human captions.
        retrieval: M of the nearest-train-clip captions, ``[n]``.
        thresholds: of the gate, with the study's alpha.
        circumstances: what limits the figures.

    Raises:
        StudyError: unequal seeds or clips, values that are no numbers.
    """
    limits = thresholds or GateThresholds()
    by_clip = {label: np.asarray(entry.margins, dtype=float) for label, entry in entries.items()}
    for label, table in by_clip.items():
        if table.ndim != 2 or table.shape[1] != len(groups):
            raise StudyError(
                f"projector '{label}': margins of shape {table.shape}; "
                f"expected [seeds, {len(groups)}], one a clip."
            )
    by_group = {label: group_means(table, groups)[1] for label, table in by_clip.items()}
    # A fixed order, so that neither the verdict nor the signs depend on the order of entry.
    labels = sorted(by_group, key=lambda label: (-float(by_group[label].mean()), label))

    gates = gate_all(
        {label: as_candidate(entries[label], groups) for label in labels},
        references,
        limits,
    )
    scores = Scores.of(
        {label: by_group[label] for label in labels},
        [label for label in labels if gates[label].verdict in ("collapsed", "unstable")],
        {label: entry.choice for label, entry in entries.items()},
    )
    n_seeds, n_groups = scores.n_seeds, scores.n_groups
    means = mean_intervals(scores, limits.alpha)
    demand = None
    if references is not None:
        demand = within_demand(references.within, limits.alpha, limits.within_category)
    tests = pair_tests(scores, limits.alpha)
    grounded = [label for label in labels if gates[label].may_be_ranked]
    copied = copied_runs({label: by_clip[label] for label in grounded})
    refusal = _refusal(scorer, n_seeds, n_groups, len(groups), grounded, gates, copied)
    ranks = {} if refusal else rank_intervals(tests, grounded)
    retrieved = None
    if retrieval is not None:
        level = group_means(retrieval, groups)[1]
        against = tuple(baseline_tests(scores, level, limits.alpha))
        retrieved = RetrievalBar(float(level.mean()), against)
    bars = dict.fromkeys(labels, None) if refusal else _bars(tests, means)
    known = {label: entries[label].losses for label in labels}
    losses = {label: own for label, own in known.items() if own is not None}
    given = circumstances or Circumstances()
    hours = sum(run.total for run in given.hours.values()) if given.hours else None
    tuning = _tuned_choices(scores, given)
    projectors = [
        RankedProjector(
            projector=mean.label,
            mean_margin=mean.mean,
            low=mean.low,
            high=mean.high,
            interval_basis=mean.basis,
            seed_sd=mean.seed_sd,
            gate=gates[mean.label],
            rank_low=ranks[mean.label][0] if mean.label in ranks else None,
            rank_high=ranks[mean.label][1] if mean.label in ranks else None,
            bar=bars[mean.label],
            mean_cosine=_mean_cosine(entries[mean.label], groups),
        )
        for mean in means
    ]
    return Ranking(
        alpha=limits.alpha,
        n_seeds=int(n_seeds),
        n_groups=int(n_groups),
        n_clips=len(groups),
        answer=answer_of(refusal, scores, gates, tests, ranks, limits.alpha, hours),
        projectors=tuple(sorted(projectors, key=lambda own: not own.ranked)),
        pairs=tuple(tests),
        influence=tuple(leave_one_out(scores, sorted(set(groups)), limits.alpha)),
        run_influence=tuple(leave_one_run_out(scores, limits.alpha)),
        human_margin=None if references is None else references.mean_margin,
        metrics=_with_means(
            metric_figures(
                {label: {MARGIN: by_clip[label], **entries[label].others} for label in labels},
                groups,
                limits.alpha,
            ),
            means,
        ),
        time_order=time_order(losses, groups, limits.alpha) if len(losses) == len(labels) else None,
        tuning=tuning,
        plans=_planned(scores, tests, limits.alpha),
        hours=given.hours,
        caveats=find_caveats(
            given,
            gates,
            retrieved.comparisons if retrieved else (),
            demand,
            scorer.human_scale if scorer else None,
            n_seeds,
            n_groups,
            len(groups),
            limits.alpha,
            tuning,
        ),
        within_category=demand,
        retrieval=retrieved,
        scorer=scorer,
    )


def as_candidate(entry: Entry, groups: Sequence[str]) -> Candidate:
    """What the gate sees of an entry: clips averaged within source videos."""
    within = None if entry.within is None else known_group_means(entry.within, groups)
    margins = group_means(entry.margins, groups)[1]
    return Candidate(entry.effective, entry.top_share, margins, within, entry.choice)


def _with_means(
    figures: Sequence[MetricFigures], means: Sequence[MeanInterval]
) -> tuple[MetricFigures, ...]:
    """M's figures with the intervals of the ranking, which know what collapsed and what chose."""
    return tuple(
        replace(own, means=tuple(means)) if own.metric == MARGIN else own for own in figures
    )


def _planned(table: Scores, tests: Sequence[PairTest], alpha: float) -> tuple[PlannedPair, ...]:
    noise = study_noise(table)
    if noise is None or table.n_groups < 2:
        return ()
    by_group, found = table.y.mean(axis=1), []
    for test in tests:
        members = table.labels.index(test.a), table.labels.index(test.b)
        plan = PairPlan.of(by_group[members[0]] - by_group[members[1]], noise, members, alpha)
        likely = test.difference if test.shrunken is None else test.shrunken
        found.append(PlannedPair(test.a, test.b, likely, plan))
    return tuple(found)


def _tuned_choices(table: Scores, given: Circumstances) -> tuple[TunedChoice, ...]:
    """How far each choice may be luck, by what seeds do to the reported runs."""
    noise = study_noise(table)
    found = []
    for label, sets in given.tuned.items():
        cells = max((len(means) for means in sets), default=0)
        if noise is None or cells < 2 or label not in table.labels:
            continue
        spread = max(float(noise.spread[table.labels.index(label)]), float(noise.least_spread))
        chances = [chance_best(means, spread / given.n_tuning_seeds) for means in sets]
        best, run_sd = float(np.mean(chances)), float(np.sqrt(spread))
        found.append(TunedChoice(label, cells, given.n_tuning_seeds, run_sd, best))
    return tuple(found)


def copied_runs(margins: Mapping[str, Array]) -> list[str]:
    """Projectors of which two runs have the same D on every clip, ``{projector: [S, n]}``.

    They are one run under two seeds: their agreement says nothing of what a seed does. Trainings
    that differ at all differ in some clip by more than rounding. D of 0 everywhere is left out:
    captions that are all the same have it, whatever they are.
    """
    return [
        label
        for label, table in margins.items()
        if any(
            np.abs(a - b).max() <= MARGIN_ROUNDING < np.abs(a).max()
            for a, b in combinations(table, 2)
        )
    ]


def _refusal(
    scorer: ScorerCheck | None,
    n_seeds: int,
    n_groups: int,
    n_clips: int,
    grounded: Sequence[str],
    gates: Mapping[str, GateVerdict],
    copied: Sequence[str],
) -> Refusal | None:
    if scorer is not None and not scorer.can_tell:
        return Refusal("scorer_cannot_tell")
    if n_clips == 2:  # which have the same D by definition
        return Refusal("two_clips")
    if n_groups < 2:
        return Refusal("one_group")
    if n_seeds < 2:
        return Refusal("one_seed")
    if copied:
        return Refusal("copied_runs", tuple(copied))
    if not grounded:
        category_only = any(verdict.verdict == "category_only" for verdict in gates.values())
        return Refusal("category_only" if category_only else "none_grounded")
    return None


def _bars(tests: Sequence[PairTest], means: Sequence[MeanInterval]) -> dict[str, float | None]:
    labels = [mean.label for mean in means]
    errors = [mean.standard_error for mean in means if mean.standard_error is not None]
    widths = None
    if len(labels) > 1 and len(errors) == len(labels):
        widths = overlap_bars(
            np.array([test.difference for test in tests]),
            np.array([test.significant for test in tests]),
            np.array(errors),
        )
    if widths is None:
        return dict.fromkeys(labels)
    return dict(zip(labels, widths, strict=True))


def _mean_cosine(entry: Entry, groups: Sequence[str]) -> float | None:
    return None if entry.cosine is None else float(group_means(entry.cosine, groups)[1].mean())
