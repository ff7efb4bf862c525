"""Caption → clip retrieval with ties: a tie of m clips shares its credit, 1/m each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from siglip_study.metrics.base import PerClip, metric
from siglip_study.metrics.grounding import by_category, square_matrix


@metric(
    bounds=(0, 1),
    higher_is_better=True,
    chance=lambda similarity: 1 / len(similarity),
    least_clips=2,
)
def retrieval_r1(similarity: np.ndarray, empty: np.ndarray | None = None) -> PerClip:
    """Share of captions whose own clip comes first; ties share their credit."""
    return ranks(similarity, empty).recall(1)


def _chance_within(category: Sequence[str | None]) -> float:
    sizes = Counter(category)
    each = [1 / sizes[name] if name is not None else np.nan for name in category]
    return float(np.nanmean(each)) if any(np.isfinite(each)) else np.nan


@metric(bounds=(0, 1), higher_is_better=True, chance=_chance_within, least_clips=2)
def retrieval_r1_within(
    similarity: np.ndarray, category: Sequence[str | None], empty: np.ndarray | None = None
) -> PerClip:
    """Share of captions whose own clip comes first among those of its category.

    ``[N]``, NaN for a clip without category.
    """
    return by_category(retrieval_r1, similarity, category, empty)


@metric(
    bounds=(0, 1),
    higher_is_better=True,
    chance=lambda similarity: min(5, len(similarity)) / len(similarity),
    least_clips=2,
)
def retrieval_r5(similarity: np.ndarray, empty: np.ndarray | None = None) -> PerClip:
    """Share of captions whose own clip is among the first five."""
    return ranks(similarity, empty).recall(5)


@metric(
    bounds=(0, 1),
    higher_is_better=True,
    chance=lambda similarity: float(np.mean(1 / np.arange(1, len(similarity) + 1))),
    least_clips=2,
)
def retrieval_mrr(similarity: np.ndarray, empty: np.ndarray | None = None) -> PerClip:
    """Mean of 1 / rank of the own clip.

    ``[N]``; a tie has the mean over the places that it covers.
    """
    return ranks(similarity, empty).reciprocal_rank()


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
    """Ranks of the own clips in S ``[N, N]``; that of an ``empty`` ``[N]`` caption comes last."""
    matrix = square_matrix(scores)
    own = np.diagonal(matrix)[:, None]
    better = (matrix > own).sum(axis=1)
    tied = (matrix == own).sum(axis=1)
    if empty is not None:
        better = np.where(empty, len(matrix) - 1, better)
        tied = np.where(empty, 1, tied)
    return Ranks(better, tied)
