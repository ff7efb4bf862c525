"""Caption → clip retrieval with ties: a tie of m clips shares its credit, 1/m each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from siglip_study.metrics.grounding import square_matrix


@dataclass(frozen=True)
class Ranks:
    """Where each caption's own clip stands among the N clips.

    Attributes:
        better: ``[N]`` clips that the caption fits better than its own.
        tied: ``[N]`` clips that it fits exactly as well, its own included (at least 1).
    """

    better: np.ndarray
    tied: np.ndarray

    def mean_rank(self) -> np.ndarray:
        """Rank from 1, ties averaged: ``[N]``."""
        return self.better + (self.tied + 1) / 2

    def recall(self, k: int) -> np.ndarray:
        """Chance that the own clip is among the first k if ties are broken at random: ``[N]``."""
        return np.clip(k - self.better, 0, self.tied) / self.tied

    def reciprocal_rank(self) -> np.ndarray:
        """Mean of 1/rank over the places the tie covers: ``[N]``."""
        harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, len(self.better) + 1))])
        return (harmonic[self.better + self.tied] - harmonic[self.better]) / self.tied


def ranks(scores: np.ndarray, empty: np.ndarray | None = None) -> Ranks:
    """Ranks of the own clips in ``scores`` ``[captions, clips]``.

    Args:
        scores: S, the diagonal being the matched pairs.
        empty: ``[N]`` bool, captions that say nothing: their own clip comes last.
    """
    matrix = square_matrix(scores)
    own = np.diagonal(matrix)[:, None]
    better = (matrix > own).sum(axis=1)
    tied = (matrix == own).sum(axis=1)
    if empty is not None:
        better = np.where(empty, len(matrix) - 1, better)
        tied = np.where(empty, 1, tied)
    return Ranks(better, tied)


def recall_within(
    scores: np.ndarray, category: Sequence[str | None], empty: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """Recall at 1 among the clips of the own category ``[N]``, and the mean recall of chance.

    NaN for a clip without category.
    """
    matrix = square_matrix(scores)
    silent = np.zeros(len(matrix), dtype=bool) if empty is None else np.asarray(empty, dtype=bool)
    recall, by_chance = np.full(len(matrix), np.nan), np.full(len(matrix), np.nan)
    for name in {name for name in category if name is not None}:
        members = np.array([i for i, other in enumerate(category) if other == name])
        recall[members] = ranks(matrix[np.ix_(members, members)], silent[members]).recall(1)
        by_chance[members] = 1 / len(members)
    return recall, float(np.nanmean(by_chance)) if not np.isnan(by_chance).all() else np.nan


def chance(n: int) -> dict[str, float]:
    """Expected r1, r5 and mrr of random order among n clips."""
    return {
        "retrieval_r1": 1 / n,
        "retrieval_r5": min(5, n) / n,
        "retrieval_mrr": float(np.mean(1 / np.arange(1, n + 1))),
    }
