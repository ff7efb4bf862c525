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


_Vectors = list[tuple[dict[Ngram, float], float]]


def _vectors(tokens: Tokens, frequencies: DocumentFrequencies) -> _Vectors:
    """Per order, the tf-idf vector and its Euclidean norm."""
    vectors = []
    for order in range(1, ORDERS + 1):
        vector = {
            ngram: times * frequencies.weight(ngram)
            for ngram, times in _ngrams(tokens, order).items()
        }
        vectors.append((vector, math.sqrt(sum(value * value for value in vector.values()))))
    return vectors


def _similarity(hypothesis: _Vectors, reference: _Vectors) -> float:
    total = 0.0
    for (h, h_norm), (r, r_norm) in zip(hypothesis, reference, strict=True):
        if h_norm == 0.0 or r_norm == 0.0:
            continue
        # In the order of the caption's n-grams: a set's order changes between runs, and with it the
        # last bit of the sum.
        dot = sum(min(value, r[ngram]) * r[ngram] for ngram, value in h.items() if ngram in r)
        total += dot / (h_norm * r_norm)
    return SCALE * total / ORDERS


def cider_pairs(
    references: Sequence[Sequence[Tokens]],
    hypotheses: Sequence[Tokens],
    others: Sequence[np.ndarray],
    frequencies: DocumentFrequencies,
) -> list[np.ndarray]:
    """CIDEr of caption i against the clips ``others[i]``, mean over a clip's references.

    Returns:
        N arrays with values in [0, 10].
    """
    prepared = [[_vectors(tokens, frequencies) for tokens in refs] for refs in references]
    known: dict[tuple[str, ...], _Vectors] = {}
    scores = []
    for hypothesis, clips in zip(hypotheses, others, strict=True):
        key = tuple(hypothesis)
        if key not in known:
            known[key] = _vectors(key, frequencies)
        vectors = known[key]
        scores.append(
            np.array(
                [
                    np.mean([_similarity(vectors, ref) for ref in prepared[clip]] or [0.0])
                    for clip in clips.tolist()
                ]
            )
        )
    return scores
