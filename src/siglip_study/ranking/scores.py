"""The table of scores that every test starts from: projector × seed × group, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from siglip_study.base.errors import StudyError
from siglip_study.ranking.variance import (
    Array,
    Method,
    SeedNoise,
    contrast_variance,
    seed_noise,
    t_quantile,
)


def group_means(values: ArrayLike, groups: Sequence[str]) -> tuple[list[str], Array]:
    """Average ``values`` ``[..., n]`` within groups → (sorted group names, ``[..., G]``).

    Clips of one source video are not independent draws; their mean is. Groups weigh the same
    whatever their number of clips, since the group is what was sampled.
    """
    scores = np.asarray(values, dtype=float)
    if scores.shape[-1] != len(groups):
        raise StudyError(
            f"groups: {len(groups)} names for {scores.shape[-1]} clips; expected one a clip."
        )
    if len(groups) == 0:
        raise StudyError("groups: no clip to rank on; expected at least one.")
    names, index, counts = np.unique(
        np.asarray(groups, dtype=str), return_inverse=True, return_counts=True
    )
    member = np.zeros((len(groups), len(names)))
    member[np.arange(len(groups)), index] = 1.0 / counts[index]
    return [str(name) for name in names], scores @ member


@dataclass(frozen=True)
class Scores:
    """Scores of a study: ``y`` is ``[P, S, G]``, ``labels`` its P projectors."""

    labels: tuple[str, ...]
    y: Array

    @property
    def n_seeds(self) -> int:
        """S."""
        return int(self.y.shape[1])

    @property
    def n_groups(self) -> int:
        """G."""
        return int(self.y.shape[2])

    @property
    def scale(self) -> float:
        """Largest absolute score: the measure of rounding."""
        return float(np.abs(self.y).max(initial=0.0))

    @classmethod
    def of(cls, scores: Mapping[str, ArrayLike]) -> Scores:
        """Check and stack ``{projector: [S, G]}``.

        Raises:
            StudyError: no projector, unequal numbers of seeds or groups, a score that is no number.
        """
        if not scores:
            raise StudyError("ranking: no projector was given; expected at least one.")
        tables: dict[str, Array] = {}
        for label, table in scores.items():
            array = np.asarray(table, dtype=float)
            if array.ndim != 2 or array.size == 0:
                raise StudyError(
                    f"projector '{label}': scores of shape {array.shape}; "
                    "expected [seeds, groups], at least one of each."
                )
            if not np.isfinite(array).all():
                raise StudyError(
                    f"projector '{label}': {int((~np.isfinite(array)).sum())} scores are not "
                    "finite numbers; expected one score a seed and group."
                )
            tables[label] = array
        first = next(iter(tables))
        for axis, word in enumerate(("seeds", "groups")):
            for label, array in tables.items():
                if array.shape[axis] != tables[first].shape[axis]:
                    raise StudyError(
                        f"projector '{label}' has {array.shape[axis]} {word}, projector '{first}' "
                        f"has {tables[first].shape[axis]}; expected the same for all."
                    )
        return cls(tuple(tables), np.stack(list(tables.values())))


# ---- The mean score of each projector with an interval that carries clips and seeds.


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
    seed_sd: float | None
    basis: str


def study_noise(scores: Scores, method: Method = "corrected") -> SeedNoise | None:
    """Seed noise of a study; ``None`` with one seed, where it cannot be known."""
    return seed_noise(scores.y, method) if scores.n_seeds > 1 else None


def basis_of(noise: SeedNoise | None) -> str:
    """What intervals carry."""
    return "clips only" if noise is None else "clips and seeds"


def t_interval(
    by_group: Array, alpha: float, noise: SeedNoise | None = None, members: tuple[int, ...] = ()
) -> tuple[float, float | None, float | None]:
    """Mean of ``by_group`` ``[G]`` and its bounds at 1 − alpha, ``None`` where G = 1.

    Its variance is that of :func:`siglip_study.ranking.variance.contrast_variance`.
    """
    mean = float(by_group.mean())
    if len(by_group) < 2:
        return mean, None, None
    variance, df = contrast_variance(by_group, noise, members)
    half = float(t_quantile(1 - alpha / 2, df)) * float(np.sqrt(variance))
    return mean, mean - half, mean + half


def mean_intervals(scores: Mapping[str, ArrayLike], alpha: float = 0.05) -> list[MeanInterval]:
    """Interval of every projector in ``{projector: [S, G]}``, in the order given."""
    table = Scores.of(scores)
    noise = study_noise(table)
    return [
        MeanInterval(
            label,
            *t_interval(table.y[p].mean(axis=0), alpha, noise, (p,)),
            None if noise is None else float(np.sqrt(noise.spread[p])),
            basis_of(noise),
        )
        for p, label in enumerate(table.labels)
    ]
