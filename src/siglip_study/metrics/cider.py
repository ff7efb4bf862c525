"""CIDEr (Vedantam et al., 2015) on tokens, without the Gaussian length factor of CIDEr-D.

Counts are clipped as in CIDEr-D, so that repeating a phrase earns nothing. Document frequencies
come from the train references, so that no held-out caption decides how rare a word is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from siglip_study.metrics.base import MetricResult

ORDERS = 4
SCALE = 10.0

Tokens = Sequence[str]
Ngram = tuple[str, ...]


def _ngrams(tokens: Tokens, order: int) -> Counter[Ngram]:
    return Counter(tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1))


@dataclass(frozen=True)
class DocumentFrequencies:
    """In how many train clips each n-gram (1 to 4) occurs, and how many clips there are."""

    counts: dict[Ngram, int]
    n_clips: int

    @classmethod
    def of(cls, train_references: Sequence[Sequence[Tokens]]) -> DocumentFrequencies:
        """Count over clips: an n-gram in two references of one clip counts once."""
        counts: Counter[Ngram] = Counter()
        for references in train_references:
            seen: set[Ngram] = set()
            for tokens in references:
                for order in range(1, ORDERS + 1):
                    seen.update(_ngrams(tokens, order))
            counts.update(seen)
        return cls(dict(counts), len(train_references))

    def weight(self, ngram: Ngram) -> float:
        """Inverse document frequency in nats; an unseen n-gram counts as seen once."""
        return math.log(max(self.n_clips, 1)) - math.log(max(self.counts.get(ngram, 0), 1))


@dataclass(frozen=True)
class _Vector:
    """Counts of one order's n-grams with their weights, and the tf-idf vector's Euclidean norm."""

    counts: Counter[Ngram]
    weights: dict[Ngram, float]
    norm: float


def _vectors(tokens: Tokens, frequencies: DocumentFrequencies) -> list[_Vector]:
    vectors = []
    for order in range(1, ORDERS + 1):
        counts = _ngrams(tokens, order)
        weights = {ngram: frequencies.weight(ngram) for ngram in counts}
        square = sum((times * weights[ngram]) ** 2 for ngram, times in counts.items())
        vectors.append(_Vector(counts, weights, math.sqrt(square)))
    return vectors


def _similarity(hypothesis: list[_Vector], reference: list[_Vector]) -> float:
    total = 0.0
    for h, r in zip(hypothesis, reference, strict=True):
        if h.norm > 0 and r.norm > 0:
            # Counter gives 0 for an n-gram that the reference lacks.
            dot = sum(
                min(times, r.counts[ngram]) * r.counts[ngram] * h.weights[ngram] ** 2
                for ngram, times in h.counts.items()
            )
            total += dot / (h.norm * r.norm)
    return SCALE * total / ORDERS


def cider(
    references: Sequence[Sequence[Tokens]],
    hypotheses: Sequence[Tokens],
    frequencies: DocumentFrequencies,
) -> MetricResult:
    """CIDEr of each caption against its own references, mean over these, in [0, 10]."""
    per_clip = np.zeros(len(hypotheses))
    for i, (refs, tokens) in enumerate(zip(references, hypotheses, strict=True)):
        vectors = _vectors(tokens, frequencies)
        scores = [_similarity(vectors, _vectors(ref, frequencies)) for ref in refs]
        per_clip[i] = sum(scores) / len(scores) if scores else 0.0
    return MetricResult(float(per_clip.mean()) if len(per_clip) else 0.0, per_clip)


def cider_others(
    references: Sequence[Sequence[Tokens]],
    hypotheses: Sequence[Tokens],
    frequencies: DocumentFrequencies,
) -> MetricResult:
    """Mean CIDEr of each caption against the references of *all* other clips; NaN without others.

    The score is a sum over the caption's n-grams, so what all references together give to an
    n-gram is added up once, and the own clip's part is taken off: linear in the number of clips.
    """
    n = len(hypotheses)
    if n < 2:
        return MetricResult(math.nan, np.full(n, math.nan))
    # Per order and n-gram: (count in a reference, 1 / (norm · references of its clip)).
    found: list[dict[Ngram, list[tuple[int, float]]]] = [{} for _ in range(ORDERS)]
    for refs in references:
        for tokens in refs:
            for order, r in enumerate(_vectors(tokens, frequencies)):
                for ngram, times in r.counts.items() if r.norm > 0 else ():
                    found[order].setdefault(ngram, []).append((times, 1 / (r.norm * len(refs))))
    known: dict[tuple[Ngram, int], float] = {}

    def credit(ngram: Ngram, times: int) -> float:
        if (ngram, times) not in known:
            places = found[len(ngram) - 1].get(ngram, ())
            known[ngram, times] = sum(min(times, r) * r * share for r, share in places)
        return known[ngram, times]

    own = cider(references, hypotheses, frequencies).per_clip
    assert own is not None
    total = np.zeros(n)
    for i, tokens in enumerate(hypotheses):
        for h in _vectors(tokens, frequencies):
            if h.norm > 0:
                total[i] += (
                    sum(
                        credit(ngram, times) * h.weights[ngram] ** 2
                        for ngram, times in h.counts.items()
                    )
                    / h.norm
                )
    per_clip = (SCALE * total / ORDERS - own) / (n - 1)
    # The subtraction may leave -1e-17 where there is nothing in common.
    per_clip = np.maximum(per_clip, 0.0)
    return MetricResult(float(per_clip.mean()), per_clip)
