"""Which captions may be ranked at all: the gate between a collapsed model and a grounded one.

A model has *collapsed* if its captions are few and say nothing of their clip. Few captions that do
fit their clips (right facts in one boilerplate) are ranked, stamped "templated". A projector of
which some runs failed while others are sound is *unstable*: its mean is of two kinds of models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from siglip_study.base.errors import StudyError
from siglip_study.ranking.scores import Scores
from siglip_study.ranking.variance import Array, Bounds, SeedNoise, bounds_of, holm, seed_noise
from siglip_study.ranking.within import within_demand

# ---- What the gate is given: its thresholds, the human captions' figures, and a projector's.


@dataclass(frozen=True)
class GateThresholds:
    """Thresholds of the gate; the config's ``gate`` section has the same names."""

    #: Below this share of the references' effective captions: low diversity.
    min_effective_ratio: float = 0.5
    #: A top cluster over this share is low diversity, if also over …
    top_share_floor: float = 0.10
    #: … this multiple of the references' top share.
    top_share_ratio: float = 2.0
    #: References under this effective value switch the diversity test off.
    templated_reference: float = 0.2
    #: Upper bound of D under this share of the references' D: ungrounded.
    ungrounded_ratio: float = 0.1
    #: Grounded asks for D within category too, where the references pass.
    within_category: bool = True
    #: Level of the one-sided bounds.
    alpha: float = 0.05

    def __post_init__(self) -> None:
        # At a level of 1 every caption would be grounded, whatever its D.
        if not 0 < self.alpha < 0.5:
            raise StudyError(f"gate.alpha is {self.alpha}; expected more than 0, less than 0.5.")


@dataclass(frozen=True)
class References:
    """The human captions: effective captions in (0, 1], top cluster share, mean D.

    ``within`` is their D within category, one a source video ``[G]``, NaN where a video has none;
    ``None`` where no clip has a category.
    """

    effective: float
    top_share: float
    mean_margin: float
    within: ArrayLike | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        # Comparisons with NaN are false: diversity would be neither low nor off.
        for name in ("effective", "top_share"):
            value, word = getattr(self, name), name.replace("_", " ")
            if not 0 <= value <= 1:
                raise StudyError(f"the human captions' {word} is {value}; expected 0 to 1.")
        if not np.isfinite(self.mean_margin):
            raise StudyError(
                f"the human captions' mean D is {self.mean_margin}; expected a number."
            )


@dataclass(frozen=True)
class Candidate:
    """What the gate sees of one projector.

    ``effective`` and ``top_share`` are one value a seed, ``None`` where its captions are unknown;
    ``margins`` is D as ``[S, G]``, and ``within`` is D within category likewise, NaN where a source
    video has none. ``choice`` is what choosing on half of the clips adds to the variance of mean D.
    """

    effective: ArrayLike | None
    top_share: ArrayLike | None
    margins: ArrayLike
    within: ArrayLike | None = field(default=None, compare=False)
    choice: float = 0.0


RunVerdict = Literal["grounded", "ungrounded", "undetermined", "category_only", "collapsed"]
Verdict = RunVerdict | Literal["unstable"]
#: What a run may be called that failed.
FAILED: tuple[RunVerdict, ...] = ("collapsed", "ungrounded")
#: Why the gate decided so: the verdict, and its kind where there are two.
Reason = Verdict | Literal["templated", "collapsed_category"]
#: Marks that stand beside a projector's name.
Stamp = Literal[
    "templated", "category_only", "diversity_unknown", "low_in_some_seeds", "clips_only"
]


@dataclass(frozen=True)
class Diversity:
    """Means over seeds of effective captions and top cluster share, with their limits.

    ``low`` is ``None`` where the references are templated themselves, so that the test is off;
    ``low_runs`` says of each run whether it is low by itself (never where the test is off).
    """

    effective: float
    effective_limit: float
    top_share: float
    top_share_limit: float
    low: bool | None
    low_runs: tuple[bool, ...]

    @property
    def low_seeds(self) -> int:
        """Runs that are low by themselves."""
        return sum(self.low_runs)


@dataclass(frozen=True)
class RunGate:
    """The gate's word on one run by itself, at the full level: the test of its margin by clips."""

    verdict: RunVerdict
    margin: Bounds


@dataclass(frozen=True)
class GateVerdict:
    """The verdict on a captioner and the figures that made it.

    Attributes:
        verdict: only ``grounded`` captions are ranked.
        margin: the test of D above 0.
        within: that of D within category, where it was asked for.
        p_holm: of the weaker of the two, Holm over projectors.
        decided_within: whether that is the one within category.
        category_only: D is above 0 over all clips, and not shown to be within a category.
        ungrounded_ceiling: an upper bound of D under this is *ungrounded*.
        diversity: ``None`` where no captions were given, or no human ones to compare with.
        n_seeds: S.
        runs: each run by itself, in the order of the seeds.
    """

    verdict: Verdict
    margin: Bounds
    within: Bounds | None
    p_holm: float
    decided_within: bool
    category_only: bool
    ungrounded_ceiling: float | None
    diversity: Diversity | None
    n_seeds: int
    runs: tuple[RunGate, ...] = ()

    @property
    def failed_runs(self) -> tuple[int, ...]:
        """Places of the runs that are collapsed or ungrounded by themselves."""
        return tuple(i for i, run in enumerate(self.runs) if run.verdict in FAILED)

    @property
    def may_be_ranked(self) -> bool:
        """Only grounded captions are ranked."""
        return self.verdict == "grounded"

    @property
    def low_diversity(self) -> bool | None:
        """``None`` where diversity was not judged."""
        return self.diversity.low if self.diversity else None

    @property
    def reason(self) -> Reason:
        """The verdict, told apart where it can come about in two ways."""
        if self.verdict == "grounded" and self.low_diversity:
            return "templated"
        if self.verdict == "collapsed" and self.category_only:
            return "collapsed_category"
        return self.verdict

    @property
    def stamps(self) -> tuple[Stamp, ...]:
        """What a reader must see beside the name."""
        known = self.diversity
        marks: list[tuple[Stamp, bool]] = [
            ("templated", self.reason == "templated"),
            ("category_only", self.category_only),
            ("diversity_unknown", known is not None and known.low is None),
            ("low_in_some_seeds", known is not None and known.low is False and known.low_seeds > 0),
            ("clips_only", self.n_seeds == 1),
        ]
        return tuple(mark for mark, holds in marks if holds)


def _diversity(
    label: str,
    candidate: Candidate,
    reference: References | None,
    limits: GateThresholds,
    n_seeds: int,
) -> Diversity | None:
    if reference is None or candidate.effective is None or candidate.top_share is None:
        return None
    effective = _per_seed(label, "effective captions", candidate.effective, n_seeds)
    top_share = _per_seed(label, "top cluster share", candidate.top_share, n_seeds)
    least = limits.min_effective_ratio * reference.effective
    most = max(limits.top_share_floor, limits.top_share_ratio * reference.top_share)
    means = float(effective.mean()), float(top_share.mean())
    judged = reference.effective >= limits.templated_reference
    return Diversity(
        effective=means[0],
        effective_limit=least,
        top_share=means[1],
        top_share_limit=most,
        low=means[0] < least or means[1] > most if judged else None,
        low_runs=tuple((((effective < least) | (top_share > most)) & judged).tolist()),
    )


def _per_seed(label: str, name: str, values: ArrayLike, n_seeds: int) -> np.ndarray:
    array = np.atleast_1d(np.asarray(values, dtype=float))
    if array.shape != (n_seeds,) or not ((array >= 0) & (array <= 1)).all():
        raise StudyError(
            f"projector '{label}': {name} is {array.tolist()}; "
            f"expected {n_seeds} numbers between 0 and 1, one a seed."
        )
    return array


def _within_tables(
    candidates: Mapping[str, Candidate], reference: References, limits: GateThresholds
) -> dict[str, Array]:
    """The projectors' D within category, ``[S, G]``, where it is asked for; else none."""
    demand = within_demand(reference.within, limits.alpha, limits.within_category)
    if not demand.demanded:
        return {}
    tables = {}
    for label, candidate in candidates.items():
        table = np.asarray([] if candidate.within is None else candidate.within, dtype=float)
        known = np.isfinite(np.atleast_2d(table))
        if table.ndim != 2 or (known != known[0]).any() or known[0].sum() != demand.n_groups:
            raise StudyError(
                f"projector '{label}': D within category of shape {table.shape}, "
                f"{int(known.sum())} numbers; expected one a seed for each of the "
                f"{demand.n_groups} source videos for which the human captions have one."
            )
        tables[label] = table[:, known[0]]
    return tables


def gate_all(
    candidates: Mapping[str, Candidate],
    reference: References | None,
    thresholds: GateThresholds | None = None,
    own_runs: bool = False,
    clips_only: bool = False,
) -> dict[str, GateVerdict]:
    """Gate the projectors of a study together: shared seed noise, Holm over projectors.

    Collapsed = low diversity and not grounded. The lower bounds carry clips and seeds; with one
    seed they carry clips only and the verdict is stamped so. Each run is gated by itself too:
    unstable = one is collapsed or ungrounded, another sound (grounded, its lower bound over the
    ceiling of *ungrounded*). Unstable projectors tell nothing of the others' seed noise. Where the
    references pass it themselves, grounded asks that the margin within category be above 0 as
    well. Grounded is then the claim that both means are above 0. Its null hypothesis is the union
    of theirs, whose p is the larger one (intersection-union test, Berger 1982, Technometrics 24,
    295-300): nothing is to be corrected between the two.

    Args:
        candidates: the projectors.
        reference: the human captions' figures; without them D alone decides between *grounded* and
            *undetermined*.
        thresholds: default thresholds if absent.
        own_runs: for one candidate by itself: see :func:`gate`.
        clips_only: leave out what seeds do, as with one seed.

    Raises:
        StudyError: unequal seeds or groups, shares out of range, margins that are no numbers.
    """
    limits = thresholds or GateThresholds()
    table = Scores.of(
        {label: candidate.margins for label, candidate in candidates.items()},
        choice={label: candidate.choice for label, candidate in candidates.items()},
    )
    tables = {} if reference is None else _within_tables(candidates, reference, limits)
    ceiling = None if reference is None else limits.ungrounded_ratio * reference.mean_margin

    # Each run by itself. Draws of a control differ in what they were trained on: they are no runs
    # of one thing, and none of them can be unstable.
    diversities = [
        _diversity(label, candidates[label], reference, limits, table.n_seeds)
        for label in table.labels
    ]
    runs = [
        _run_gates(table.y[p], tables.get(label), diversities[p], ceiling, limits)
        for p, label in enumerate(table.labels)
    ]
    unstable = {p for p, own in enumerate(runs) if not own_runs and _is_mixed(own, ceiling)}

    # All of a projector's runs together.
    margins = _tests(table, unstable, limits.alpha, own_runs, clips_only)
    withins: Sequence[Bounds | None] = [None] * len(margins)
    if tables:
        withins = _tests(Scores.of(tables), unstable, limits.alpha, own_runs, clips_only)
    p_holm = holm([_weaker(m, w) for m, w in zip(margins, withins, strict=True)])
    p_margin = holm([bounds.p for bounds in margins])
    verdicts = {}
    for p, label in enumerate(table.labels):
        margin, within, diversity = margins[p], withins[p], diversities[p]
        grounded = bool(p_holm[p] <= limits.alpha)
        decided_within = within is not None and within.p >= margin.p
        categories = not grounded and decided_within and bool(p_margin[p] <= limits.alpha)
        low = diversity is not None and bool(diversity.low)
        word = _word(grounded, low, categories, margin, ceiling)
        verdicts[label] = GateVerdict(
            "unstable" if p in unstable else word,
            margin,
            within,
            float(p_holm[p]),
            decided_within,
            categories,
            ceiling,
            diversity,
            table.n_seeds,
            runs[p],
        )
    return verdicts


def _weaker(margin: Bounds, within: Bounds | None) -> float:
    """p of the union of both null hypotheses: the larger one."""
    return margin.p if within is None else max(margin.p, within.p)


def _word(
    grounded: bool, low_diversity: bool, categories: bool, margin: Bounds, ceiling: float | None
) -> RunVerdict:
    if grounded:
        return "grounded"
    if low_diversity:
        return "collapsed"
    if categories:
        return "category_only"
    if ceiling is not None and margin.upper is not None and margin.upper < ceiling:
        return "ungrounded"
    return "undetermined"


def _is_mixed(runs: Sequence[RunGate], ceiling: float | None) -> bool:
    """Whether a run failed and another is sound.

    Sound is grounded, and above what is called ungrounded: chance puts one run of nothing above 0.
    """
    failed = any(run.verdict in FAILED for run in runs)
    bounds = [run.margin.lower for run in runs if run.verdict == "grounded"]
    return failed and any(lower is not None and lower > (ceiling or 0.0) for lower in bounds)


def _run_gates(
    margins: Array,
    within: Array | None,
    diversity: Diversity | None,
    ceiling: float | None,
    limits: GateThresholds,
) -> tuple[RunGate, ...]:
    """Each run of ``margins`` ``[S, G]`` by itself: clips are the sample, without Holm."""
    found = []
    for seed, by_group in enumerate(margins):
        margin = bounds_of(by_group, None, 0, limits.alpha)
        inside = None if within is None else bounds_of(within[seed], None, 0, limits.alpha)
        grounded = _weaker(margin, inside) <= limits.alpha
        low = diversity is not None and bool(diversity.low_runs[seed])
        categories = not grounded and margin.p <= limits.alpha
        found.append(RunGate(_word(grounded, low, categories, margin, ceiling), margin))
    return tuple(found)


def _tests(
    table: Scores, apart: set[int], alpha: float, own_runs: bool, clips_only: bool
) -> list[Bounds]:
    """Test each mean; the projectors ``apart`` tell nothing of what seeds do to the others.

    The least charge is the mean. With the median, which has fewer degrees of freedom, a captioner
    that sees a little would pass in a third fewer of the worlds of ``category_trial``.
    """
    means = table.y.mean(axis=1)
    steady = [p for p in range(len(means)) if p not in apart]
    pools = [[p] if p in apart else steady for p in range(len(means))]
    noises: dict[tuple[int, ...], SeedNoise | None] = {}
    for pool in map(tuple, pools):
        noises[pool] = None
        if table.n_seeds > 1 and not clips_only:
            choice = None if table.choice is None else table.choice[list(pool)]
            noises[pool] = replace(seed_noise(table.y[list(pool)], "mean"), choice=choice)
    return [
        bounds_of(means[p], noises[tuple(pool)], pool.index(p), alpha, own_runs)
        for p, pool in enumerate(pools)
    ]


def gate(
    effective: ArrayLike,
    top_share: ArrayLike,
    margins: ArrayLike,
    reference: References,
    thresholds: GateThresholds | None = None,
    label: str = "this cell",
    within: ArrayLike | None = None,
) -> GateVerdict:
    """Gate one captioner by itself, as a control: as :func:`gate_all`, without Holm.

    Its runs tell what seeds do to it, and nobody else's: t has a degree of freedom less than runs.

    ``effective`` captions and ``top_share`` are one value a seed or a single number, ``margins``
    and ``within`` (D within category) ``[G]`` for one seed or ``[S, G]``; ``label`` names the cell
    in error messages.
    """
    candidate = Candidate(
        np.atleast_1d(effective),
        np.atleast_1d(top_share),
        np.atleast_2d(np.asarray(margins, dtype=float)),
        None if within is None else np.atleast_2d(np.asarray(within, dtype=float)),
    )
    return gate_all({label: candidate}, reference, thresholds, own_runs=True)[label]


# ---- The gate for published rows, of which only the share of distinct strings is known.


@dataclass(frozen=True)
class PublishedVerdict:
    """What a published run's distinct strings / strings, in [0, 1], says, and its limit."""

    verdict: Literal["collapsed", "undetermined"]
    distinct_ratio: float
    limit: float


def gate_by_diversity_alone(
    distinct_ratio: float, thresholds: GateThresholds | None = None
) -> PublishedVerdict:
    """Verdict on a published row, of which only distinct strings / strings is known.

    Effective captions cannot exceed the distinct ratio (near-duplicates merge, entropy is at most
    the logarithm of the number of clusters), so a low ratio proves low diversity. A high one proves
    nothing: the published runs had 1.00 where every caption opened alike.
    """
    if not 0 <= distinct_ratio <= 1:
        raise StudyError(f"distinct ratio of a published run is {distinct_ratio}; expected 0 to 1.")
    limit = (thresholds or GateThresholds()).min_effective_ratio
    low = distinct_ratio < limit
    return PublishedVerdict("collapsed" if low else "undetermined", distinct_ratio, limit)
