"""Is a mean margin above 0? The one-sided test that the gate and the human captions share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from siglip_study.ranking.variance import (
    RELATIVE_ROUNDING,
    Array,
    SeedNoise,
    contrast_variance,
    one_sided_p,
    t_quantile,
)

#: A mean margin below this is float32 rounding of cosines: captions that are all the same have
#: D = 0, and their rounding errors, being alike, would pass a t-test.
MARGIN_ROUNDING = 1e-6


@dataclass(frozen=True)
class Bounds:
    """Mean, one-sided bounds each at 1 − alpha (``None`` on one group), and p of a mean ≤ 0."""

    mean: float
    lower: float | None
    upper: float | None
    p: float


def variance_of(
    by_group: Array, noise: SeedNoise | None, member: int, own_runs: bool = False
) -> tuple[Array, Array]:
    """Variance of the mean of ``by_group`` ``[..., G]`` and its degrees of freedom, ``[...]``.

    ``own_runs``: what seeds do is known from this member's S runs alone, so that t has at most
    S - 1 degrees of freedom. Satterthwaite's estimate of them is highest just where the runs happen
    to agree, and claims too much where there are no other projectors to learn from
    (``draws_trial``).
    """
    variance, df = contrast_variance(by_group, noise, (member,))
    if own_runs and noise is not None:
        df = np.minimum(df, noise.n_seeds - 1.0)
    return variance, df


def bounds_of(
    by_group: Array, noise: SeedNoise | None, member: int, alpha: float, own_runs: bool = False
) -> Bounds:
    """Test the mean of ``by_group`` ``[G]``, the seed-averaged margins of projector ``member``.

    ``own_runs`` as in :func:`variance_of`.
    """
    mean = float(by_group.mean())
    if len(by_group) < 2:
        return Bounds(mean, None, None, 1.0)
    variance, df = variance_of(by_group, noise, member, own_runs)
    scale = float(np.abs(by_group).max())
    # Margins without any spread are no sample: of two clips both have the mean D by definition.
    known = variance > (RELATIVE_ROUNDING * scale) ** 2 and mean > MARGIN_ROUNDING
    p = float(one_sided_p(mean, variance, df, scale)) if known else 1.0
    half = float(t_quantile(1 - alpha, df) * np.sqrt(variance))
    return Bounds(mean, mean - half, mean + half, p)
