"""Studies whose truth is known, and how often the procedure is wrong in them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from siglip_study.ranking.pairs import POWER, pair_arrays
from siglip_study.ranking.variance import (
    Array,
    Method,
    contrast_variance,
    holm,
    seed_noise,
    t_quantile,
    two_sided_p,
)

ALPHA = 0.05
#: Resamples of the bootstrap that the procedure is compared with.
BOOTSTRAPS = 200


@dataclass(frozen=True)
class World:
    """One kind of study, all projectors equally good.

    A score is (clip) + (projector × clip) + (seed) + (seed × clip). The clip part is common to all
    projectors; the second and fourth together have variance 1, so that the *clip SE* of one run's
    mean is 1/√G.

    Attributes:
        n_clips: clips of the report split.
        n_projectors: P.
        n_seeds: S.
        seed_sd: SD of the seed part, as a multiple of the clip SE.
        unequal: projector 0 has this many times the others' seed SD.
        interaction: share of the unit variance that is redrawn with each seed.
        group_size: clips a source video on average (sizes vary from 1 to 2·size − 1); clips of one
            video are correlated at .5.
        hubs: 5 % of clips vary five times as much as the rest, for all projectors.
    """

    n_clips: int = 97
    n_projectors: int = 4
    n_seeds: int = 3
    seed_sd: float = 1.0
    unequal: float = 1.0
    interaction: float = 0.5
    group_size: int = 1
    hubs: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a method fared, all shares of worlds.

    Attributes:
        false_order: any two equal projectors called different.
        false_with_winner: the same among the losers, or the winner called worse, where projector 0
            is better by ``detectable``.
        coverage: intervals of differences that hold the truth.
        mean_coverage: intervals of means that hold the truth.
        power: projector 0 called better than projector 1 where it is so by ``detectable``.
        detectable: the true difference that should be found with power .8, in units of a single
            clip's SD.
    """

    false_order: float
    false_with_winner: float
    coverage: float
    mean_coverage: float
    power: float
    detectable: float


def _group_sizes(world: World) -> Array:
    if world.group_size == 1:
        return np.ones(world.n_clips)
    cycle = np.arange(1, 2 * world.group_size)
    sizes: list[int] = []
    while sum(sizes) < world.n_clips:
        sizes.append(min(int(cycle[len(sizes) % len(cycle)]), world.n_clips - sum(sizes)))
    return np.array(sizes, dtype=float)


def draw(world: World, n: int, rng: np.random.Generator) -> tuple[Array, float]:
    """Draw ``n`` studies → scores ``[n, P, S, G]`` and the true variance of a pair's difference.

    Groups are drawn at once: the mean of m clips correlated at .5 has variance .5 + .5/m. The pair
    is (0, 1), the noisier projector and another.
    """
    group_variance = 0.5 + 0.5 / _group_sizes(world)
    n_groups, p, s = len(group_variance), world.n_projectors, world.n_seeds
    scale = np.broadcast_to(np.sqrt(group_variance), (n, n_groups)).copy()
    if world.hubs:
        hub = rng.random((n, n_groups)) < 0.05
        scale *= np.where(hub, 5.0, 1.0) / np.sqrt(0.95 + 0.05 * 25)
    clip_se = float(np.sqrt(group_variance.mean() / n_groups))
    seed_sd = np.full(p, world.seed_sd * clip_se)
    seed_sd[0] *= world.unequal
    clip = rng.standard_normal((n, 1, 1, n_groups))
    own = rng.standard_normal((n, p, 1, n_groups)) * np.sqrt(1 - world.interaction)
    again = rng.standard_normal((n, p, s, n_groups)) * np.sqrt(world.interaction)
    seeds = rng.standard_normal((n, p, s, 1)) * seed_sd[:, None, None]
    y = (clip + own + again) * scale[:, None, None, :] + seeds
    clip_share = (1 - world.interaction) + world.interaction / s
    variance = 2 * clip_se**2 * clip_share + (seed_sd[0] ** 2 + seed_sd[1] ** 2) / s
    return y, float(variance)


def _bootstrap(y: Array, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """What is commonly done: one seed, and the standard error from resampled clips."""
    one = y[:, :, 0, :]  # [n, P, G]
    n_groups = one.shape[-1]
    weights = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), BOOTSTRAPS) / n_groups
    difference, variance = [], []
    for a, b in combinations(range(one.shape[1]), 2):
        delta = one[:, a] - one[:, b]
        difference.append(delta.mean(axis=-1))
        variance.append((delta @ weights.T).var(axis=-1, ddof=1))
    d = np.stack(difference, axis=-1)
    return d, np.stack(variance, axis=-1), np.full(d.shape, 1e9)  # the normal distribution


def _called(d: Array, v: Array, df: Array) -> Array:
    """Which pairs are called different, Holm over all pairs."""
    return holm(two_sided_p(d, v, df, float(np.abs(d).max()))) <= ALPHA


def evaluate(
    world: World, n_worlds: int, seed: int, method: Method | None = "corrected"
) -> Outcome:
    """Run the procedure on ``n_worlds`` studies; ``method`` ``None`` is the one-seed bootstrap."""
    rng = np.random.default_rng(seed)
    p, m = world.n_projectors, world.n_projectors * (world.n_projectors - 1) // 2
    width = p * world.n_seeds * world.n_clips
    size = max(1, min(n_worlds, 4_000_000 // width))  # bounds memory at some 100 MB
    sums = np.zeros(6)
    for start in range(0, n_worlds, size):
        y, true_variance = draw(world, min(size, n_worlds - start), rng)
        if method is None:
            d, v, df = _bootstrap(y, rng)
        else:
            tests = pair_arrays(y, seed_noise(y, method))
            d, v, df = tests.difference, tests.variance, tests.df
        half = t_quantile(1 - ALPHA / 2, df) * np.sqrt(v)
        strict = t_quantile(1 - ALPHA / (2 * m), df).mean()
        detectable = float(strict + t_quantile(POWER, df).mean()) * np.sqrt(true_variance)
        # A better projector 0 moves its p − 1 differences, the first ones, and no variance.
        won = d + detectable * (np.arange(m) < p - 1)
        called = _called(won, v, df)
        wrong = called[:, p - 1 :].any(axis=1) | (called & (won < 0))[:, : p - 1].any(axis=1)
        sums += len(y) * np.array(
            [
                _called(d, v, df).any(axis=1).mean(),
                wrong.mean(),
                (np.abs(d) <= half).mean(),
                _mean_coverage(y, method),
                (called & (won > 0))[:, 0].mean(),
                detectable,
            ]
        )
    return Outcome(*(float(value) for value in sums / n_worlds))


def _mean_coverage(y: Array, method: Method | None) -> float:
    noise = None if method is None else seed_noise(y, method)
    scores = y[:, :, 0, :] if method is None else y.mean(axis=2)
    held = []
    for a in range(scores.shape[1]):
        v, df = contrast_variance(scores[:, a], noise, (a,))
        held.append(
            np.abs(scores[:, a].mean(axis=-1)) <= t_quantile(1 - ALPHA / 2, df) * np.sqrt(v)
        )
    return float(np.mean(held))
