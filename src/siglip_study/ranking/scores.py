"""The table of scores that every test starts from: projector × seed × group, checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from siglip_study.base.errors import StudyError
from siglip_study.metrics.grounding import proportion_interval
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
    """Scores of a study.

    Attributes:
        labels: its P projectors.
        y: ``[P, S, G]``.
        apart: collapsed ones, whose seeds tell nothing of the others'.
        choice: what choosing on half of the clips adds to the variance of each mean, ``[P]``.
    """

    labels: tuple[str, ...]
    y: Array
    apart: frozenset[str] = frozenset()
    choice: Array | None = None

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
    def of(
        cls,
        scores: Table,
        apart: Collection[str] = (),
        choice: Mapping[str, float] | None = None,
    ) -> Scores:
        """Check and stack ``{projector: [S, G]}``; what is stacked already stays as it is.

        Raises:
            StudyError: no projector, unequal numbers of seeds or groups, a score that is no number.
        """
        if isinstance(scores, Scores):
            return scores
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
        added = None if choice is None else np.array([choice.get(label, 0.0) for label in tables])
        return cls(tuple(tables), np.stack(list(tables.values())), frozenset(apart), added)

    @property
    def means(self) -> dict[str, float]:
        """Mean score of each projector."""
        return dict(zip(self.labels, self.y.mean(axis=(1, 2)).tolist(), strict=True))


#: ``{projector: [S, G]}``, or a study's checked scores with what is known of them.
Table = Mapping[str, ArrayLike] | Scores


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
    standard_error: float | None


def study_noise(scores: Scores, method: Method = "floor") -> SeedNoise | None:
    """Seed noise of a study; ``None`` with one seed, where it cannot be known.

    ``y`` may have leading dimensions.
    """
    if scores.y.shape[-2] < 2:
        return None
    telling = None
    if scores.apart:
        telling = np.array([label not in scores.apart for label in scores.labels])
    return replace(seed_noise(scores.y, method), telling=telling, choice=scores.choice)


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


def mean_intervals(scores: Table, alpha: float = 0.05, share: bool = False) -> list[MeanInterval]:
    """Interval of every projector in ``{projector: [S, G]}``, in the order given.

    With ``share`` the scores are in [0, 1], and the interval is Wilson's with the same variance.
    """
    table = Scores.of(scores)
    noise = study_noise(table)
    result = []
    for p, label in enumerate(table.labels):
        by_group = table.y[p].mean(axis=0)
        error = None
        bounds = t_interval(by_group, alpha, noise, (p,))
        if table.n_groups > 1:
            variance, df = (float(x) for x in contrast_variance(by_group, noise, (p,)))
            error = float(np.sqrt(variance))
            if share:
                ends = proportion_interval(bounds[0], variance, table.n_groups, df, 1 - alpha)
                bounds = bounds[0], *ends
        result.append(
            MeanInterval(
                label,
                *bounds,
                None if noise is None else float(np.sqrt(noise.spread[p])),
                basis_of(noise),
                error,
            )
        )
    return result


# ---- Where the variance of the scores comes from.


@dataclass(frozen=True)
class Components:
    """Variance of a score by its source, and how far the projectors stand out of the noise.

    Unbiased estimates from the mean squares of projector × seed × group, seeds nested in
    projectors (Searle, Casella & McCulloch 1992, chapter 4), 0 where one comes out negative.

    Attributes:
        projector: between projectors.
        seed: between runs of a projector.
        clip: between source videos, for all projectors alike.
        interaction: projector × source video.
        residual: seed × source video.
        signal_to_noise: SD between projectors over the standard error of a projector's mean that
            seeds, interaction and residual cause.
    """

    projector: float
    seed: float
    clip: float
    interaction: float
    residual: float
    signal_to_noise: float | None

    @property
    def shares(self) -> list[float | None]:
        """Of the sum of all parts, in this order; ``None`` where nothing varies."""
        parts = [self.projector, self.seed, self.clip, self.interaction, self.residual]
        return [part / sum(parts) if sum(parts) > 0 else None for part in parts]


def components(scores: Mapping[str, ArrayLike]) -> Components | None:
    """Variance components of ``{projector: [S, G]}``; ``None`` unless P, S and G are 2 or more."""
    y = Scores.of(scores).y
    p, s, g = y.shape
    if min(p, s, g) < 2:
        return None
    runs, by_group = y.mean(axis=2), y.mean(axis=1)  # [P, S], [P, G]
    means, clips, grand = y.mean(axis=(1, 2)), y.mean(axis=(0, 1)), y.mean()
    residual = y - runs[:, :, None] - by_group[:, None] + means[:, None, None]
    mixed = by_group - means[:, None] - clips + grand
    ms_residual = np.square(residual).sum() / (p * (s - 1) * (g - 1))
    ms_mixed = s * np.square(mixed).sum() / ((p - 1) * (g - 1))
    ms_clip = p * s * np.square(clips - grand).sum() / (g - 1)
    ms_run = g * np.square(runs - means[:, None]).sum() / (p * (s - 1))
    ms_projector = s * g * np.square(means - grand).sum() / (p - 1)
    parts = (
        (ms_projector - ms_run - ms_mixed + ms_residual) / (s * g),
        (ms_run - ms_residual) / g,
        (ms_clip - ms_mixed) / (p * s),
        (ms_mixed - ms_residual) / s,
        ms_residual,
    )
    projector, seed, clip, interaction, rest = (max(0.0, float(part)) for part in parts)
    noise = seed / s + interaction / g + rest / (s * g)
    ratio = float(np.sqrt(projector / noise)) if noise > 0 else None
    return Components(projector, seed, clip, interaction, rest, ratio)
