"""Power before money: what a study of given size would find, and pass, before any training.

Model of a score, as in :mod:`siglip_study.ranking.variance`, by four figures: the SD of one run's
D over groups, its correlation between two projectors and between two seeds of one projector, and
the SD of a run's mean over seeds. The clip part of a pair's δ_g then has the variance
2·SD²·[(r_seeds − r_projectors) + (1 − r_seeds)/S].
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import optimize, special

from siglip_study.base.errors import StudyError
from siglip_study.ranking.outlook import POWER
from siglip_study.ranking.variance import Array, add_seeds, noise_of, t_quantile
from siglip_study.ranking.within import LEAST_SHARE, WithinSpread

#: Draws of the variance estimates; the power averaged over them is good to half a point.
_DRAWS = 4000
#: Draws of the gate's tests; a probability is good to a third of a point.
_GATE_DRAWS = 20_000
#: Groups beyond which a study is called out of reach.
MOST_GROUPS = 100_000


@dataclass(frozen=True)
class AssumedScores:
    """What is assumed about scores; the defaults were measured on the demo's report runs.

    Four projectors, two seeds, 60 clips: a run's SD was 1.3 times the references'; two projectors'
    scores of a clip were correlated at .2 and two seeds' at .5; seeds moved a run's mean by .35 of
    its SD over clips (root mean square).

    ``sd`` is of one run's D over groups, ``seed_sd`` of a run's mean D over seeds, that of clips
    left out; correlations are over groups, between runs of two projectors or seeds of one.
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


def _chi2_share(df: int, rng: np.random.Generator, shape: int | tuple[int, int]) -> Array:
    """Draws of χ² over its degrees of freedom.

    Quantiles of common uniforms, so that designs differ by size and not by luck.
    """
    return np.asarray(2 * special.gammaincinv(df / 2, rng.random(shape)) / df)


#: Measured on the demo: SD of a run over that of the references, and of seeds over that of a run.
SD_RATIO, SEED_RATIO = 1.3, 0.35


def from_references(reference_sd: float, **given: float) -> AssumedScores:
    """AssumedScores from the references' SD over groups; ``given`` replaces what the demo says."""
    sd = given.pop("sd", SD_RATIO * reference_sd)
    return AssumedScores(**{"sd": sd, "seed_sd": SEED_RATIO * sd, **given})


@dataclass(frozen=True)
class Design:
    """A study to be: G groups, S ≥ 2 seeds, P ≥ 2 projectors and the level of its claims."""

    assumed: AssumedScores
    n_groups: int
    n_seeds: int
    n_projectors: int
    alpha: float = 0.05

    def __post_init__(self) -> None:
        for name in ("groups", "seeds", "projectors"):
            if (value := getattr(self, f"n_{name}")) < 2:
                raise StudyError(f"power: {value} {name}; expected at least 2.")
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

        V and df vary from study to study: U_clip and the residual mean squares are multiples of χ²
        on their degrees of freedom, and the seed means are normal. They go through the ranking's
        own code. The same draws serve every design with as many seeds and projectors, so that power
        grows with each.
        """
        rng = np.random.default_rng(0)
        g, s, p, assumed = self.n_groups, self.n_seeds, self.n_projectors, self.assumed
        again = assumed.sd**2 * (1 - assumed.between_seeds)
        clip = _chi2_share(g - 1, rng, _DRAWS)
        run_sd = np.sqrt(assumed.seed_sd**2 + again / g)
        means = run_sd * rng.standard_normal((_DRAWS, p, s))
        residual = _chi2_share((s - 1) * (g - 1), rng, (_DRAWS, p))
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
    assumed: AssumedScores, difference: float, n_seeds: int, n_projectors: int, alpha: float = 0.05
) -> int | None:
    """Fewest groups with which ``difference`` is found; ``None`` where seeds alone forbid it.

    Raises:
        StudyError: the difference is not above 0.
    """
    if not difference > 0:
        raise StudyError(f"power: a difference of {difference}; expected a number above 0.")

    def enough(n_groups: int) -> bool:
        design = Design(assumed, n_groups, n_seeds, n_projectors, alpha)
        return design.power(difference) >= POWER

    high = 4
    while not enough(high):
        high *= 2
        if high > MOST_GROUPS:
            return None
    return bisect_left(range(high), True, lo=max(2, high // 2), key=enough)


# ---- How probable it is that a projector passes the gate: both tests of *grounded* are played out,
# through the gate's own variance and degrees of freedom.


@dataclass(frozen=True)
class GateDesign:
    """A study to be: G groups, S seeds, P projectors, and what both tests vary by.

    ``within`` is the human captions' D within category (``None``: the gate does not ask for it) and
    ``reference_sd`` the SD over groups of their D: a run's D within category varies by as much more
    than theirs as its D does. One seed is left out of the standard error, as the gate does.
    """

    assumed: AssumedScores
    within: WithinSpread | None
    reference_sd: float
    n_groups: int
    n_seeds: int
    n_projectors: int
    alpha: float = 0.05

    @cached_property
    def _tests(self) -> tuple[tuple[Array, Array], ...]:
        """Error and critical value of each test, ``[draws]``: passed if mean + error > critical.

        Both share what seeds do. Errors over clips are correlated as the human captions' are.
        """
        rng = np.random.default_rng(0)
        seeds = rng.standard_normal((_GATE_DRAWS, self.n_projectors, self.n_seeds))
        clips = rng.standard_normal((2, _GATE_DRAWS))
        first = self._test(1.0, self.n_groups, seeds, clips[0], rng)
        if self.within is None:
            return (first,)
        r, share = self.within.correlation, self.within.n_groups / self.within.n_total
        mixed = r * clips[0] + np.sqrt(max(0.0, 1 - r**2)) * clips[1]
        n_groups = max(2, round(share * self.n_groups))
        return first, self._test(self.within.sd / self.reference_sd, n_groups, seeds, mixed, rng)

    def _test(
        self, ratio: float, n_groups: int, seeds: Array, clips: Array, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """One test, of a score whose SDs are ``ratio`` of those assumed of D."""
        s, assumed = self.n_seeds, self.assumed
        seed_sd, variance = ratio * assumed.seed_sd, (ratio * assumed.sd) ** 2
        kept = variance * assumed.between_seeds
        again = variance * (1 - assumed.between_seeds)
        part = (kept + again / s) / n_groups
        clip_part = part * _chi2_share(n_groups - 1, rng, _GATE_DRAWS)
        noise = None
        if s > 1:
            shape = _GATE_DRAWS, self.n_projectors
            residual = _chi2_share((s - 1) * (n_groups - 1), rng, shape)
            # What is redrawn of clips moves a run's mean as well, and its variance between seeds.
            run_sd = np.sqrt(seed_sd**2 + again / n_groups)
            noise = noise_of(run_sd * seeds, again * residual, n_groups, "mean")
        drawn, freedom = add_seeds(clip_part, n_groups, noise, (0,))
        error = np.sqrt(part) * clips + seed_sd * seeds[:, 0].mean(axis=-1)
        level = 1 - self.alpha / self.n_projectors
        return error, np.asarray(t_quantile(level, freedom) * np.sqrt(drawn))

    def passing(self, mean: float, within: float | None = None) -> float:
        """Probability that a projector of true D ``mean``, and ``within`` category, is grounded.

        By Holm's strictest step: where others are grounded as well, it passes more often.
        """
        passed = np.ones(_GATE_DRAWS, dtype=bool)
        for truth, (error, critical) in zip((mean, within), self._tests, strict=False):
            passed &= (mean if truth is None else truth) + error > critical
        return float(passed.mean())


def asked_within(spread: WithinSpread | None, alpha: float, wanted: bool = True) -> bool:
    """Whether the gate will ask for D within category, as these references have it."""
    if spread is None or not wanted or spread.n_groups < LEAST_SHARE * spread.n_total:
        return False
    t = spread.mean / (spread.sd / np.sqrt(spread.n_groups)) if spread.sd > 0 else np.inf
    return bool(special.stdtr(spread.n_groups - 1, -t) <= alpha)
