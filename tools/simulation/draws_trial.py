"""Permuted captions in simulated worlds: a few draws, each with a mean D of its own, judged alone.

Over draws D is 0 on average. A draw's mean is off by what its permutation happens to teach and by
its clips; part of the clips' noise may be common to all draws. A draw's clip SE is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from siglip_study.ranking.gate import GateThresholds
from siglip_study.ranking.variance import Array, one_sided_p, seed_noise, t_quantile, variance_of
from tools.simulation.trial import ALPHA

#: Source videos, and the references' mean D: those of the demo.
N_GROUPS = 60
HUMAN = 35.0
DRAWS = (2, 3, 5, 8)
#: SD between draws; the demo's is 2.
SPREADS = (0.0, 1.0, 2.0, 3.0)
#: Share of the clips' noise that is common to all draws; the demo's is about 0.
SHARED = (0.0, 0.5, 1.0)
#: Drawn for each world asked for: these are cheap, and a share of 5 % is to be seen within .2.
TIMES = 10
_BATCH = 2000


@dataclass(frozen=True)
class DrawsOutcome:
    """Shares of studies in which the control, which sees nothing, is called …

    Attributes:
        grounded: grounded, which is false.
        pooled: grounded, were it judged as a study's projectors are.
        ungrounded: ungrounded, as it should be.
    """

    grounded: float
    pooled: float
    ungrounded: float


def draw(n: int, n_draws: int, spread: float, shared: float, rng: np.random.Generator) -> Array:
    """D of the control in ``n`` studies, ``[n, S, G]``."""
    means = spread * rng.standard_normal((n, n_draws, 1))
    common = np.sqrt(shared) * rng.standard_normal((n, 1, N_GROUPS))
    own = np.sqrt(1 - shared) * rng.standard_normal((n, n_draws, N_GROUPS))
    return np.asarray(means + np.sqrt(N_GROUPS) * (common + own))


def play(n_draws: int, spread: float, shared: float, n_worlds: int, seed: int) -> DrawsOutcome:
    """Judge the control of ``n_worlds`` studies of one kind."""
    rng = np.random.default_rng(seed)
    counts = np.zeros(3)
    for start in range(0, n_worlds, _BATCH):
        table = draw(min(_BATCH, n_worlds - start), n_draws, spread, shared, rng)
        counts += judged(table).sum(axis=1)
    return DrawsOutcome(*(float(x) for x in counts / n_worlds))


def judged(table: Array) -> Array:
    """``[3, n]``: grounded by itself, grounded as a projector would be, ungrounded by itself."""
    noise, means = seed_noise(table[:, None]), table.mean(axis=1)
    mean, scale = means.mean(axis=-1), float(np.abs(means).max())
    pooled = one_sided_p(mean, *variance_of(means, noise, 0), scale)
    variance, df = variance_of(means, noise, 0, own_runs=True)
    alone = one_sided_p(mean, variance, df, scale)
    upper = mean + t_quantile(1 - ALPHA, df) * np.sqrt(variance)
    ceiling = GateThresholds().ungrounded_ratio * HUMAN
    return np.stack([alone <= ALPHA, pooled <= ALPHA, (alone > ALPHA) & (upper < ceiling)])


def simulate_draws(
    n_worlds: int, seed: int, quick: bool = False
) -> list[tuple[int, float, list[DrawsOutcome]]]:
    """``(draws, SD between draws, one outcome for each of SHARED)``."""
    return [
        (n, spread, [play(n, spread, shared, n_worlds * TIMES, seed) for shared in SHARED])
        for n in (DRAWS[2:3] if quick else DRAWS)
        for spread in SPREADS
    ]


def summary(rows: Sequence[tuple[int, float, list[DrawsOutcome]]]) -> list[str]:
    """Markdown table: one line a number of draws and SD between them, shares in %."""
    shares = ", ".join(f"{share:g}" for share in SHARED)
    lines = [
        "| draws | SD between draws | falsely grounded, worst % "
        f"| … by the projectors' rule, worst % | ungrounded, with {shares} of the noise shared % |",
        "|---|---|---|---|---|",
    ]
    for n, spread, outcomes in rows:
        worst = [100 * max(o.grounded for o in outcomes), 100 * max(o.pooled for o in outcomes)]
        told = ", ".join(f"{100 * o.ungrounded:.0f}" for o in outcomes)
        lines.append(f"| {n} | {spread:g} | {worst[0]:.1f} | {worst[1]:.1f} | {told} |")
    return lines
