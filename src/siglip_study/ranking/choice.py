"""What choosing on half of the clips adds to the variance of a cross-fitted mean.

Each half of a held-out split chooses the cell that reports the other, so that no clip is reported
by a cell that it chose. But where both halves choose the same cell, each reports it on clips that
liked it, and where they choose two, on clips that passed it over: the errors of the halves are
correlated, as far as a cell's scores of a clip are its own and not drawn anew with each seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from siglip_study.ranking.variance import Array

#: Correlation that is charged to halves whose cells score a clip alike whenever they are trained.
#: Of K equal cells it is m²/(K − 1), with m the mean of the largest of K standard normal draws:
#: .318, .358, .353, .338 for K = 2 to 5, then less; of unequal cells it is less. The rest pays for
#: the tails: the errors are a mixture of studies whose halves agree and others, and with .36 false
#: orders were 5.4 % in the worst kind of ``crossfit_trial``.
CORRELATED = 0.45


@dataclass(frozen=True)
class HalfChoice:
    """What one half's clips say of a choice among K cells.

    Attributes:
        kept: variance over groups of a cell's scores that all its runs share, beside what all
            cells do, ``[...]``: the estimate is unbiased, and may be negative.
        drawn: variance over groups of a tuning run's score beside what all cells do, ``[...]``:
            what the half chose by.
        n_groups: G of the half.
    """

    kept: Array
    drawn: Array
    n_groups: int


def half_choice(tuned: Array, reporter: Array, fresh: Array) -> HalfChoice:
    """Compare tuning runs and fresh runs on the groups of one half.

    Args:
        tuned: scores of the K ≥ 2 tuning cells, ``[..., K, G]``, G ≥ 2.
        reporter: place of the cell that reports this half, ``[...]``; the other half chose it.
        fresh: scores of its fresh runs, ``[..., S, G]``.
    """
    n_cells, n_groups = tuned.shape[-2:]
    shared = tuned.mean(axis=-2)
    own = np.take_along_axis(tuned, np.asarray(reporter)[..., None, None], axis=-2)[..., 0, :]
    own, again = _centred(own - shared), _centred(fresh.mean(axis=-2) - shared)
    cells = _centred(tuned - shared[..., None, :])
    # The mean over cells holds 1/K of each cell's own part.
    freedom = (n_groups - 1) * (1 - 1 / n_cells)
    return HalfChoice(
        kept=np.asarray((own * again).sum(axis=-1) / freedom),
        drawn=np.square(cells).sum(axis=(-2, -1)) / (freedom * n_cells),
        n_groups=n_groups,
    )


def together(halves: Sequence[HalfChoice]) -> HalfChoice:
    """The same half as seen by several projectors, which become the last axis."""
    return HalfChoice(
        np.stack([own.kept for own in halves], axis=-1),
        np.stack([own.drawn for own in halves], axis=-1),
        halves[0].n_groups,
    )


def choice_variance(a: HalfChoice, b: HalfChoice) -> Array:
    """Variance that the two halves' choices add to a projector's mean over both, ``[..., 1]``.

    With e_j the error of cell j on a half, and i its choice, the covariance of the halves is
    Σ_ij E[e_j; i chosen]_A · E[e_i; j chosen]_B. By Stein's lemma each factor is the kept variance
    over the SD of what the half chose by, times a number of the cells' true means alone; summed,
    those are at most .36; :data:`CORRELATED` is charged. Seeds, which blur the choice, are left
    out of that SD. Both variances are averaged over the projectors, the last
    axis: one choice tells too little.
    """
    half_errors = []
    for half in (a, b):
        drawn = half.drawn.mean(axis=-1, keepdims=True)
        kept = np.clip(half.kept.mean(axis=-1, keepdims=True), 0.0, drawn)
        error = np.zeros_like(kept)
        np.divide(kept, np.sqrt(drawn * half.n_groups), out=error, where=drawn > 0)
        half_errors.append(error)
    covariance = CORRELATED * half_errors[0] * half_errors[1]
    share = a.n_groups / (a.n_groups + b.n_groups)
    return np.asarray(2 * share * (1 - share) * covariance)


def _centred(values: Array) -> Array:
    return np.asarray(values - values.mean(axis=-1, keepdims=True))
