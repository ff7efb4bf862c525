"""Which captions may be ranked at all: the gate between a collapsed model and a grounded one.

A model has *collapsed* if its captions are few and say nothing of their clip. Few captions that do
fit their clips (right facts in one boilerplate) are ranked, stamped "templated".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from siglip_study.errors import StudyError
from siglip_study.ranking.gate_reason import gate_reason
from siglip_study.ranking.intervals import study_noise
from siglip_study.ranking.scores import Scores
from siglip_study.ranking.variance import (
    RELATIVE_ROUNDING,
    SeedNoise,
    contrast_variance,
    holm,
    one_sided_p,
    t_quantile,
)

Verdict = Literal["grounded", "ungrounded", "undetermined", "collapsed"]

#: A mean margin below this is float32 rounding of cosines: captions that are all the same have
#: D = 0, and their rounding errors, being alike, would pass a t-test.
MARGIN_ROUNDING = 1e-6


@dataclass(frozen=True)
class GateThresholds:
    """Thresholds of the gate; the config's ``gate`` section has the same names.

    Attributes:
        min_effective_ratio: below this share of the references' effective captions: low diversity.
        top_share_floor: a top cluster over this share is low diversity, if also over …
        top_share_ratio: … this multiple of the references' top share.
        templated_reference: references under this effective value switch the diversity test off.
        ungrounded_ratio: upper bound of D under this share of the references' D: ungrounded.
        alpha: level of the one-sided bounds.
    """

    min_effective_ratio: float = 0.5
    top_share_floor: float = 0.10
    top_share_ratio: float = 2.0
    templated_reference: float = 0.2
    ungrounded_ratio: float = 0.1
    alpha: float = 0.05

    def __post_init__(self) -> None:
        # At a level of 1 every caption would be grounded, whatever its D.
        if not 0 < self.alpha < 0.5:
            raise StudyError(f"gate.alpha is {self.alpha}; expected more than 0, less than 0.5.")


@dataclass(frozen=True)
class References:
    """The human captions: effective captions in (0, 1], top cluster share, mean D."""

    effective: float
    top_share: float
    mean_margin: float

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

    ``effective`` and ``top_share`` are one value a seed, ``margins`` is D as ``[S, G]``.
    """

    effective: ArrayLike
    top_share: ArrayLike
    margins: ArrayLike


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


@dataclass(frozen=True)
class _Bounds:
    mean: float
    variance: float | None
    df: float | None
    p: float


def _per_seed(label: str, name: str, values: ArrayLike, n_seeds: int) -> np.ndarray:
    array = np.atleast_1d(np.asarray(values, dtype=float))
    if array.shape != (n_seeds,) or not ((array >= 0) & (array <= 1)).all():
        raise StudyError(
            f"projector '{label}': {name} is {array.tolist()}; "
            f"expected {n_seeds} numbers between 0 and 1, one a seed."
        )
    return array


def _bounds(by_group: np.ndarray, noise: SeedNoise | None, member: int) -> _Bounds:
    mean = float(by_group.mean())
    if len(by_group) < 2:
        return _Bounds(mean, None, None, 1.0)
    variance, df = contrast_variance(by_group, noise, (member,))
    scale = float(np.abs(by_group).max())
    # Margins without any spread are no sample: of two clips both have the mean D by definition.
    known = variance > (RELATIVE_ROUNDING * scale) ** 2 and mean > MARGIN_ROUNDING
    p = float(one_sided_p(mean, variance, df, scale)) if known else 1.0
    return _Bounds(mean, float(variance), float(df), p)


def _low_diversity(
    effective: float, top_share: float, reference: References, limits: GateThresholds
) -> bool | None:
    if reference.effective < limits.templated_reference:
        return None
    top_limit = max(limits.top_share_floor, limits.top_share_ratio * reference.top_share)
    return effective < limits.min_effective_ratio * reference.effective or top_share > top_limit


def _verdict(
    label: str,
    candidate: Candidate,
    reference: References,
    limits: GateThresholds,
    n_seeds: int,
    bounds: _Bounds,
    p_holm: float,
) -> GateVerdict:
    effective = _per_seed(label, "effective captions", candidate.effective, n_seeds)
    top_share = _per_seed(label, "top cluster share", candidate.top_share, n_seeds)
    mean_effective, mean_top = float(effective.mean()), float(top_share.mean())
    low = _low_diversity(mean_effective, mean_top, reference, limits)
    lower = upper = None
    if bounds.variance is not None and bounds.df is not None:
        half = float(t_quantile(1 - limits.alpha, bounds.df) * np.sqrt(bounds.variance))
        lower, upper = bounds.mean - half, bounds.mean + half
    ceiling = limits.ungrounded_ratio * reference.mean_margin
    grounded = p_holm <= limits.alpha
    verdict: Verdict
    if grounded:
        verdict = "grounded"
    elif low:
        verdict = "collapsed"
    elif upper is not None and upper < ceiling:
        verdict = "ungrounded"
    else:
        verdict = "undetermined"
    stamps = []
    if grounded and low:
        stamps.append("templated")
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
        "lower_bound": lower,
        "upper_bound": upper,
        "p": bounds.p,
        "p_holm": p_holm,
        "ungrounded_ceiling": ceiling,
        "reference_mean_margin": reference.mean_margin,
        "n_seeds": n_seeds,
        "alpha": limits.alpha,
    }
    reason = gate_reason(verdict, low, numbers)
    return GateVerdict(verdict, low, tuple(stamps), numbers, reason)


def gate_all(
    candidates: Mapping[str, Candidate],
    reference: References,
    thresholds: GateThresholds | None = None,
) -> dict[str, GateVerdict]:
    """Gate the projectors of a study together: shared seed noise, Holm over projectors.

    Collapsed = low diversity and not grounded. The lower bound carries clips and seeds; with one
    seed it carries clips only and is stamped so.

    Raises:
        StudyError: unequal seeds or groups, shares out of range, margins that are no numbers.
    """
    limits = thresholds or GateThresholds()
    table = Scores.of({label: candidate.margins for label, candidate in candidates.items()})
    noise = study_noise(table)
    bounds = [_bounds(table.y[p].mean(axis=0), noise, p) for p in range(len(table.labels))]
    adjusted = holm([bound.p for bound in bounds])
    return {
        label: _verdict(
            label,
            candidates[label],
            reference,
            limits,
            table.n_seeds,
            bounds[p],
            float(adjusted[p]),
        )
        for p, label in enumerate(table.labels)
    }


def gate(
    effective: ArrayLike,
    top_share: ArrayLike,
    margins: ArrayLike,
    reference: References,
    thresholds: GateThresholds | None = None,
    label: str = "this cell",
) -> GateVerdict:
    """Gate one cell by itself (a control, a tuning cell): as :func:`gate_all`, without Holm.

    Args:
        effective: effective captions, one value a seed or a single number.
        top_share: top cluster share, likewise.
        margins: D, ``[G]`` for one seed or ``[S, G]``.
        reference: the human captions' figures.
        thresholds: default thresholds if absent.
        label: name of the cell in error messages.
    """
    table = np.asarray(margins, dtype=float)
    table = table[None, :] if table.ndim == 1 else table
    candidate = Candidate(np.atleast_1d(effective), np.atleast_1d(top_share), table)
    return gate_all({label: candidate}, reference, thresholds)[label]


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
