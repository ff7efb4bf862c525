"""What a claim is worth, and what the next seed or clips would buy: power from a study's own noise.

Nothing here claims anything. The tests are in :mod:`siglip_study.ranking.pairs`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

from siglip_study.ranking.variance import Array, SeedNoise

#: Power that a plan asks for.
POWER = 0.8
#: Report seeds and multiples of the clips beyond which a plan says "more than that".
MOST_SEEDS, MOST_CLIPS = 20, 16


@dataclass(frozen=True)
class SeedCharge:
    """What seeds add to a pair: the sum of both variances, before it is divided by S.

    ``freedom`` are its degrees of freedom over S − 1.
    """

    variance: float
    freedom: float

    @classmethod
    def of(
        cls, noise: SeedNoise, members: tuple[int, int], least: float, pooled: float
    ) -> SeedCharge:
        """From a study's noise, where each is charged ``least`` that rests on ``pooled`` · (S − 1)
        degrees of freedom; a charge of its own has S − 1."""
        own = [value for member in members if (value := float(noise.own[member])) > least]
        shared = (len(members) - len(own)) * least
        variance = sum(own) + shared
        squares = sum(value**2 for value in own) + shared**2 / pooled
        return cls(variance, variance**2 / squares if squares > 0 else pooled)


@dataclass(frozen=True)
class PairPlan:
    """What the difference of two projectors rests on, as this study measured it.

    Attributes:
        clip_part: variance of the difference that clips cause, over their number: U_clip.
        charged: what this study's seeds add.
        planned: what a study with three seeds or more would be charged, which is another where
            this one has two.
        n_groups: G.
        n_seeds: S.
        n_pairs: m, over which Holm corrects.
        alpha: level.
    """

    clip_part: float
    charged: SeedCharge
    planned: SeedCharge
    n_groups: int
    n_seeds: int
    n_pairs: int
    alpha: float

    @classmethod
    def of(
        cls, delta: Array, noise: SeedNoise, members: tuple[int, int], n_pairs: int, alpha: float
    ) -> PairPlan:
        """From seed-averaged differences ``[G]`` of two projectors of a study."""
        projectors = noise.own.shape[-1]
        pooled = projectors * (0.5 if noise.by_median else 1.0)
        charged = SeedCharge.of(noise, members, float(noise.least), pooled)
        planned = SeedCharge.of(noise, members, float(noise.median_least), projectors * 0.5)
        part = float(delta.var(ddof=1)) / len(delta)
        return cls(part, charged, planned, len(delta), noise.n_seeds, n_pairs, alpha)

    def power(self, difference: float, n_seeds: int | None = None, times_clips: float = 1) -> float:
        """Probability of claiming a true ``difference`` at Holm's strictest step, in [0, 1].

        The study's estimates of the variances are taken for the truth; with other numbers of seeds
        and source videos their parts shrink accordingly.
        """
        seeds = n_seeds or self.n_seeds
        charge = self.planned if seeds > 2 else self.charged
        groups = self.n_groups * times_clips
        clip, seed = self.clip_part / times_clips, charge.variance / seeds
        variance = clip + seed
        if variance <= 0:
            return 1.0
        parts = clip**2 / (groups - 1) + seed**2 / (charge.freedom * (seeds - 1))
        df = variance**2 / parts
        bar = special.stdtrit(df, 1 - self.alpha / (2 * self.n_pairs))
        return float(stats.nct.sf(bar, df, abs(difference) / math.sqrt(variance)))

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
