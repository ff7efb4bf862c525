"""References as METEOR looks them up: where each token of a caption stands in each of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from siglip_study.metrics.ngrams import occurrence
from siglip_study.metrics.token_lists import Integers, ReferenceLists, TokenLists, Tokens, numbering

#: Two absent tokens in a row must not look like neighbours, whatever is added.
_ABSENT = -(2**30)
_ABSENT_SMALL = -(2**14)
#: Entries of the table of places (2 or 4 bytes each) beyond which places are searched instead.
_TABLE = 10**8


class MeteorReferences:
    """References of all clips, ready to be looked up token by token.

    nltk matches from the last token back, each to the last free equal one: the k-th last "a" of the
    caption goes with the k-th last "a" of the reference. So (token, k) is a key that occurs at most
    once a text, and an alignment is a look-up.
    """

    def __init__(self, references: ReferenceLists | Sequence[Sequence[Tokens]]) -> None:
        lists = ReferenceLists.of(references)
        flat = lists.flat
        #: references of each clip, the first of them, and the clip of each reference
        self.counts, self.first, self.clip = lists.counts, lists.first, lists.clip
        #: tokens of each reference
        self.sizes = flat.sizes
        self._known = numbering(flat.strings)
        owner, token = flat.owner, flat.numbers
        back = _following(owner, token)
        #: occurrences of a token that a key can tell apart
        self.depth = int(back.max(initial=0)) + 1
        keys = token * self.depth + back
        held = np.bincount(keys, minlength=len(flat.strings) * self.depth + 1) > 0
        n_keys = int(held.sum())
        #: row of ``places`` of each key, the last for what no reference holds
        self._row = np.where(held, np.cumsum(held) - 1, n_keys)
        inverse = self._row[keys]
        starts = np.cumsum(self.sizes) - self.sizes
        place = np.arange(len(owner)) - starts[owner]
        #: ``[K + 1, R]`` place of each key in each reference; the last row is for what none holds
        self.places: NDArray[np.signedinteger] | None = None
        if (n_keys + 1) * len(self.sizes) <= _TABLE:
            # Half the bytes are copied in half the time.
            small = self.sizes.max(initial=0) < -_ABSENT_SMALL
            absent, number = (_ABSENT_SMALL, np.int16) if small else (_ABSENT, np.int32)
            self.places = np.full((n_keys + 1, len(self.sizes)), absent, dtype=number)
            self.places[inverse, owner] = place
        else:
            pairs = inverse * len(self.sizes) + owner
            order = np.argsort(pairs)
            self._pairs, self._place = pairs[order], place[order]

    def look_up(self, rows: Integers, references: Integers) -> NDArray[np.signedinteger]:
        """Places of tokens in references; the shapes of both are broadcast."""
        if self.places is not None:
            return self.places[rows, references]
        wanted = rows * len(self.sizes) + references
        found = np.minimum(np.searchsorted(self._pairs, wanted), len(self._pairs) - 1)
        return np.where(self._pairs[found] == wanted, self._place[found], _ABSENT)

    def look_up_all(self, rows: Integers, references: Integers) -> NDArray[np.signedinteger]:
        """Places of every token in every reference, ``[tokens, references]``."""
        if self.places is not None:
            # Whole rows first: numpy copies them several times as fast as it picks single numbers.
            return self.places.take(rows, axis=0).take(references, axis=1)
        return self.look_up(rows[:, None], references)

    def references_of(self, clips: Integers) -> tuple[Integers, Integers]:
        """References of the clips in a row, and where each clip's begin."""
        counts = self.counts[clips]
        ends = np.cumsum(counts)
        starts = ends - counts
        within = np.arange(int(counts.sum())) - np.repeat(starts, counts)
        return np.repeat(self.first[clips], counts) + within, starts

    def rows(self, captions: TokenLists) -> Integers:
        """``[T]`` row of ``places`` for every token of all captions."""
        token = captions.numbers_in(self._known)[captions.numbers]
        back = _following(captions.owner, captions.numbers)
        known = (token >= 0) & (back < self.depth)
        return self._row[np.where(known, token * self.depth + back, -1)]


def _following(owner: Integers, token: Integers) -> Integers:
    """How many equal tokens of the owner follow each one."""
    # Read backwards, what follows stands before.
    return occurrence(owner[::-1], token[::-1])[::-1]
