"""Studies whose truth is known: what they look like, and drawing many of them at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from siglip_study.ranking.variance import Array

#: Elements of a batch of studies, which bounds memory at some 150 MB.
BATCH = 8_000_000


#: What seeds do to the projectors, in multiples of ``seed_sd``. *One noisy*, *half noisy*: four
#: times as much to the first one or half; *ladder*: from once to four times; *mixed*: log-normal
#: (σ .7), drawn for each study; *skewed*: exponential; *heavy*: Student's t with 3 degrees of
#: freedom; *a tenth*, *a third collapse*: with that probability a run falls by ten clip SE besides;
#: *one collapses*: a third of the first projector's runs do; *sound one*: that projector has no
#: seed noise at all.
Noise = Literal[
    "equal",
    "one noisy",
    "half noisy",
    "ladder",
    "mixed",
    "sound one",
    "skewed",
    "heavy",
    "a tenth collapse",
    "a third collapse",
    "one collapses",
]
#: By how many clip SE a run falls that collapses, and how probably.
FALL = 10.0
_COLLAPSE: dict[str, float] = {
    "a tenth collapse": 0.1,
    "a third collapse": 1 / 3,
    "one collapses": 1 / 3,
}


@dataclass(frozen=True)
class World:
    """One kind of study, all projectors equally good (but where one alone collapses).

    A score is (clip) + (projector × clip) + (seed) + (seed × clip). The clip part is common to all
    projectors; the second and fourth together have variance 1, so that the *clip SE* of one run's
    mean is 1/√G.

    Attributes:
        n_clips: clips of the report split.
        n_projectors: P.
        n_seeds: S.
        seed_sd: SD of the seed part, as a multiple of the clip SE.
        noise: whose seeds do how much.
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
    noise: Noise = "equal"
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
        """SD of the seed part of every projector, collapses left out, ``[P]``."""
        p = self.n_projectors
        sds = np.full(p, self.seed_sd * self.clip_se)
        if self.noise == "one noisy":
            sds[0] *= 4
        elif self.noise == "half noisy":
            sds[: p // 2] *= 4
        elif self.noise == "ladder":
            sds *= np.geomspace(4, 1, p)
        elif self.noise == "sound one":
            sds[0] = 0
        return sds

    @property
    def collapses(self) -> Array:
        """Probability that a run of each projector collapses, ``[P]``."""
        rates = np.full(self.n_projectors, _COLLAPSE.get(self.noise, 0.0))
        if self.noise == "one collapses":
            rates[1:] = 0
        return rates

    @property
    def true_means(self) -> Array:
        """Means of the projectors, ``[P]``: equal, but where one alone collapses."""
        return -self.collapses * FALL * self.clip_se

    def shifts(self, draw: Draw) -> Array:
        """The seed part of every run, ``[N, P, S]``."""
        seeds = draw.seeds[:, :, : self.n_seeds]
        chance = draw.chance[:, :, : self.n_seeds]
        if self.noise == "skewed":
            seeds = 1 + np.log(chance)
        elif self.noise == "heavy":
            seeds = special.stdtrit(3, chance) / np.sqrt(3)
        elif self.noise == "mixed":
            seeds = seeds * np.exp(0.7 * draw.scales)[..., None]
        fallen = chance < self.collapses[:, None]
        return seeds * self.seed_sds[:, None] - fallen * FALL * self.clip_se

    def sound(self, draw: Draw) -> Array | None:
        """Projectors of which no run collapsed, ``[N, P]``; ``None`` where none can."""
        if not self.collapses.any():
            return None
        fallen = draw.chance[:, :, : self.n_seeds] < self.collapses[:, None]
        return np.asarray(~fallen.any(axis=-1))

    def pair_variance(self) -> float:
        """True variance of the difference of the last two projectors."""
        clip_share = (1 - self.interaction) + self.interaction / self.n_seeds
        rates = self.collapses
        seeds = self.seed_sds**2 + rates * (1 - rates) * (FALL * self.clip_se) ** 2
        if self.noise == "mixed":
            seeds = seeds * np.exp(2 * 0.7**2)
        return float(2 * self.clip_se**2 * clip_share + seeds[-2:].sum() / self.n_seeds)


@dataclass(frozen=True)
class Draw:
    """Studies without their seed part, which shifts all clips of a run alike.

    Attributes:
        fixed: clip and projector × clip parts, ``[N, P, G]``.
        again: what every seed redraws, ``[N, P, S, G]``.
        seeds: standard normal seed parts, ``[N, P, S]``.
        chance: uniform ones, ``[N, P, S]``.
        scales: standard normal, ``[N, P]``.
    """

    fixed: Array
    again: Array
    seeds: Array
    chance: Array
    scales: Array

    def scores(self, world: World) -> Array:
        """The scores ``[N, P, S, G]`` of ``world``, with the first ``world.n_seeds`` seeds."""
        again = self.again[:, :, : world.n_seeds]
        return self.fixed[:, :, None] + again + world.shifts(self)[..., None]


def draws(world: World, n_worlds: int, seed: int) -> Iterator[Draw]:
    """Draw ``n_worlds`` studies in batches; ``seed_sd`` and ``noise`` play no part yet."""
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
    seeds, scales = rng.standard_normal((n, p, s)), rng.standard_normal((n, p))
    return Draw(fixed, again, seeds, rng.random((n, p, s)), scales)
