"""What a neighbour does to the claims among others: none, a sound one, one with a collapsed run.

Three projectors A, B and C with true margins a step apart; the neighbour is as good as B, but for
its one collapsed run. By the procedure, and by charging everybody at least the mean seed variance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal, get_args

import numpy as np

from siglip_study.ranking.pairs import pair_arrays
from siglip_study.ranking.variance import Array, Method, seed_noise
from tools.simulation.trial import ALPHA

Neighbour = Literal["none", "sound", "one run collapsed"]
NEIGHBOURS: tuple[Neighbour, ...] = get_args(Neighbour)
PAIRS = ("A > B", "A > C", "B > C")


@dataclass(frozen=True)
class Street:
    """One kind of study, in units of M.

    Attributes:
        n_clips: G.
        n_seeds: S.
        step: true difference of A and B, and of B and C.
        clip_sd: SD of a run's scores over clips, half of it redrawn with each seed.
        seed_sd: SD of a run's mean.
        level: true mean of B; a collapsed run has 0.
    """

    n_clips: int = 97
    n_seeds: int = 3
    step: float = 0.5
    clip_sd: float = 1.0
    seed_sd: float = 0.1
    level: float = 4.0


def streets() -> list[tuple[str, Street]]:
    """The kinds of the documented table."""
    return [
        ("97 clips, 3 seeds", Street()),
        ("97 clips, 5 seeds", Street(n_seeds=5, step=0.35)),
        ("400 clips, 3 seeds", Street(n_clips=400, step=0.4)),
    ]


def play(street: Street, n_worlds: int, seed: int) -> dict[tuple[Method, Neighbour], Array]:
    """Share of studies that claim each of :data:`PAIRS`, ``[3]``, the right way round."""
    rng = np.random.default_rng(seed)
    s, g = street.n_seeds, street.n_clips
    means = street.level + street.step * np.array([1.0, 0.0, -1.0, 0.0])
    half = street.clip_sd / np.sqrt(2)
    sums: dict[tuple[Method, Neighbour], Array] = {}
    size = max(1, 2_000_000 // (4 * s * g))
    for start in range(0, n_worlds, size):
        n = min(size, n_worlds - start)
        y = means[:, None, None] + half * rng.standard_normal((n, 4, 1, g))
        y = y + half * rng.standard_normal((n, 4, s, g))
        y += street.seed_sd * rng.standard_normal((n, 4, s, 1))
        for neighbour in NEIGHBOURS:
            seen = y[:, :3] if neighbour == "none" else y.copy()
            if neighbour == "one run collapsed":
                seen[:, 3, 0] -= street.level
            place = {pair: i for i, pair in enumerate(combinations(range(seen.shape[1]), 2))}
            own = [place[pair] for pair in ((0, 1), (0, 2), (1, 2))]
            telling = None
            if neighbour == "one run collapsed":
                telling = np.array([True, True, True, False])
            for method in get_args(Method):
                noise = seed_noise(seen, method)
                if method == "floor":
                    noise = replace(noise, telling=telling)
                tests = pair_arrays(seen, noise)
                claimed = (tests.p_holm <= ALPHA) & (tests.difference > 0)
                key = method, neighbour
                sums[key] = sums.get(key, np.zeros(3)) + claimed[:, own].sum(axis=0)
    return {key: total / n_worlds for key, total in sums.items()}


def summary(found: list[tuple[str, dict[tuple[Method, Neighbour], Array]]]) -> list[str]:
    """Markdown table: claims of :data:`PAIRS` beside each neighbour."""
    head = ["study", "least seed charge", *(f"neighbour: {one}" for one in NEIGHBOURS)]
    lines = [f"| {' | '.join(head)} |"]
    lines.append("|" + "---|" * (2 + len(NEIGHBOURS)))
    words: dict[Method, str] = {"floor": "the median's", "mean": "the mean"}
    for name, shares in found:
        for method, word in words.items():
            cells = [
                " / ".join(f"{100 * x:.0f}" for x in shares[method, one]) for one in NEIGHBOURS
            ]
            lines.append(f"| {name} | {word} | " + " | ".join(cells) + " |")
    return lines
