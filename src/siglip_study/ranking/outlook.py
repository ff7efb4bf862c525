"""What a claim is worth, and what the next seed or clips would buy: power from a study's own noise.

Nothing here claims anything. The tests are in :mod:`siglip_study.ranking.pairs`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from scipy import optimize, special, stats

from siglip_study.ranking.variance import Array, SeedNoise, add_seeds, noise_of

#: Power that a plan asks for.
POWER = 0.8
#: Report seeds and multiples of the clips beyond which a plan says "more than that".
MOST_SEEDS, MOST_CLIPS = 20, 16


#: Draws of the variance estimates; the power averaged over them is good to half a point.
_DRAWS = 4000


@lru_cache(maxsize=64)
def _standard_draws(projectors: int, seeds: int, groups: int) -> tuple[Array, Array, Array]:
    """Clip part and residuals as multiples of their means, and seed means in SDs.

    Quantiles of common uniforms, so that plans differ by size and not by luck.
    """
    rng = np.random.default_rng(0)
    clip = chi2_share(groups - 1, rng, (_DRAWS,))
    means = rng.standard_normal((_DRAWS, projectors, seeds))
    residual = chi2_share((seeds - 1) * (groups - 1), rng, (_DRAWS, projectors))
    return clip, means, residual


def chi2_share(df: int, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draws of χ² over its degrees of freedom."""
    return np.asarray(2 * special.gammaincinv(df / 2, rng.random(shape)) / df)


@dataclass(frozen=True)
class PairPlan:
    """What the difference of two projectors rests on, and what a study of other size would claim.

    Every projector has a seed noise of its own. What a study would estimate of it, and charge the
    pair, is drawn and goes through the ranking's own code, since with few seeds the charge varies
    much from study to study, and that of other projectors is part of it.

    Attributes:
        members: places of the pair among the P projectors.
        seed: variance of each projector's mean that seeds cause, clips left out, ``P`` of them.
        again: variance over source videos of a score that each seed draws anew, ``P`` of them.
        kept: variance over source videos of the pair's difference that no seed averages away.
        n_groups: G.
        n_seeds: S.
        alpha: level; Holm corrects over all P(P − 1)/2 pairs.
        apart: places of collapsed projectors, whose seeds tell nothing of the others'.
    """

    members: tuple[int, int]
    seed: tuple[float, ...]
    again: tuple[float, ...]
    kept: float
    n_groups: int
    n_seeds: int
    alpha: float
    apart: tuple[int, ...] = ()

    @classmethod
    def of(cls, delta: Array, noise: SeedNoise, members: tuple[int, int], alpha: float) -> PairPlan:
        """From seed-averaged differences ``[G]`` of two projectors of a study.

        The study's estimates are taken for the truth: a plan cannot know better.
        """
        groups = len(delta)
        again = np.maximum(noise.spread - noise.own, 0.0) * groups
        redrawn = float(again[list(members)].sum()) / noise.n_seeds
        # What a choice by halves costs: no seed averages it away, and it falls with clips.
        chosen = 0.0 if noise.choice is None else float(noise.choice[list(members)].sum())
        apart = () if noise.telling is None else tuple(np.flatnonzero(~noise.telling).tolist())
        return cls(
            members,
            tuple(np.maximum(noise.own, 0.0).tolist()),
            tuple(again.tolist()),
            max(0.0, float(delta.var(ddof=1)) - redrawn) + chosen * groups,
            groups,
            noise.n_seeds,
            alpha,
            apart,
        )

    @property
    def n_pairs(self) -> int:
        """Pairs over which Holm corrects."""
        return math.comb(len(self.seed), 2)

    def sized(self, n_seeds: int | None = None, times_clips: float = 1) -> PairPlan:
        """The same pair in a study of other size."""
        seeds, groups = n_seeds or self.n_seeds, round(self.n_groups * times_clips)
        if (seeds, groups) == (self.n_seeds, self.n_groups):
            return self  # with what it has drawn
        return replace(self, n_seeds=seeds, n_groups=groups)

    @property
    def _clip_part(self) -> float:
        redrawn = sum(self.again[member] for member in self.members) / self.n_seeds
        return (self.kept + redrawn) / self.n_groups

    @property
    def variance(self) -> float:
        """True variance of the difference of the two means."""
        return self._clip_part + sum(self.seed[member] for member in self.members) / self.n_seeds

    @cached_property
    def _critical(self) -> Array:
        """The differences needed for a claim at Holm's strictest step, one a draw of V and df."""
        clip, means, residual = _standard_draws(len(self.seed), self.n_seeds, self.n_groups)
        again = np.array(self.again)
        run_sd = np.sqrt(np.array(self.seed) + again / self.n_groups)
        noise = noise_of(run_sd[:, None] * means, again * residual, self.n_groups)
        if self.apart:
            telling = ~np.isin(np.arange(len(self.seed)), self.apart)
            noise = replace(noise, telling=telling)
        variance, df = add_seeds(self._clip_part * clip, self.n_groups, noise, self.members)
        bar = special.stdtrit(df, 1 - self.alpha / (2 * self.n_pairs))
        return np.asarray(bar * np.sqrt(variance))

    def power(self, difference: float, n_seeds: int | None = None, times_clips: float = 1) -> float:
        """Probability of claiming a true ``difference`` in its direction, in [0, 1].

        Holm never asks for more than its first step, which is taken here: where other pairs are
        claimed as well, the power is higher.
        """
        plan = self.sized(n_seeds, times_clips)
        error = math.sqrt(plan.variance)
        if error == 0:
            return float(abs(difference) > 0)
        return float(special.ndtr((abs(difference) - plan._critical) / error).mean())

    def seeds_needed(self, difference: float) -> int | None:
        """Fewest seeds that find ``difference`` with power .8 on these clips; ``None``: > 20."""
        for seeds in range(max(3, self.n_seeds + 1), MOST_SEEDS + 1):
            if self.power(difference, seeds) >= POWER:
                return seeds
        return None

    def groups_needed(self, difference: float) -> int | None:
        """Fewest source videos that do so with these seeds; ``None``: over 16 times as many."""
        if self.power(difference, times_clips=MOST_CLIPS) < POWER:
            return None
        low, high = self.n_groups, self.n_groups * MOST_CLIPS
        while high - low > 1:
            middle = (low + high) // 2
            enough = self.power(difference, times_clips=middle / self.n_groups) >= POWER
            low, high = (low, middle) if enough else (middle, high)
        return high


@dataclass(frozen=True)
class RunHours:
    """Device hours of one report run: both stages of training, and captions of all report clips.

    GPU-hours; on a machine without a GPU its own.
    """

    training: float
    captions: float

    @property
    def total(self) -> float:
        """What one seed more takes."""
        return self.training + self.captions


@dataclass(frozen=True)
class PlannedPair:
    """A pair of a study, with what its next seeds and clips would tell.

    ``difference`` a − b is taken for the true one: as measured, and where it was claimed as
    shrunken.
    """

    a: str
    b: str
    difference: float
    plan: PairPlan


@dataclass(frozen=True)
class TunedChoice:
    """How far a projector's choice among its tuning cells may be luck of the tuning seeds.

    Attributes:
        projector: its label.
        n_cells: cells that could be chosen.
        n_seeds: tuning seeds of each.
        run_sd: SD of a run's mean M over seeds, as this study's report runs are charged it.
        best: probability that the chosen cell is the best of them on the clips that chose, as far
            as seeds go (the mean of two halves that chose).
    """

    projector: str
    n_cells: int
    n_seeds: int
    run_sd: float
    best: float


def chance_best(means: Sequence[float], variance: float) -> float:
    """Probability that the cell of the highest of K ``means`` is truly the best.

    ``variance`` is what seeds add to each mean. The cells' true means are taken to be normal about
    one another, with what the observed ones vary by beyond ``variance`` (empirical Bayes, Efron &
    Morris 1975, JASA 70, 311-319): 1/K where they vary no more than seeds explain. On average over
    simulated studies it is rather too low than too high (``tuning_seeds_trial``).
    """
    values = np.sort(np.asarray(means, dtype=float))
    if len(values) < 2 or variance <= 0:
        return 1.0
    beyond = max(0.0, float(values.var(ddof=1)) - variance)
    if beyond == 0:
        return 1 / len(values)
    lead = (values[-1] - values[:-1]) * math.sqrt(beyond / (beyond + variance) / variance)
    # ∫ φ(z) Π Φ(z + lead) dz.
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    beaten = special.ndtr(nodes[:, None] + lead).prod(axis=1)
    return float(weights @ beaten / math.sqrt(2 * math.pi))


def shrunken(difference: float, standard_error: float, bar: float) -> float:
    """The true difference of which a claimed one is the mean, given that it was claimed.

    A difference that must exceed ``bar`` standard errors to be claimed is too large on average
    where power is low ("type M error", Gelman & Carlin 2014, Perspectives on Psychological Science
    9, 641-651). Solved for δ: E(d | |d| > bar·se, δ) = ``difference``, d normal about δ
    (conditional mean estimate, Zhong & Prentice 2008, Biostatistics 9, 621-634). Of the same sign
    as ``difference``, and never larger.
    """
    if standard_error <= 0 or difference == 0:
        return difference
    observed = abs(difference) / standard_error

    def excess(true: float) -> float:
        upper, lower = bar - true, -bar - true
        claimed = stats.norm.sf(upper) + stats.norm.cdf(lower)
        mean = true + (stats.norm.pdf(upper) - stats.norm.pdf(lower)) / claimed
        return float(mean - observed)

    if excess(0.0) >= 0:
        return 0.0
    found = optimize.brentq(excess, 0.0, observed)
    return math.copysign(float(found) * standard_error, difference)


def overlap_bars(differences: Array, significant: Array, errors: Array) -> list[float] | None:
    """Half-widths of bars about the means that overlap exactly where no difference is claimed.

    Two ordinary 95 % intervals may overlap though their difference is significant, so bars that
    invite comparison must be made for it (Goldstein & Healy 1995, JRSS A 158, 175-177). The bars
    with the least total departure from a common multiple of the standard errors (a linear program).

    Args:
        differences: d of each pair, in the order of ``combinations``, ``[m]``.
        significant: which are claimed, ``[m]`` bool.
        errors: standard errors of the P means, ``[P]``.

    Returns:
        P half-widths; ``None`` where no such bars exist.
    """
    n = len(errors)
    gaps = np.abs(np.asarray(differences, dtype=float))
    claimed = np.asarray(significant, dtype=bool)
    pairs = np.array([(a, b) for a in range(n) for b in range(a + 1, n)]).reshape(-1, 2)
    if not len(pairs) or not np.all(np.asarray(errors) > 0):
        return None
    # Variables: P half-widths, their departures, the multiple. A thousandth of room on both sides.
    member = np.zeros((len(pairs), n))
    np.put_along_axis(member, pairs, 1.0, axis=1)
    sign = np.where(claimed, 1.0, -1.0)
    room = np.where(claimed, 0.999, -1.001) * gaps
    eye, common = np.eye(n), np.asarray(errors, dtype=float)[:, None]
    rows = [
        np.hstack([sign[:, None] * member, np.zeros((len(pairs), n + 1))]),
        np.hstack([eye, -eye, -common]),
        np.hstack([-eye, -eye, common]),
    ]
    # t of two equal errors whose bars touch at p = .05: 1.96 · √2 / 2.
    result = optimize.linprog(
        c=np.r_[np.zeros(n), np.ones(n), 0.0],
        A_ub=np.vstack(rows),
        b_ub=np.r_[room, np.zeros(2 * n)],
        bounds=[(0, None)] * (2 * n) + [(1.0, 4.0)],
    )
    return [float(x) for x in result.x[:n]] if result.success else None


def excluded_failure_rate(n_sound: int, alpha: float = 0.05) -> float:
    """Failure rates of a run above this are excluded by ``n_sound`` runs without a failure.

    1 − α^(1/S) (Clopper & Pearson 1934): three sound seeds exclude no rate under 63 %.
    """
    return 1 - alpha ** (1 / n_sound)
