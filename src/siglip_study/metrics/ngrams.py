"""Token lists as integers, and their n-grams counted for all captions at once.

Whatever reads n-grams (CIDEr, self-BLEU, distinct-n, repetition) reads them here: Python loops over
the n-grams of a hundred thousand captions take minutes, sorted integers seconds.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ORDERS = 4

Tokens = Sequence[str]
Integers = NDArray[np.int64]


class Vocabulary:
    """Strings ↔ integers from 0, in the order of their first occurrence."""

    def __init__(self) -> None:
        self._number: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._number)

    def add(self, token_lists: Sequence[Tokens]) -> Integers:
        """The numbers of all tokens in a row; what is new gets the next number."""
        number = self._number
        for token in itertools.chain.from_iterable(token_lists):
            if token not in number:
                number[token] = len(number)
        return self.find(token_lists)

    def find(self, token_lists: Sequence[Tokens]) -> Integers:
        """The numbers of all tokens in a row; −1 for a string that is not known."""
        get = self._number.get
        flat = itertools.chain.from_iterable(token_lists)
        return np.fromiter((get(token, -1) for token in flat), dtype=np.int64)


def lengths(token_lists: Sequence[Sequence[object]]) -> Integers:
    """Entries of each list, ``[N]``."""
    return np.fromiter(map(len, token_lists), dtype=np.int64, count=len(token_lists))


def occurrence(owner: Integers, token: Integers) -> Integers:
    """How many equal tokens of the same owner stand before each one, ``[T]``; owners ascend."""
    # A stable sort by token keeps owners ascending and places in order within each token.
    order = np.argsort(token, kind="stable")
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
    def of(cls, token_lists: Sequence[Tokens], vocabulary: Vocabulary | None = None) -> Ngrams:
        """Count; tokens that ``vocabulary`` lacks are added to it."""
        known = vocabulary if vocabulary is not None else Vocabulary()
        return cls.of_numbers(known.add(token_lists), lengths(token_lists), len(known))

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
