"""Which captions may be ranked at all: the gate between a collapsed model and a grounded one.

A model has *collapsed* if its captions are few and say nothing of their clip. Few captions that do
fit their clips (right facts in one boilerplate) are ranked, stamped "templated".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from siglip_study.base.errors import StudyError
from siglip_study.ranking.gate_reason import CATEGORY_ONLY, gate_reason
from siglip_study.ranking.scores import Scores, study_noise
from siglip_study.ranking.variance import Array, Bounds, bounds_of, holm
from siglip_study.ranking.within import WithinDemand, within_demand

# ---- What the gate is given: its thresholds, the human captions' figures, and a projector's.


@dataclass(frozen=True)
class GateThresholds:
    """Thresholds of the gate; the config's ``gate`` section has the same names.

    Attributes:
        min_effective_ratio: below this share of the references' effective captions: low diversity.
        top_share_floor: a top cluster over this share is low diversity, if also over …
        top_share_ratio: … this multiple of the references' top share.
        templated_reference: references under this effective value switch the diversity test off.
        ungrounded_ratio: upper bound of D under this share of the references' D: ungrounded.
        within_category: grounded asks for D within category too, where the references pass.
        alpha: level of the one-sided bounds.
    """

    min_effective_ratio: float = 0.5
    top_share_floor: float = 0.10
    top_share_ratio: float = 2.0
    templated_reference: float = 0.2
    ungrounded_ratio: float = 0.1
    within_category: bool = True
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

    ``effective`` and ``top_share`` are one value a seed, ``margins`` is D as ``[S, G]``, and
    ``within`` is D within category likewise, NaN where a source video has none.
    """

    effective: ArrayLike
    top_share: ArrayLike
    margins: ArrayLike
    within: ArrayLike | None = field(default=None, compare=False)


Verdict = Literal["grounded", "ungrounded", "undetermined", "category_only", "collapsed"]


@dataclass(frozen=True)
class GateVerdict:
    """The verdict, the numbers that made it, and one sentence for a reader.

    ``low_diversity`` is ``None`` where the references are templated themselves, so that the test
    is off. ``stamps`` hold short marks that stand beside the name.
    """

    verdict: Verdict
    low_diversity: bool | None
    stamps: tuple[str, ...]
    numbers: dict[str, Any] = field(repr=False)
    reason: str = ""

    @property
    def may_be_ranked(self) -> bool:
        """Only grounded captions are ranked."""
        return self.verdict == "grounded"


def _per_seed(label: str, name: str, values: ArrayLike, n_seeds: int) -> np.ndarray:
    array = np.atleast_1d(np.asarray(values, dtype=float))
    if array.shape != (n_seeds,) or not ((array >= 0) & (array <= 1)).all():
        raise StudyError(
            f"projector '{label}': {name} is {array.tolist()}; "
            f"expected {n_seeds} numbers between 0 and 1, one a seed."
        )
    return array


def _low_diversity(
    effective: float, top_share: float, reference: References, limits: GateThresholds
) -> bool | None:
    if reference.effective < limits.templated_reference:
        return None
    top_limit = max(limits.top_share_floor, limits.top_share_ratio * reference.top_share)
    return effective < limits.min_effective_ratio * reference.effective or top_share > top_limit


@dataclass(frozen=True)
class _Tested:
    """The tests of one projector: over all clips, within categories if asked for, and together.

    Grounded is the claim that both means are above 0. Its null hypothesis is the union of theirs,
    whose p is the larger one (intersection-union test, Berger 1982, Technometrics 24, 295-300):
    nothing is to be corrected between the two. ``p_holm`` is Holm's over projectors of that p,
    ``p_holm_margin`` of the first test alone.
    """

    margin: Bounds
    within: Bounds | None
    p_holm: float
    p_holm_margin: float

    @property
    def decided_within(self) -> bool:
        """Whether D within category is the weaker of the two."""
        return self.within is not None and self.within.p >= self.margin.p


def _verdict(
    label: str,
    candidate: Candidate,
    reference: References,
    limits: GateThresholds,
    n_seeds: int,
    tested: _Tested,
    demand: WithinDemand,
) -> GateVerdict:
    effective = _per_seed(label, "effective captions", candidate.effective, n_seeds)
    top_share = _per_seed(label, "top cluster share", candidate.top_share, n_seeds)
    mean_effective, mean_top = float(effective.mean()), float(top_share.mean())
    low = _low_diversity(mean_effective, mean_top, reference, limits)
    bounds, within = tested.margin, tested.within
    ceiling = limits.ungrounded_ratio * reference.mean_margin
    grounded = tested.p_holm <= limits.alpha
    categories = not grounded and tested.decided_within and tested.p_holm_margin <= limits.alpha
    verdict: Verdict
    if grounded:
        verdict = "grounded"
    elif low:
        verdict = "collapsed"
    elif categories:
        verdict = "category_only"
    elif bounds.upper is not None and bounds.upper < ceiling:
        verdict = "ungrounded"
    else:
        verdict = "undetermined"
    stamps = []
    if grounded and low:
        stamps.append("templated")
    if categories:
        stamps.append(CATEGORY_ONLY)
    if low is None:
        stamps.append("diversity test off: references templated")
    each = [
        _low_diversity(float(e), float(t), reference, limits)
        for e, t in zip(effective, top_share, strict=True)
    ]
    if low is False and any(each):
        stamps.append(f"low diversity in {sum(map(bool, each))} of {n_seeds} seeds")
    if n_seeds == 1:
        stamps.append("clips only")
    numbers = {
        "effective_captions": mean_effective,
        "effective_captions_per_seed": effective.tolist(),
        "reference_effective_captions": reference.effective,
        "effective_captions_limit": limits.min_effective_ratio * reference.effective,
        "top_cluster_share": mean_top,
        "top_cluster_share_per_seed": top_share.tolist(),
        "top_cluster_share_limit": max(
            limits.top_share_floor, limits.top_share_ratio * reference.top_share
        ),
        "low_diversity": low,
        "mean_margin": bounds.mean,
        "lower_bound": bounds.lower,
        "upper_bound": bounds.upper,
        "p": bounds.p,
        "mean_margin_within": within and within.mean,
        "lower_bound_within": within and within.lower,
        "upper_bound_within": within and within.upper,
        "p_within": within and within.p,
        "p_holm": tested.p_holm,
        "decided_by": "D within category" if tested.decided_within else "D",
        "category_only": categories,
        "ungrounded_ceiling": ceiling,
        "reference_mean_margin": reference.mean_margin,
        "reference_mean_margin_within": demand.mean,
        "n_seeds": n_seeds,
        "alpha": limits.alpha,
    }
    reason = gate_reason(verdict, low, numbers)
    return GateVerdict(verdict, low, tuple(stamps), numbers, reason)


def _within_tables(
    candidates: Mapping[str, Candidate], reference: References, limits: GateThresholds
) -> tuple[WithinDemand, dict[str, Array]]:
    """Whether D within category is asked for, and if so the projectors', ``[S, G]``."""
    demand = within_demand(reference.within, limits.alpha, limits.within_category)
    if not demand.demanded:
        return demand, {}
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
    return demand, tables


def gate_all(
    candidates: Mapping[str, Candidate],
    reference: References,
    thresholds: GateThresholds | None = None,
    own_runs: bool = False,
) -> dict[str, GateVerdict]:
    """Gate the projectors of a study together: shared seed noise, Holm over projectors.

    Collapsed = low diversity and not grounded. The lower bounds carry clips and seeds; with one
    seed they carry clips only and the verdict is stamped so. Where the references pass it
    themselves, grounded asks that D within category be above 0 as well. ``own_runs`` is for one
    candidate by itself: see :func:`gate`.

    Raises:
        StudyError: unequal seeds or groups, shares out of range, margins that are no numbers.
    """
    limits = thresholds or GateThresholds()
    table = Scores.of({label: candidate.margins for label, candidate in candidates.items()})
    margin = _tests(table, limits.alpha, own_runs)
    demand, tables = _within_tables(candidates, reference, limits)
    within: Sequence[Bounds | None] = [None] * len(margin)
    if tables:
        within = _tests(Scores.of(tables), limits.alpha, own_runs)
    weaker = [m.p if w is None else max(m.p, w.p) for m, w in zip(margin, within, strict=True)]
    both, alone = holm(weaker), holm([bounds.p for bounds in margin])
    return {
        label: _verdict(
            label,
            candidates[label],
            reference,
            limits,
            table.n_seeds,
            _Tested(margin[p], within[p], float(both[p]), float(alone[p])),
            demand,
        )
        for p, label in enumerate(table.labels)
    }


def _tests(table: Scores, alpha: float, own_runs: bool) -> list[Bounds]:
    noise = study_noise(table)
    means = table.y.mean(axis=1)
    return [bounds_of(mean, noise, p, alpha, own_runs) for p, mean in enumerate(means)]


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

    Args:
        effective: effective captions, one value a seed or a single number.
        top_share: top cluster share, likewise.
        margins: D, ``[G]`` for one seed or ``[S, G]``.
        reference: the human captions' figures.
        thresholds: default thresholds if absent.
        label: name of the cell in error messages.
        within: D within category, shaped like ``margins``.
    """
    candidate = Candidate(
        np.atleast_1d(effective),
        np.atleast_1d(top_share),
        np.atleast_2d(np.asarray(margins, dtype=float)),
        None if within is None else np.atleast_2d(np.asarray(within, dtype=float)),
    )
    return gate_all({label: candidate}, reference, thresholds, own_runs=True)[label]


# ---- The gate for published rows, of which only the share of distinct strings is known.


def gate_by_diversity_alone(
    distinct_ratio: float,
    reference_distinct_ratio: float = 1.0,
    thresholds: GateThresholds | None = None,
) -> GateVerdict:
    """Verdict on a published row, of which only distinct strings / strings is known.

    Effective captions cannot exceed the distinct ratio (near-duplicates merge, entropy is at most
    the logarithm of the number of clusters), so a low ratio proves low diversity. A high one proves
    nothing: the published runs had 1.00 where every caption opened alike.
    """
    limits = thresholds or GateThresholds()
    for name, value in (("distinct", distinct_ratio), ("reference", reference_distinct_ratio)):
        if not 0 <= value <= 1:
            raise StudyError(f"{name} ratio of a published run is {value}; expected 0 to 1.")
    limit = limits.min_effective_ratio * reference_distinct_ratio
    low = distinct_ratio < limit
    numbers = {"distinct_ratio": distinct_ratio, "effective_captions_limit": limit}
    numbers["reference_distinct_ratio"] = reference_distinct_ratio
    found = f"{distinct_ratio:.2f} distinct captions a clip against a limit of {limit:.2f}"
    if low:
        reason = f"Collapsed by diversity alone: {found}; effective captions cannot exceed that."
        return GateVerdict("collapsed", True, ("collapsed by diversity alone",), numbers, reason)
    reason = f"Undetermined: {found}, and distinct strings cannot show near-duplicates."
    return GateVerdict("undetermined", None, ("published figures only",), numbers, reason)
