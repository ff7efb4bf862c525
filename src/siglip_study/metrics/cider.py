"""CIDEr (Vedantam et al., 2015) on tokens, without the Gaussian length factor of CIDEr-D.

Counts are clipped as in CIDEr-D, so that repeating a phrase earns nothing. Document frequencies
come from the train references, so that no held-out caption decides how rare a word is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from siglip_study.metrics.base import MetricResult
from siglip_study.metrics.ngrams import ORDERS, Ngrams, numbered
from siglip_study.metrics.token_lists import Integers, ReferenceLists, TokenLists, Tokens, numbering

SCALE = 10.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Known:
    """The n-grams of one order in the train references and the number of clips that have them.

    Attributes:
        code: ``[G]`` ascending, prefix · vocabulary + last token.
        clips: ``[G]`` train clips with the n-gram.
    """

    code: Integers
    clips: Integers


def _find(codes: Integers, wanted: Integers, valid: NDArray[np.bool_]) -> Integers:
    """Where each wanted code stands among ``codes`` (ascending); −1 where it does not."""
    if not len(codes):
        return np.full(len(wanted), -1, dtype=np.int64)
    place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
    return np.where(valid & (codes[place] == wanted), place, -1)


@dataclass(frozen=True)
class DocumentFrequencies:
    """In how many train clips each n-gram (1 to 4) occurs, and how many clips there are."""

    n_clips: int
    _places: dict[str, int] = field(repr=False)
    _orders: tuple[_Known, ...] = field(repr=False)

    @classmethod
    def of(
        cls, train_references: ReferenceLists | Sequence[Sequence[Tokens]]
    ) -> DocumentFrequencies:
        """Count over clips: an n-gram in two references of one clip counts once."""
        references = ReferenceLists.of(train_references)
        clip, places = references.clip, numbering(references.flat.strings)
        counted = Ngrams.of(references.flat)
        orders = []
        for order in counted.orders:
            grams = max(len(order.last), 1)
            pairs, _ = numbered(clip[order.owner] * grams + order.gram)
            clips = np.bincount(pairs % grams, minlength=len(order.last))
            orders.append(_Known(order.prefix * len(places) + order.last, clips))
        return cls(len(references), places, tuple(orders))

    def clips(self, ngram: Tokens) -> int:
        """In how many train clips the n-gram (1 to 4 tokens) occurs."""
        found = -1
        for order, string in zip(self._orders, ngram, strict=False):
            token = self._places.get(string, -1)
            code = np.array([max(found, 0) * len(self._places) + token])
            found = int(_find(order.code, code, np.array([token >= 0]))[0])
            if found < 0:
                return 0
        return int(self._orders[len(ngram) - 1].clips[found])

    def weight(self, ngram: Tokens) -> float:
        """Inverse document frequency in nats; an unseen n-gram counts as seen once."""
        return math.log(max(self.n_clips, 1)) - math.log(max(self.clips(ngram), 1))

    def weights(self, ngrams: Ngrams, lists: TokenLists) -> list[Floats]:
        """Inverse document frequency of each different n-gram of ``lists``, one array an order."""
        size, tokens = len(self._places), lists.numbers_in(self._places)
        found = np.zeros(1, dtype=np.int64)
        weights = []
        for known, order in zip(self._orders, ngrams.orders, strict=True):
            prefix, last = found[order.prefix], tokens[order.last]
            found = _find(known.code, prefix * size + last, (prefix >= 0) & (last >= 0))
            seen = np.log(np.where(found >= 0, known.clips[found] if len(known.clips) else 1, 1))
            weights.append(math.log(max(self.n_clips, 1)) - seen)
        return weights


class CiderReferences:
    """References of a split with their tf-idf vectors, prepared once for all cells."""

    def __init__(
        self,
        references: ReferenceLists | Sequence[Sequence[Tokens]],
        frequencies: DocumentFrequencies,
    ) -> None:
        """Prepare the vectors of the references of N clips."""
        self.frequencies = frequencies
        lists = ReferenceLists.of(references)
        flat = lists.flat
        self._n = len(lists)
        self._places = numbering(flat.strings)
        counted = Ngrams.of(flat)
        #: first reference of each clip, and how many it has
        self._first, self._counts = lists.first, lists.counts
        shared = lists.counts[lists.clip]
        self._orders = []
        for order, weight in zip(counted.orders, frequencies.weights(counted, flat), strict=True):
            norm = np.sqrt(_norms(order.owner, order.count, weight[order.gram], len(flat)))
            share = np.divide(1.0, norm * shared, out=np.zeros(len(flat)), where=norm > 0)
            self._orders.append(
                _References(
                    order.prefix * max(len(self._places), 1) + order.last,
                    order.owner * max(len(order.last), 1) + order.gram,
                    order.gram,
                    order.count,
                    share[order.owner],
                )
            )

    def scores(
        self, hypotheses: Sequence[Tokens], ngrams: Ngrams | None = None
    ) -> tuple[MetricResult, MetricResult]:
        """CIDEr of each caption against its own references, and its mean over *all* other clips.

        The first is the mean over a clip's references, in [0, 10]. For the second, the score being
        a sum over the caption's n-grams, what all references together give to an n-gram is added
        up once and the own clip's part is taken off: linear in the number of clips. NaN for a
        single clip.

        Args:
            hypotheses: N captions.
            ngrams: theirs, if they have been counted already.
        """
        n = len(hypotheses)
        if n != self._n:
            raise ValueError(f"{n} captions for the references of {self._n} clips")
        lists = TokenLists.of(hypotheses)
        counted = ngrams if ngrams is not None else Ngrams.of(lists)
        weights = self.frequencies.weights(counted, lists)
        number = lists.numbers_in(self._places)
        own, total = np.zeros(n), np.zeros(n)
        found = np.zeros(1, dtype=np.int64)
        for known, order, weight in zip(self._orders, counted.orders, weights, strict=True):
            prefix, last = found[order.prefix], number[order.last]
            valid = (prefix >= 0) & (last >= 0)
            found = _find(known.codes, prefix * max(len(self._places), 1) + last, valid)
            squares = weight[order.gram] ** 2
            norm = np.sqrt(_norms(order.owner, order.count, weight[order.gram], n))
            scale = np.divide(1.0, norm, out=np.zeros(n), where=norm > 0)
            shared = np.flatnonzero(found[order.gram] >= 0)
            owner, count = order.owner[shared], order.count[shared]
            gram, square = found[order.gram[shared]], squares[shared]
            every = known.credit(gram, count) * square
            mine = np.zeros(len(shared))
            for slot in range(int(self._counts.max(initial=0))):
                has = self._counts[owner] > slot
                reference = self._first[owner] + slot
                mine += known.credit_of(reference, gram, count, has)
            own += np.bincount(owner, mine * square, minlength=n) * scale
            total += np.bincount(owner, every, minlength=n) * scale
        own *= SCALE / ORDERS
        total *= SCALE / ORDERS
        if n < 2:
            return _result(own), MetricResult(math.nan, np.full(n, math.nan))
        # The subtraction leaves rounding where there is nothing in common.
        others = np.where(total - own > 1e-12 * total, total - own, 0.0) / (n - 1)
        return _result(own), _result(others)


@dataclass
class _References:
    """One order of all references, R of them, in a row.

    Attributes:
        codes: ``[G]`` ascending, the different n-grams.
        pairs: ``[K]`` ascending, reference · G + n-gram.
        gram: ``[K]`` n-gram of each pair.
        count: ``[K]`` its count in the reference.
        share: ``[K]`` 1 / (norm of the reference · references of its clip), 0 for a norm of 0.
    """

    codes: Integers
    pairs: Integers
    gram: Integers
    count: Integers
    share: Floats

    def __post_init__(self) -> None:
        #: ``[counts, G]`` what all references give to an n-gram, for each count seen in a caption
        self._credits: Floats = np.zeros((0, len(self.codes)))
        #: row of each count, −1 for one not seen yet
        self._row = np.full(int(self.count.max(initial=0)) + 1, -1)

    def credit(self, gram: Integers, count: Integers) -> Floats:
        """What all references together give to n-grams that a caption has ``count`` times."""
        # Beyond what any reference has, more earns nothing.
        count = np.minimum(count, len(self._row) - 1)
        seen = np.bincount(count, minlength=len(self._row)) > 0
        for times in np.flatnonzero(seen & (self._row < 0)).tolist():
            given = np.minimum(self.count, times) * self.count * self.share
            self._row[times] = len(self._credits)
            self._credits = np.vstack([self._credits, _sum(self.gram, given, len(self.codes))])
        return self._credits.ravel().take(self._row[count] * len(self.codes) + gram)

    def credit_of(
        self, reference: Integers, gram: Integers, count: Integers, valid: NDArray[np.bool_]
    ) -> Floats:
        """What one reference each gives; 0 where not ``valid``."""
        place = _find(self.pairs, reference * max(len(self.codes), 1) + gram, valid)
        hit = np.flatnonzero(place >= 0)
        place = place[hit]
        result = np.zeros(len(gram))
        result[hit] = np.minimum(count[hit], self.count[place]) * self.count[place]
        result[hit] *= self.share[place]
        return result


def _norms(owner: Integers, count: Integers, weight: Floats, n: int) -> Floats:
    """``[N]`` squared length of each tf-idf vector."""
    return _sum(owner, (count * weight) ** 2, n)


def _sum(owner: Integers, values: Floats, n: int) -> Floats:
    return np.bincount(owner, values, minlength=n).astype(np.float64, copy=False)


def _result(per_clip: np.ndarray) -> MetricResult:
    return MetricResult(float(per_clip.mean()) if len(per_clip) else 0.0, per_clip)


def cider(
    references: ReferenceLists | Sequence[Sequence[Tokens]],
    hypotheses: Sequence[Tokens],
    frequencies: DocumentFrequencies,
) -> MetricResult:
    """CIDEr of each caption against its own references, mean over these, in [0, 10]."""
    return CiderReferences(references, frequencies).scores(hypotheses)[0]


def cider_others(
    references: ReferenceLists | Sequence[Sequence[Tokens]],
    hypotheses: Sequence[Tokens],
    frequencies: DocumentFrequencies,
) -> MetricResult:
    """Mean CIDEr of each caption against all other clips; NaN for a single clip."""
    return CiderReferences(references, frequencies).scores(hypotheses)[1]
