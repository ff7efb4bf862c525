"""Which other clips a caption is compared with when its own is to be told from theirs."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

ALL_UP_TO = 100
SAMPLED = 50


def other_clips(
    ids: Sequence[str],
    categories: Sequence[str | None] | None = None,
    *,
    all_up_to: int = ALL_UP_TO,
    sampled: int = SAMPLED,
    seed: int = 0,
) -> list[np.ndarray]:
    """Positions of the clips that each clip is compared with.

    All others up to ``all_up_to`` clips; beyond that ``sampled`` fixed ones, half of them of the
    same category as far as it has that many. The draw depends on ids and seed alone, so that the
    order of the clips and the cell that is scored change nothing.

    Args:
        ids: one id a clip.
        categories: one category a clip, None where it has none.
        all_up_to: number of clips up to which all others are taken.
        sampled: how many are taken beyond that.
        seed: seed of the draw.

    Returns:
        N arrays of positions, none containing the clip itself; empty for a single clip.
    """
    n = len(ids)
    if n <= all_up_to:
        everyone = np.arange(n)
        return [np.delete(everyone, i) for i in range(n)]
    order = sorted(range(n), key=lambda i: ids[i])
    labels = list(categories) if categories is not None else [None] * n
    alike = {label: [j for j in order if labels[j] == label] for label in set(labels)}
    unlike = {label: [j for j in order if labels[j] != label] for label in set(labels)}
    chosen = []
    for i, label in enumerate(labels):
        # A clip without category has no mates: everybody else is elsewhere.
        mates = [j for j in alike[label] if j != i] if label is not None else []
        elsewhere = unlike[label] if label is not None else [j for j in order if j != i]
        n_elsewhere = min(len(elsewhere), sampled - min(len(mates), sampled // 2))
        n_mates = min(len(mates), sampled - n_elsewhere)
        # A string seed is hashed with SHA-512, the same on every machine.
        rng = random.Random(f"{seed}:{ids[i]}")
        drawn = rng.sample(mates, n_mates) + rng.sample(elsewhere, n_elsewhere)
        chosen.append(np.array(sorted(drawn), dtype=np.int64))
    return chosen
