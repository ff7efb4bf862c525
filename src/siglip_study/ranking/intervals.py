"""The mean score of each projector with an interval that carries clips and seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from siglip_study.ranking.scores import Scores
from siglip_study.ranking.variance import (
    Method,
    SeedNoise,
    contrast_variance,
    seed_noise,
    t_quantile,
)


@dataclass(frozen=True)
class MeanInterval:
    """Mean of one projector; ``low``/``high`` at 1 − alpha, ``None`` where G = 1.

    ``seed_sd`` is the standard deviation of its seed means, ``None`` for one seed.
    ``basis`` is ``clips and seeds``, or ``clips only``: then seeds are missing from the interval.
    """

    label: str
    mean: float
    low: float | None
    high: float | None
    standard_error: float | None
    df: float | None
    seed_sd: float | None
    basis: str


def study_noise(scores: Scores, method: Method = "corrected") -> SeedNoise | None:
    """Seed noise of a study; ``None`` with one seed, where it cannot be known."""
    return seed_noise(scores.y, method) if scores.n_seeds > 1 else None


def mean_intervals(scores: Mapping[str, ArrayLike], alpha: float = 0.05) -> list[MeanInterval]:
    """Interval of every projector in ``{projector: [S, G]}``, in the order given.

    V = var over groups of the seed-averaged scores / G + max(v̄, v_p) / S;
    see :func:`siglip_study.ranking.variance.contrast_variance`.
    """
    table = Scores.of(scores)
    noise = study_noise(table)
    basis = "clips only" if noise is None else "clips and seeds"
    result = []
    for p, label in enumerate(table.labels):
        by_group = table.y[p].mean(axis=0)
        mean = float(by_group.mean())
        seed_sd = None if noise is None else float(np.sqrt(noise.spread[p]))
        if table.n_groups < 2:
            result.append(MeanInterval(label, mean, None, None, None, None, seed_sd, basis))
            continue
        variance, df = contrast_variance(by_group, noise, (p,))
        se = float(np.sqrt(variance))
        half = float(t_quantile(1 - alpha / 2, df)) * se
        result.append(
            MeanInterval(label, mean, mean - half, mean + half, se, float(df), seed_sd, basis)
        )
    return result
