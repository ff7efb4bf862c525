"""Power before money: what a study of given size would find, before anything is trained.

Model of a score, as in :mod:`siglip_study.ranking.variance`, by four figures: the SD of one run's
D over groups, its correlation between two projectors and between two seeds of one projector, and
the SD of a run's mean over seeds. The clip part of a pair's δ_g then has the variance
2·SD²·[(r_seeds − r_projectors) + (1 − r_seeds)/S].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import optimize, special

from siglip_study.base.errors import StudyError
from siglip_study.ranking.pairs import POWER
from siglip_study.ranking.variance import Array, add_seeds, noise_of, t_quantile

#: Draws of the variance estimates; the power averaged over them is good to half a point.
DRAWS = 4000
#: Groups beyond which a study is called out of reach.
MOST_GROUPS = 100_000


@dataclass(frozen=True)
class Assumptions:
    """What is assumed about scores; the defaults were measured on the demo's report runs.

    Four projectors, two seeds, 60 clips: a run's SD was 1.3 times the references'; two projectors'
    scores of a clip were correlated at .2 and two seeds' at .5; seeds moved a run's mean by .35 of
    its SD over clips (root mean square), nearly all of it by one projector of the four, .06 in the
    median of them.

    Attributes:
        sd: SD over groups of one run's D.
        between_projectors: correlation over groups between runs of two projectors.
        between_seeds: the same between two seeds of one projector.
        seed_sd: SD of a run's mean D over seeds, that of clips left out.
    """

    sd: float
    between_projectors: float = 0.2
    between_seeds: float = 0.5
    seed_sd: float = 0.0

    def __post_init__(self) -> None:
        if not (self.sd > 0 and np.isfinite(self.sd)):
            raise StudyError(f"SD of D over clips is {self.sd}; expected a number above 0.")
        if not (self.seed_sd >= 0 and np.isfinite(self.seed_sd)):
            raise StudyError(f"SD of D over seeds is {self.seed_sd}; expected 0 or more.")
        if not 0 <= self.between_projectors <= self.between_seeds <= 1:
            raise StudyError(
                f"correlation between projectors {self.between_projectors} and between seeds "
                f"{self.between_seeds}; expected 0 ≤ projectors ≤ seeds ≤ 1."
            )


#: Measured on the demo: SD of a run over that of the references, and of seeds over that of a run.
SD_RATIO, SEED_RATIO = 1.3, 0.35


def from_references(reference_sd: float, **given: float) -> Assumptions:
    """Assumptions from the references' SD over groups; ``given`` replaces what the demo says."""
    sd = given.pop("sd", SD_RATIO * reference_sd)
    return Assumptions(**{"sd": sd, "seed_sd": SEED_RATIO * sd, **given})


@dataclass(frozen=True)
class Design:
    """A study to be: G groups, S ≥ 2 seeds, P ≥ 2 projectors and the level of its claims."""

    assumed: Assumptions
    n_groups: int
    n_seeds: int
    n_projectors: int
    alpha: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, least in (
            ("groups", self.n_groups, 2),
            ("seeds", self.n_seeds, 2),
            ("projectors", self.n_projectors, 2),
        ):
            if value < least:
                raise StudyError(f"power: {value} {name}; expected at least {least}.")
        if not 0 < self.alpha < 1:
            raise StudyError(f"power: alpha {self.alpha}; expected a number between 0 and 1.")

    @property
    def variance(self) -> float:
        """True variance of the difference of two projectors' means."""
        assumed = self.assumed
        clips = assumed.between_seeds - assumed.between_projectors
        again = (1 - assumed.between_seeds) / self.n_seeds
        seeds = assumed.seed_sd**2 / self.n_seeds
        return 2 * (assumed.sd**2 * (clips + again) / self.n_groups + seeds)

    @cached_property
    def _critical(self) -> Array:
        """The differences needed for a claim at Holm's strictest step, one a draw of V and df.

        V and df vary from study to study, hence the draws: U_clip and the residual mean squares are
        multiples of χ² on their degrees of freedom, and the seed means are normal. They go
        through the ranking's own code. The same draws serve every design with as many seeds and
        projectors, so that power grows with each.
        """
        rng = np.random.default_rng(self.seed)
        g, s, p, assumed = self.n_groups, self.n_seeds, self.n_projectors, self.assumed
        clip_df, residual_df = g - 1, (s - 1) * (g - 1)
        again = assumed.sd**2 * (1 - assumed.between_seeds)
        # Quantiles of common uniforms, so that designs differ by size and not by luck.
        clip = 2 * special.gammaincinv(clip_df / 2, rng.random(DRAWS)) / clip_df
        run_sd = np.sqrt(assumed.seed_sd**2 + again / g)
        means = run_sd * rng.standard_normal((DRAWS, p, s))
        residual = 2 * special.gammaincinv(residual_df / 2, rng.random((DRAWS, p))) / residual_df
        noise = noise_of(means, again * residual, g)
        part = self.variance - 2 * assumed.seed_sd**2 / s
        variance, df = add_seeds(part * clip, g, noise, (0, 1))
        pairs = p * (p - 1) // 2
        return np.asarray(t_quantile(1 - self.alpha / (2 * pairs), df) * np.sqrt(variance))

    def power(self, difference: float) -> float:
        """Probability of claiming a true ``difference``, in its direction.

        Holm over P(P − 1)/2 pairs never asks for more than its first step, which is taken here:
        where other pairs are claimed as well, the power is higher.
        """
        true_se = np.sqrt(self.variance)
        if true_se == 0:
            return float(abs(difference) > 0)
        return float(special.ndtr((abs(difference) - self._critical) / true_se).mean())

    def detectable(self, power: float = POWER) -> float:
        """The smallest true difference that is claimed with probability ``power``."""
        true_se = float(np.sqrt(self.variance))
        if true_se == 0:
            return 0.0
        high = 10 * true_se
        while self.power(high) < power:
            high *= 2
        return float(
            optimize.brentq(lambda d: self.power(d) - power, 0.0, high, xtol=1e-4 * true_se)
        )


def groups_needed(
    assumed: Assumptions,
    difference: float,
    n_seeds: int,
    n_projectors: int,
    alpha: float = 0.05,
    power: float = POWER,
) -> int | None:
    """Fewest groups with which ``difference`` is found; ``None`` where seeds alone forbid it.

    Raises:
        StudyError: the difference is not above 0.
    """
    if not difference > 0:
        raise StudyError(f"power: a difference of {difference}; expected a number above 0.")

    def enough(n_groups: int) -> bool:
        design = Design(assumed, n_groups, n_seeds, n_projectors, alpha)
        return design.power(difference) >= power

    high = 4
    while not enough(high):
        high *= 2
        if high > MOST_GROUPS:
            return None
    low = max(2, high // 2)
    if low == 2 and enough(2):
        return 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


@dataclass(frozen=True)
class PowerTable:
    """Answers for a grid of designs; ``None`` means: no ranks (S = 1) or out of reach."""

    seeds: tuple[int, ...]
    groups: tuple[int, ...]
    detectable: dict[tuple[int, int], float | None]
    needed: dict[int, int | None]


def power_table(
    assumed: Assumptions,
    difference: float,
    n_projectors: int,
    groups: Sequence[int],
    seeds: Sequence[int] = (1, 2, 3, 5, 8),
    alpha: float = 0.05,
) -> PowerTable:
    """Smallest detectable differences over groups × seeds, and the groups ``difference`` needs."""
    detectable: dict[tuple[int, int], Any] = {
        (g, s): Design(assumed, g, s, n_projectors, alpha).detectable() if s > 1 else None
        for g in groups
        for s in seeds
    }
    needed = {
        s: groups_needed(assumed, difference, s, n_projectors, alpha) if s > 1 else None
        for s in seeds
    }
    return PowerTable(tuple(seeds), tuple(groups), detectable, needed)
