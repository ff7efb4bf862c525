"""The variance of a study's means: which clips were drawn, and which seeds.

Model of a score of projector p, seed s, group g (a group is a source video, else a clip)::

    y_psg = μ_p + (seed)_ps + (group)_g + (projector × group)_pg + (seed × group)_psg

Everything here takes leading batch dimensions, so that a simulation tests this very code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Array = NDArray[Any]
#: What every projector is charged at least: ``floor``, as the study does, or ``mean``, the mean of
#: all, kept to be compared with. With two seeds both are the mean.
Method = Literal["floor", "mean"]

#: Differences below this share of the largest score are rounding, not data.
RELATIVE_ROUNDING = 1e-12
#: So large a share of the projectors may be set apart as collapsed; where more collapse, everybody
#: is charged for it.
MOST_APART = 0.25


@dataclass(frozen=True)
class SeedNoise:
    """What the seeds add to the variance of a projector's mean.

    Attributes:
        spread: variance over seeds of the seed means, ``[..., P]``.
        own: v_p, which is that without the part that ``V_clip`` holds already (see
            :func:`seed_noise`), ``[..., P]``; may be negative, as unbiased estimates of zero are.
        n_seeds: S.
        method: what is charged at least.
        telling: whose seeds tell of the others', ``[..., P]``: those that did not collapse; all
            where it is ``None``.
        choice: what choosing on half of the clips adds to the variance of a mean, ``[..., P]``; see
            :mod:`siglip_study.ranking.choice`.
    """

    spread: Array
    own: Array
    n_seeds: int
    method: Method = "floor"
    telling: Array | None = None
    choice: Array | None = None

    @property
    def pool(self) -> Array:
        """Whose variances make the least charge, ``[..., P]`` of bool."""
        if self.telling is None:
            return np.ones(self.own.shape, dtype=bool)
        apart = np.mean(~self.telling, axis=-1, keepdims=True)
        return np.broadcast_to(self.telling | (apart > MOST_APART), self.own.shape)

    @property
    def by_median(self) -> bool:
        """Whether the least charge is of the median: with three seeds, and somebody to pool with.

        At S = 2 a single v has one degree of freedom, and half of all charges would be too small.
        """
        return self.method == "floor" and self.n_seeds > 2 and self.own.shape[-1] > 1

    @property
    def least(self) -> Array:
        """What every projector is charged at least, ``[...]``; see :func:`contrast_variance`."""
        return np.maximum(self._pooled(self.own), 0.0)

    @property
    def least_spread(self) -> Array:
        """The same of ``spread``: what the charge's own uncertainty is made of, ``[...]``."""
        return self._pooled(self.spread)

    @property
    def median_least(self) -> Array:
        """The same where the median is charged, whatever the number of seeds."""
        return np.maximum(self._floored_median(self.own), 0.0)

    def _pooled(self, variances: Array) -> Array:
        if self.by_median:
            return self._floored_median(variances)
        return np.asarray(variances.mean(axis=-1, where=self.pool))

    def _floored_median(self, variances: Array) -> Array:
        freedom = self.n_seeds - 1
        if self.telling is None:
            middle = np.median(variances, axis=-1)
        else:
            middle = np.nanmedian(np.where(self.pool, variances, np.nan), axis=-1)
        return np.asarray(middle * freedom / special.chdtri(freedom, 0.5))


def seed_noise(y: ArrayLike, method: Method = "floor") -> SeedNoise:
    """Seed variance of every projector in ``y`` ``[..., P, S, G]`` (S ≥ 2).

    The variance of the seed means estimates σ²_seed + σ²_seed×group / G. ``V_clip``, the variance
    of seed-averaged scores over groups, holds σ²_seed×group / (S·G) as well, so their plain sum
    would count it twice: MS_residual / G is taken off, MS_residual being the residual mean square
    of the seed × group table (two-way layout, Searle, Casella & McCulloch 1992, section 4.3).
    """
    scores = np.asarray(y, dtype=float)
    n_groups = scores.shape[-1]
    seed_means = scores.mean(axis=-1)
    if n_groups < 2:
        return noise_of(seed_means, 0.0, n_groups, method)
    residual = scores - scores.mean(axis=-2, keepdims=True) - seed_means[..., None]
    residual += scores.mean(axis=(-2, -1))[..., None, None]
    freedom = (scores.shape[-2] - 1) * (n_groups - 1)
    return noise_of(seed_means, np.square(residual).sum(axis=(-2, -1)) / freedom, n_groups, method)


def noise_of(
    seed_means: Array, mean_square: ArrayLike, n_groups: int, method: Method = "floor"
) -> SeedNoise:
    """Seed noise from seed means ``[..., P, S]`` and residual mean squares ``[..., P]``."""
    spread = seed_means.var(axis=-1, ddof=1)
    own = spread - np.asarray(mean_square) / n_groups
    return SeedNoise(spread, own, seed_means.shape[-1], method)


def contrast_variance(
    contrast: ArrayLike, noise: SeedNoise | None, members: tuple[int, ...]
) -> tuple[Array, Array]:
    """Variance of the mean of ``contrast`` and its degrees of freedom.

    Args:
        contrast: seed-averaged scores of one projector or a difference of two, ``[..., G]``, G ≥ 2.
        noise: the seed noise of the study; ``None`` where clips are the only source of variance.
        members: indices of the trained projectors in the contrast: ``(a,)``, ``(a, b)``.

    Returns:
        ``V`` and ``df``, each ``[...]``.

    V = U_clip + U_seed with U_clip = var(contrast) / G on G − 1 degrees of freedom and
    U_seed = Σ_{p in members} max(v₀, v_p) / S.

    v₀ is what seeds do to a projector of this study as far as the others tell: with S ≥ 3 the
    median of the v_p times (S − 1)/χ²₀.₅(S − 1), which makes up for the median of a χ² being less
    than its mean. One noisy projector moves it hardly, and is charged its own v. With S = 2 it is
    the mean v̄. Of P ≥ 4, a quarter at most that collapsed, in some runs or all, are left out of
    it: collapse is no draw of the seed noise that the others share, until it is what seeds do here.

    V also holds ``noise.choice`` of the members, where halves of a split chose for each other; it
    takes no degrees of freedom (it is at most some 40 % of V).

    Satterthwaite (1946, Biometrics Bulletin 2, 110-114): if every U_k is E(U_k)·χ²_{f_k}/f_k, then
    Var(V) = Σ 2·E(U_k)²/f_k. A scaled χ²_f with the same mean and variance as V has
    Var(V) = 2·E(V)²/f, hence f = E(V)² / Σ E(U_k)²/f_k, estimated by putting U_k for E(U_k).

    In the sum, U_seed counts with the variances it was made of: what is taken off them moves the
    estimate, and hardly its sampling error. A member that is charged its own counts S − 1; the
    median of P ≥ 3 counts min(P, 5)·(S − 1)/2: its variance is about twice the mean's, and where
    half of many projectors are noisier it tells less than their number says. Those of the mean,
    which the median of two is, are in :func:`_freedom_of_mean`. f of V is at least the smaller of
    its parts' (Satterthwaite's is, where a part is not larger than the whole; what is taken off can
    make it so).
    """
    scores = np.asarray(contrast, dtype=float)
    n_groups = scores.shape[-1]
    return add_seeds(scores.var(axis=-1, ddof=1) / n_groups, n_groups, noise, members)


def add_seeds(
    clip_part: Array, n_groups: int, noise: SeedNoise | None, members: tuple[int, ...]
) -> tuple[Array, Array]:
    """``V`` and ``df`` of :func:`contrast_variance` from its U_clip, ``[...]``."""
    if noise is None:
        return clip_part, np.full(clip_part.shape, float(n_groups - 1))
    n_seeds = noise.n_seeds
    least, least_spread = noise.least, noise.least_spread
    own = np.stack([noise.own[..., member] for member in members], axis=-1)
    charged_own = own > least[..., None]
    seed_part = np.where(charged_own, own, least[..., None]).sum(axis=-1) / n_seeds

    # The variances that the charge was made of, and how uncertain they are.
    made_of = np.where(charged_own, noise.spread[..., list(members)], 0.0)
    pooled = (~charged_own).sum(axis=-1) * least_spread
    total = made_of.sum(axis=-1) + pooled
    if noise.by_median and noise.own.shape[-1] > 2:
        counted = np.minimum(noise.pool.sum(axis=-1), 5)
        squares = np.square(made_of).sum(axis=-1) / (n_seeds - 1)
        squares += np.square(pooled) / (counted * (n_seeds - 1) / 2)
        seed_df = np.asarray(counted * (n_seeds - 1.0))
        np.divide(np.square(total), squares, out=seed_df, where=squares > 0)
    else:
        seed_df = _freedom_of_mean(noise, members, charged_own)

    variance = clip_part + seed_part
    if noise.choice is not None:
        variance = variance + noise.choice[..., list(members)].sum(axis=-1)
    denominator = np.square(clip_part) / (n_groups - 1) + np.square(total / n_seeds) / seed_df
    df = np.full(variance.shape, float(n_groups - 1))
    np.divide(np.square(variance), denominator, out=df, where=denominator > 0)
    return variance, np.maximum(df, np.minimum(seed_df, n_groups - 1.0))


def _freedom_of_mean(noise: SeedNoise, members: tuple[int, ...], charged_own: Array) -> Array:
    """Degrees of freedom of U_seed where the least charge is the mean over P projectors.

    P(S − 1) if all are equally noisy. Where one's noise dominates, Satterthwaite's formula applied
    to the v_p themselves gives (Σ c_p v_p)² / Σ (c_p v_p)²/(S − 1), with c_p the weight of v_p in
    U_seed; that is too low where noise is equal (since E(v²) exceeds σ⁴). The harmonic mean of the
    two is used, for which the simulation in ``docs/simulations.md`` speaks; of two projectors with
    three seeds or more the lower one, which costs no power there.
    """
    pool, freedom = noise.pool, noise.n_seeds - 1
    n_telling = pool.sum(axis=-1)
    # The median of two is their mean, and charged with its factor.
    factor = freedom / special.chdtri(freedom, 0.5) if noise.by_median else 1.0
    weight = np.zeros(noise.own.shape)
    for place, member in enumerate(members):
        own = charged_own[..., place]
        weight += np.where(own, 0.0, factor / n_telling)[..., None] * pool
        weight[..., member] += own
    shares = weight * noise.spread
    squares = np.square(shares).sum(axis=-1)
    equal = np.asarray(n_telling * float(freedom))
    estimate = np.square(shares.sum(axis=-1)) * freedom
    effective = np.divide(estimate, squares, out=equal.copy(), where=squares > 0)
    if noise.by_median:
        return np.minimum(effective, equal)
    return np.asarray(2 / (1 / equal + 1 / np.minimum(effective, equal)))


def two_sided_p(mean: ArrayLike, variance: ArrayLike, df: ArrayLike, scale: float) -> Array:
    """p of the t-test of ``mean`` = 0.

    Without any variance p is its limit: 1 for a mean of 0 (one projector entered twice), else 0.
    ``scale`` is the size of the scores, by which rounding is told from a difference.
    """
    return 2.0 * np.minimum(
        one_sided_p(mean, variance, df, scale), one_sided_p(-np.asarray(mean), variance, df, scale)
    )


def one_sided_p(mean: ArrayLike, variance: ArrayLike, df: ArrayLike, scale: float) -> Array:
    """p of the t-test of ``mean`` ≤ 0 against ``mean`` > 0; see :func:`two_sided_p`."""
    centre, spread = np.asarray(mean, dtype=float), np.asarray(variance, dtype=float)
    rounding = RELATIVE_ROUNDING * scale
    # A mean of 0 is worth .5 on each side, so that the two-sided p of nothing is 1.
    limit = np.where(np.abs(centre) <= rounding, 0.5, np.where(centre > 0, 0.0, 1.0))
    known = spread > rounding**2
    t = np.divide(centre, np.sqrt(spread), out=np.zeros_like(centre), where=known)
    return np.where(known, special.stdtr(np.asarray(df, dtype=float), -t), limit)


def holm(p: ArrayLike) -> Array:
    """Holm's adjusted p over the last axis, ``[..., m]`` (Holm 1979, Scand. J. Statist. 6, 65-70).

    The i-th smallest p is multiplied by m − i + 1, made monotone, and cut at 1.
    """
    values = np.asarray(p, dtype=float)
    m = values.shape[-1]
    if m == 0:
        return values
    order = np.argsort(values, axis=-1, kind="stable")
    steps = np.take_along_axis(values, order, axis=-1) * np.arange(m, 0, -1)
    steps = np.minimum(np.maximum.accumulate(steps, axis=-1), 1.0)
    adjusted = np.empty_like(values)
    np.put_along_axis(adjusted, order, steps, axis=-1)
    return adjusted


def t_quantile(probability: float, df: ArrayLike) -> Array:
    """Quantile of Student's t, elementwise in ``df``."""
    return np.asarray(special.stdtrit(np.asarray(df, dtype=float), probability))


# ---- Is a mean margin above 0? The one-sided test that the gate and the human captions share.

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
