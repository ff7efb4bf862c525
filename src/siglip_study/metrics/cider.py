"""CIDEr (Vedantam et al., 2015) on tokens, without the Gaussian length factor of CIDEr-D.

Counts are clipped as in CIDEr-D, so that repeating a phrase earns nothing. Document frequencies
come from the train references, so that no held-out caption decides how rare a word is.

Per order n = 1 to 4, with g the vector of n-grams' counts times their inverse document frequencies,
``Σ min(g_caption, g_reference) · g_reference / (‖g_caption‖ ‖g_reference‖)``; CIDEr is ten times
the mean over orders and references.
"""

from __future__ import annotations

import functools
import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from siglip_study.metrics.base import (
    PerClip,
    ReferenceTokens,
    TokenLists,
    Undefined,
    frozen,
    metric,
)
from siglip_study.metrics.tokens import Lists, ngrams

ORDERS = range(1, 5)
SCALE = 10.0

Ngram = tuple[str, ...]


@metric(bounds=(0, 10), higher_is_better=True, tokens="all", version="2", with_reference=True)
def cider(captions: TokenLists, references: ReferenceTokens, train: ReferenceTokens) -> PerClip:
    """CIDEr with train document frequencies, no length factor.

    ``[N]``, the mean over a clip's references.
    """
    return _own_and_others(captions, references, train)[0].copy()


@metric(
    bounds=(-10, 10),
    higher_is_better=True,
    tokens="all",
    version="2",
    chance=0.0,
    with_reference=True,
    least_clips=2,
)
def cider_gain(
    captions: TokenLists, references: ReferenceTokens, train: ReferenceTokens
) -> PerClip:
    """CIDEr with the own reference minus CIDEr with others'.

    ``[N]``; others are *all* other clips.
    """
    own, others = _own_and_others(captions, references, train)
    return own - others


class RarityWeights:
    """Inverse document frequency of n-grams, in nats, by the train clips that they occur in.

    An n-gram that no train clip has weighs as if one had it.
    """

    def __init__(self, train: ReferenceTokens) -> None:
        """Count over clips: an n-gram in two references of one clip counts once."""
        clips: Counter[Ngram] = Counter()
        for references in train:
            clips.update({g for tokens in references for n in ORDERS for g in ngrams(tokens, n)})
        self._unseen = math.log(max(len(train), 1))
        self._known = {g: self._unseen - math.log(count) for g, count in clips.items()}

    def __getitem__(self, ngram: Ngram) -> float:
        return self._known.get(ngram, self._unseen)

    def vector(self, counts: Counter[Ngram]) -> tuple[dict[Ngram, float], float]:
        """Squared weight of each n-gram, and the length of the vector of count · weight."""
        get, unseen = self._known.get, self._unseen
        squares = {g: get(g, unseen) ** 2 for g in counts}
        return squares, math.sqrt(math.fsum([c * c * squares[g] for g, c in counts.items()]))


#: Count in a reference, and 1 / (norm of the reference · references of its clip).
Holder = tuple[int, float]


class CiderReferences:
    """References of N clips, ready for all captioners."""

    def __init__(self, references: ReferenceTokens, weights: RarityWeights) -> None:
        self._weights = weights
        #: n-gram → each reference that has it: of all clips, and clip by clip
        self._all: dict[Ngram, list[Holder]] = defaultdict(list)
        self._own: list[dict[Ngram, list[Holder]]] = []
        for wanted in references:
            own: dict[Ngram, list[Holder]] = defaultdict(list)
            for tokens in wanted:
                for n in ORDERS:
                    counts = Counter(ngrams(tokens, n))
                    _, norm = weights.vector(counts)
                    for g, count in counts.items() if norm else ():
                        own[g].append((count, 1 / (norm * len(wanted))))
            for g, holders in own.items():
                self._all[g] += holders
            self._own.append(own)
        #: (n-gram, count in a caption) → what all references together give to it
        self._credit_of_all = functools.cache(lambda g, count: _credit(count, self._all[g]))

    def scores(self, clip: int, tokens: Sequence[str]) -> tuple[float, float]:
        """CIDEr of a caption with the references of its clip, and summed over all clips'.

        The score is a sum over the caption's n-grams, so what all references together give to an
        n-gram is added up once: linear in the number of clips.
        """
        mine = self._own[clip]
        own, total = 0.0, 0.0
        for n in ORDERS:
            counts = Counter(ngrams(tokens, n))
            squares, norm = self._weights.vector(counts)
            if not norm:
                continue
            every = [
                squares[g] * self._credit_of_all(g, c) for g, c in counts.items() if g in self._all
            ]
            here = [squares[g] * _credit(counts[g], mine[g]) for g in counts.keys() & mine.keys()]
            own += math.fsum(here) / norm
            total += math.fsum(every) / norm
        return own * SCALE / len(ORDERS), total * SCALE / len(ORDERS)


def _credit(count: int, holders: Sequence[Holder]) -> float:
    """What references give to an n-gram that a caption has ``count`` times, but for its weight."""
    return math.fsum([min(count, there) * there * share for there, share in holders])


# References and the train clips are the same for all captioners.
_weights = functools.lru_cache(maxsize=4)(RarityWeights)


@functools.lru_cache(maxsize=2)
def _prepared(references: tuple[Lists, ...], train: tuple[Lists, ...]) -> CiderReferences:
    return CiderReferences(references, _weights(train))


def _own_and_others(
    captions: TokenLists, references: ReferenceTokens, train: ReferenceTokens
) -> tuple[np.ndarray, np.ndarray]:
    """CIDEr with the own clip's references, and its mean over all other clips (NaN for one clip).

    Raises:
        Undefined: fewer than two train clips.
    """
    if len(train) < 2:
        raise Undefined("document frequencies need two train clips")
    return _scores(frozen(captions, 2), frozen(references, 3), frozen(train, 3))


# Kept, since the gain needs it too.
@functools.lru_cache(maxsize=2)
def _scores(
    captions: Lists, references: tuple[Lists, ...], train: tuple[Lists, ...]
) -> tuple[np.ndarray, np.ndarray]:
    prepared = _prepared(references, train)
    own, others = [], []
    for clip, tokens in enumerate(captions):
        mine, total = prepared.scores(clip, tokens)
        own.append(mine)
        # The subtraction leaves rounding where there is nothing in common.
        rest = total - mine if total - mine > 1e-12 * total else 0.0
        others.append(rest / (len(captions) - 1) if len(captions) > 1 else math.nan)
    return np.array(own), np.array(others)
