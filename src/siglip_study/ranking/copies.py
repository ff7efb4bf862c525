"""Runs that are one run under two seeds: their agreement says nothing of what a seed does."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from siglip_study.ranking.one_sided import MARGIN_ROUNDING
from siglip_study.ranking.variance import Array


def copied_runs(margins: Mapping[str, Array]) -> list[str]:
    """Projectors of which two runs have the same D on every clip, ``{projector: [S, n]}``.

    Trainings that differ at all differ in some digit of some clip. D of 0 everywhere is left out:
    captions that are all the same have it, whatever they are.
    """
    return [
        label
        for label, table in margins.items()
        if any(
            np.array_equal(a, b) and np.abs(a).max() > MARGIN_ROUNDING
            for a, b in combinations(np.asarray(table, dtype=float), 2)
        )
    ]
