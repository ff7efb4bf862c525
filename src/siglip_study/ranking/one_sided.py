"""Is a mean margin above 0? The one-sided test that the gate and the human captions share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from siglip_study.ranking.variance import (
    RELATIVE_ROUNDING,
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


def bounds_of(by_group: np.ndarray, noise: SeedNoise | None, member: int, alpha: float) -> Bounds:
    """Test the mean of ``by_group`` ``[G]``, the seed-averaged margins of projector ``member``."""
    mean = float(by_group.mean())
    if len(by_group) < 2:
        return Bounds(mean, None, None, 1.0)
    variance, df = contrast_variance(by_group, noise, (member,))
    scale = float(np.abs(by_group).max())
    # Margins without any spread are no sample: of two clips both have the mean D by definition.
    known = variance > (RELATIVE_ROUNDING * scale) ** 2 and mean > MARGIN_ROUNDING
    p = float(one_sided_p(mean, variance, df, scale)) if known else 1.0
    half = float(t_quantile(1 - alpha, df) * np.sqrt(variance))
    return Bounds(mean, mean - half, mean + half, p)
