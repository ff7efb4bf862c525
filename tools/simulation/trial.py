"""How often the ranking procedure is wrong in worlds whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from siglip_study.ranking.outlook import POWER
from siglip_study.ranking.pairs import PairArrays, joint_intervals
from siglip_study.ranking.variance import (
    Array,
    Method,
    SeedNoise,
    add_seeds,
    holm,
    noise_of,
    one_sided_p,
    t_quantile,
    two_sided_p,
)
from tools.simulation.worlds import Draw, World, draws

ALPHA = 0.05
#: True D of every projector where the gate is tried, in standard errors of its mean: about half of
#: the projectors pass, which leaves the gate most room to pick lucky ones.
GATE_LEVEL = 2.0
#: A method, or what is commonly done: one seed, its clips resampled.
Tried = Method | None


@dataclass(frozen=True)
class Outcome:
    """How a method fared, all shares of worlds.

    Attributes:
        false_order: any two equal projectors called different, or a worse one called better.
        false_gated: the same among projectors that pass the gate, all equally and weakly grounded
            (none can with one seed's bootstrap: 0).
        false_with_winner: the same among the losers, or the winner called worse, where the last
            projector is better by ``detectable``.
        coverage: intervals of differences that hold the truth.
        joint_coverage: studies all of whose joint intervals do.
        first_coverage: as ``coverage``, of projectors 0 (the noisier one) and 1 alone.
        mean_coverage: intervals of means that hold the truth.
        passed: projectors that pass the gate at that level.
        power: the last projector called better than the one before it where it is so by
            ``detectable``.
        detectable: the true difference that should be found with power .8, in units of a single
            clip's SD.
    """

    false_order: float
    false_gated: float
    false_with_winner: float
    coverage: float
    joint_coverage: float
    first_coverage: float
    mean_coverage: float
    passed: float
    power: float
    detectable: float


@dataclass(frozen=True)
class Moments:
    """What the tests need of studies without their seed part; see :class:`Draw`.

    ``seed_means`` ``[N, P, S]``, ``mean_square`` ``[N, P]`` (residual of the seed × group table),
    ``means`` ``[N, P]``, and U_clip of each projector ``[N, P]`` and of each pair ``[N, pairs]``.
    """

    seed_means: Array
    mean_square: Array
    mean_clip: Array
    pair_clip: Array
    n_groups: int


def moments(draw: Draw, n_seeds: int) -> Moments:
    """Reduce studies to what the tests need; the seed part changes only the seed means."""
    again = draw.again[:, :, :n_seeds]
    g = again.shape[-1]
    averaged = again.mean(axis=2)
    own_means = again.mean(axis=-1, dtype=float)  # [N, P, S]
    squares = np.einsum("npsg,npsg->np", again, again)
    squares = squares - g * np.square(own_means).sum(axis=-1)
    squares -= n_seeds * np.square(averaged).sum(axis=-1)
    squares += n_seeds * g * np.square(own_means.mean(axis=-1))
    by_group = draw.fixed + averaged
    pairs = [
        (by_group[:, a] - by_group[:, b]).var(axis=-1, ddof=1)
        for a, b in combinations(range(by_group.shape[1]), 2)
    ]
    return Moments(
        seed_means=draw.fixed.mean(axis=-1, dtype=float)[..., None] + own_means,
        mean_square=squares / max(1, (n_seeds - 1) * (g - 1)),
        mean_clip=by_group.var(axis=-1, ddof=1).astype(float) / g,
        pair_clip=np.stack(pairs, axis=-1).astype(float) / g,
        n_groups=g,
    )


def judge(
    seen: Moments, shift: Array, world: World, method: Tried, telling: Array | None = None
) -> Array:
    """Test studies whose runs are shifted by ``shift`` ``[N, P, S]``: sums of outcomes over N.

    ``telling`` ``[N, P]``: projectors of which no run collapsed.
    """
    p = world.n_projectors
    pairs = list(combinations(range(p), 2))
    seed_means = seen.seed_means + shift
    noise = None
    if method is not None and world.n_seeds > 1:
        noise = noise_of(seed_means, seen.mean_square, seen.n_groups, method)
        if method == "floor":
            noise = replace(noise, telling=telling)
    means, true = seed_means.mean(axis=-1), world.true_means
    first, second = (np.array(column) for column in zip(*pairs, strict=True))
    d, true_d = means[:, first] - means[:, second], true[first] - true[second]
    v, df = _variances(seen.pair_clip, seen.n_groups, noise, pairs, method)
    mean_v, mean_df = _variances(
        seen.mean_clip, seen.n_groups, noise, [(a,) for a in range(p)], method
    )
    scale = float(np.abs(d).max())
    plain = two_sided_p(d, v, df, scale)
    called = holm(plain) <= ALPHA
    false = called & (np.sign(d) != np.sign(true_d))

    # A better last projector moves its p − 1 differences, and no variance.
    last = second == p - 1
    strict = t_quantile(1 - ALPHA / (2 * len(pairs)), df[:, -1]).mean()
    found = float(strict + t_quantile(POWER, df[:, -1]).mean()) * np.sqrt(world.pair_variance())
    won = d - found * last
    with_winner = holm(two_sided_p(won, v, df, scale)) <= ALPHA
    false_with = with_winner & (np.sign(won) != np.sign(true_d - found * last))

    gate_v, gate_df = mean_v, mean_df
    if noise is not None:  # the gate charges the mean, whatever the tests of pairs do
        single = [(a,) for a in range(p)]
        gate_v, gate_df = _variances(
            seen.mean_clip, seen.n_groups, replace(noise, method="mean"), single, method
        )
    level = GATE_LEVEL * np.sqrt(gate_v.mean())
    passes = holm(one_sided_p(means + level, gate_v, gate_df, scale)) <= ALPHA
    both = passes[:, first] & passes[:, second]
    # An interval holds the truth where its own test does not reject it.
    covered = two_sided_p(d - true_d, v, df, scale) > ALPHA
    mean_covered = two_sided_p(means - true, mean_v, mean_df, scale) > ALPHA
    low, high = joint_intervals(PairArrays(d, v, df, plain, holm(plain)), ALPHA)
    rows = (
        false.any(axis=1),
        (false & both).any(axis=1),
        false_with.any(axis=1),
        covered.mean(axis=1),
        ((low <= true_d) & (true_d <= high)).all(axis=1),
        covered[:, 0],
        mean_covered.mean(axis=1),
        passes.mean(axis=1),
        with_winner[:, -1] & (won[:, -1] < 0),
        np.full(len(d), found),
    )
    return np.array([np.sum(row, dtype=float) for row in rows])


def _variances(
    clip_part: Array,
    n_groups: int,
    noise: SeedNoise | None,
    members: Sequence[tuple[int, ...]],
    method: Tried,
) -> tuple[Array, Array]:
    if method is None:
        # The limit of ever more resamples: the population variance, and the normal distribution.
        return clip_part * (n_groups - 1) / n_groups, np.full(clip_part.shape, 1e9)
    parts = [add_seeds(clip_part[:, i], n_groups, noise, m) for i, m in enumerate(members)]
    variance, df = (np.stack(column, axis=-1) for column in zip(*parts, strict=True))
    return variance, df


def evaluate_all(
    worlds: Sequence[World], n_worlds: int, seed: int, methods: Sequence[Tried] = ("floor",)
) -> dict[tuple[World, Tried], Outcome]:
    """Run methods on ``n_worlds`` studies of worlds that differ only in their seeds.

    The clips are drawn once for all of them, and fewer seeds are the first of the most. Worlds of
    one seed know no seed noise; ``method`` ``None`` is the bootstrap over clips and takes those.

    Raises:
        ValueError: the worlds differ in more than ``n_seeds``, ``seed_sd`` and ``noise``.
    """
    most = max(world.n_seeds for world in worlds)
    common = {replace(world, n_seeds=most, seed_sd=0.0, noise="equal") for world in worlds}
    if len(common) != 1:
        raise ValueError(f"{len(common)} kinds of clips; expected worlds that share theirs.")
    sums: dict[tuple[World, Tried], Array] = {}
    for draw in draws(common.pop(), n_worlds, seed):
        for n_seeds in sorted({world.n_seeds for world in worlds}):
            seen = moments(draw, n_seeds)
            for world in worlds:
                if world.n_seeds != n_seeds:
                    continue
                shift, telling = world.shifts(draw), world.sound(draw)
                for method in methods:
                    if method is None and n_seeds > 1:
                        continue
                    outcome = judge(seen, shift, world, method, telling)
                    sums[world, method] = sums.get((world, method), 0.0) + outcome
    return {key: Outcome(*(float(x) for x in total / n_worlds)) for key, total in sums.items()}


def evaluate(world: World, n_worlds: int, seed: int, method: Tried = "floor") -> Outcome:
    """Run the procedure on ``n_worlds`` studies; ``method`` ``None`` is the one-seed bootstrap."""
    return evaluate_all([world], n_worlds, seed, [method])[world, method]
