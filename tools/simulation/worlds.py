"""Studies whose truth is known: what they look like, and drawing many of them at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from siglip_study.ranking.variance import Array

#: Elements of a batch of studies, which bounds memory at some 150 MB.
BATCH = 8_000_000


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
        heavy: every projector × clip is a draw of Student's t with 3 degrees of freedom, scaled to
            the same variance: rare clips on which one projector alone is far off.
    """

    n_clips: int = 97
    n_projectors: int = 4
    n_seeds: int = 3
    seed_sd: float = 1.0
    unequal: float = 1.0
    interaction: float = 0.5
    group_size: int = 1
    hubs: bool = False
    heavy: bool = False

    @property
    def group_variance(self) -> Array:
        """Variance of each group's score, ``[G]``: .5 + .5/m for m clips correlated at .5."""
        if self.group_size == 1:
            return np.ones(self.n_clips)
        cycle = np.arange(1, 2 * self.group_size)
        sizes: list[int] = []
        while sum(sizes) < self.n_clips:
            sizes.append(min(int(cycle[len(sizes) % len(cycle)]), self.n_clips - sum(sizes)))
        return 0.5 + 0.5 / np.array(sizes, dtype=float)

    @property
    def clip_se(self) -> float:
        """Standard error of one run's mean that the clips cause."""
        variance = self.group_variance
        return float(np.sqrt(variance.mean() / len(variance)))

    @property
    def seed_sds(self) -> Array:
        """SD of the seed part of every projector, ``[P]``."""
        sds = np.full(self.n_projectors, self.seed_sd * self.clip_se)
        sds[0] *= self.unequal
        return sds

    def pair_variance(self) -> float:
        """True variance of the difference of projectors 0 and 1."""
        clip_share = (1 - self.interaction) + self.interaction / self.n_seeds
        return float(
            2 * self.clip_se**2 * clip_share + (self.seed_sds[:2] ** 2).sum() / self.n_seeds
        )


@dataclass(frozen=True)
class Draw:
    """Studies without their seed part, which shifts all clips of a run alike.

    Attributes:
        fixed: clip and projector × clip parts, ``[N, P, G]``.
        again: what every seed redraws, ``[N, P, S, G]``.
        seeds: standard normal seed parts, ``[N, P, S]``, to be scaled by a world's ``seed_sds``.
    """

    fixed: Array
    again: Array
    seeds: Array

    def scores(self, world: World) -> Array:
        """The scores ``[N, P, S, G]`` of ``world``, with the first ``world.n_seeds`` seeds."""
        again = self.again[:, :, : world.n_seeds]
        shift = self.seeds[:, :, : world.n_seeds, None] * world.seed_sds[:, None, None]
        return self.fixed[:, :, None] + again + shift


def draws(world: World, n_worlds: int, seed: int) -> Iterator[Draw]:
    """Draw ``n_worlds`` studies in batches; ``seed_sd`` and ``unequal`` play no part yet."""
    rng = np.random.default_rng(seed)
    width = world.n_projectors * (world.n_seeds + 2) * len(world.group_variance)
    size = max(1, BATCH // width)
    for start in range(0, n_worlds, size):
        yield _draw(world, min(size, n_worlds - start), rng)


def _draw(world: World, n: int, rng: np.random.Generator) -> Draw:
    p, s = world.n_projectors, world.n_seeds
    g = len(world.group_variance)

    def normal(*shape: int) -> Array:
        return rng.standard_normal((n, *shape), dtype=np.float32)

    scale = np.broadcast_to(np.sqrt(world.group_variance), (n, 1, g)).astype(np.float32)
    if world.hubs:
        hub = rng.random((n, 1, g)) < 0.05
        scale *= np.where(hub, 5.0, 1.0) / np.sqrt(0.95 + 0.05 * 25)
    clip = normal(1, g) * scale
    if world.heavy:
        # A normal over the root of a chi-square is Student's t; its variance with 3 df is 3.
        scale = scale * np.sqrt(1 / rng.chisquare(3, (n, p, g))).astype(np.float32)
    fixed = normal(p, g)
    fixed *= np.float32(np.sqrt(1 - world.interaction))
    fixed *= scale
    fixed += clip
    again = normal(p, s, g)
    again *= (scale * np.float32(np.sqrt(world.interaction)))[:, :, None]
    return Draw(fixed, again, rng.standard_normal((n, p, s)))
