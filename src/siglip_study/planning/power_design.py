"""Power before money: what a study of given size would find, and pass, before any training.

Model of a score, as in :mod:`siglip_study.ranking.variance`, by four figures: the SD of one run's
M over groups, its correlation between two projectors and between two seeds of one projector, and
the SD of a run's mean over seeds, of which projectors may differ. The clip part of a pair's δ_g
then has the variance 2·SD²·[(r_seeds − r_projectors) + (1 − r_seeds)/S].
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import optimize, special

from siglip_study.base.errors import StudyError
from siglip_study.ranking.outlook import POWER, PairPlan, chi2_share
from siglip_study.ranking.variance import Array, add_seeds, noise_of, t_quantile
from siglip_study.ranking.within import LEAST_SHARE, WithinSpread

#: Draws of the gate's tests; a probability is good to a third of a point.
_GATE_DRAWS = 20_000
#: Groups beyond which a study is called out of reach.
MOST_GROUPS = 100_000


@dataclass(frozen=True)
class AssumedScores:
    """What is assumed about scores; the defaults were measured on the demo's report runs.

    Four projectors, three seeds, 60 clips, in M: a run's SD was 1.3 times the references'; two
    projectors' scores of a clip were correlated at .2 and two seeds' at .4; seeds moved a run's
    mean by .2 of its SD over clips (root mean square; nearly all of it that of one projector).

    ``sd`` is of one run's M over groups, ``seed_sd`` of a run's mean M over seeds, that of clips
    left out, one for all projectors or one each; correlations are over groups, between runs of two
    projectors or seeds of one.
    """

    sd: float
    between_projectors: float = 0.2
    between_seeds: float = 0.4
    seed_sd: float | tuple[float, ...] = 0.0

    def __post_init__(self) -> None:
        if not (self.sd > 0 and np.isfinite(self.sd)):
            raise StudyError(f"SD of M over clips is {self.sd}; expected a number above 0.")
        for seed_sd in np.atleast_1d(self.seed_sd):
            if not (seed_sd >= 0 and np.isfinite(seed_sd)):
                raise StudyError(f"SD of M over seeds is {seed_sd}; expected 0 or more.")
        if not 0 <= self.between_projectors <= self.between_seeds <= 1:
            raise StudyError(
                f"correlation between projectors {self.between_projectors} and between seeds "
                f"{self.between_seeds}; expected 0 ≤ projectors ≤ seeds ≤ 1."
            )

    def seed_sds(self, projectors: int) -> tuple[float, ...]:
        """One for each projector.

        Raises:
            StudyError: there are several, and not as many as projectors.
        """
        given = tuple(float(sd) for sd in np.atleast_1d(self.seed_sd))
        if len(given) not in (1, projectors):
            raise StudyError(
                f"SD of M over seeds has {len(given)} values; expected one, or one for each of "
                f"the {projectors} projectors."
            )
        return given * projectors if len(given) == 1 else given


#: Measured on the demo: SD of a run over that of the references, and of seeds over that of a run.
SD_RATIO, SEED_RATIO = 1.3, 0.2


def from_references(reference_sd: float, **given: Any) -> AssumedScores:
    """AssumedScores from the references' SD over groups; ``given`` replaces what the demo says."""
    sd = given.pop("sd", SD_RATIO * reference_sd)
    return AssumedScores(**{"sd": sd, "seed_sd": SEED_RATIO * sd, **given})


@dataclass(frozen=True)
class Design:
    """A study to be: G groups, S ≥ 2 seeds, P ≥ 2 projectors and the level of its claims.

    ``members`` are the places of the pair that is asked about.
    """

    assumed: AssumedScores
    n_groups: int
    n_seeds: int
    n_projectors: int
    alpha: float = 0.05
    members: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        for name in ("groups", "seeds", "projectors"):
            if (value := getattr(self, f"n_{name}")) < 2:
                raise StudyError(f"power: {value} {name}; expected at least 2.")
        if not 0 < self.alpha < 1:
            raise StudyError(f"power: alpha {self.alpha}; expected a number between 0 and 1.")

    @cached_property
    def plan(self) -> PairPlan:
        """The pair's, as of a finished study."""
        assumed, projectors = self.assumed, self.n_projectors
        variance = assumed.sd**2
        return PairPlan(
            self.members,
            tuple(sd**2 for sd in assumed.seed_sds(projectors)),
            (variance * (1 - assumed.between_seeds),) * projectors,
            2 * variance * (assumed.between_seeds - assumed.between_projectors),
            self.n_groups,
            self.n_seeds,
            self.alpha,
        )

    def power(self, difference: float) -> float:
        """Probability of claiming a true ``difference``, in its direction."""
        return self.plan.power(difference)

    def detectable(self, power: float = POWER) -> float:
        """The smallest true difference that is claimed with probability ``power``."""
        true_se = float(np.sqrt(self.plan.variance))
        if true_se == 0:
            return 0.0
        high = 10 * true_se
        while self.power(high) < power:
            high *= 2
        return float(
            optimize.brentq(lambda d: self.power(d) - power, 0.0, high, xtol=1e-4 * true_se)
        )


def groups_needed(
    assumed: AssumedScores,
    difference: float,
    n_seeds: int,
    n_projectors: int,
    alpha: float = 0.05,
    members: tuple[int, int] = (0, 1),
) -> int | None:
    """Fewest groups with which ``difference`` is found; ``None`` where seeds alone forbid it.

    Raises:
        StudyError: the difference is not above 0.
    """
    if not difference > 0:
        raise StudyError(f"power: a difference of {difference}; expected a number above 0.")

    def enough(n_groups: int) -> bool:
        design = Design(assumed, n_groups, n_seeds, n_projectors, alpha, members)
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

    ``within`` is the human captions' M within category (``None``: the gate does not ask for it) and
    ``reference_sd`` the SD over groups of their M: a run's M within category varies by as much more
    than theirs as its M does. One seed is left out of the standard error, as the gate does. Asked
    about is the projector of the noisiest seeds.
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
        seed_sds = ratio * np.sort(assumed.seed_sds(self.n_projectors))[::-1]
        variance = (ratio * assumed.sd) ** 2
        kept = variance * assumed.between_seeds
        again = variance * (1 - assumed.between_seeds)
        part = (kept + again / s) / n_groups
        clip_part = part * chi2_share(n_groups - 1, rng, (_GATE_DRAWS,))
        noise = None
        if s > 1:
            shape = _GATE_DRAWS, self.n_projectors
            residual = chi2_share((s - 1) * (n_groups - 1), rng, shape)
            # What is redrawn of clips moves a run's mean as well, and its variance between seeds.
            run_sds = np.sqrt(seed_sds**2 + again / n_groups)[:, None]
            noise = noise_of(run_sds * seeds, again * residual, n_groups, "mean")
        drawn, freedom = add_seeds(clip_part, n_groups, noise, (0,))
        error = np.sqrt(part) * clips + seed_sds[0] * seeds[:, 0].mean(axis=-1)
        level = 1 - self.alpha / self.n_projectors
        return error, np.asarray(t_quantile(level, freedom) * np.sqrt(drawn))

    def passing(self, mean: float, within: float | None = None) -> float:
        """Probability that a projector of true M ``mean``, and ``within`` category, is grounded.

        By Holm's strictest step: where others are grounded as well, it passes more often.
        """
        passed = np.ones(_GATE_DRAWS, dtype=bool)
        for truth, (error, critical) in zip((mean, within), self._tests, strict=False):
            passed &= (mean if truth is None else truth) + error > critical
        return float(passed.mean())


def asked_within(spread: WithinSpread | None, alpha: float, wanted: bool = True) -> bool:
    """Whether the gate will ask for M within category, as these references have it."""
    if spread is None or not wanted or spread.n_groups < LEAST_SHARE * spread.n_total:
        return False
    t = spread.mean / (spread.sd / np.sqrt(spread.n_groups)) if spread.sd > 0 else np.inf
    return bool(special.stdtr(spread.n_groups - 1, -t) <= alpha)
