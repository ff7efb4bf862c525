"""How probable it is that a projector passes the gate, before anything is trained.

Both tests of *grounded* are played out: their means and standard errors are drawn as the model of
:mod:`siglip_study.planning.power_design` has them, and go through the gate's own variance and
degrees of freedom.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special

from siglip_study.planning.power_design import Assumptions
from siglip_study.ranking.variance import Array, add_seeds, noise_of, t_quantile
from siglip_study.ranking.within import LEAST_SHARE, WithinSpread

#: Draws of both tests; a probability is good to a third of a point.
DRAWS = 20_000


@dataclass(frozen=True)
class GateDesign:
    """A study to be: G groups, S seeds, P projectors, and what both tests vary by.

    Attributes:
        assumed: of D, as for the differences.
        within: the human captions' D within category; ``None``: the gate does not ask for it.
        reference_sd: SD over groups of their D; a run's D within category varies by as much more
            than theirs as its D does, and a seed moves both alike.
        n_groups: source videos.
        n_seeds: S; one leaves the seeds out of the standard error, as the gate does.
        n_projectors: P.
        alpha: level of the gate.
        seed: of the draws.
    """

    assumed: Assumptions
    within: WithinSpread | None
    reference_sd: float
    n_groups: int
    n_seeds: int
    n_projectors: int
    alpha: float = 0.05
    seed: int = 0

    @cached_property
    def _tests(self) -> tuple[tuple[Array, Array], ...]:
        """Error and critical value of each test, ``[DRAWS]``: passed if mean + error > critical.

        Both share what seeds do. Errors over clips are correlated as the human captions' are.
        """
        rng = np.random.default_rng(self.seed)
        seeds = rng.standard_normal((DRAWS, self.n_projectors, self.n_seeds))
        clips = rng.standard_normal((2, DRAWS))
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
        s, df, assumed = self.n_seeds, n_groups - 1, self.assumed
        seed_sd = ratio * assumed.seed_sd
        kept, again = (
            (ratio * assumed.sd) ** 2 * share
            for share in (assumed.between_seeds, 1 - assumed.between_seeds)
        )
        part = (kept + again / s) / n_groups
        clip_part = part * 2 * special.gammaincinv(df / 2, rng.random(DRAWS)) / df
        noise = None
        if s > 1:
            residual_df = (s - 1) * df
            uniform = rng.random((DRAWS, self.n_projectors))
            residual = 2 * special.gammaincinv(residual_df / 2, uniform) / residual_df
            # What is redrawn of clips moves a run's mean as well, and its variance between seeds.
            run_sd = np.sqrt(seed_sd**2 + again / n_groups)
            noise = noise_of(run_sd * seeds, again * residual, n_groups)
        variance, freedom = add_seeds(clip_part, n_groups, noise, (0,))
        error = np.sqrt(part) * clips + seed_sd * seeds[:, 0].mean(axis=-1)
        level = 1 - self.alpha / self.n_projectors
        return error, np.asarray(t_quantile(level, freedom) * np.sqrt(variance))

    def passing(self, mean: float, within: float | None = None) -> float:
        """Probability that a projector of true D ``mean``, and ``within`` category, is grounded.

        By Holm's strictest step: where others are grounded as well, it passes more often.
        """
        passed = np.ones(DRAWS, dtype=bool)
        for truth, (error, critical) in zip((mean, within), self._tests, strict=False):
            passed &= (mean if truth is None else truth) + error > critical
        return float(passed.mean())


def asked_within(spread: WithinSpread | None, alpha: float, wanted: bool = True) -> bool:
    """Whether the gate will ask for D within category, as these references have it."""
    if spread is None or not wanted or spread.n_groups < LEAST_SHARE * spread.n_total:
        return False
    t = spread.mean / (spread.sd / np.sqrt(spread.n_groups)) if spread.sd > 0 else np.inf
    return bool(special.stdtr(spread.n_groups - 1, -t) <= alpha)
