"""CIDEr (Vedantam et al., 2015) on tokens, without the Gaussian length factor of CIDEr-D.

Counts are clipped as in CIDEr-D, so that repeating a phrase earns nothing. Document frequencies
come from the train references, so that no held-out caption decides how rare a word is.
"""

from __future__ import annotations

import functools
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
    return Counter(zip(*(tokens[start:] for start in range(order)), strict=False))


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

    @functools.cached_property
    def _unseen(self) -> float:
        return math.log(max(self.n_clips, 1))

    @functools.cached_property
    def _weights(self) -> dict[Ngram, float]:
        return {ngram: self._unseen - math.log(count) for ngram, count in self.counts.items()}

    def weight(self, ngram: Ngram) -> float:
        """Inverse document frequency in nats; an unseen n-gram counts as seen once."""
        return self._weights.get(ngram, self._unseen)


@dataclass(frozen=True)
class _Vector:
    """One order of a text: n-gram → (count, squared weight), and the tf-idf vector's norm."""

    terms: dict[Ngram, tuple[int, float]]
    norm: float


def _vectors(tokens: Tokens, frequencies: DocumentFrequencies) -> list[_Vector]:
    vectors = []
    for order in range(1, ORDERS + 1):
        terms = {
            ngram: (count, frequencies.weight(ngram) ** 2)
            for ngram, count in _ngrams(tokens, order).items()
        }
        square = sum(count * count * weight for count, weight in terms.values())
        vectors.append(_Vector(terms, math.sqrt(square)))
    return vectors


def _similarity(hypothesis: list[_Vector], reference: list[_Vector]) -> float:
    total = 0.0
    for h, r in zip(hypothesis, reference, strict=True):
        if h.norm > 0 and r.norm > 0:
            dot = 0.0
            for ngram, (count, weight) in h.terms.items():
                if ngram in r.terms:
                    wanted = r.terms[ngram][0]
                    dot += min(count, wanted) * wanted * weight
            total += dot / (h.norm * r.norm)
    return SCALE * total / ORDERS


class CiderReferences:
    """References of a split with their tf-idf vectors, prepared once for all cells."""

    def __init__(
        self, references: Sequence[Sequence[Tokens]], frequencies: DocumentFrequencies
    ) -> None:
        """Prepare the vectors of N lists of reference token lists."""
        self.frequencies = frequencies
        self._vectors = [[_vectors(ref, frequencies) for ref in refs] for refs in references]
        # n-gram → (count in a reference, 1 / (norm · references of its clip)) of every reference.
        self._places: dict[Ngram, list[tuple[int, float]]] = {}
        for refs in self._vectors:
            for vectors in refs:
                for r in vectors:
                    if r.norm > 0:
                        share = 1 / (r.norm * len(refs))
                        for ngram, (count, _) in r.terms.items():
                            self._places.setdefault(ngram, []).append((count, share))
        self._credits: dict[tuple[Ngram, int], float] = {}

    def _credit(self, ngram: Ngram, count: int) -> float:
        """What all references together give to an n-gram that a caption has ``count`` times."""
        key = ngram, count
        if key not in self._credits:
            places = self._places.get(ngram, ())
            self._credits[key] = sum(min(count, r) * r * share for r, share in places)
        return self._credits[key]

    def scores(self, hypotheses: Sequence[Tokens]) -> tuple[MetricResult, MetricResult]:
        """CIDEr of each caption against its own references, and its mean over *all* other clips.

        The first is the mean over a clip's references, in [0, 10]. For the second, the score being
        a sum over the caption's n-grams, what all references together give to an n-gram is added
        up once and the own clip's part is taken off: linear in the number of clips. NaN for a
        single clip.
        """
        n = len(hypotheses)
        own, total = np.zeros(n), np.zeros(n)
        for i, (tokens, refs) in enumerate(zip(hypotheses, self._vectors, strict=True)):
            vectors = _vectors(tokens, self.frequencies)
            if refs:
                own[i] = sum(_similarity(vectors, ref) for ref in refs) / len(refs)
            for h in vectors:
                if h.norm > 0:
                    credits = (
                        self._credit(ngram, count) * weight
                        for ngram, (count, weight) in h.terms.items()
                    )
                    total[i] += sum(credits) / h.norm
        if n < 2:
            return _result(own), MetricResult(math.nan, np.full(n, math.nan))
        # The subtraction may leave -1e-17 where there is nothing in common.
        others = np.maximum((SCALE * total / ORDERS - own) / (n - 1), 0.0)
        return _result(own), _result(others)


def _result(per_clip: np.ndarray) -> MetricResult:
    return MetricResult(float(per_clip.mean()) if len(per_clip) else 0.0, per_clip)


def cider(
    references: Sequence[Sequence[Tokens]],
    hypotheses: Sequence[Tokens],
    frequencies: DocumentFrequencies,
) -> MetricResult:
    """CIDEr of each caption against its own references, mean over these, in [0, 10]."""
    return CiderReferences(references, frequencies).scores(hypotheses)[0]


def cider_others(
    references: Sequence[Sequence[Tokens]],
    hypotheses: Sequence[Tokens],
    frequencies: DocumentFrequencies,
) -> MetricResult:
    """Mean CIDEr of each caption against all other clips; NaN for a single clip."""
    return CiderReferences(references, frequencies).scores(hypotheses)[1]
