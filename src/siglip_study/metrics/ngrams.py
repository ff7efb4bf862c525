"""The n-grams of token lists, counted for all captions at once.

Whatever reads n-grams (CIDEr, self-BLEU, distinct-n, repetition) reads them here: Python loops over
the n-grams of a hundred thousand captions take minutes, sorted integers seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from siglip_study.metrics.token_lists import Integers, TokenLists, Tokens

ORDERS = 4


def occurrence(owner: Integers, token: Integers) -> Integers:
    """How many equal tokens of the same owner stand before each one, ``[T]``.

    An owner's tokens stand in a row.
    """
    # A stable sort by token keeps owners together and places in order within each token. Numbers
    # of 16 bits are sorted ten times as fast.
    small = token.astype(np.min_scalar_type(token.max(initial=0)))
    order = np.argsort(small, kind="stable")
    starts = np.ones(len(order), dtype=bool)
    starts[1:] = (np.diff(token[order]) != 0) | (np.diff(owner[order]) != 0)
    place = np.arange(len(order))
    result = np.empty(len(order), dtype=np.int64)
    result[order] = place - np.maximum.accumulate(np.where(starts, place, 0))
    return result


@dataclass(frozen=True)
class Order:
    """The n-grams of one order in N lists.

    An n-gram is its first n − 1 tokens and its last one: ``prefix`` numbers the former among the
    n-grams of the order below (0 for single tokens).

    Attributes:
        prefix: ``[G]`` of each different n-gram.
        last: ``[G]`` its last token.
        owner: ``[K]`` lists, ascending, of each pair of a list and an n-gram that it holds.
        gram: ``[K]`` n-grams of the pairs, ascending within a list.
        count: ``[K]`` how often the list holds the n-gram.
        total: ``[N]`` n-grams of each list, repeated ones included.
    """

    prefix: Integers
    last: Integers
    owner: Integers
    gram: Integers
    count: Integers
    total: Integers


@dataclass(frozen=True)
class Ngrams:
    """The n-grams of N lists of token numbers, orders 1 to 4.

    Attributes:
        sizes: ``[N]`` tokens of each list.
        orders: one :class:`Order` each for n = 1 to 4.
    """

    sizes: Integers
    orders: tuple[Order, ...]

    @classmethod
    def of(cls, token_lists: Sequence[Tokens]) -> Ngrams:
        """Count; tokens have the numbers of ``TokenLists``."""
        lists = TokenLists.of(token_lists)
        return cls.of_numbers(lists.numbers, lists.sizes, len(lists.strings))

    @classmethod
    def of_numbers(cls, tokens: Integers, sizes: Integers, vocabulary: int) -> Ngrams:
        """Count in lists that stand in a row: ``tokens`` ``[T]`` below ``vocabulary``."""
        n = len(sizes)
        owner = np.repeat(np.arange(n), sizes)
        # Places that are left of the list from each token on, itself included.
        left = np.repeat(np.cumsum(sizes), sizes) - np.arange(len(tokens))
        number = np.zeros(len(tokens), dtype=np.int64)
        orders = []
        for order in range(1, ORDERS + 1):
            here = np.flatnonzero(left >= order)
            code = number[here] * vocabulary + tokens[here + order - 1]
            grams, inverse = np.unique(code, return_inverse=True)
            number[here] = inverse
            pairs, count = np.unique(owner[here] * max(len(grams), 1) + inverse, return_counts=True)
            orders.append(
                Order(
                    grams // max(vocabulary, 1),
                    grams % max(vocabulary, 1),
                    pairs // max(len(grams), 1),
                    pairs % max(len(grams), 1),
                    count,
                    np.maximum(sizes - order + 1, 0),
                )
            )
        return cls(sizes, tuple(orders))
